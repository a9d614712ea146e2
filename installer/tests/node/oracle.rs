//! The trees again, with real containerds in the place of the played one.

use std::path::{Path, PathBuf};
use std::process::Command;

use kwasm_installer::failure::Reason;

use crate::fake::{Node, bundled, differences};
use crate::trees::{ADOPTED, names};

/// Names the containerd programs to ask, separated by colons.
const CONTAINERDS: &str = "KWASM_CONTAINERDS";

fn containerds() -> Vec<(PathBuf, String)> {
    let paths = std::env::var(CONTAINERDS).unwrap_or_else(|_| panic!("{CONTAINERDS} names no containerd"));
    paths.split(':').map(|path| (PathBuf::from(path), version(Path::new(path)))).collect()
}

fn version(containerd: &Path) -> String {
    let output = Command::new(containerd).arg("--version").output().unwrap();
    let line = String::from_utf8(output.stdout).unwrap();
    line.split_whitespace().nth(2).unwrap().trim_start_matches('v').to_owned()
}

/// Major and minor, to compare.
fn release(version: &str) -> (u32, u32) {
    let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap(), numbers.next().unwrap())
}

#[test]
#[ignore = "needs real containerds, named by KWASM_CONTAINERDS"]
fn on_every_tree_each_real_containerd_sees_our_handler_and_no_other_difference() {
    for (containerd, version) in containerds() {
        for tree in names() {
            let facts = std::fs::read_to_string(
                Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/nodes").join(&tree).join("node.json"),
            );
            let facts: serde_json::Value = serde_json::from_str(&facts.unwrap()).unwrap();
            if release(facts["containerd"].as_str().unwrap()) > release(&version) {
                continue;
            }
            // containerd 2 accepts no byte order mark: such a node is broken already.
            if tree.starts_with("bom") && release(&version) >= (2, 0) {
                continue;
            }
            let node = Node::under(&tree, &containerd, &version);
            // containerd 2.3 migrates `plugins.cri` unless the newer table is there too; 2.1 ignores it.
            if tree == "version-1-with-cri" && release(&version) >= (2, 3) {
                assert_eq!(node.must_fail(&[bundled("wasmtime")]).reason, Reason::CandidateChangesMore);
                println!("containerd {version:24} {tree:36} refused, unchanged");
                continue;
            }
            let (before, handlers) = (node.tree(), node.handlers());
            // The installer itself compares the two dumps and refuses any other difference.
            node.must_apply(&[bundled("wasmtime")]);
            assert!(node.handlers().contains(&"wasmtime".to_owned()), "{tree} under {version}");
            assert_eq!(node.must_apply(&[bundled("wasmtime")]), 0, "{tree} under {version}");
            node.must_apply(&[]);
            if !ADOPTED.contains(&tree.as_str()) {
                assert_eq!(differences(&node.tree(), &before), Vec::<String>::new(), "{tree} under {version}");
                assert_eq!(node.handlers(), handlers, "{tree} under {version}");
            }
            println!("containerd {version:24} {tree:36} ok");
        }
    }
}
