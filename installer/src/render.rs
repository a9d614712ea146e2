//! A plan as people read it: its steps, and the configuration's change as a unified diff.

use std::fmt::Write as _;

use similar::TextDiff;

use crate::observe::Observed;
use crate::plan::Plan;

/// The plan as text.
#[must_use]
pub fn plan(observed: &Observed, plan: &Plan) -> String {
    let daemon = &observed.daemon;
    let mut text = format!("containerd {} ({}), {}\n", daemon.version, daemon.unit, daemon.config_path.display());
    if plan.is_empty(observed) {
        text.push_str("nothing to do\n");
        return text;
    }
    let changes = plan.change.iter().map(ToString::to_string);
    let restart = plan.restart.iter().map(|unit| format!("restart {unit} and verify by CRI"));
    let cleanup = plan.cleanup.iter().map(ToString::to_string);
    for (number, step) in changes.chain(restart).chain(cleanup).enumerate() {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{:>3}. {step}", number + 1);
    }
    let _ = write!(text, "{}", diff(observed, plan));
    text
}

fn diff(observed: &Observed, plan: &Plan) -> String {
    let path = observed.daemon.config_path.display().to_string();
    let name = |text: &Option<String>| if text.is_some() { path.clone() } else { "/dev/null".to_owned() };
    let old = observed.config.as_deref().unwrap_or_default();
    let new = plan.config.as_deref().unwrap_or_default();
    TextDiff::from_lines(old, new).unified_diff().header(&name(&observed.config), &name(&plan.config)).to_string()
}
