//! Which file a container's command means.

use std::path::{Path, PathBuf};

/// Where a name without a slash is looked for when the container has no PATH (as runc does).
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What the first argument of a container asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EntryPoint {
    /// The first argument, without the function.
    pub(crate) name: String,
    /// Absolute paths in the container's root, the first that is a file counts.
    pub(crate) candidates: Vec<PathBuf>,
    /// The export to call; `None` is the program's start.
    pub(crate) function: Option<String>,
}

/// A container without a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the container has no command: set `command` in the pod, or CMD in the image, to the path of the .wasm file")]
pub(crate) struct NoCommand;

/// Reads `path`, `path#function` or `name`, where a name without a slash is looked up on `path_variable`, then in `cwd`, each also
/// with `.wasm` after it.
///
/// # Errors
/// If there is no first argument, or it is empty.
pub(crate) fn entry_point(args: &[String], path_variable: Option<&str>, cwd: &str) -> Result<EntryPoint, NoCommand> {
    let first = args.first().ok_or(NoCommand)?;
    let (name, function) = match first.rsplit_once('#') {
        Some((name, function)) if !name.is_empty() && !function.is_empty() => (name, Some(function.to_owned())),
        _ => (first.as_str(), None),
    };
    if name.is_empty() {
        return Err(NoCommand);
    }
    let cwd = Path::new("/").join(cwd);
    let candidates = if name.contains('/') {
        vec![cwd.join(name)]
    } else {
        let folders = path_variable.unwrap_or(DEFAULT_PATH).split(':').filter(|folder| !folder.is_empty());
        let folders = folders.map(|folder| cwd.join(folder)).chain([cwd.clone()]);
        folders.flat_map(|folder| [folder.join(name), folder.join(format!("{name}.wasm"))]).collect()
    };
    Ok(EntryPoint { name: name.to_owned(), candidates, function })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(first: &str, path: Option<&str>, cwd: &str) -> EntryPoint {
        entry_point(&[first.to_owned()], path, cwd).expect("a command")
    }

    fn candidates(entry: &EntryPoint) -> Vec<&str> {
        entry.candidates.iter().filter_map(|path| path.to_str()).collect()
    }

    #[test]
    fn a_path_is_that_file() {
        assert_eq!(candidates(&of("/app.wasm", Some("/bin"), "/")), ["/app.wasm"]);
        assert_eq!(candidates(&of("./app.wasm", None, "/srv")), ["/srv/./app.wasm"]);
    }

    #[test]
    fn a_function_stands_behind_the_last_hash() {
        let entry = of("/a#b.wasm#run", None, "/");
        assert_eq!((candidates(&entry), entry.function.as_deref()), (vec!["/a#b.wasm"], Some("run")));
        assert_eq!(of("/app.wasm#", None, "/").function, None);
    }

    #[test]
    fn a_name_is_looked_up_on_path_and_then_in_the_working_folder() {
        assert_eq!(
            candidates(&of("greet", Some("/usr/local/bin::/bin"), "/srv")),
            [
                "/usr/local/bin/greet",
                "/usr/local/bin/greet.wasm",
                "/bin/greet",
                "/bin/greet.wasm",
                "/srv/greet",
                "/srv/greet.wasm"
            ]
        );
    }

    #[test]
    fn without_path_the_usual_folders_are_looked_through() {
        assert!(of("greet", None, "").candidates.contains(&PathBuf::from("/usr/local/bin/greet.wasm")));
        assert!(of("greet", None, "").candidates.contains(&PathBuf::from("/greet.wasm")));
    }

    #[test]
    fn no_command_is_said_so() {
        assert_eq!(entry_point(&[], None, "/"), Err(NoCommand));
        assert_eq!(entry_point(&[String::new()], None, "/"), Err(NoCommand));
    }
}
