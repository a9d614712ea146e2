//! What a node may hold that a run must not touch, a row each: the exact words, and a tree without a change.
//! Orders are in `installer/src/target.rs`; archives in [`crate::attacks`], what servers answer in [`crate::http`] and
//! [`crate::image`].

use std::fs;
use std::os::unix::fs::symlink;

use crate::fake::{Node, bundled};

/// What somebody put at a path of the node.
enum Thing {
    File(&'static [u8]),
    Link(&'static str),
    Folder,
}

use Thing::{File, Folder, Link};

const CONFIG: &str = "/etc/containerd/config.toml";
const LEDGER: &str = "/var/lib/kwasm/installer/ledger.json";

/// A version of containerd, what is on the node, and what is said of it.
type Row = (&'static str, &'static [(&'static str, Thing)], &'static str);

const CONFIGURATIONS: &[Row] = &[
    (
        "1.7.24",
        &[(CONFIG, File(b"version = 2\n[plugins\n"))],
        "ConfigNotToml: read /etc/containerd/config.toml: /etc/containerd/config.toml: line 2, column 9: unclosed table, expected `]`",
    ),
    (
        "1.7.24",
        &[(CONFIG, File(b"version = 2\nversion = 2\n"))],
        "ConfigNotToml: read /etc/containerd/config.toml: /etc/containerd/config.toml: line 2, column 1: duplicate key",
    ),
    (
        "1.7.24",
        &[(CONFIG, File(b"version = 2\n[a]\nx = 1\n[a]\ny = 1\n"))],
        "ConfigNotToml: read /etc/containerd/config.toml: /etc/containerd/config.toml: line 4, column 2: duplicate key",
    ),
    (
        "1.7.24",
        &[(CONFIG, File(b"version = 2\n[a.b]\n[a]\nb = 1\n"))],
        "ConfigNotToml: read /etc/containerd/config.toml: /etc/containerd/config.toml: line 4, column 1: duplicate key",
    ),
    (
        "1.7.24",
        &[(CONFIG, File(b"version = 2\na = \"\\q\"\n"))],
        "ConfigNotToml: read /etc/containerd/config.toml: /etc/containerd/config.toml: line 2, column 7: missing escaped value, expected `b`, `e`, `f`, `n`, `r`, `\\`, `\"`, `x`, `u`, `U`",
    ),
    (
        "1.7.24",
        &[(CONFIG, File(b"version = 2\na = \"x\ny\"\n"))],
        "ConfigNotToml: read /etc/containerd/config.toml: /etc/containerd/config.toml: line 3, column 3: key with no value, expected `=`",
    ),
    (
        "1.7.24",
        &[(CONFIG, File(b"version = 2\na = [1, 2\n"))],
        "ConfigNotToml: read /etc/containerd/config.toml: /etc/containerd/config.toml: line 2, column 10: unclosed array, expected `]`",
    ),
    (
        "1.7.24",
        &[(CONFIG, File(b"version = 2\na = { b = 1\n"))],
        "ConfigNotToml: read /etc/containerd/config.toml: /etc/containerd/config.toml: line 2, column 12: unclosed inline table, expected `}`",
    ),
    (
        "1.7.24",
        &[(CONFIG, File(b"version = 2\na = 1979-13-01\n"))],
        "ConfigNotToml: read /etc/containerd/config.toml: /etc/containerd/config.toml: line 2, column 5: invalid date, expected month between 01 and 12",
    ),
    (
        "1.7.24",
        &[(CONFIG, File(b"version = 2\na = 09\n"))],
        "ConfigNotToml: read /etc/containerd/config.toml: /etc/containerd/config.toml: line 2, column 5: unexpected leading zero, expected nothing",
    ),
    (
        "1.7.24",
        &[(CONFIG, File(b"version = 2\n= 1\n"))],
        "ConfigNotToml: read /etc/containerd/config.toml: /etc/containerd/config.toml: line 2, column 1: unquoted keys cannot be empty, expected letters, numbers, `-`, `_`",
    ),
    (
        "1.7.24",
        &[(CONFIG, File(b"version = 2\na.\n"))],
        "ConfigNotToml: read /etc/containerd/config.toml: /etc/containerd/config.toml: line 2, column 3: key with no value, expected `=`",
    ),
    (
        "1.7.24",
        &[(CONFIG, File(b"version = 2\na = '''x\n"))],
        "ConfigNotToml: read /etc/containerd/config.toml: /etc/containerd/config.toml: line 3, column 1: invalid multi-line literal string, expected `'`",
    ),
    (
        "1.7.24",
        &[(CONFIG, File(b"version = 2\n<<<<<<< HEAD\n"))],
        "ConfigNotToml: read /etc/containerd/config.toml: /etc/containerd/config.toml: line 2, column 9: key with no value, expected `=`",
    ),
    (
        "1.7.24",
        &[(CONFIG, File(b"version: 2\nplugins: {}\n"))],
        "ConfigNotToml: read /etc/containerd/config.toml: /etc/containerd/config.toml: line 1, column 10: key with no value, expected `=`",
    ),
    (
        "1.7.24",
        &[(CONFIG, File(b"{\"version\": 2}\n"))],
        "ConfigNotToml: read /etc/containerd/config.toml: /etc/containerd/config.toml: line 1, column 1: invalid key-value pair, expected key",
    ),
    (
        "1.7.24",
        &[(CONFIG, File(b"version = 2\na = \"\0\"\n"))],
        "ConfigNotToml: read /etc/containerd/config.toml: /etc/containerd/config.toml: line 2, column 6: invalid basic string, expected non-double-quote visible characters, `\\`",
    ),
    (
        "1.7.24",
        &[(CONFIG, File(b"version = 2\n# \xff\n"))],
        "ConfigNotToml: read /etc/containerd/config.toml: /etc/containerd/config.toml: line 2, column 3: not UTF-8",
    ),
    (
        "1.7.24",
        &[(CONFIG, File(b"version = 2\n\x1f\x8b\x08"))],
        "ConfigNotToml: read /etc/containerd/config.toml: /etc/containerd/config.toml: line 2, column 2: not UTF-8",
    ),
    (
        "1.7.24",
        &[(CONFIG, File(b"version = 2\nversion.minor = 1\n"))],
        "ConfigNotToml: read /etc/containerd/config.toml: /etc/containerd/config.toml: line 2, column 1: cannot extend value of type integer with a dotted key",
    ),
    (
        "1.7.24",
        &[(CONFIG, File(b"\xfe\xffv\0e\0r\0"))],
        "ConfigNotToml: read /etc/containerd/config.toml: /etc/containerd/config.toml: line 1, column 1: not UTF-8",
    ),
    (
        "1.7.24",
        &[(CONFIG, File(b"version = \"2\"\n"))],
        "ConfigVersionNotSupported: read /etc/containerd/config.toml: /etc/containerd/config.toml: `version = \"2\"`: this program edits versions 1 (no `version` key), 2, 3 and 4",
    ),
    (
        "1.7.24",
        &[(CONFIG, File(b"version = 2.0\n"))],
        "ConfigVersionNotSupported: read /etc/containerd/config.toml: /etc/containerd/config.toml: `version = 2.0`: this program edits versions 1 (no `version` key), 2, 3 and 4",
    ),
    (
        "1.7.24",
        &[(CONFIG, File(b"version = -1\n"))],
        "ConfigVersionNotSupported: read /etc/containerd/config.toml: /etc/containerd/config.toml: `version = -1`: this program edits versions 1 (no `version` key), 2, 3 and 4",
    ),
    (
        "1.7.24",
        &[(CONFIG, File(b"version = 99999999999999999999\n"))],
        "ConfigNotToml: read /etc/containerd/config.toml: /etc/containerd/config.toml: line 1, column 11: integer number overflowed",
    ),
    (
        "2.9.2",
        &[(CONFIG, File(b"version = 5\n"))],
        "ConfigVersionNotSupported: read /etc/containerd/config.toml: /etc/containerd/config.toml: `version = 5`: this program edits versions 1 (no `version` key), 2, 3 and 4",
    ),
    (
        "1.7.24",
        &[(CONFIG, File(b"version = 3\n"))],
        "HandlerNotLoaded: load the new /etc/containerd/config.toml with containerd: containerd 1.7.24 would load /etc/containerd/config.toml without the handler `wasmtime`",
    ),
    (
        "1.7.24",
        &[(CONFIG, File(b"version = 2\nplugins = 1\n"))],
        "ConfigLayoutNotSupported: edit /etc/containerd/config.toml: /etc/containerd/config.toml: the layout of `plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes` cannot be edited without changing something else",
    ),
    (
        "1.7.24",
        &[(CONFIG, File(b"version = 2\nplugins = []\n"))],
        "ConfigLayoutNotSupported: edit /etc/containerd/config.toml: /etc/containerd/config.toml: the layout of `plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes` cannot be edited without changing something else",
    ),
    (
        "1.7.24",
        &[(CONFIG, File(b"version = 2\n[[plugins]]\n"))],
        "ConfigLayoutNotSupported: edit /etc/containerd/config.toml: /etc/containerd/config.toml: the layout of `plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes` cannot be edited without changing something else",
    ),
    (
        "1.7.24",
        &[(CONFIG, File(b"version = 2\n[plugins]\n\"io.containerd.grpc.v1.cri\" = { containerd = 1 }\n"))],
        "ConfigLayoutNotSupported: edit /etc/containerd/config.toml: /etc/containerd/config.toml: the layout of `plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes` cannot be edited without changing something else",
    ),
    (
        "1.7.24",
        &[(CONFIG, File(b"version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".containerd]\nruntimes = \"runc\"\n"))],
        "ConfigLayoutNotSupported: edit /etc/containerd/config.toml: /etc/containerd/config.toml: the layout of `plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes` cannot be edited without changing something else",
    ),
    (
        "1.7.24",
        &[(CONFIG, File(b"version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes]\nwasmtime = 1\n"))],
        "HandlerConflict: compare the handlers: /etc/containerd/config.toml has a handler `wasmtime` of somebody else's",
    ),
    (
        "1.7.24",
        &[(CONFIG, File(b"version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n"))],
        "CriNotAvailable: ask CRI: the CRI plugin is disabled in /etc/containerd/config.toml",
    ),
    (
        "1.7.24",
        &[(CONFIG, File(b"version = 2\nimports = [\"/etc/none.toml\"]\n"))],
        "ConfigNotLoadable: load /etc/containerd/config.toml with containerd: `containerd config dump` failed: open /etc/none.toml: no such file",
    ),
    (
        "1.7.24",
        &[(CONFIG, File(b"version = 2\nimports = [\"x.toml\"]\n")), ("/etc/containerd/x.toml", File(b"[\n"))],
        "ConfigNotLoadable: load /etc/containerd/config.toml with containerd: `containerd config dump` failed: unquoted keys cannot be empty, expected letters, numbers, `-`, `_`",
    ),
    (
        "2.1.9",
        &[(CONFIG, File(b"version = 3\nimports = [\"x.toml\"]\n")), ("/etc/containerd/x.toml", File(b"version = 2\n"))],
        "ConfigNotLoadable: load /etc/containerd/config.toml with containerd: `containerd config dump` failed: /etc/containerd/x.toml is of another version",
    ),
    (
        "1.7.24",
        &[(CONFIG, Folder)],
        "ConfigNotReadable: read /etc/containerd/config.toml: read /etc/containerd/config.toml: Is a directory (os error 21)",
    ),
    (
        "1.7.24",
        &[(CONFIG, Link("/etc/containerd/none/config.toml"))],
        "PathOccupied: look for obstacles: /etc/containerd/config.toml is a link to /etc/containerd/none/config.toml, where there is nothing",
    ),
    (
        "1.7.24",
        &[(CONFIG, Link("config.toml"))],
        "ConfigNotReadable: read /etc/containerd/config.toml: read /etc/containerd/config.toml: Too many levels of symbolic links (os error 40)",
    ),
    (
        "1.7.24",
        &[("/etc/containerd", File(b""))],
        "PathOccupied: look for obstacles: /etc/containerd is a file, and a directory of that name is needed",
    ),
    ("1.5.9", &[], "ContainerdTooOld: look for containerd: containerd 1.5.9 does not speak CRI v1"),
    ("1.4.13", &[], "ContainerdTooOld: look for containerd: containerd 1.4.13 does not speak CRI v1"),
    ("0.2.9", &[], "ContainerdTooOld: look for containerd: containerd 0.2.9 does not speak CRI v1"),
    (
        "unknown",
        &[],
        "NodeNotSupported: look for containerd: /usr/bin/containerd says its version is `unknown`, which is no number",
    ),
];

const STATES: &[Row] = &[
    (
        "1.7.24",
        &[(LEDGER, File(b""))],
        "LedgerNotReadable: read the ledger: /var/lib/kwasm/installer/ledger.json: EOF while parsing a value at line 1 column 0",
    ),
    (
        "1.7.24",
        &[(LEDGER, File(b"{"))],
        "LedgerNotReadable: read the ledger: /var/lib/kwasm/installer/ledger.json: EOF while parsing an object at line 1 column 1",
    ),
    (
        "1.7.24",
        &[(LEDGER, File(b"[]"))],
        "LedgerNotReadable: read the ledger: /var/lib/kwasm/installer/ledger.json: invalid length 0, expected struct Ledger with 3 elements at line 1 column 2",
    ),
    (
        "1.7.24",
        &[(LEDGER, File(b"{\"version\": 2, \"current\": {}}"))],
        "LedgerNotReadable: read the ledger: /var/lib/kwasm/installer/ledger.json has version 2; this program understands version 1",
    ),
    (
        "1.7.24",
        &[(LEDGER, File(b"{\"version\": \"1\", \"current\": {}}"))],
        "LedgerNotReadable: read the ledger: /var/lib/kwasm/installer/ledger.json: invalid type: string \"1\", expected u32 at line 1 column 15",
    ),
    (
        "1.7.24",
        &[(LEDGER, File(b"{\"version\": 1}"))],
        "LedgerNotReadable: read the ledger: /var/lib/kwasm/installer/ledger.json: missing field `current` at line 1 column 14",
    ),
    (
        "1.7.24",
        &[(LEDGER, File(b"{\"version\": 1, \"current\": {\"installDir\": 7}}"))],
        "LedgerNotReadable: read the ledger: /var/lib/kwasm/installer/ledger.json: invalid type: integer `7`, expected path string at line 1 column 42",
    ),
    (
        "1.7.24",
        &[(LEDGER, File(b"\xff"))],
        "LedgerNotReadable: read the ledger: /var/lib/kwasm/installer/ledger.json: expected value at line 1 column 1",
    ),
    (
        "1.7.24",
        &[(LEDGER, Folder)],
        "LedgerNotReadable: read the ledger: read /var/lib/kwasm/installer/ledger.json: Is a directory (os error 21)",
    ),
    (
        "1.7.24",
        &[("/var/lib/kwasm", File(b"x"))],
        "PathOccupied: look for obstacles: /var/lib/kwasm is a file, and a directory of that name is needed",
    ),
    (
        "1.7.24",
        &[("/var/lib/kwasm/installer", File(b"x"))],
        "PathOccupied: look for obstacles: /var/lib/kwasm/installer is a file, and a directory of that name is needed",
    ),
    (
        "1.7.24",
        &[("/opt/kwasm", File(b"x"))],
        "PathOccupied: look for obstacles: /opt/kwasm is a file, and a directory of that name is needed",
    ),
    (
        "1.7.24",
        &[("/opt/kwasm/bin", File(b"x"))],
        "PathOccupied: look for obstacles: /opt/kwasm/bin is a file, and a directory of that name is needed",
    ),
    (
        "1.7.24",
        &[("/opt/kwasm/runtimes", File(b"x"))],
        "PathOccupied: look for obstacles: /opt/kwasm/runtimes is a file, and a directory of that name is needed",
    ),
    (
        "1.7.24",
        &[("/opt/kwasm/runtimes/wasmtime", File(b"x"))],
        "PathOccupied: look for obstacles: /opt/kwasm/runtimes/wasmtime is a file, and a directory of that name is needed",
    ),
    (
        "1.7.24",
        &[("/opt/kwasm/bin/containerd-shim-wasmtime-v1", Folder)],
        "PathOccupied: look for obstacles: /opt/kwasm/bin/containerd-shim-wasmtime-v1 is a directory, and a link of that name is needed",
    ),
];

/// A node with just these things; of what leads to one, folders are made.
fn node(version: &str, things: &[(&str, Thing)]) -> Node {
    let node = Node::with_config(version, "version = 2\n");
    for (path, thing) in things {
        let real = node.path(path);
        if real.is_dir() {
            fs::remove_dir_all(&real).unwrap()
        } else {
            fs::remove_file(&real).ok().unwrap_or_default()
        }
        fs::create_dir_all(real.parent().unwrap()).unwrap();
        match thing {
            File(content) => fs::write(&real, content).unwrap(),
            Link(target) => symlink(target, &real).unwrap(),
            Folder => fs::create_dir(&real).unwrap(),
        }
    }
    node
}

/// What is said of a row, if it is not what is written there.
fn surprise((version, things, words): &Row) -> Option<String> {
    let node = node(version, things);
    let before = node.tree();
    let (_, stop) = node.apply(&[bundled("wasmtime")]);
    let said = stop.map_or_else(|| "done".to_owned(), |stop| format!("{:?}: {stop}", stop.reason));
    let places: Vec<&str> = things.iter().map(|(path, _)| *path).collect();
    let unchanged = node.tree() == before && node.restarts() == 0;
    let expected = said == *words && unchanged;
    (!expected).then(|| format!("{version} {places:?}\n  unchanged: {unchanged}\n  said: {said}\n  meant: {words}"))
}

#[test]
fn whatever_is_wrong_with_a_node_its_tree_stays_and_the_words_are_exact() {
    let surprises: Vec<String> = CONFIGURATIONS.iter().chain(STATES).filter_map(surprise).collect();
    println!("{} rows", CONFIGURATIONS.len() + STATES.len());
    assert!(surprises.is_empty(), "{}", surprises.join("\n"));
}
