//! Every fault at every point of a run, on every tree: the node is whole each time.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use kwasm_api::Runtime;
use kwasm_api::report::NodeState;
use rstest::rstest;

use crate::campaign::{Campaign, End, Ending, Road, Tally, Witness};
use crate::fake::{Moment, Mood, Node, bundled};
use crate::http::served;
use crate::image::pulled;
use crate::points::Fault;
use crate::program::Tar;
use crate::server::Server;
use crate::trees::{ADOPTED, names};

/// How many combinations there are for each that is struck: with `KWASM_TEST_LONG` none is left out.
pub(crate) fn stride(usual: usize) -> usize {
    if std::env::var_os("KWASM_TEST_LONG").is_some() { 1 } else { usual }
}

/// What happens to a node in a campaign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Change {
    Install,
    Upgrade,
    Uninstall,
    /// An installation that the daemon refuses, so that it is taken back.
    Refused,
}

impl Change {
    const ALL: [Self; 4] = [Self::Install, Self::Upgrade, Self::Uninstall, Self::Refused];
}

/// A tree and the moments that runs without a fault lead to.
struct Undisturbed {
    tree: String,
    node: Node,
    runtimes: Vec<Runtime>,
    more: Vec<Runtime>,
    before: Moment,
    installed: Moment,
    upgraded: Moment,
    /// What uninstalling leaves of either.
    uninstalled: [Moment; 2],
    reinstalled: Moment,
}

impl Undisturbed {
    fn of(tree: &str) -> Self {
        let node = Node::of(tree);
        let (runtimes, more) = (node.facts.runtimes(), node.facts.more_runtimes());
        let before = node.moment();
        let installed = reach(&node, &runtimes);
        let uninstalled = reach(&node, &[]);
        let reinstalled = reach(&node, &runtimes);
        node.put(&installed);
        bundle(&node, Change::Upgrade);
        let upgraded = reach(&node, &more);
        let uninstalled = [uninstalled, reach(&node, &[])];
        Self { tree: tree.to_owned(), node, runtimes, more, before, installed, upgraded, uninstalled, reinstalled }
    }

    fn is_adopted(&self) -> bool {
        ADOPTED.contains(&self.tree.as_str())
    }

    /// The road of a change, if there is one, and the image for it.
    fn road(&self, change: Change) -> Option<Road<'_>> {
        // Where nothing is restarted, or the runtime is there already, nothing is refused.
        if change == Change::Refused && (!self.node.facts.serves_cri() || self.is_adopted()) {
            return None;
        }
        bundle(&self.node, change);
        let (old, new, wanted) = match change {
            Change::Install | Change::Refused => (&self.before, &self.installed, &self.runtimes[..]),
            Change::Upgrade => (&self.installed, &self.upgraded, &self.more[..]),
            Change::Uninstall => (&self.installed, &self.uninstalled[0], &[][..]),
        };
        let mood = if change == Change::Refused { Mood::Refuses("wasmtime") } else { Mood::Healthy };
        let name = format!("{change:?} on {}", self.tree);
        let points = points(&self.node, old, mood, wanted);
        Some(Road { name, node: &self.node, mood, wanted, points, old, new, later: self.later(change) })
    }

    fn later(&self, change: Change) -> Vec<Vec<End<'_>>> {
        let (gone, installed) = if self.is_adopted() {
            // Somebody else's runtime is ours to take away from the moment that we have taken it over.
            (self.uninstalled.iter().chain([&self.before]).collect(), vec![&self.installed, &self.reinstalled])
        } else {
            (vec![&self.before], vec![&self.installed])
        };
        let (gone, installed) = (End::At(&[], gone), End::At(&self.runtimes, installed));
        let mut all = vec![vec![gone.clone()]];
        all.push(match change {
            Change::Install | Change::Refused | Change::Uninstall => vec![installed, gone.clone()],
            Change::Upgrade => vec![End::At(&self.more, vec![&self.upgraded]), gone.clone()],
        });
        if change == Change::Refused {
            all.push(vec![End::Refused(&self.runtimes), gone]);
        }
        all
    }
}

/// Puts the bundle into the image that the run of a change has.
fn bundle(node: &Node, change: Change) {
    node.bundle("spin", "s");
    node.bundle("wasmtime", if change == Change::Upgrade { "2" } else { "1" });
}

fn reach(node: &Node, runtimes: &[Runtime]) -> Moment {
    node.must_apply(runtimes);
    node.moment()
}

/// The points that a run passes if nothing strikes.
fn points(node: &Node, start: &Moment, mood: Mood, wanted: &[Runtime]) -> Vec<String> {
    node.put(start);
    let points = node.points().of(|| drop(node.mood(mood).apply(wanted)));
    node.mood(Mood::Healthy);
    points
}

/// Strikes on every road of these trees, and prints what that was; gives the kinds of points.
pub(crate) fn campaign(trees: &[String], stride: usize, witness: Witness<'_>) -> BTreeSet<String> {
    let mut campaign = Campaign::with_stride(stride);
    let mut tallies: BTreeMap<Change, Tally> = BTreeMap::new();
    let mut kinds = BTreeSet::new();
    for tree in trees {
        let undisturbed = Undisturbed::of(tree);
        for (change, road) in Change::ALL.into_iter().filter_map(|change| Some((change, undisturbed.road(change)?))) {
            campaign.strike(&road, witness, tallies.entry(change).or_default());
            kinds.extend(road.points.iter().map(|point| kind(point).to_owned()));
        }
    }
    print(&tallies);
    campaign.end();
    kinds
}

