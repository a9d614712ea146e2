//! The specification's hooks that belong to a container's creation. Docker 26 connects a container to its network by one.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::unistd::Pid;
use rustix::fs::{MemfdFlags, memfd_create};
use serde_json::json;
use tokio::time::timeout;

use crate::reaper::{Ended, Reaper};
use crate::spec::{Hook, Spec};

/// A hook that did not succeed: the container must not start then.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HookError {
    /// It cannot be started.
    #[error("starting the hook {path}: {error}")]
    NotStarted { path: PathBuf, error: io::Error },
    /// It says no.
    #[error("the hook {path} ended with {code}: {message}")]
    Failed { path: PathBuf, code: u32, message: String },
    /// It takes longer than the specification lets it.
    #[error("the hook {path} did not end within {seconds} s")]
    TooSlow { path: PathBuf, seconds: u64 },
}

/// What hooks are told of their container.
pub(super) struct Subject<'a> {
    /// containerd's id.
    pub(super) id: &'a str,
    /// Its bundle.
    pub(super) bundle: &'a Path,
    /// Its process, in whose namespaces it will run.
    pub(super) pid: Pid,
}

/// Runs the hooks of the creation on the host, one after the other: `prestart`, then `createRuntime`.
///
/// # Errors
/// The first that does not succeed.
pub(super) async fn run(spec: &Spec, subject: &Subject<'_>, reaper: &Reaper) -> Result<(), HookError> {
    for hook in spec.hooks.prestart.iter().chain(&spec.hooks.create_runtime) {
        let path = || hook.path.clone();
        let not_started = |error| HookError::NotStarted { path: path(), error };
        let mut command = command(hook, &state(spec, subject)).map_err(not_started)?;
        // The container's own deadline holds for a hook without one; a hook that is given up is killed.
        let seconds = hook.timeout.unwrap_or(u64::from(u32::MAX));
        let ended = timeout(Duration::from_secs(seconds), reaper.run(&mut command)).await;
        let ended = ended.map_err(|_| HookError::TooSlow { path: path(), seconds })?.map_err(not_started)?;
        check(hook, ended)?;
    }
    Ok(())
}

fn check(hook: &Hook, Ended { code, message }: Ended) -> Result<(), HookError> {
    if code == 0 { Ok(()) } else { Err(HookError::Failed { path: hook.path.clone(), code, message }) }
}

/// The container's state (OCI runtime specification, "State").
fn state(spec: &Spec, subject: &Subject<'_>) -> String {
    let state = json!({
        "ociVersion": spec.oci_version,
        "id": subject.id,
        "status": "creating",
        "pid": subject.pid.as_raw(),
        "bundle": subject.bundle,
        "annotations": spec.annotations,
    });
    state.to_string()
}

fn command(hook: &Hook, state: &str) -> io::Result<Command> {
    let mut input = File::from(memfd_create("state", MemfdFlags::CLOEXEC)?);
    input.write_all(state.as_bytes())?;
    input.rewind()?;
    let mut command = Command::new(&hook.path);
    let (name, words) = hook.args.split_first().unzip();
    command.arg0(name.map_or(hook.path.as_os_str(), |name| name.as_ref())).args(words.unwrap_or_default());
    command.env_clear().envs(hook.env.iter().filter_map(|pair| pair.split_once('=')));
    command.stdin(input).stdout(Stdio::null());
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject() -> Subject<'static> {
        Subject { id: "c1", bundle: Path::new("/run/c1"), pid: Pid::from_raw(77) }
    }

    fn spec(hooks: &str) -> Spec {
        serde_json::from_str(&format!(r#"{{"ociVersion":"1.1.0","hooks":{hooks}}}"#)).unwrap()
    }

    /// A reaper that was not started: it takes nothing from the tests beside this one.
    async fn error(hooks: &str) -> String {
        run(&spec(hooks), &subject(), &Reaper::default()).await.unwrap_err().to_string()
    }

    #[test]
    fn a_hook_reads_the_containers_state_and_has_its_own_name_and_environment() {
        let script = r#"[ "$0 $A $HOME" = "hook b " ] && grep -q '"id":"c1".*"pid":77'"#;
        let words = ["sh", "-c", script, "hook"];
        let hook = Hook {
            path: "/bin/sh".into(),
            args: words.map(str::to_owned).into(),
            env: vec!["A=b".to_owned()],
            timeout: None,
        };
        assert!(command(&hook, &state(&spec("{}"), &subject())).unwrap().status().unwrap().success());
    }

    #[test]
    fn a_hook_that_fails_is_told_with_its_words() {
        let hook = Hook { path: "/hook".into(), ..Hook::default() };
        let ended = |code, message: &str| Ended { code, message: message.to_owned() };
        assert!(check(&hook, ended(0, "a warning")).is_ok());
        let error = check(&hook, ended(3, "no network")).unwrap_err().to_string();
        assert_eq!(error, "the hook /hook ended with 3: no network");
    }

    #[tokio::test]
    async fn a_hook_that_does_not_end_in_its_time_is_given_up() {
        let hooks = r#"{"prestart":[{"path":"/bin/sleep","args":["sleep","60"],"timeout":1}]}"#;
        assert_eq!(error(hooks).await, "the hook /bin/sleep did not end within 1 s");
    }

    #[tokio::test]
    async fn hooks_before_the_start_come_before_those_of_the_creation() {
        let hooks = r#"{"createRuntime":[{"path":"/none/second"}],"prestart":[{"path":"/none/first"}]}"#;
        assert!(error(hooks).await.starts_with("starting the hook /none/first: "));
    }
}
