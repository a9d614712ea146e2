//! The points of a run at which something can go wrong: each change of a file, each command, each call. One counter
//! numbers them all.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::rc::Rc;

use kwasm_installer::host::files::{Gate, Operation};
use rustix::io::Errno;

/// What goes wrong at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The installer is killed: nothing of it runs from there on.
    Kill,
    /// What is done there fails, and what comes later does not.
    Once(Errno),
    /// What is done there fails, and so does every later change of a file.
    Stays(Errno),
    /// What is done there fails, and so does every later change that takes room.
    Full,
}

impl Fault {
    pub(crate) const ALL: [Self; 9] = [
        Self::Kill,
        Self::Once(Errno::IO),
        Self::Once(Errno::NOSPC),
        Self::Once(Errno::ROFS),
        Self::Once(Errno::ACCESS),
        Self::Stays(Errno::IO),
        Self::Stays(Errno::NOSPC),
        Self::Stays(Errno::ROFS),
        Self::Full,
    ];
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill => f.write_str("killed"),
            Self::Once(error) => write!(f, "{} once", name(*error)),
            Self::Stays(error) => write!(f, "{} from there on", name(*error)),
            Self::Full => f.write_str("no room from there on"),
        }
    }
}

fn name(error: Errno) -> &'static str {
    match error {
        Errno::IO => "EIO",
        Errno::NOSPC => "ENOSPC",
        Errno::ROFS => "EROFS",
        Errno::ACCESS => "EACCES",
        _ => "another error",
    }
}

/// A point.
#[derive(Clone, Copy)]
pub(crate) enum Point<'a> {
    /// A change of a file.
    Change(Operation, &'a Path),
    /// A command, or a call of systemd or CRI.
    Call(&'static str),
}

impl Point<'_> {
    fn takes_room(&self) -> bool {
        use Operation::{Create, Link, MakeDir, Write};
        matches!(self, Self::Change(Create | Link | MakeDir | Write, _))
    }
}

impl fmt::Display for Point<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Change(operation, path) => write!(f, "{operation:?} {}", path.display()),
            Self::Call(call) => write!(f, "Call {call}"),
        }
    }
}

/// Counts the points of a run, and strikes at one of them.
#[derive(Default)]
pub(crate) struct Points {
    passed: Cell<usize>,
    strike: Cell<Option<(Fault, usize)>>,
    trace: RefCell<Option<Vec<String>>>,
}

impl Points {
    /// Counts anew, and strikes at the point of this number; gives how many were passed before.
    pub(crate) fn strike(&self, strike: Option<(Fault, usize)>) -> usize {
        self.strike.set(strike);
        self.passed.replace(0)
    }

    /// Takes down the points of a run.
    pub(crate) fn of(&self, run: impl FnOnce()) -> Vec<String> {
        self.trace.replace(Some(Vec::new()));
        run();
        self.trace.take().unwrap_or_default()
    }

    pub(crate) fn pass(&self, point: Point<'_>) -> io::Result<()> {
        let number = self.passed.get();
        self.passed.set(number + 1);
        if let Some(trace) = &mut *self.trace.borrow_mut() {
            trace.push(point.to_string());
        }
        let Some((fault, at)) = self.strike.get().filter(|(_, at)| *at <= number) else { return Ok(()) };
        let is_change = matches!(point, Point::Change(..));
        match fault {
            Fault::Kill => resume_unwind(Box::new(Killed)),
            Fault::Once(error) if number == at => Err(error.into()),
            Fault::Stays(error) if number == at || is_change => Err(error.into()),
            Fault::Full if number == at || point.takes_room() => Err(Errno::NOSPC.into()),
            _ => Ok(()),
        }
    }
}

struct Killed;

/// What a run comes to; `None` if it is killed.
pub(crate) fn unless_killed<T>(run: impl FnOnce() -> T) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(result) => Some(result),
        Err(cause) if cause.is::<Killed>() => None,
        Err(cause) => resume_unwind(cause),
    }
}

/// The gate of a played node's files.
pub(crate) struct Counted(pub(crate) Rc<Points>);

impl Gate for Counted {
    fn pass(&self, operation: Operation, path: &Path) -> io::Result<()> {
        self.0.pass(Point::Change(operation, path))
    }

    fn syncs(&self) -> bool {
        false
    }
}
