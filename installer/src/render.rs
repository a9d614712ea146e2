//! A plan as people and programs read it: its steps, and the configuration's change as a unified diff.

use std::fmt::Write as _;

use serde_json::{Value as Json, json};
use similar::TextDiff;

use crate::observe::Observed;
use crate::plan::Plan;
use crate::platform::TakeUp;

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
    let restart = match &plan.take_up {
        Some(TakeUp::Restart(unit)) => Some(unit),
        _ => None,
    };
    json!({"version": 1, "steps": steps, "restart": restart, "diff": diff})
}

fn steps(plan: &Plan) -> Vec<String> {
    let changes = plan.change.iter().map(ToString::to_string);
    let take_up = plan.take_up.iter().map(|take_up| format!("{take_up} and verify by CRI"));
    let named = plan.named.iter().map(|shim| format!("verify that {} answers", shim.display()));
    let cleanup = plan.cleanup.iter().map(ToString::to_string);
    changes.chain(take_up).chain(named).chain(cleanup).collect()
}

fn diff(observed: &Observed, plan: &Plan) -> String {
    let path = observed.platform.layout.path.display().to_string();
    let name = |text: &Option<String>| if text.is_some() { path.clone() } else { "/dev/null".to_owned() };
    let old = observed.config.as_deref().unwrap_or_default();
    let new = plan.config.as_deref().unwrap_or_default();
    TextDiff::from_lines(old, new).unified_diff().header(&name(&observed.config), &name(&plan.config)).to_string()
}
