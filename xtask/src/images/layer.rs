//! What a repository cannot hold as files: devices, and links to anywhere. An archive, which an image's `ADD` unpacks.

use std::fs::File;
use std::io;
use std::path::Path;

use tar::{Builder, EntryType, Header};

/// One of them.
#[derive(Debug)]
pub enum Entry {
    /// A symbolic link.
    Link {
        /// Its path in the image.
        path: &'static str,
        /// Where it leads.
        target: &'static str,
    },
    /// A character device that everybody may read.
    Device {
        /// Its path in the image.
        path: &'static str,
        /// Its major number.
        major: u32,
        /// Its minor number.
        minor: u32,
    },
}

/// Writes the archive; the same entries give the same bytes.
pub(super) fn write(entries: &[Entry], to: &Path) -> io::Result<()> {
    let mut archive = Builder::new(File::create(to)?);
    for entry in entries {
        let mut header = Header::new_ustar();
        header.set_mode(0o666);
        match entry {
            Entry::Link { path, target } => {
                header.set_entry_type(EntryType::Symlink);
                archive.append_link(&mut header, path, target)?;
            }
            Entry::Device { path, major, minor } => {
                header.set_entry_type(EntryType::Char);
                header.set_device_major(*major)?;
                header.set_device_minor(*minor)?;
                archive.append_data(&mut header, path, io::empty())?;
            }
        }
    }
    archive.finish()
}
