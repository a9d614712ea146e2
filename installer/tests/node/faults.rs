//! Every change of a file fails once, and the power fails before every change: the node is whole each time.

use rustix::io::Errno;

use crate::fake::{Fault, Node, bundled, differences};
use crate::http::served;
use crate::program::Tar;
use crate::server::Server;

type Tree = std::collections::BTreeMap<String, String>;

/// What happens to a node in a test of faults.
#[derive(Clone, Copy, Debug)]
enum Road {
    Install,
    Upgrade,
    Uninstall,
}

/// Trees that differ in what the transaction does: an edit, built-in handlers, a new file, a file replaced by a link.
const TREES: [&str; 4] = ["kind-1.7", "debian-12-containerd-1.6", "no-file-2.1", "kwasm-0.2"];

impl Road {
    const ALL: [Self; 3] = [Self::Install, Self::Upgrade, Self::Uninstall];

    fn start(self, tree: &str) -> Node {
        let node = Node::of(tree);
        if !matches!(self, Self::Install) {
            node.must_apply(&[bundled("wasmtime")]);
        }
        if matches!(self, Self::Upgrade) {
            node.bundle("wasmtime", "2");
            node.bundle("spin", "s");
        }
        node
    }

    fn runtimes(self) -> Vec<kwasm_api::Runtime> {
        match self {
            Self::Install => vec![bundled("wasmtime")],
            Self::Upgrade => vec![bundled("spin"), bundled("wasmtime")],
            Self::Uninstall => Vec::new(),
        }
    }

    /// The tree when all went well, and how many changes of files that took. A link's own folder is named in
    /// the ledger, so that trees of two runs can be compared.
    fn ideal(self, tree: &str) -> (Tree, usize) {
        let node = self.start(tree);
        node.fault(None);
        node.must_apply(&self.runtimes());
        let operations = node.operations();
        (node.tree(), operations)
    }
}

fn assert_same(is: &Tree, meant: &Tree, when: &str) {
    let differences = differences(is, meant);
    assert!(differences.is_empty(), "{when}: {differences:#?}");
}

#[test]
fn after_a_power_cut_at_any_change_the_next_run_ends_where_an_undisturbed_one_does() {
    let mut points = 0;
    for (road, tree) in Road::ALL.iter().flat_map(|road| TREES.map(|tree| (road, tree))) {
        let (ideal, operations) = road.ideal(tree);
        for at in 0..operations {
            let node = road.start(tree);
            node.fault(Some(Fault::Crash(at)));
            node.apply(&road.runtimes());
            node.fault(None);
            node.must_apply(&road.runtimes());
            assert_same(&node.tree(), &ideal, &format!("{road:?} on {tree}, cut at {at}"));
            points += 1;
        }
    }
    println!("{points} power cuts");
    assert!(points > 100);
}

#[test]
fn after_a_power_cut_at_any_change_the_node_can_be_given_back_to_the_byte() {
    for tree in TREES.iter().filter(|tree| **tree != "kwasm-0.2") {
        let before = Node::of(tree).tree();
        let (_, operations) = Road::Install.ideal(tree);
        for at in 0..operations {
            let node = Road::Install.start(tree);
            node.fault(Some(Fault::Crash(at)));
            node.apply(&Road::Install.runtimes());
            node.fault(None);
            node.must_apply(&[]);
            assert_same(&node.tree(), &before, &format!("{tree}, cut at {at}: {:#?}", node.log()));
        }
    }
}

#[test]
fn a_change_that_fails_leaves_the_node_as_it_was_or_as_it_should_be() {
    for (road, tree) in Road::ALL.iter().flat_map(|road| TREES.map(|tree| (road, tree))) {
        let (ideal, operations) = road.ideal(tree);
        for at in 0..operations {
            let node = road.start(tree);
            let (before, handlers) = (node.tree(), node.handlers());
            node.fault(Some(Fault::Error(at, Errno::NOSPC)));
            let (report, _) = node.apply(&road.runtimes());
            let state = report.failure.as_ref().map(|failure| failure.node_state);
            if matches!(state, Some(kwasm_api::report::NodeState::Unchanged | kwasm_api::report::NodeState::RolledBack))
            {
                assert_same(&node.tree(), &before, &format!("{road:?} on {tree}, failing at {at}"));
                assert_eq!(node.handlers(), handlers, "{road:?} on {tree}, failing at {at}");
            }
            node.fault(None);
            node.must_apply(&road.runtimes());
            assert_same(&node.tree(), &ideal, &format!("{road:?} on {tree}, failing at {at}"));
        }
    }
}

#[test]
fn a_runtime_that_is_fetched_keeps_the_same_promises_when_the_power_fails_or_the_disk_is_full() {
    let content = Tar::with_shim().gzip();
    let server = Server::serving(content.clone());
    let wanted = [served(&server.url("x"), &content)];
    let start = || Node::of("no-file-2.1");
    let before = start().tree();
    let (ideal, operations) = {
        let node = start();
        node.fault(None);
        node.must_apply(&wanted);
        (node.tree(), node.operations())
    };
    let faults = (0..operations).flat_map(|at| [Fault::Crash(at), Fault::Error(at, Errno::NOSPC)]);
    for fault in faults {
        for (next, meant) in [(&wanted[..], &ideal), (&[], &before)] {
            let node = start();
            node.fault(Some(fault));
            let (report, _) = node.apply(&wanted);
            if matches!(fault, Fault::Error(..))
                && let Some(failure) = &report.failure
                && failure.node_state != kwasm_api::report::NodeState::NeedsAttention
            {
                assert_same(&node.tree(), &before, &format!("{fault:?}: {failure:?}"));
            }
            node.fault(None);
            node.must_apply(next);
            assert_same(&node.tree(), meant, &format!("{fault:?}, then {next:?}: {:#?}", node.log()));
        }
    }
}
