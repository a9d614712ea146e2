//! What is on a node's disk, to be compared and to be put back.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

/// A file, link or directory.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Item {
    Folder(u32),
    Link(PathBuf),
    /// Mode and content.
    File(u32, Vec<u8>),
    /// Another name of a file.
    Name(PathBuf),
}

/// Everything below a root, by its path there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Disk(BTreeMap<PathBuf, Item>);

impl Disk {
    pub(crate) fn of(root: &Path) -> Self {
        let mut disk = Self::default();
        disk.read(root, root, &mut BTreeMap::new());
        disk
    }

    fn read(&mut self, root: &Path, folder: &Path, names: &mut BTreeMap<u64, PathBuf>) {
        let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        for path in paths {
            let metadata = fs::symlink_metadata(&path).unwrap();
            let name = path.strip_prefix(root).unwrap().to_owned();
            let mode = metadata.permissions().mode() & 0o7777;
            let item = if metadata.is_dir() {
                self.read(root, &path, names);
                Item::Folder(mode)
            } else if metadata.is_symlink() {
                Item::Link(fs::read_link(&path).unwrap())
            } else if let Some(other) = names.get(&metadata.ino()) {
                Item::Name(other.clone())
            } else {
                names.insert(metadata.ino(), name.clone());
                Item::File(mode, fs::read(&path).unwrap())
            };
            self.0.insert(name, item);
        }
    }

    /// The same, but for what is in folders of this name.
    pub(crate) fn without(&self, folder: &str) -> Self {
        let mut rest = self.clone();
        rest.0.retain(|path, _| !path.iter().any(|name| name == folder));
        rest
    }

    /// The symbolic links.
    pub(crate) fn links(&self) -> Vec<&Path> {
        let links = self.0.iter().filter(|(_, item)| matches!(item, Item::Link(_)));
        links.map(|(path, _)| path.as_path()).collect()
    }

    /// Makes a folder's content exactly this.
    pub(crate) fn put(&self, root: &Path) {
        fs::remove_dir_all(root).unwrap();
        fs::create_dir(root).unwrap();
        let mut names = Vec::new();
        for (path, item) in &self.0 {
            let path = root.join(path);
            match item {
                Item::Folder(mode) => {
                    fs::create_dir(&path).unwrap();
                    fs::set_permissions(&path, Permissions::from_mode(*mode)).unwrap();
                }
                Item::Link(target) => symlink(target, &path).unwrap(),
                Item::File(mode, content) => {
                    fs::write(&path, content).unwrap();
                    fs::set_permissions(&path, Permissions::from_mode(*mode)).unwrap();
                }
                Item::Name(other) => names.push((root.join(other), path)),
            }
        }
        names.into_iter().for_each(|(file, name)| fs::hard_link(file, name).unwrap());
    }

    /// For people, and to be compared: `/run` forgets, so it is left out.
    pub(crate) fn shown(&self) -> BTreeMap<String, String> {
        let lasting = self.0.iter().filter(|(path, _)| !path.starts_with("run"));
        lasting.map(|(path, item)| (path.display().to_string(), self.show(item))).collect()
    }

    fn show(&self, item: &Item) -> String {
        match item {
            Item::Folder(mode) => format!("directory {mode:o}"),
            Item::Link(target) => format!("link to {}", target.display()),
            Item::File(mode, content) => format!("{mode:o} {}", String::from_utf8_lossy(content)),
            Item::Name(other) => self.0.get(other).map(|item| self.show(item)).unwrap_or_default(),
        }
    }
}
