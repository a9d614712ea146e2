//! The installer as a person uses it: started by hand on a node, out of the image that a release ships.

use std::path::Path;
use std::process::{Child, Output, Stdio};

use anyhow::{Context, Result, ensure};
use kwasm_test_cluster::Node;

use crate::images;

/// Where the installer and its bundle are put on a node.
const FOLDER: &str = "/root/kwasm-installer";

/// Takes an image's files out of containerd: reference, folder.
const UNPACK: &str = r#"mkdir -p /run/kwasm-image "$2" \
    && ctr -n k8s.io images mount "$1" /run/kwasm-image >/dev/null \
    && cp -a /run/kwasm-image/. "$2" \
    && ctr -n k8s.io images unmount --rm /run/kwasm-image >/dev/null \
    && rmdir /run/kwasm-image"#;

/// What a run could write: every path with its inode, its size and both times.
const FOOTPRINT: &str = "find /etc /opt /var/lib/kwasm /usr/local -printf '%p %i %s %T@ %C@\n' 2>/dev/null | sort";

/// The same without times: what must come back.
const TREE: &str = r"find /etc/containerd /opt /var/lib/kwasm /usr/local/bin -printf '%p %y %m %l\n' 2>/dev/null | sort
find /etc/containerd /opt /var/lib/kwasm -type f -exec sha256sum {} + 2>/dev/null | sort";

/// The installer on one node.
pub struct ByHand<'a> {
    node: &'a Node,
}

impl<'a> ByHand<'a> {
    /// Takes the installer out of its image, which must be on the node.
    ///
    /// # Errors
    /// If that fails.
    pub fn on(node: &'a Node) -> Result<Self> {
        let image = images::reference("kwasm-installer")?;
        node.run(&["sh", "-c", UNPACK, "sh", &image, FOLDER]).context("unpack the installer's image")?;
        Ok(Self { node })
    }

    /// Runs the installer to its end, whatever its exit code.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn exec(&self, arguments: &[&str]) -> Result<Output> {
        Ok(self.node.exec(&words(arguments))?)
    }

    /// Runs the installer, which must succeed, and returns what it printed to either output.
    ///
    /// # Errors
    /// If it fails, with that.
    pub fn run(&self, arguments: &[&str]) -> Result<String> {
        let output = self.exec(arguments)?;
        let said = said(&output);
        ensure!(output.status.success(), "kwasm-installer {} failed ({}):\n{said}", arguments.join(" "), output.status);
        Ok(said)
    }

    /// Starts the installer; its output can be read when it has ended.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(&self, arguments: &[&str]) -> Result<Child> {
        let mut command = self.node.command(&words(arguments))?;
        Ok(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?)
    }

    /// Brings the node to an Order.
    ///
    /// # Errors
    /// If the installer fails.
    pub fn apply(&self, order: &str) -> Result<String> {
        self.run(&["apply", "--order", &self.order(order)?])
    }

    /// Puts an Order on the node; gives its path there.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn order(&self, order: &str) -> Result<String> {
        std::fs::write(self.outside("order.json"), order)?;
        Ok(format!("{FOLDER}/order.json"))
    }

    /// The bundle's path on the node.
    #[must_use]
    pub fn bundle(&self) -> String {
        format!("{FOLDER}/bundled")
    }

    /// Replaces a file of the bundle by one that does the same and is another file.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn renew(&self, file: &str) -> Result<()> {
        let path = self.outside("bundled").join(file);
        let mut bytes = std::fs::read(&path)?;
        bytes.push(0);
        Ok(std::fs::write(&path, bytes)?)
    }

    /// What is in the folders that a run could write to: paths, kinds, modes, links and contents.
    ///
    /// # Errors
    /// If the node does not answer.
    pub fn tree(&self) -> Result<String> {
        Ok(self.node.run(&["sh", "-c", TREE])?)
    }

    /// Every file that a run could have written, as it is now.
    ///
    /// # Errors
    /// If the node does not answer.
    pub fn footprint(&self) -> Result<String> {
        Ok(self.node.run(&["sh", "-c", FOOTPRINT])?)
    }

    fn outside(&self, name: &str) -> std::path::PathBuf {
        self.node.root().join(FOLDER.trim_start_matches('/')).join(Path::new(name))
    }
}

/// What a program printed to either output.
#[must_use]
pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), output.stderr.as_slice()].concat()).into_owned()
}

fn words(arguments: &[&str]) -> Vec<String> {
    let program = [format!("{FOLDER}/kwasm-installer"), "--bundled-dir".to_owned(), format!("{FOLDER}/bundled")];
    program.into_iter().chain(arguments.iter().map(|word| (*word).to_owned())).collect()
}
