//! The command line and the exit codes of `wasmtime-engine`.

use std::os::fd::RawFd;

/// The exit code of a guest that trapped: 128 + SIGABRT, as the `wasmtime` command has it.
pub const EXIT_TRAP: u8 = 134;

/// The exit code of an engine that could not do its work.
pub const EXIT_ENGINE: u8 = 125;

/// How `wasmtime-engine` is called. What follows `--` are the guest's own arguments; its environment is the
/// process's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineArgs {
    /// The descriptor of the control socket.
    pub control: RawFd,
    /// The descriptor of the compiled module.
    pub artefact: RawFd,
    /// The export to call instead of the module's start.
    pub function: Option<String>,
    /// The guest's arguments, the program's name first.
    pub guest: Vec<String>,
}

/// A command line that no shim writes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0}; this program is started by containerd-shim-wasmtime-v1: wasmtime-engine --control=FD --artefact=FD [--call=EXPORT] -- ARG…"
)]
pub struct InvalidEngineArgs(String);

impl EngineArgs {
    /// The words of the command line, the program's name first.
    #[must_use]
    pub fn to_words(&self) -> Vec<String> {
        let mut words = vec!["wasmtime-engine".to_owned()];
        words.push(format!("--control={}", self.control));
        words.push(format!("--artefact={}", self.artefact));
        words.extend(self.function.iter().map(|function| format!("--call={function}")));
        words.push("--".to_owned());
        words.extend(self.guest.iter().cloned());
        words
    }

    /// Reads the words after the program's name.
    ///
    /// # Errors
    /// If a descriptor is missing or a word is unknown.
    pub fn parse(words: impl IntoIterator<Item = String>) -> Result<Self, InvalidEngineArgs> {
        let mut words = words.into_iter();
        let (mut control, mut artefact, mut function) = (None, None, None);
        for word in words.by_ref() {
            match word.split_once('=') {
                _ if word == "--" => break,
                Some(("--control", fd)) => control = fd.parse().ok(),
                Some(("--artefact", fd)) => artefact = fd.parse().ok(),
                Some(("--call", name)) => function = Some(name.to_owned()),
                _ => return Err(InvalidEngineArgs(format!("unknown argument {word:?}"))),
            }
        }
        let missing = |what| InvalidEngineArgs(format!("no descriptor in {what}"));
        Ok(Self {
            control: control.filter(|fd| *fd > 2).ok_or_else(|| missing("--control"))?,
            artefact: artefact.filter(|fd| *fd > 2).ok_or_else(|| missing("--artefact"))?,
            function,
            guest: words.collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_are_read_as_they_were_written() {
        let guest = vec!["/app.wasm".to_owned(), "--control=9".to_owned(), "--".to_owned()];
        let args = EngineArgs { control: 3, artefact: 5, function: Some("run=1".into()), guest };
        assert_eq!(EngineArgs::parse(args.to_words().into_iter().skip(1)), Ok(args));
    }

    #[test]
    fn a_call_by_hand_is_told_how_the_engine_is_called() {
        let error = EngineArgs::parse(["--help".to_owned()]).unwrap_err();
        assert!(error.to_string().contains("started by containerd-shim-wasmtime-v1"), "{error}");
    }
}
