//! Linking a guest with WASI and calling it.

use wasmtime::component::{Component, InstancePre as ComponentPre, Linker as ComponentLinker};
use wasmtime::{Engine, Extern, InstancePre, Linker, Module, Store, bail, format_err};
use wasmtime_wasi::I32Exit;
use wasmtime_wasi::p2::bindings::CommandPre;

use crate::artefact::Artefact;
use crate::guest::Guest;

/// A guest whose imports are all there.
pub(crate) enum Linked {
    /// A core module, to be entered at this export.
    Module(InstancePre<Guest>, String),
    /// A component that implements `wasi:cli/run`.
    Command(CommandPre<Guest>),
    /// A component, to be entered at this export.
    Export(ComponentPre<Guest>, String),
}

/// Links the artefact; `function` is the export to call instead of the guest's start.
///
/// # Errors
/// If an import is not offered, or the export is not there: told in words for the pod's events.
pub(crate) fn link(engine: &Engine, artefact: &Artefact, function: Option<String>) -> wasmtime::Result<Linked> {
    match artefact {
        Artefact::Module(module) => link_module(engine, module, function),
        Artefact::Component(component) => link_component(engine, component, function),
    }
}

fn link_module(engine: &Engine, module: &Module, function: Option<String>) -> wasmtime::Result<Linked> {
    let function = function.unwrap_or_else(|| "_start".to_owned());
    if module.get_export(&function).is_none_or(|export| export.func().is_none()) {
        bail!(
            "the module exports no function {function:?}; it exports {}",
            listed(module.exports().map(|export| export.name().to_owned()))
        );
    }
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p1::add_to_linker_async(&mut linker, Guest::preview1)?;
    // Wasmtime's own refuses codes from 126 on; for a container all eight bits have a meaning.
    linker.allow_shadowing(true);
    linker.func_wrap("wasi_snapshot_preview1", "proc_exit", |code: i32| -> wasmtime::Result<()> {
        Err(I32Exit(code).into())
    })?;
    Ok(Linked::Module(linker.instantiate_pre(module)?, function))
}

fn link_component(engine: &Engine, component: &Component, function: Option<String>) -> wasmtime::Result<Linked> {
    let mut linker = ComponentLinker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    let instance = linker.instantiate_pre(component)?;
    let Some(function) = function else {
        return Ok(Linked::Command(CommandPre::new(instance).map_err(|error| {
            let exports = component.component_type();
            let names = exports.exports(engine).map(|(name, _)| name.to_owned());
            format_err!("the component exports no wasi:cli/run; it exports {} ({error:#})", listed(names))
        })?));
    };
    if component.get_export_index(None, &function).is_none() {
        bail!("the component exports no function {function:?}");
    }
    Ok(Linked::Export(instance, function))
}

impl Linked {
    /// Runs the guest to its end.
    ///
    /// # Errors
    /// A trap, or the guest's exit as [`I32Exit`].
    pub(crate) async fn run(self, mut store: Store<Guest>) -> wasmtime::Result<()> {
        match self {
            Self::Module(module, function) => {
                let instance = module.instantiate_async(&mut store).await?;
                // A library is prepared before one of its functions is called (WASI's application ABI).
                if let Some(Extern::Func(initialize)) = instance.get_export(&mut store, "_initialize") {
                    initialize.typed::<(), ()>(&store)?.call_async(&mut store, ()).await?;
                }
                let entry = instance.get_typed_func::<(), ()>(&mut store, &function)?;
                entry.call_async(&mut store, ()).await
            }
            Self::Command(command) => {
                let command = command.instantiate_async(&mut store).await?;
                let result = command.wasi_cli_run().call_run(&mut store).await?;
                result.map_err(|()| I32Exit(1).into())
            }
            Self::Export(component, function) => {
                let instance = component.instantiate_async(&mut store).await?;
                instance.get_typed_func::<(), ()>(&mut store, &function)?.call_async(&mut store, ()).await
            }
        }
    }
}

fn listed(names: impl Iterator<Item = String>) -> String {
    let names: Vec<_> = names.take(20).collect();
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}
