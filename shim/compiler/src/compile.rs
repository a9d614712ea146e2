//! From a module or component to native code.

use wasmtime::{CodeBuilder, CodeHint, Config, Engine, Result};

/// Compiles a module or component, in binary or in text.
///
/// The settings are Wasmtime's defaults, as the engine's: both crates must switch on the same features of the `wasmtime` crate that
/// change them (`gc-drc`, `threads`).
///
/// # Errors
/// What is wrong with the module, with the place.
pub(crate) fn artefact(module: &[u8]) -> Result<Vec<u8>> {
    let engine = Engine::new(&Config::new())?;
    let mut code = CodeBuilder::new(&engine);
    code.wasm_binary_or_text(module, None)?;
    match code.hint() {
        Some(CodeHint::Component) => code.compile_component_serialized(),
        Some(CodeHint::Module) | None => code.compile_module_serialized(),
    }
}

#[cfg(test)]
mod tests {
    use wasmtime::Precompiled;

    use super::*;

    #[test]
    fn text_is_compiled_as_what_it_says() {
        let module = artefact(b"(module (func (export \"_start\")))").unwrap();
        assert!(matches!(Engine::detect_precompiled(&module), Some(Precompiled::Module)));
        let component = artefact(b"(component)").unwrap();
        assert!(matches!(Engine::detect_precompiled(&component), Some(Precompiled::Component)));
    }

    #[test]
    fn a_broken_module_is_refused_with_the_place() {
        let error = artefact(b"\0asm\x01\0\0\0\xff").unwrap_err();
        assert!(format!("{error:#}").contains("offset"), "{error:#}");
    }

    #[test]
    fn native_code_is_no_module() {
        let native = artefact(b"(module)").unwrap();
        assert!(artefact(&native).is_err());
    }
}
