use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::*;

/// A container's root that holds links, each from a path to a target.
fn root(links: &[(&str, &str)]) -> (TempDir, File) {
    let folder = tempfile::tempdir().unwrap();
    for (path, target) in links {
        symlink(target, folder.path().join(path)).unwrap();
    }
    let root = File::open(folder.path()).unwrap();
    (folder, root)
}

#[test]
fn a_place_is_created_as_what_is_mounted_on_it() {
    let (folder, root) = root(&[]);
    place(&root, Path::new("/a/b"), Missing::Folder).unwrap();
    place(&root, Path::new("/etc/hosts"), Missing::File).unwrap();
    assert!(folder.path().join("a/b").is_dir() && folder.path().join("etc/hosts").is_file());
}

#[test]
fn what_is_there_stays() {
    let (folder, root) = root(&[]);
    fs::write(folder.path().join("hosts"), "x").unwrap();
    place(&root, Path::new("/hosts"), Missing::File).unwrap();
    assert_eq!(fs::read(folder.path().join("hosts")).unwrap(), b"x");
}

#[test]
fn a_link_to_nowhere_is_given_what_it_means() {
    let (folder, root) = root(&[("resolv.conf", "run/resolve/stub.conf")]);
    place(&root, Path::new("/resolv.conf"), Missing::File).unwrap();
    assert!(folder.path().join("run/resolve/stub.conf").is_file());
}

#[test]
fn a_link_to_nowhere_on_the_way_is_given_a_folder() {
    let (folder, root) = root(&[("var", "data/var")]);
    place(&root, Path::new("/var/run/secret"), Missing::File).unwrap();
    assert!(folder.path().join("data/var/run/secret").is_file());
}

#[test]
fn an_absolute_link_stays_in_the_root() {
    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().join("made");
    let (folder, root) = root(&[("x", target.to_str().unwrap())]);
    place(&root, Path::new("/x"), Missing::Folder).unwrap();
    assert!(!target.exists(), "it was created outside");
    assert!(folder.path().join(target.strip_prefix("/").unwrap()).is_dir());
}

#[test]
fn a_link_upwards_ends_at_the_root() {
    let (folder, root) = root(&[("x", "../../../../made")]);
    place(&root, Path::new("/x/below"), Missing::File).unwrap();
    assert!(folder.path().join("made/below").is_file());
}

#[test]
fn a_link_to_a_descriptor_of_the_process_is_not_followed() {
    let cache = tempfile::tempdir().unwrap();
    let descriptor = File::open(cache.path()).unwrap();
    let target = format!("/proc/self/fd/{}", descriptor.as_raw_fd());
    let (folder, _) = root(&[("x", &target)]);
    // Of the whole machine, so that there is a /proc in it.
    let machine = File::open("/").unwrap();
    let error = place(&machine, &folder.path().join("x/planted"), Missing::File).unwrap_err();
    assert_eq!(Errno::from_io_error(&error), Some(Errno::LOOP));
    assert_eq!(fs::read_dir(cache.path()).unwrap().count(), 0);
}

#[test]
fn links_in_a_circle_are_refused() {
    let (_folder, root) = root(&[("a", "b"), ("b", "a/x")]);
    let error = place(&root, Path::new("/a"), Missing::Folder).unwrap_err();
    assert_eq!(Errno::from_io_error(&error), Some(Errno::LOOP));
}

#[test]
fn a_chain_of_links_to_nowhere_that_has_no_end_is_refused() {
    let (_folder, root) = root(&[("a", "missing/../a")]);
    assert!(place(&root, Path::new("/a"), Missing::Folder).is_err());
}
