//! What a container uses, in containerd's messages.

mod v1;
mod v2;

use std::collections::HashMap;

pub(super) use v1::metrics as v1;
pub(super) use v2::metrics as v2;

/// A file of `key value` lines.
#[derive(Debug, Default)]
pub(super) struct Flat<'a>(HashMap<&'a str, u64>);

impl<'a> Flat<'a> {
    /// Reads the lines; what is no number is left out.
    pub(super) fn parse(text: &'a str) -> Self {
        Self(
            text.lines()
                .filter_map(|line| line.split_once(' '))
                .filter_map(|(k, v)| Some((k, v.trim().parse().ok()?)))
                .collect(),
        )
    }

    /// The value of a key, 0 if it is not there.
    pub(super) fn get(&self, key: &str) -> u64 {
        self.0.get(key).copied().unwrap_or(0)
    }
}

/// A file that holds one number; `max` is the largest.
fn number(text: &str) -> u64 {
    match text.trim() {
        "max" => u64::MAX,
        digits => digits.parse().unwrap_or(0),
    }
}
