//! The control socket between the shim and the process of one container.
//!
//! Every message is a little-endian `u32` length and that many bytes of JSON. Nothing is read ahead: `init`
//! and the engine after it share the socket.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// The longest message that is read, in bytes: a container's specification is some tens of kilobytes.
pub const MESSAGE_MAX: u32 = 16 << 20;

/// From the shim to the process of a container, after its setup document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Command {
    /// Become the engine, with this compiled module of the cache.
    Load {
        /// The artefact's file name in the cache.
        artefact: String,
        /// The export to call; `None` is the module's start.
        function: Option<String>,
    },
    /// Let the guest run.
    Go,
}

/// From the process of a container to the shim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Answer {
    /// The process stands in its namespaces and root.
    Rooted,
    /// All is prepared; [`Command::Go`] starts the guest.
    Ready,
    /// The artefact was compiled by another engine or for another machine.
    Incompatible {
        /// Why the engine refused it.
        reason: String,
    },
    /// The container cannot run.
    Failed {
        /// What went wrong, for whoever reads `kubectl describe pod`.
        message: String,
    },
}

/// A message that did not arrive.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// The other side is gone.
    #[error("the other end of the control socket is closed")]
    Closed,
    /// The socket failed.
    #[error("reading the control socket: {0}")]
    Io(io::Error),
    /// Something else than a message came.
    #[error("unexpected message on the control socket: {0}")]
    Malformed(String),
}

/// Encodes one message.
///
/// # Errors
/// If it cannot be written as JSON of at most [`MESSAGE_MAX`] bytes.
pub fn encode<T: Serialize>(message: &T) -> io::Result<Vec<u8>> {
    let json = serde_json::to_vec(message)?;
    let length = u32::try_from(json.len()).ok().filter(|length| *length <= MESSAGE_MAX);
    let length = length.ok_or_else(|| io::Error::other(format!("a control message of {} bytes", json.len())))?;
    let mut bytes = Vec::with_capacity(json.len() + 4);
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&json);
    Ok(bytes)
}

/// The length of the message that `header` announces.
///
/// # Errors
/// If it is longer than [`MESSAGE_MAX`].
pub fn length(header: [u8; 4]) -> Result<usize, ReceiveError> {
    match u32::from_le_bytes(header) {
        length if length <= MESSAGE_MAX => Ok(length as usize),
        length => Err(ReceiveError::Malformed(format!("a length of {length} bytes"))),
    }
}

/// Decodes the JSON part of a message.
///
/// # Errors
/// If it is not the message that was expected.
pub fn decode<T: DeserializeOwned>(json: &[u8]) -> Result<T, ReceiveError> {
    serde_json::from_slice(json).map_err(|error| ReceiveError::Malformed(error.to_string()))
}

/// Sends one message over a blocking socket.
///
/// # Errors
/// If the socket fails, or as [`encode`].
pub fn send<T: Serialize>(mut socket: impl Write, message: &T) -> io::Result<()> {
    socket.write_all(&encode(message)?)
}

/// Waits for one message on a blocking socket.
///
/// # Errors
/// If the other side is gone, or what comes is no such message.
pub fn receive<T: DeserializeOwned>(mut socket: impl Read) -> Result<T, ReceiveError> {
    let read_error = |error: io::Error| match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => ReceiveError::Closed,
        _ => ReceiveError::Io(error),
    };
    let mut header = [0; 4];
    socket.read_exact(&mut header).map_err(read_error)?;
    let mut json = vec![0; length(header)?];
    socket.read_exact(&mut json).map_err(read_error)?;
    decode(&json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_is_received_and_nothing_is_read_ahead() {
        let mut wire = Vec::new();
        send(&mut wire, &Answer::Rooted).unwrap();
        send(&mut wire, &Answer::Failed { message: "no".into() }).unwrap();
        let mut reader = wire.as_slice();
        assert_eq!(receive::<Answer>(&mut reader).unwrap(), Answer::Rooted);
        assert_eq!(receive::<Answer>(&mut reader).unwrap(), Answer::Failed { message: "no".into() });
        assert!(matches!(receive::<Answer>(&mut reader), Err(ReceiveError::Closed)));
    }

    #[test]
    fn a_length_beyond_the_maximum_is_refused_before_memory_is_taken() {
        let mut wire: &[u8] = &u32::MAX.to_le_bytes();
        assert!(matches!(receive::<Answer>(&mut wire), Err(ReceiveError::Malformed(_))));
    }
}
