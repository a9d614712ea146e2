//! Compressed files: told by their first bytes, never by their names, and never larger than agreed.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

const GZIP: &[u8] = &[0x1f, 0x8b, 0x08];

/// RFC 8878, 3.1.1.
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// RFC 8878, 3.1.2: the upper 28 bits of a skippable frame's magic number, little-endian.
const ZSTD_SKIPPABLE: [u8; 3] = [0x2a, 0x4d, 0x18];

/// Whether a file that begins so is compressed in a way that is known here.
#[must_use]
pub fn is_compressed(begin: &[u8]) -> bool {
    begin.starts_with(GZIP) || begin.starts_with(ZSTD) || begin.get(1..4) == Some(&ZSTD_SKIPPABLE)
}

/// More came out than agreed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unpacked it is larger than {0} bytes")]
pub struct TooLarge(pub u64);

/// The content of a file, whatever it is compressed with; reading beyond `limit` bytes fails with [`TooLarge`].
///
/// # Errors
/// If its beginning cannot be read.
pub fn decompressed<'a>(file: impl Read + 'a, limit: u64) -> io::Result<Limited<Box<dyn Read + 'a>>> {
    let mut file = BufReader::with_capacity(256 * 1024, file);
    let begin = file.fill_buf()?;
    let inner: Box<dyn Read> = if begin.starts_with(GZIP) {
        Box::new(MultiGzDecoder::new(file))
    } else if is_compressed(begin) {
        Box::new(Frames { source: file, decoder: FrameDecoder::new() })
    } else {
        Box::new(file)
    };
    Ok(Limited { inner, limit, left: limit })
}

/// A reader that fails where it would end too late.
#[derive(Debug)]
pub struct Limited<R> {
    inner: R,
    limit: u64,
    left: u64,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        match self.left.checked_sub(count as u64) {
            Some(left) => {
                self.left = left;
                Ok(count)
            }
            None => Err(io::Error::other(TooLarge(self.limit))),
        }
    }
}

/// All frames of a zstd file; the decoder itself reads one. It refuses windows of more than 128 MiB, as `zstd` does.
struct Frames<R> {
    source: R,
    decoder: FrameDecoder,
}

impl<R: BufRead> Frames<R> {
    /// Begins the next frame; whether there is one.
    fn begin(&mut self) -> io::Result<bool> {
        while !self.source.fill_buf()?.is_empty() {
            match self.decoder.init(&mut self.source) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                    io::copy(&mut (&mut self.source).take(length.into()), &mut io::sink())?;
                }
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        Ok(false)
    }
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.decoder.can_collect() > 0 {
                return self.decoder.read(buffer);
            }
            if self.decoder.is_finished() {
                if !self.begin()? {
                    return Ok(0);
                }
            } else {
                let one = BlockDecodingStrategy::UptoBlocks(1);
                self.decoder.decode_blocks(&mut self.source, one).map_err(io::Error::other)?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(content: &[u8]) -> Vec<u8> {
        compress_to_vec(content, CompressionLevel::Fastest)
    }

    fn read(file: &[u8], limit: u64) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        decompressed(file, limit)?.read_to_end(&mut content)?;
        Ok(content)
    }

    #[test]
    fn what_is_not_compressed_is_itself() {
        assert_eq!(read(b"plain", 5).unwrap(), b"plain");
        assert_eq!(read(b"", 0).unwrap(), b"");
    }

    #[test]
    fn several_members_are_one_content() {
        assert_eq!(read(&[gzip(b"one "), gzip(b"two")].concat(), 7).unwrap(), b"one two");
    }

    #[test]
    fn several_frames_are_one_content_and_others_are_skipped() {
        let skipped = [0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, b'x', b'y', b'z'];
        assert_eq!(read(&[&skipped[..], &zstd(b"one "), &skipped, &zstd(b"two")].concat(), 7).unwrap(), b"one two");
    }

    #[test]
    fn a_bomb_ends_at_the_limit() {
        for bomb in [gzip(&vec![0; 1 << 20]), zstd(&vec![0; 1 << 20])] {
            assert!(bomb.len() < 10_000);
            assert_eq!(read(&bomb, 1000).unwrap_err().to_string(), "unpacked it is larger than 1000 bytes");
        }
    }

    #[test]
    fn a_file_that_was_cut_off_is_an_error() {
        for whole in [gzip(b"some content"), zstd(b"some content")] {
            read(&whole[..whole.len() - 6], 1000).unwrap_err();
        }
    }
}
