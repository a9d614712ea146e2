//! The trees again, with real containerds in the place of the played one.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use kwasm_installer::config::dump::Dump;
use kwasm_installer::host::Files;

use crate::campaign::{Objection, Road};
use crate::disk::Disk;
use crate::facts::{Facts, Rendered};
use crate::fake::{Handlers, Moment, Node, differences};
use crate::faults::{campaign, stride};
use crate::loading::ask;
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

/// Whether a containerd can stand in for a tree's: not older, and of the same major version where the
/// distribution renders for it.
fn fits(facts: &Facts, version: &str) -> bool {
    let (theirs, ours) = (release(&facts.version), release(version));
    let renders = facts.rendered != Rendered::Never;
    !facts.is_crio() && facts.serves_cri() && theirs <= ours && (!renders || theirs.0 == ours.0)
}

/// What became of a tree under a containerd.
#[derive(Clone, Copy)]
enum Outcome {
    /// Installed, found unchanged the second time, given back to the byte.
    Kept,
    /// The same, but what somebody else had put there went with it.
    Adopted,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Kept => "kept",
            Self::Adopted => "adopted",
        })
    }
}

/// The whole road of a tree. The installer itself compares two dumps each time and refuses any difference but
/// our handlers'.
fn road(tree: &str, containerd: &Path, version: &str) -> Outcome {
    let node = Node::under(tree, containerd, version);
    let runtimes = node.facts.runtimes();
    let (before, handlers) = (node.tree(), node.handlers());
    node.must_apply(&runtimes);
    assert!(node.handlers().contains(&"wasmtime".to_owned()), "{tree} under {version}");
    assert_eq!(node.must_apply(&runtimes), 0, "{tree} under {version}");
    assert_eq!(node.plan(&runtimes).lines().last(), Some("nothing to do"), "{tree} under {version}");
    node.must_apply(&[]);
    if ADOPTED.contains(&tree) {
        return Outcome::Adopted;
    }
    assert_eq!(differences(&node.tree(), &before), Vec::<String>::new(), "{tree} under {version}");
    assert_eq!(node.handlers(), handlers, "{tree} under {version}");
    Outcome::Kept
}

#[test]
#[ignore = "needs real containerds, named by KWASM_CONTAINERDS"]
fn on_every_tree_each_real_containerd_sees_our_handler_and_no_other_difference() {
    let containerds = containerds();
    let heads: Vec<String> = containerds.iter().map(|(_, version)| format!("{version:>20}")).collect();
    println!("{:36}{}", "tree", heads.concat());
    for tree in names() {
        let facts = Facts::of(&tree);
        let cells = containerds.iter().map(|(containerd, version)| {
            // containerd 2 accepts no byte order mark: such a node is broken already.
            let broken = tree.starts_with("bom") && release(version) >= (2, 0);
            let outcome = (fits(&facts, version) && !broken).then(|| road(&tree, containerd, version));
            outcome.map_or_else(|| format!("{:>20}", "-"), |outcome| format!("{outcome:>20}"))
        });
        println!("{tree:36}{}", cells.collect::<String>());
    }
}

/// A real containerd, which is asked once about each configuration.
struct Oracle<'a> {
    containerd: &'a Path,
    answers: HashMap<Disk, Result<Handlers, Objection>>,
}

impl Oracle<'_> {
    /// The handlers that a node's containerd would serve if it were started at this moment.
    fn handlers(&mut self, node: &Node, moment: &Moment) -> Result<Handlers, Objection> {
        let configuration = moment.disk.without("kwasm");
        let ask = || {
            node.put(moment);
            let (files, loaded) = (Files::below(node.root.path()), Path::new(&node.facts.loaded));
            let printed = ask(&files, node.root.path(), self.containerd, Some(loaded));
            printed.map(|printed| Dump::parse(&printed).unwrap().handlers()).map_err(|error| error.to_string())
        };
        self.answers.entry(configuration).or_insert_with(ask).clone()
    }

    /// What is on the disk leads to the old handlers or to the new ones.
    fn judge(&mut self, road: &Road<'_>, booted: &Moment) -> Result<(), Objection> {
        let [is, old, new] = [booted, road.old, road.new].map(|moment| self.handlers(road.node, moment));
        let (is, old, new) = (is?, old?, new?);
        if is == old || is == new { Ok(()) } else { Err(format!("neither old nor new handlers: {:?}", is.keys())) }
    }
}

#[test]
#[ignore = "needs real containerds, named by KWASM_CONTAINERDS"]
fn after_any_fault_at_any_point_a_real_containerd_loads_the_old_handlers_or_the_new_ones() {
    for (containerd, version) in containerds() {
        // Each tree has the containerd that is nearest to its own.
        let nearest = |facts: &Facts| {
            let able = containerds().into_iter().map(|(_, version)| version).filter(|version| fits(facts, version));
            able.min_by_key(|version| release(version)).is_some_and(|nearest| nearest == version)
        };
        let trees: Vec<String> = names().into_iter().filter(|tree| nearest(&Facts::of(tree))).collect();
        let mut oracle = Oracle { containerd: &containerd, answers: HashMap::new() };
        campaign(&trees, stride(23), &mut |road, booted| oracle.judge(road, booted));
        println!("containerd {version} was asked about {} configurations", oracle.answers.len());
    }
}
