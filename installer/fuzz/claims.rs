//! What must hold for any input; shared by the fuzzer and by a plain test that runs the corpus.

use std::io::Read as _;

use kwasm_api::runtime::RuntimeKind;
use kwasm_installer::artifacts::archive::survey;
use kwasm_installer::artifacts::tarball::Bounds;
use kwasm_installer::config::{Dialect, Entry, edit};

/// Whatever a server serves: it is refused, or a choice names files that are inside.
pub(crate) fn archive(input: &[u8]) {
    const BOUNDS: Bounds = Bounds { bytes: 1 << 20, entries: 1000 };
    let Ok(contents) = survey(input, BOUNDS) else { return };
    for kind in [RuntimeKind::Shim, RuntimeKind::Oci] {
        let Ok(choice) = contents.choose("spin", kind) else { continue };
        for name in choice.program.iter().chain(&choice.companions) {
            assert!(!name.starts_with('/') && name.split('/').all(|part| !matches!(part, "" | "." | "..")), "{name}");
        }
        let mut file = temporary(input);
        let mut taken = 0;
        let out = choice.take_out(&mut file, BOUNDS, |_, data| {
            taken += 1;
            std::io::copy(&mut data.take(BOUNDS.bytes), &mut std::io::sink()).unwrap();
            Ok(())
        });
        out.unwrap();
        assert_eq!(taken, 1 + choice.companions.len());
    }
}

fn temporary(content: &[u8]) -> std::fs::File {
    // A file without a name: nothing is left behind.
    let mut file = std::fs::File::from(rustix::fs::memfd_create("corpus", rustix::fs::MemfdFlags::CLOEXEC).unwrap());
    std::io::Write::write_all(&mut file, content).unwrap();
    file
}

/// Whatever is in containerd's configuration: our handler goes in with nothing else changed, and out again to the byte.
pub(crate) fn config(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Ok(dialect) = Dialect::of(text) else { return };
    let ours = [Entry::shim("kwasm-fuzz", "/opt/kwasm/bin/containerd-shim-fuzz-v1")];
    let handlers = ["kwasm-fuzz".to_owned()];
    let Ok(there) = edit::handlers(text, dialect) else { return };
    if there.contains_key("kwasm-fuzz") {
        return;
    }
    let Ok(edited) = edit::add(text, dialect, &ours) else { return };
    let now = edit::handlers(&edited.text, dialect).unwrap();
    assert_eq!(now.len(), there.len() + 1);
    assert_eq!(edit::cut_block(&edited.text, dialect, &edited.block, &handlers).as_deref(), Some(text));
    let removed = edit::remove(&edited.text, dialect, &handlers).unwrap();
    assert!(edit::same(&removed, text), "{removed}");
}
