//! Archives that try to get out, to fill the disk, or to be two things at once: each is refused by name, and the node
//! stays as it was. A shim is in each of them, so that nothing else is the reason.

use kwasm_api::report::NodeState;
use kwasm_api::runtime::{Http, HttpArtifact, Source};
use kwasm_installer::artifacts::remote::platform;
use rstest::rstest;
use tar::EntryType::{
    Block, Char, Continuous, Directory, Fifo, GNULongName, GNUSparse, Link, Regular, Symlink, XHeader,
};

use crate::fake::{Node, runtime};
use crate::program::{Tar, gzip, program, sha256};
use crate::server::Server;

/// One record of a list of extended attributes.
fn record(key: &str, value: &str) -> Vec<u8> {
    let rest = format!(" {key}={value}\n");
    let mut length = rest.len() + 1;
    while length != rest.len() + length.to_string().len() {
        length += 1;
    }
    format!("{length}{rest}").into_bytes()
}

fn with_pax(key: &str, value: &str) -> Tar {
    Tar::with_shim().entry("pax", XHeader, 0o644, &record(key, value), "").file("plain", b"content")
}

fn long_name(name: &str) -> Tar {
    Tar::with_shim().entry("././@LongLink", GNULongName, 0o644, name.as_bytes(), "").file("short", b"")
}

/// A gzip file of many zeros inside the entry of an archive.
fn bomb() -> Tar {
    Tar::with_shim().file("zeros", &vec![0; 3 << 20])
}

fn crowd() -> Tar {
    (0..60).fold(Tar::with_shim(), |tar, number| tar.file(&format!("{number}"), b""))
}

fn companions() -> Tar {
    (0..33).fold(Tar::with_shim(), |tar, number| tar.program(&format!("p{number}"), b"x"))
}

