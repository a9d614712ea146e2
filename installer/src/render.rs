//! A plan as people read it: its steps, and the configuration's change as a unified diff.

use std::fmt::Write as _;

use similar::TextDiff;

use crate::observe::Observed;
use crate::plan::Plan;

/// The plan as text.
#[must_use]
pub fn plan(observed: &Observed, plan: &Plan) -> String {
    let platform = &observed.platform;
    let (version, unit) = (&platform.daemon.version, &platform.daemon.unit);
    let path = platform.layout.path.display();
    let mut text = format!("{} {version} ({unit}), {path}\n", platform.kind.daemon());
    if plan.is_empty(observed) {
        text.push_str("nothing to do\n");
        return text;
    }
    let changes = plan.change.iter().map(ToString::to_string);
    let take_up = plan.take_up.iter().map(|take_up| format!("{take_up} and verify by CRI"));
    let named = plan.named.iter().map(|shim| format!("verify that {} answers", shim.display()));
    let cleanup = plan.cleanup.iter().map(ToString::to_string);
    for (number, step) in changes.chain(take_up).chain(named).chain(cleanup).enumerate() {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{:>3}. {step}", number + 1);
    }
    let _ = write!(text, "{}", diff(observed, plan));
    text
}

fn diff(observed: &Observed, plan: &Plan) -> String {
    let path = observed.platform.layout.path.display().to_string();
    let name = |text: &Option<String>| if text.is_some() { path.clone() } else { "/dev/null".to_owned() };
    let old = observed.config.as_deref().unwrap_or_default();
    let new = plan.config.as_deref().unwrap_or_default();
    TextDiff::from_lines(old, new).unified_diff().header(&name(&observed.config), &name(&plan.config)).to_string()
}
