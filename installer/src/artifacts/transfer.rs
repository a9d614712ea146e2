//! What can go wrong on the way here.

use std::time::Duration;

use ureq::http::StatusCode;

use super::archive::Begins;

/// Redirects in a row, as browsers and curl have it in the same order of magnitude.
pub const REDIRECTS_MAX: usize = 10;

/// Why nothing usable came.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransferError {
    /// No connection, or one that broke.
    #[error("{url}: {words}")]
    Connection {
        /// Where.
        url: String,
        /// What happened.
        words: String,
    },
    /// An answer, but not the file.
    #[error("{url}: HTTP {status}; {begins}")]
    Status {
        /// Where.
        url: String,
        /// What was answered.
        status: StatusCode,
        /// What came with it.
        begins: Begins,
    },
    /// Sent around.
    #[error("{0}: more than {REDIRECTS_MAX} redirects")]
    Redirects(String),
    /// Sent somewhere that is not followed.
    #[error("{from}: redirected to {to}, which is not followed: {why}")]
    Redirect {
        /// From where.
        from: String,
        /// To where.
        to: String,
        /// Why not.
        why: &'static str,
    },
    /// Larger than agreed.
    #[error("{url}: it is larger than {limit} bytes")]
    TooLarge {
        /// Where.
        url: String,
        /// What was agreed.
        limit: u64,
    },
    /// Not the same as before.
    #[error("{0}: it changed while it was downloaded")]
    Changed(String),
    /// Not what was ordered.
    #[error("{url}: expected SHA-256 {expected}, found {found}: {what}")]
    Digest {
        /// Where.
        url: String,
        /// What was ordered.
        expected: String,
        /// What came.
        found: String,
        /// How long it is, and how it begins if that tells something.
        what: String,
    },
    /// All time is used up.
    #[error("{url}: not done within {} s; {words}", limit.as_secs())]
    TimeUp {
        /// Where.
        url: String,
        /// What was agreed.
        limit: Duration,
        /// What happened last.
        words: String,
    },
    /// The registry wants to know who we are, or does not like it.
    #[error("{url}: {words}")]
    Login {
        /// Where.
        url: String,
        /// What happened.
        words: String,
    },
}

impl TransferError {
    /// Whether something came that is not what was ordered.
    #[must_use]
    pub const fn is_about_content(&self) -> bool {
        matches!(self, Self::Digest { .. } | Self::TooLarge { .. } | Self::Changed(_))
    }

    /// Whether it may go better a moment later.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Connection { .. } => true,
            Self::Status { status, .. } => is_busy(*status),
            _ => false,
        }
    }
}

/// Whether a server would rather be asked later.
#[must_use]
pub fn is_busy(status: StatusCode) -> bool {
    status.is_server_error() || [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS].contains(&status)
}