fn print(tallies: &BTreeMap<Change, Tally>) {
    let endings = Ending::ALL.map(|ending| format!("{ending:>13}")).concat();
    println!("\n{:10}{:>6}{:>8} × faults = combinations{:>8}{endings}", "", "trees", "points", "struck");
    for (change, Tally { roads, points, endings }) in tallies {
        let (faults, struck) = (Fault::ALL.len(), endings.values().sum::<usize>());
        let counts = Ending::ALL.map(|ending| format!("{:>13}", endings.get(&ending).copied().unwrap_or_default()));
        let (change, all, counts) = (format!("{change:?}"), points * faults, counts.concat());
        println!("{change:10}{roads:>6}{points:>8} × {faults:>6} = {all:>12}{struck:>8}{counts}");
    }
}

/// A point without the file that is changed.
fn kind(point: &str) -> &str {
    if point.starts_with("Call") { point } else { point.split(' ').next().unwrap_or_default() }
}

#[test]
fn after_any_fault_at_any_point_the_node_is_whole_and_the_next_run_ends_where_it_should() {
    let kinds = campaign(&names(), stride(251), &mut |_, _| Ok(()));
    let calls = [
        "Call --version",
        "Call CRI's pods",
        "Call CRI's status",
        "Call after systemctl restart",
        "Call after the end of process 1",
        "Call containerd config dump",
        "Call crio config",
        "Call crio config --default",
        "Call end process 1",
        "Call journalctl",
        "Call systemctl restart",
        "Call systemctl show",
        "Call try a program out",
    ];
    let changes = ["Create", "Link", "MakeDir", "RemoveDir", "Rename", "SetAttributes", "Sync", "Unlink", "Write"];
    assert_eq!(kinds, calls.into_iter().chain(changes).map(str::to_owned).collect());
}

#[rstest]
#[case::http(|| {
    let content = Tar::with_shim().gzip();
    let server = Server::serving(content.clone());
    let runtime = served(&server.url("x"), &content);
    (server, runtime)
})]
#[case::image(pulled)]
fn a_runtime_that_is_fetched_keeps_the_same_promises(#[case] source: impl FnOnce() -> (Server, Runtime)) {
    let (_server, runtime) = source();
    let (node, wanted) = (Node::of("no-file-2.1"), [runtime]);
    let old = node.moment();
    let new = reach(&node, &wanted);
    let (fetched, gone) = (End::At(&wanted, vec![&new]), End::At(&[], vec![&old]));
    let later = vec![vec![gone.clone()], vec![fetched, gone]];
    let (name, mood) = ("Install of what is fetched".to_owned(), Mood::Healthy);
    let points = points(&node, &old, mood, &wanted);
    let road = Road { name, node: &node, mood, wanted: &wanted, points, old: &old, new: &new, later };
    let (mut campaign, mut tally) = (Campaign::with_stride(stride(13)), Tally::default());
    campaign.strike(&road, &mut |_, _| Ok(()), &mut tally);
    print(&BTreeMap::from([(Change::Install, tally)]));
    campaign.end();
}

/// What failed before it changed anything need not be undone: undoing it would fail as well, and keep what fills the disk.
#[test]
fn a_disk_that_is_full_when_the_configuration_is_written_is_given_back_everything() {
    let (node, wanted) = (Node::of("kind-1.7"), [bundled("wasmtime")]);
    let old = node.moment();
    let points = points(&node, &old, Mood::Healthy, &wanted);
    let draft = "Create /etc/containerd/.config.toml.kwasm-new";
    for at in (0..points.len()).filter(|at| points[*at] == draft) {
        node.put(&old);
        node.points().strike(Some((Fault::Full, at)));
        let stop = node.must_fail(&wanted);
        node.points().strike(None);
        assert_eq!(stop.state, NodeState::RolledBack, "{stop}");
        assert_eq!(node.moment(), old);
    }
}

#[test]
fn every_change_is_on_the_disk_before_the_next_begins() {
    for tree in names() {
        let undisturbed = Undisturbed::of(&tree);
        for road in Change::ALL.into_iter().filter_map(|change| undisturbed.road(change)) {
            for pair in road.points.windows(2) {
                assert!(is_on_disk(&pair[0], &pair[1]), "{}: {} before {}", road.name, pair[1], pair[0]);
            }
        }
    }
}

/// Whether a point may follow another: a file's content is synced before its name counts, a folder with each change of
/// its names.
fn is_on_disk(point: &str, next: &str) -> bool {
    let Some((operation, path)) = point.split_once(' ') else { return false };
    let folder = Path::new(path).parent().unwrap().display();
    let sync_folder = format!("Sync {folder}");
    match operation {
        "Create" | "Write" | "SetAttributes" => {
            ["Write", "SetAttributes", "Sync"].iter().any(|operation| next == format!("{operation} {path}"))
        }
        "Link" => next == format!("Rename {path}") || next == sync_folder,
        "Rename" | "MakeDir" | "Unlink" | "RemoveDir" => next == sync_folder,
        _ => true,
    }
}
