//! How containerd calls the shim: flags in Go's style, then an action.

use std::path::PathBuf;

/// A call of the shim.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CommandLine {
    /// containerd's namespace, such as `k8s.io`.
    pub(crate) namespace: String,
    /// The container's id.
    pub(crate) id: String,
    /// The socket of containerd itself.
    pub(crate) address: String,
    /// The container's bundle; absent means the working folder.
    pub(crate) bundle: Option<PathBuf>,
    /// The socket that the running shim serves (set by the shim itself).
    pub(crate) socket: String,
    /// Whether to log more.
    pub(crate) debug: bool,
    /// What to do.
    pub(crate) action: Action,
}

/// What a call asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Action {
    /// Be the running shim (without an action's name).
    #[default]
    Serve,
    /// Start a shim, or find the pod's, and print its address.
    Start,
    /// Clean up after a shim that is gone.
    Delete,
    /// Describe this runtime to containerd (2.2 and later).
    Info,
    /// Print the version.
    Version,
    /// Prepare a container (started by the shim itself).
    Init,
    /// Hold a pod's namespaces (started by the shim itself).
    Pause,
}

/// A call that containerd does not make.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0}; containerd starts this program: set runtime_type to its path in a runtime of containerd's config.toml, or try \
     `ctr run --runtime PATH-OF-THIS-PROGRAM IMAGE NAME`"
)]
pub(crate) struct InvalidCall(String);

/// Reads the words after the program's name.
///
/// # Errors
/// An unknown action, or a flag without its value.
pub(crate) fn parse(words: impl IntoIterator<Item = String>) -> Result<CommandLine, InvalidCall> {
    let mut line = CommandLine::default();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let Some(flag) = word.strip_prefix('-') else {
            line.action = action(&word)?;
            continue;
        };
        let flag = flag.strip_prefix('-').unwrap_or(flag);
        let (name, value) = flag.split_once('=').map_or((flag, None), |(name, value)| (name, Some(value.to_owned())));
        let mut value =
            || value.clone().or_else(|| words.next()).ok_or_else(|| InvalidCall(format!("{word} has no value")));
        match name {
            "namespace" => line.namespace = value()?,
            "id" => line.id = value()?,
            "address" => line.address = value()?,
            "bundle" => line.bundle = Some(value()?.into()),
            "socket" => line.socket = value()?,
            "publish-binary" => drop(value()?),
            "debug" => line.debug = true,
            "v" | "version" => line.action = Action::Version,
            "info" => line.action = Action::Info,
            // A flag of a later containerd: its value, if any, cannot be told from an action, so only `-flag=value` is skipped.
            _ => {}
        }
    }
    Ok(line)
}

fn action(word: &str) -> Result<Action, InvalidCall> {
    match word {
        "start" => Ok(Action::Start),
        "delete" => Ok(Action::Delete),
        "init" => Ok(Action::Init),
        "pause" => Ok(Action::Pause),
        _ => Err(InvalidCall(format!("unknown action {word:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(words: &str) -> CommandLine {
        parse(words.split(' ').map(str::to_owned)).expect("a call")
    }

    #[test]
    fn containerds_call_of_start_is_understood() {
        let start = line(
            "-namespace k8s.io -address /run/containerd/containerd.sock -publish-binary /usr/bin/containerd -id c1 start",
        );
        assert_eq!((start.namespace.as_str(), start.id.as_str()), ("k8s.io", "c1"));
        assert_eq!((start.action, start.debug), (Action::Start, false));
    }

    #[test]
    fn containerds_call_of_delete_is_understood() {
        let delete = line("-namespace k8s.io -address a -publish-binary b -id c1 -bundle /run/b -debug delete");
        assert_eq!((delete.action, delete.debug, delete.bundle), (Action::Delete, true, Some("/run/b".into())));
    }

    #[test]
    fn flags_may_have_two_dashes_and_an_equals_sign() {
        assert_eq!(line("--id=c=1 start").id, "c=1");
    }

    #[test]
    fn questions_about_the_runtime_need_no_action() {
        assert_eq!(line("-info").action, Action::Info);
        assert_eq!(line("-v").action, Action::Version);
    }

    #[test]
    fn a_call_by_hand_is_told_who_calls() {
        let error = parse(["help".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("containerd starts this program"), "{error}");
    }
}
