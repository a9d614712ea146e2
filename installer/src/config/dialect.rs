//! The versions of containerd's configuration format, and CRI-O's, and where each keeps the handlers of CRI.

use toml_edit::Document;

/// A version of the configuration format. The file's own version counts, never the daemon's: containerd 2
/// still reads files of version 2, and a file without a version is one of version 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dialect {
    /// No `version` key: containerd 1.0 to 1.7.
    V1,
    /// containerd 1.3 and newer.
    V2,
    /// containerd 2.0 and newer.
    V3,
    /// containerd 2.3 and newer; the same tables for CRI as [`Self::V3`].
    V4,
    /// CRI-O, whose format has no version.
    Crio,
}

/// Why a file is not edited.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DialectError {
    /// No TOML.
    #[error("line {line}, column {column}: {message}")]
    NotToml {
        /// Counted from 1.
        line: usize,
        /// Counted from 1, in characters.
        column: usize,
        /// The parser's words.
        message: String,
    },
    /// A version that this program does not know.
    #[error("`version = {0}`: this program edits versions 1 (no `version` key), 2, 3 and 4")]
    UnknownVersion(String),
}

impl Dialect {
    /// The dialect of a file.
    ///
    /// # Errors
    /// If it is not TOML, or of a version that is not known here.
    pub fn of(text: &str) -> Result<Self, DialectError> {
        let document = Document::parse(text).map_err(|error| not_toml(text, &error))?;
        let Some(version) = document.get("version") else { return Ok(Self::V1) };
        match version.as_integer() {
            // An explicit 0 is how Go writes a version that was never set.
            Some(0 | 1) => Ok(Self::V1),
            Some(2) => Ok(Self::V2),
            Some(3) => Ok(Self::V3),
            Some(4) => Ok(Self::V4),
            Some(other) => Err(DialectError::UnknownVersion(other.to_string())),
            None => Err(DialectError::UnknownVersion(version.to_string().trim().to_owned())),
        }
    }

    /// The keys that lead to the table of handlers.
    #[must_use]
    pub const fn runtimes(self) -> &'static [&'static str] {
        match self {
            Self::V1 => &["plugins", "cri", "containerd", "runtimes"],
            Self::V2 => &["plugins", "io.containerd.grpc.v1.cri", "containerd", "runtimes"],
            Self::V3 | Self::V4 => &["plugins", "io.containerd.cri.v1.runtime", "containerd", "runtimes"],
            Self::Crio => &["crio", "runtime", "runtimes"],
        }
    }

    /// The dialect of a file that is created: the oldest that every such daemon understands.
    #[must_use]
    pub const fn fresh(daemon_major: u32) -> Self {
        if daemon_major >= 2 { Self::V3 } else { Self::V2 }
    }

    /// What a file begins with that is created: all that it leaves out keeps the daemon's defaults.
    #[must_use]
    pub fn beginning(self) -> String {
        if self == Self::Crio { String::new() } else { format!("version = {}\n", self.number()) }
    }

    /// The dialect whose tables a daemon of this major and minor version reads in such a file. containerd 2 takes
    /// a file without a version for one with the newest tables; `plugins.cri` in it is ignored up to 2.2, and
    /// migrated from 2.3 on, as long as nothing stands in the newer table.
    #[must_use]
    pub fn as_read_by(self, daemon: (u32, u32), text: &str) -> Self {
        match self {
            Self::V1 if daemon >= (2, 3) && migrates(text) => Self::V1,
            Self::V1 if daemon >= (2, 0) => Self::V3,
            other => other,
        }
    }

    /// The format's version as the file writes it; 1 is written by leaving it out, and CRI-O has none.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::Crio => 0,
            Self::V1 => 1,
            Self::V2 => 2,
            Self::V3 => 3,
            Self::V4 => 4,
        }
    }
}

fn migrates(text: &str) -> bool {
    let document = Document::parse(text).ok();
    let has = |plugin: &str| {
        let plugins = document.as_ref().and_then(|document| document.get("plugins"));
        plugins.and_then(|plugins| plugins.get(plugin)).is_some()
    };
    has("cri") && !has("io.containerd.cri.v1.runtime")
}

fn not_toml(text: &str, error: &toml_edit::TomlError) -> DialectError {
    let at = error.span().map_or(0, |span| span.start).min(text.len());
    let before = text.get(..at).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    DialectError::NotToml {
        line: before.matches('\n').count() + 1,
        column: before[line_start..].trim_start_matches('\u{feff}').chars().count() + 1,
        message: error.message().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("", Dialect::V1)]
    #[case("\u{feff}[plugins]\n", Dialect::V1)]
    #[case("version = 2", Dialect::V2)]
    #[case("root = '/x'\r\nversion = 3\r\n", Dialect::V3)]
    #[case("version = 4\n", Dialect::V4)]
    fn the_files_own_version_decides(#[case] text: &str, #[case] dialect: Dialect) {
        assert_eq!(Dialect::of(text), Ok(dialect));
    }

    #[rstest]
    #[case("[plugins.cri]\n", (1, 7), Dialect::V1)]
    #[case("[plugins.cri]\n", (2, 1), Dialect::V3)]
    #[case("[plugins.cri]\n", (2, 4), Dialect::V1)]
    #[case("plugins.cri.a = 1\nplugins.\"io.containerd.cri.v1.runtime\".a = 1\n", (2, 4), Dialect::V3)]
    #[case("", (2, 4), Dialect::V3)]
    fn in_a_file_without_a_version_the_daemon_decides(
        #[case] text: &str,
        #[case] daemon: (u32, u32),
        #[case] dialect: Dialect,
    ) {
        assert_eq!(Dialect::V1.as_read_by(daemon, text), dialect);
    }

    #[rstest]
    #[case("version = 99", "`version = 99`: this program edits versions 1 (no `version` key), 2, 3 and 4")]
    #[case("version = \"2\"", "`version = \"2\"`: this program edits versions 1 (no `version` key), 2, 3 and 4")]
    #[case("version = 2\n\n[plugins\n", "line 3, column 9: unclosed table, expected `]`")]
    #[case("version = 2\nversion = 2\n", "line 2, column 1: duplicate key")]
    #[case("[a]\n[b]\n[a]\n", "line 3, column 2: duplicate key")]
    #[case("\u{feff}x", "line 1, column 2: key with no value, expected `=`")]
    fn a_file_that_cannot_be_edited_is_refused_with_its_place(#[case] text: &str, #[case] message: &str) {
        assert_eq!(Dialect::of(text).unwrap_err().to_string(), message);
    }
}
