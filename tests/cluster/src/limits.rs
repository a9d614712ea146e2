//! The one setting of the machine that clusters change while there are any.

use std::path::{Path, PathBuf};

use crate::files::{self, FileError};

/// How many inotify instances root may have. A node needs some fifteen; Linux allows 128, and a systemd
/// that gets none ends without a word.
const SETTING: &str = "/proc/sys/fs/inotify/max_user_instances";
/// Enough for every node that has an address.
const WANTED: u32 = 8192;

/// Where the value of before is kept. No cluster can have this name.
fn record(root: &Path) -> PathBuf {
    root.join("inotify.before")
}

/// Raises the limit, if it is lower, after writing down what it was. The folder of the clusters must
/// be locked.
pub(crate) fn raise(root: &Path) -> Result<(), FileError> {
    change(root, Path::new(SETTING))
}

/// Puts the limit back, if it was raised. The folder of the clusters must be locked.
pub(crate) fn restore(root: &Path) -> Result<(), FileError> {
    put_back(root, Path::new(SETTING))
}

fn change(root: &Path, setting: &Path) -> Result<(), FileError> {
    let before = files::read(setting)?;
    if before.trim().parse().is_ok_and(|limit: u32| limit >= WANTED) {
        return Ok(());
    }
    // A record that exists is of the machine's own value; what is there now may be half of our doing.
    if !record(root).exists() {
        files::write(&record(root), before)?;
    }
    std::fs::write(setting, WANTED.to_string()).map_err(FileError::new("write", setting))
}

fn put_back(root: &Path, setting: &Path) -> Result<(), FileError> {
    let record = record(root);
    if !record.exists() {
        return Ok(());
    }
    let before = files::read(&record)?;
    std::fs::write(setting, before).map_err(FileError::new("write", setting))?;
    std::fs::remove_file(&record).map_err(FileError::new("remove", &record))
}

#[cfg(test)]
mod tests {
    use super::{change, put_back};

    #[test]
    fn what_was_raised_twice_goes_back_to_what_it_was_at_first() {
        let folder = tempfile::tempdir().unwrap();
        let setting = folder.path().join("setting");
        std::fs::write(&setting, "128\n").unwrap();
        change(folder.path(), &setting).unwrap();
        assert_eq!(std::fs::read_to_string(&setting).unwrap(), "8192");
        std::fs::write(&setting, "200").unwrap();
        change(folder.path(), &setting).unwrap();
        put_back(folder.path(), &setting).unwrap();
        assert_eq!(std::fs::read_to_string(&setting).unwrap(), "128\n");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "the record is gone");
    }

    #[test]
    fn a_limit_that_is_high_enough_stays() {
        let folder = tempfile::tempdir().unwrap();
        let setting = folder.path().join("setting");
        std::fs::write(&setting, "65536").unwrap();
        change(folder.path(), &setting).unwrap();
        put_back(folder.path(), &setting).unwrap();
        assert_eq!(std::fs::read_to_string(&setting).unwrap(), "65536");
    }
}
