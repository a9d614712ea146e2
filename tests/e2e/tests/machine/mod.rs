//! The installer on a machine of its own, without Kubernetes: what the tests of virtual machines share.

use std::process::Output;

use kwasm_test_cluster::Session;
use kwasm_test_cluster::vm::{Disk, Machine};

/// Where the installer and its bundle are.
pub(crate) const INSTALLER: &str = "/root/kwasm-installer";

/// Takes the installer out of its image: archive, reference, folder.
const UNPACK: &str = r#"set -e
systemctl start containerd
ctr images import "$1" >/dev/null
mkdir -p /run/image "$3"
ctr images mount "$2" /run/image >/dev/null
cp -a /run/image/. "$3"
ctr images unmount --rm /run/image >/dev/null
ctr images rm --sync "$2" >/dev/null
rm "$1"
sync"#;

/// A machine that is on.
pub(crate) struct Host {
    pub(crate) machine: Machine,
}

impl Host {
    /// Switches it on.
    pub(crate) fn boot(disk: &Disk) -> Self {
        let machine = Machine::boot(disk, &Session::to_stderr()).expect("a machine that boots");
        Self { machine }
    }

    /// Runs a command, which must succeed, and returns what it printed.
    pub(crate) fn run(&self, words: &[&str]) -> String {
        self.machine.run(words).expect("a command that succeeds")
    }

    /// Puts an image's archive at a path; returns the image's name.
    pub(crate) fn put(&self, image: &str, path: &str) -> String {
        let archive = xtask::images::archive(image).expect("a known image");
        let bytes = std::fs::read(archive).expect("the archive; `cargo xtask images` builds it");
        self.machine.write(path, &bytes).expect("a file");
        xtask::images::reference(image).expect("its name")
    }

    /// Takes the installer out of its image.
    pub(crate) fn unpack_installer(&self) {
        let reference = self.put("kwasm-installer", "/root/image.tar");
        self.run(&["sh", "-c", UNPACK, "sh", "/root/image.tar", &reference, INSTALLER]);
    }

    /// Runs the installer, which must succeed.
    pub(crate) fn installer(&self, command: &str) {
        let (program, bundle) = (format!("{INSTALLER}/kwasm-installer"), format!("{INSTALLER}/bundled"));
        let Output { status, stdout, stderr } =
            self.machine.exec(&[&program, "--bundled-dir", &bundle, command]).expect("an answer");
        let said = String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned();
        assert!(status.success(), "{command}: {said}");
    }
}
