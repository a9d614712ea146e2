//! Points are found by the gate of the node's files: nothing may go around it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// How Rust changes files.
const CHANGES: [&str; 12] = [
    "fs::write(",
    "fs::copy(",
    "fs::rename(",
    "fs::remove_",
    "fs::create_dir",
    "fs::hard_link(",
    "fs::set_permissions(",
    "symlink(",
    "DirBuilder",
    "File::create",
    "File::options",
    "OpenOptions",
];

#[test]
fn every_change_of_the_node_passes_the_gate() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut changing = BTreeSet::new();
    let mut folders = vec![source.clone()];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            let program = text.split("#[cfg(test)]").next().unwrap();
            if CHANGES.iter().any(|change| program.contains(change)) {
                changing.insert(path.strip_prefix(&source).unwrap().display().to_string());
            }
        }
    }
    // The command line opens the file of the Report, which is not on the node.
    assert_eq!(changing, ["cli/mod.rs", "host/files/change.rs"].map(str::to_owned).into());
}
