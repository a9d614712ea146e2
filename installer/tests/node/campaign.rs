//! A campaign of faults: at each point of a run each fault strikes, and what is left is followed to its end.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use kwasm_api::Runtime;
use kwasm_api::report::NodeState;
use kwasm_installer::failure::Stop;

use crate::fake::{Moment, Mood, Node, differences};
use crate::points::{Fault, unless_killed};

/// What speaks against the installer.
pub(crate) type Objection = String;

/// A run that is struck: where it starts, where it leads.
pub(crate) struct Road<'a> {
    pub(crate) name: String,
    pub(crate) node: &'a Node,
    /// The daemon's, while the run is struck.
    pub(crate) mood: Mood,
    /// What the run brings the node to.
    pub(crate) wanted: &'a [Runtime],
    /// The points that it passes without a fault.
    pub(crate) points: Vec<String>,
    pub(crate) old: &'a Moment,
    pub(crate) new: &'a Moment,
    /// Later runs, one after the other, and where each is to end.
    pub(crate) later: Vec<Vec<End<'a>>>,
}

/// Where a later run is to end.
#[derive(Clone)]
pub(crate) enum End<'a> {
    /// With these runtimes at one of these moments.
    At(&'a [Runtime], Vec<&'a Moment>),
    /// Taken back, because the daemon still refuses these runtimes.
    Refused(&'a [Runtime]),
}

/// How a struck run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ending {
    Killed,
    Done,
    Unchanged,
    RolledBack,
    NeedsAttention,
}

impl Ending {
    pub(crate) const ALL: [Self; 5] =
        [Self::Killed, Self::Done, Self::Unchanged, Self::RolledBack, Self::NeedsAttention];

    fn of(ended: Option<&Option<Stop>>) -> Self {
        match ended.map(|stop| stop.as_ref().map(|stop| stop.state)) {
            None => Self::Killed,
            Some(None) => Self::Done,
            Some(Some(NodeState::Unchanged)) => Self::Unchanged,
            Some(Some(NodeState::RolledBack)) => Self::RolledBack,
            Some(Some(NodeState::NeedsAttention)) => Self::NeedsAttention,
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Killed => "killed",
            Self::Done => "done",
            Self::Unchanged => "unchanged",
            Self::RolledBack => "rolled back",
            Self::NeedsAttention => "attention",
        })
    }
}

/// What was done on roads of one kind.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) roads: usize,
    pub(crate) points: usize,
    pub(crate) endings: BTreeMap<Ending, usize>,
}

/// Looks at a node that was started again after a fault.
pub(crate) type Witness<'a> = &'a mut dyn FnMut(&Road<'_>, &Moment) -> Result<(), Objection>;

/// Strikes, and keeps what speaks against the installer.
pub(crate) struct Campaign {
    stride: usize,
    skip: usize,
    struck: usize,
    objections: Vec<Objection>,
}

impl Campaign {
    /// A campaign that strikes at every `stride`-th of all combinations. A prime, so that every fault meets every kind
    /// of point.
    pub(crate) fn with_stride(stride: usize) -> Self {
        Self { stride, skip: 0, struck: 0, objections: Vec::new() }
    }

    pub(crate) fn strike(&mut self, road: &Road<'_>, witness: Witness<'_>, tally: &mut Tally) {
        let mut follower = Follower { road, witness, known: HashMap::new(), judged: HashSet::new() };
        tally.roads += 1;
        tally.points += road.points.len();
        for (at, fault) in (0..road.points.len()).flat_map(|at| Fault::ALL.map(|fault| (at, fault))) {
            self.skip = (self.skip + 1) % self.stride;
            if self.skip != 0 {
                continue;
            }
            self.struck += 1;
            match follower.strike(fault, at) {
                Ok(ending) => *tally.endings.entry(ending).or_default() += 1,
                Err(words) => {
                    let point = &road.points[at];
                    self.objections.push(format!("{}, {fault} at point {at}, {point}: {words}", road.name));
                }
            }
        }
    }

    /// Fails if anything spoke against the installer.
    pub(crate) fn end(&self) {
        self.objections.iter().take(20).for_each(|words| println!("{words}"));
        assert!(self.objections.is_empty(), "{} of {} ended badly", self.objections.len(), self.struck);
    }
}

/// Follows what is left. A run is a function of what is on the disk and of what the daemon has loaded: where faults
/// leave the same, it is followed once.
struct Follower<'a> {
    road: &'a Road<'a>,
    witness: Witness<'a>,
    known: HashMap<(Moment, Vec<String>), Moment>,
    judged: HashSet<Moment>,
}

