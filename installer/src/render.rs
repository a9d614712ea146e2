//! A plan as people and programs read it: its steps, and the configuration's change as a unified diff.

use std::fmt::Write as _;

use serde_json::{Value as Json, json};
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
    for (number, step) in steps(plan).iter().enumerate() {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{:>3}. {step}", number + 1);
    }
    let _ = write!(text, "{}", diff(observed, plan));
    text
}

/// The plan as a JSON document: `version` (1), `steps` in words, the `restart`ed unit or null, and the `diff`.
#[must_use]
pub fn plan_document(observed: &Observed, plan: &Plan) -> Json {
    let empty = plan.is_empty(observed);
    let (steps, diff) = if empty { (Vec::new(), String::new()) } else { (steps(plan), diff(observed, plan)) };
    json!({"version": 1, "steps": steps, "restart": plan.restart, "diff": diff})
}

fn steps(plan: &Plan) -> Vec<String> {
    let changes = plan.change.iter().map(ToString::to_string);
    let restart = plan.restart.iter().map(|unit| format!("restart {unit} and verify by CRI"));
    let cleanup = plan.cleanup.iter().map(ToString::to_string);
    changes.chain(restart).chain(cleanup).collect()
}

fn diff(observed: &Observed, plan: &Plan) -> String {
    let path = observed.daemon.config_path.display().to_string();
    let name = |text: &Option<String>| if text.is_some() { path.clone() } else { "/dev/null".to_owned() };
    let old = observed.config.as_deref().unwrap_or_default();
    let new = plan.config.as_deref().unwrap_or_default();
    TextDiff::from_lines(old, new).unified_diff().header(&name(&observed.config), &name(&plan.config)).to_string()
}
