//! The command `cluster`.

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Stdio;

use clap::{Args, Parser, Subcommand};

use crate::cluster::{Cluster, ClusterError};
use crate::containerd::ContainerdVersion;
use crate::names::ClusterName;
use crate::session::Session;
use crate::status;
use crate::tool::ToolError;

/// A real Kubernetes cluster on one machine: etcd, API server, controllers and scheduler as processes,
/// and nodes that are nested machines with their own systemd, containerd and kubelet.
///
/// Needs root, Linux on x86-64, Go and a few Debian packages (it says which). The first `up`
/// makes the pieces, which takes about fifteen minutes on two cores; later ones take well under a minute.
#[derive(Debug, Parser)]
#[command(name = "cluster", version, after_long_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  cluster up                                  one node each with containerd 1.6, 1.7 and 2.1
  cluster up --name small --nodes 2.1         a second cluster beside it
  export KUBECONFIG=$(cluster kubeconfig)     for kubectl, helm and the like
  cluster kubectl get nodes -o wide           kubectl comes with the cluster
  cluster node 1.7 exec journalctl -u kubelet a command on a node
  cluster import image.tar                    an image for every node: there is no registry
  cluster down                                leaves nothing

Files:
  ~/.cache/kwasm                the pieces ($KWASM_CACHE)
  /var/lib/kwasm-clusters/NAME  all of a cluster's files ($KWASM_CLUSTERS)
  KWASM_DEBIAN_MIRROR           where to get Debian packages, if not from deb.debian.org";

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a cluster and wait until its nodes are ready. Ctrl-C removes what was made.
    Up {
        #[command(flatten)]
        which: Which,
        /// The containerd versions of the nodes; a version may come more than once.
        #[arg(long, value_delimiter = ',', default_value = "1.6,1.7,2.1", value_name = "VERSIONS")]
        nodes: Vec<ContainerdVersion>,
    },
    /// Remove a cluster and everything it made, whole or not, and wait until it is gone.
    Down {
        #[command(flatten)]
        which: Which,
        /// Remove every cluster of this machine.
        #[arg(long, conflicts_with = "name")]
        all: bool,
    },
    /// Say which clusters there are, and whether their programs run.
    Status,
    /// Work on one node.
    Node {
        #[command(flatten)]
        which: Which,
        /// The node: its name, the end of its name, or its containerd version.
        node: String,
        #[command(subcommand)]
        command: NodeCommand,
    },
    /// Add a node to a running cluster.
    AddNode {
        #[command(flatten)]
        which: Which,
        /// Its containerd version.
        version: ContainerdVersion,
    },
    /// Print the path of the administrator's kubeconfig.
    Kubeconfig {
        #[command(flatten)]
        which: Which,
    },
    /// Run kubectl as administrator.
    Kubectl {
        #[command(flatten)]
        which: Which,
        /// What to tell kubectl.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
    /// Import an OCI or Docker archive on every node.
    Import {
        #[command(flatten)]
        which: Which,
        /// The archive.
        archive: PathBuf,
    },
    /// Copy logs, journals, events and objects into a folder, and print its path.
    Collect {
        #[command(flatten)]
        which: Which,
        /// The folder; a new one in the temporary folder if absent.
        folder: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
enum NodeCommand {
    /// Run a command on the node.
    Exec {
        /// The command and its arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        words: Vec<String>,
    },
    /// Print where the node's root file system is on this machine.
    Root,
    /// Take the node out of the cluster.
    Remove,
}

#[derive(Debug, Args)]
struct Which {
    /// The cluster's name.
    #[arg(long, default_value = "kwasm")]
    name: ClusterName,
}

impl Cli {
    /// Does what the command line asks.
    ///
    /// # Errors
    /// With a message for people.
    pub fn run(self) -> Result<(), ClusterError> {
        let session = Session::to_stderr();
        let open = |which: &Which| Cluster::open(&which.name, &session);
        match self.command {
            Command::Up { which, nodes } => {
                // Without handlers Ctrl-C would leave what `down` removes: worse, but no reason to fail.
                let _ = session.stop_on_signals();
                Cluster::up(&which.name, &nodes, &session)?;
            }
            Command::Down { which, all } => down(&which.name, all, &session)?,
            Command::Status => print!("{}", status::all(&session)?),
            Command::Node { which, node, command } => return on_node(&open(&which)?, &node, command),
            Command::AddNode { which, version } => {
                let _ = session.stop_on_signals();
                println!("{}", open(&which)?.add_node(version)?.name());
            }
            Command::Kubeconfig { which } => println!("{}", open(&which)?.kubeconfig().display()),
            Command::Kubectl { which, words } => {
                return Err(become_command(open(&which)?.kubectl_command()?.args(&words)));
            }
            Command::Import { which, archive } => {
                for node in open(&which)?.nodes()? {
                    node.import(&archive)?;
                    session.say(format!("imported on {}", node.name()));
                }
            }
            Command::Collect { which, folder } => {
                let unnamed =
                    || std::env::temp_dir().join(format!("kwasm-cluster-{}-{}", which.name, std::process::id()));
                println!("{}", open(&which)?.collect(&folder.unwrap_or_else(unnamed))?.display());
            }
        }
        Ok(())
    }
}

fn down(name: &ClusterName, all: bool, session: &Session) -> Result<(), ClusterError> {
    let names = if all { crate::registry::names()? } else { vec![name.clone()] };
    for name in names {
        if !Cluster::down(&name, session)? {
            session.say(format!("there is no cluster {name}"));
        }
    }
    Ok(())
}

fn on_node(cluster: &Cluster, node: &str, command: NodeCommand) -> Result<(), ClusterError> {
    let node = cluster.node(node)?;
    match command {
        NodeCommand::Exec { words } => return Err(become_command(&mut node.command(&words)?)),
        NodeCommand::Root => println!("{}", node.root().display()),
        NodeCommand::Remove => cluster.remove_node(&node)?,
    }
    Ok(())
}

/// Becomes another program, so that its exit code, its signals and its terminal are a person's own;
/// returns only if that fails.
fn become_command(command: &mut std::process::Command) -> ClusterError {
    let program = command.get_program().to_string_lossy().into_owned();
    let source = command.stdin(Stdio::inherit()).exec();
    ToolError::Start { program, source }.into()
}