#[rstest]
#[case::parent(Tar::with_shim().file("../evil", b"x"), "the archive cannot be used: the name `../evil` leads out of it")]
#[case::parent_inside(Tar::with_shim().file("a/../../evil", b"x"), "the archive cannot be used: the name `a/../../evil` leads out of it")]
#[case::parent_that_stays(Tar::with_shim().file("a/../b", b"x"), "the archive cannot be used: the name `a/../b` leads out of it")]
#[case::absolute(Tar::with_shim().file("/etc/cron.d/evil", b"x"), "the archive cannot be used: the name `/etc/cron.d/evil` leads out of it")]
#[case::absolute_folder(Tar::with_shim().link("/etc", Directory, ""), "the archive cannot be used: the name `/etc` leads out of it")]
#[case::the_shim_itself(
    Tar::default().program("../containerd-shim-x", &program("")),
    "the archive cannot be used: the name `../containerd-shim-x` leads out of it"
)]
#[case::pax_name(with_pax("path", "../../evil"), "the archive cannot be used: the name `../../evil` leads out of it")]
#[case::gnu_name(long_name("/evil"), "the archive cannot be used: the name `/evil` leads out of it")]
#[case::symlink(
    Tar::with_shim().link("a", Symlink, "../../etc/passwd"),
    "the archive cannot be used: the link `a` leads out of it, to `../../etc/passwd`"
)]
#[case::absolute_symlink(
    Tar::with_shim().link("a", Symlink, "/etc/passwd"),
    "the archive cannot be used: the link `a` leads out of it, to `/etc/passwd`"
)]
#[case::file_through_a_link(
    Tar::with_shim().link("a", Symlink, "/etc").file("a/passwd", b"x"),
    "the archive cannot be used: the link `a` leads out of it, to `/etc`"
)]
#[case::pax_link(
    Tar::with_shim().entry("pax", XHeader, 0o644, &record("linkpath", "/etc"), "").link("a", Symlink, "b"),
    "the archive cannot be used: the link `a` leads out of it, to `/etc`"
)]
#[case::hardlink(
    Tar::with_shim().link("a", Link, "../../etc/shadow"),
    "the archive cannot be used: the link `a` leads out of it, to `../../etc/shadow`"
)]
#[case::absolute_hardlink(
    Tar::with_shim().link("a", Link, "/etc/shadow"),
    "the archive cannot be used: the link `a` leads out of it, to `/etc/shadow`"
)]
#[case::character_device(Tar::with_shim().link("null", Char, ""), "the archive cannot be used: `null` is a device")]
#[case::block_device(Tar::with_shim().link("sda", Block, ""), "the archive cannot be used: `sda` is a device")]
#[case::fifo(Tar::with_shim().link("pipe", Fifo, ""), "the archive cannot be used: `pipe` is a fifo")]
#[case::setuid(
    Tar::with_shim().entry("su", Regular, 0o4755, b"", ""),
    "the archive cannot be used: `su` has the setuid or the setgid bit"
)]
#[case::setgid(
    Tar::with_shim().entry("su", Continuous, 0o2755, b"", ""),
    "the archive cannot be used: `su` has the setuid or the setgid bit"
)]
#[case::twice(
    Tar::with_shim().program("./containerd-shim-spin-v2", b"other"),
    "the archive cannot be used: `./containerd-shim-spin-v2` is in it twice"
)]
#[case::file_and_link(
    Tar::with_shim().link("containerd-shim-spin-v2", Symlink, "other"),
    "the archive cannot be used: `containerd-shim-spin-v2` is in it twice"
)]
#[case::sparse(Tar::with_shim().link("holes", GNUSparse, ""), "the archive cannot be used: `holes` is a sparse file")]
#[case::pax_sparse(with_pax("GNU.sparse.major", "1"), "the archive cannot be used: `plain` is a sparse file")]
#[case::unknown_type(
    Tar::with_shim().link("x", tar::EntryType::new(b'Z'), ""),
    "the archive cannot be used: `x` is of an unknown type"
)]
#[case::two_sizes(with_pax("size", "1"), "the archive cannot be used: the name `plain` has two sizes")]
#[case::long_part(
    long_name(&"a".repeat(256)),
    &format!("the archive cannot be used: the name `{}…` is too long", "a".repeat(80))
)]
#[case::long_path(
    long_name(&"a/".repeat(2048)),
    &format!("the archive cannot be used: the name `{}…` is too long", "a/".repeat(40))
)]
#[case::description_bomb(
    Tar::with_shim().entry("pax", XHeader, 0o644, &vec![b' '; 65 << 10], ""),
    "the archive cannot be used: the name `pax` comes with a description that is too long"
)]
#[case::control_characters(
    with_pax("path", "a\x1b[2Jb"),
    "the archive cannot be used: the name `a\\x1b[2Jb` has control characters"
)]
#[case::not_utf_8(
    Tar::with_shim().entry("././@LongLink", GNULongName, 0o644, b"a\xff", "").file("short", b""),
    "the archive cannot be used: the name `a\\xff` is not UTF-8"
)]
#[case::bomb(bomb(), "the archive cannot be used: unpacked it is larger than 2097152 bytes")]
#[case::crowd(crowd(), "the archive cannot be used: it has more than 50 entries")]
#[case::companions(companions(), "the archive holds 33 programs beside the runtime's own; at most 32 are installed")]
#[case::over_the_shim(
    Tar::with_shim().raw(&[b'x'; 512]),
    "the archive cannot be used: it is damaged: numeric field was not a number: xxxxxxxx when getting cksum for xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
)]
fn an_archive_that_is_up_to_something_is_refused(#[case] archive: Tar, #[case] message: &str) {
    let content = archive.gzip();
    assert_eq!(refusal(content), message);
}

#[rstest]
#[case::gzip(gzip(&Tar::with_shim().tar()))]
#[case::zstd(Tar::with_shim().zstd())]
#[case::tar(Tar::with_shim().tar())]
fn an_archive_that_is_cut_off_is_refused(#[case] whole: Vec<u8>) {
    let message = refusal(whole[..whole.len() / 3].to_vec());
    assert!(message.starts_with("the archive cannot be used: it is damaged: "), "{message}");
}

fn refusal(content: Vec<u8>) -> String {
    let server = Server::serving(content.clone());
    let artifact = HttpArtifact { platform: platform(), url: server.url("x"), sha256: sha256(&content) };
    let mut node = Node::with_config("2.1.4", "version = 3\n");
    node.limits.unpacked = 2 << 20;
    node.limits.entries = 50;
    let before = node.tree();
    let stop = node.must_fail(&[runtime("spin", Source::Http(Http { artifacts: vec![artifact] }))]);
    assert_eq!(stop.state, NodeState::Unchanged);
    assert_eq!(node.tree(), before);
    assert_eq!(node.restarts(), 0);
    stop.message
}
