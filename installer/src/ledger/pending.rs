//! A transaction that has begun, and what the node is at where one did not end.

use serde::{Deserialize, Serialize};

use super::{Ledger, State};
use crate::artifacts::text_digest;

/// A transaction that has begun.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pending {
    /// What will be on the node.
    pub state: State,
    /// The configuration file's text when `current` was verified; absent if there was no file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<String>,
    /// SHA-256 of the text that it leads to; absent if there will be no file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written: Option<String>,
    /// What the node was at when it began, where a run before it did not end either.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Interrupted>,
}

/// Where a run that did not end has left the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Interrupted {
    /// What it was to lead to.
    pub state: State,
    /// SHA-256 of the configuration file's text; absent if there was no file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written: Option<String>,
}

impl Pending {
    /// The state whose text the file has, if that is one that a run wrote which did not end.
    fn exactly(&self, file: Option<&str>) -> Option<&State> {
        let digest = file.map(text_digest);
        let from = self.from.as_ref().filter(|from| from.written == digest).map(|from| &from.state);
        if self.written == digest { Some(&self.state) } else { from }
    }
}

impl Ledger {
    /// The text before a transaction that did not end, if the file has the one that it wrote: what others changed
    /// since is not taken back.
    #[must_use]
    pub fn unfinished(&self, file: Option<&str>) -> Option<&Option<String>> {
        let pending = self.pending.as_ref().filter(|pending| pending.previous.as_deref() != file)?;
        pending.exactly(file).map(|_| &pending.previous)
    }

    /// What the node is at, `file` being the configuration file's text: where a transaction did not end, the
    /// old state if the file is still the old one, else the one whose text or block is there.
    #[must_use]
    pub fn at(&self, file: Option<&str>) -> State {
        let mut state = self.chosen(file).clone();
        for other in self.states() {
            let folders = other.created_dirs.iter().filter(|folder| !state.created_dirs.contains(folder));
            let folders: Vec<_> = folders.cloned().collect();
            state.created_dirs.extend(folders);
            let links: Vec<_> = other.named.iter().filter(|link| !state.named.contains(link)).cloned().collect();
            state.named.extend(links);
        }
        state.created_dirs.sort();
        let known = || self.states().skip(1).chain([&self.current]).find_map(|state| state.install_dir.clone());
        state.install_dir = state.install_dir.or_else(known);
        state
    }

    fn chosen(&self, file: Option<&str>) -> &State {
        let Some(pending) = self.pending.as_ref().filter(|pending| pending.previous.as_deref() != file) else {
            return &self.current;
        };
        // Others may have changed the file since: then what tells is where our block stands, or that it stands nowhere.
        let stands = |state: &&State| {
            let record = state.config.as_ref();
            record.zip(file).is_some_and(|(record, text)| record.stands_in(text))
        };
        // A block may be the beginning of a longer one; of two that are the same, the last run's counts.
        let from = pending.from.as_ref().map(|from| &from.state);
        let all = [Some(&self.current), from, Some(&pending.state)].into_iter().flatten();
        let longest = all.filter(stands).max_by_key(|state| state.config.as_ref().map(|record| record.block.len()));
        let nowhere = || self.states().find(|state| state.config.is_none());
        pending.exactly(file).or(longest).or_else(nowhere).unwrap_or(&pending.state)
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::ledger::ConfigRecord;

    /// A state of the node, told by its folder for binaries, and how its block stands in the file.
    fn state(dir: &str, block: Option<&str>) -> State {
        let record = |block: &str| ConfigRecord {
            path: "/config.toml".into(),
            original: Some("theirs\n".into()),
            written: text_digest(&format!("theirs\n{block}")),
            block: block.to_owned(),
            handlers: Vec::new(),
            defaults: Vec::new(),
        };
        State { install_dir: Some(dir.into()), config: block.map(record), ..State::default() }
    }

    fn at(ledger: &Ledger, file: &str) -> PathBuf {
        ledger.at(Some(file)).install_dir.unwrap()
    }

    fn installing() -> Ledger {
        let pending = Pending {
            state: state("/new", Some("A\n")),
            previous: Some("theirs\n".into()),
            written: Some(text_digest("theirs\nA\n")),
            from: None,
        };
        Ledger { version: 1, current: state("/old", None), pending: Some(pending) }
    }

    #[test]
    fn an_unfinished_transaction_is_judged_by_the_files_content() {
        let ledger = installing();
        assert_eq!(at(&ledger, "theirs\n"), PathBuf::from("/old"));
        assert_eq!(at(&ledger, "theirs\nA\n"), PathBuf::from("/new"));
    }

    #[test]
    fn what_others_wrote_since_hides_no_block_of_ours_and_makes_none_up() {
        let ledger = installing();
        assert_eq!(at(&ledger, "theirs\nA\nmore\n"), PathBuf::from("/new"));
        assert_eq!(at(&ledger, "theirs\nmore\n"), PathBuf::from("/old"));
    }

    #[test]
    fn a_block_that_others_begin_with_is_not_taken_for_them() {
        let mut ledger = installing();
        ledger.current = state("/old", Some("A\nB\n"));
        assert_eq!(at(&ledger, "theirs\nA\nB\nmore\n"), PathBuf::from("/old"));
        assert_eq!(at(&ledger, "theirs\nA\nmore\n"), PathBuf::from("/new"));
    }

    #[test]
    fn of_two_runs_that_did_not_end_the_file_tells_which_one_wrote_it() {
        let mut ledger = installing();
        let first = ledger.pending.take().unwrap();
        ledger.pending = Some(Pending {
            state: state("/none", None),
            previous: first.previous,
            written: Some(text_digest("theirs\nelse\n")),
            from: Some(Interrupted { state: first.state, written: first.written }),
        });
        assert_eq!(at(&ledger, "theirs\nA\n"), PathBuf::from("/new"));
        assert_eq!(at(&ledger, "theirs\nelse\n"), PathBuf::from("/none"));
        assert_eq!(at(&ledger, "theirs\n"), PathBuf::from("/old"));
    }

    #[test]
    fn only_what_a_run_wrote_itself_is_taken_back() {
        let ledger = installing();
        assert_eq!(ledger.unfinished(Some("theirs\nA\n")), Some(&Some("theirs\n".to_owned())));
        for text in ["theirs\n", "theirs\nA\nmore\n", "theirs\nmore\n"] {
            assert_eq!(ledger.unfinished(Some(text)), None, "{text}");
        }
    }
}