impl Follower<'_> {
    fn strike(&mut self, fault: Fault, at: usize) -> Result<Ending, Objection> {
        let Road { node, old, mood, wanted, .. } = self.road;
        node.put(old);
        node.points().strike(Some((fault, at)));
        node.mood(*mood);
        let ended = unless_killed(|| node.apply(wanted).1);
        node.mood(Mood::Healthy);
        let passed = node.points().strike(None);
        if passed <= at || ended.is_none() != (fault == Fault::Kill) {
            return Err(format!("the run passed only {passed} points"));
        }
        let left = node.moment();
        if let Some(stop) = &ended {
            self.told(fault, stop.as_ref(), &left)?;
        }
        if !self.judged.contains(&left) {
            self.judge(&left)?;
            self.judged.insert(left);
        }
        Ok(Ending::of(ended.as_ref()))
    }

    /// Whether a run that ended told the truth.
    fn told(&self, fault: Fault, stop: Option<&Stop>, left: &Moment) -> Result<(), Objection> {
        let Road { old, new, mood, .. } = self.road;
        let Some(stop) = stop else {
            return same(left, new).map_err(|words| format!("it calls itself done, but {words}"));
        };
        match stop.state {
            NodeState::Unchanged | NodeState::RolledBack => {
                same(left, old).map_err(|words| format!("{:?}, but {words}; it says {stop}", stop.state))
            }
            NodeState::NeedsAttention if matches!(fault, Fault::Once(_)) && *mood == Mood::Healthy => {
                let tidy = left.loaded == new.loaded || left.without_drafts() == old.without_drafts();
                if tidy { Ok(()) } else { Err(format!("one failure and nobody tidied up: {stop}")) }
            }
            NodeState::NeedsAttention => Ok(()),
        }
    }

    /// The node works as it is and after a boot, and from there every later run ends where it should.
    fn judge(&mut self, left: &Moment) -> Result<(), Objection> {
        let node = self.road.node;
        self.serves(left)?;
        node.power_cut().map_err(|error| format!("the daemon does not start: {error}"))?;
        let booted = node.moment();
        self.serves(&booted)?;
        (self.witness)(self.road, &booted)?;
        self.later(left)?;
        self.later(&booted).map_err(|words| format!("after a boot: {words}"))
    }

    /// The daemon serves what it did before or what it should serve; the node is at this moment.
    fn serves(&self, moment: &Moment) -> Result<(), Objection> {
        let Road { node, old, new, mood, .. } = self.road;
        match &moment.loaded {
            None if *mood == Mood::Healthy => Err("the daemon does not run".into()),
            Some(loaded) if moment.loaded != old.loaded && moment.loaded != new.loaded => {
                Err(format!("neither old nor new handlers: {:?}", loaded.keys()))
            }
            _ => node.has_programs(),
        }
    }

    fn later(&mut self, start: &Moment) -> Result<(), Objection> {
        self.road.later.iter().try_for_each(|ends| {
            let mut now = start.clone();
            ends.iter().try_for_each(|end| {
                now = match end {
                    End::At(wanted, any) => self.reach(now.clone(), wanted, any)?,
                    End::Refused(wanted) => self.take_back(&now, wanted)?,
                };
                Ok(())
            })
        })
    }

    fn reach(&mut self, from: Moment, wanted: &[Runtime], any: &[&Moment]) -> Result<Moment, Objection> {
        let key = (from, wanted.iter().map(|runtime| runtime.revision.clone()).collect());
        if let Some(to) = self.known.get(&key) {
            return Ok(to.clone());
        }
        let (node, names) = (self.road.node, names(wanted));
        node.put(&key.0);
        if let Some(stop) = node.apply(wanted).1 {
            return Err(format!("the next run, with {names}, fails: {stop}"));
        }
        let to = node.moment();
        node.has_programs()?;
        let ends: Vec<_> = any.iter().map(|meant| same(&to, meant)).collect();
        if let [Err(words), ..] = &ends[..]
            && ends.iter().all(Result::is_err)
        {
            return Err(format!("after the next run, with {names}: {words}"));
        }
        self.known.insert(key, to.clone());
        Ok(to)
    }

    fn take_back(&self, from: &Moment, wanted: &[Runtime]) -> Result<Moment, Objection> {
        let Road { node, old, new, mood, .. } = self.road;
        node.put(from);
        let stop = node.mood(*mood).apply(wanted).1;
        node.mood(Mood::Healthy);
        let to = node.moment();
        match stop.map(|stop| stop.state) {
            Some(NodeState::RolledBack) if to.loaded == old.loaded => node.has_programs().map(|()| to),
            // Started by somebody else in a better moment, it is not restarted.
            None if from.loaded == new.loaded && to.loaded == new.loaded => Ok(to),
            state => Err(format!("the next run, refused, ends {state:?} with {:?}", to.loaded)),
        }
    }
}

fn names(runtimes: &[Runtime]) -> String {
    let names: Vec<&str> = runtimes.iter().map(|runtime| runtime.name.as_str()).collect();
    if names.is_empty() { "no runtime".into() } else { names.join(", ") }
}

fn same(is: &Moment, meant: &Moment) -> Result<(), Objection> {
    let differences = differences(&is.disk.shown(), &meant.disk.shown());
    if !differences.is_empty() {
        return Err(differences.join("\n"));
    }
    if is.loaded == meant.loaded { Ok(()) } else { Err(format!("{:?} is served, not {:?}", is.loaded, meant.loaded)) }
}
