//! The trees again, with real daemons and Go's own template engine in the place of the played ones.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use kwasm_api::Runtime;
use kwasm_api::runtime::OptionValue;
use kwasm_installer::config::dump::Dump;
use kwasm_installer::host::Files;

use crate::campaign::{Objection, Road};
use crate::disk::Disk;
use crate::facts::{Facts, Rendered};
use crate::fake::{Handlers, Moment, Node, bundled, differences};
use crate::faults::{campaign, stride};
use crate::loading::ask;
use crate::trees::{ADOPTED, names};

/// Names the containerd programs to ask, separated by colons.
const CONTAINERDS: &str = "KWASM_CONTAINERDS";

/// Names CRI-O programs in the same way. Without any, nothing but the played CRI-O reads its trees.
const CRIOS: &str = "KWASM_CRIO";

/// Names the program that renders the templates of k3s and RKE2.
const RENDERER: &str = "KWASM_RANCHER_TEMPLATE";

/// A real program that reads a node's configuration.
struct Daemon {
    program: PathBuf,
    version: String,
    is_crio: bool,
}

impl Daemon {
    fn all() -> Vec<Self> {
        let named = |variable: &str| std::env::var(variable).unwrap_or_default();
        let containerds = named(CONTAINERDS);
        assert!(!containerds.is_empty(), "{CONTAINERDS} names no containerd");
        let of = |programs: &str, is_crio| -> Vec<Self> {
            let programs = programs.split(':').filter(|program| !program.is_empty()).map(PathBuf::from);
            programs.map(|program| Self { version: version(&program), program, is_crio }).collect()
        };
        of(&containerds, false).into_iter().chain(of(&named(CRIOS), true)).collect()
    }

    /// Whether it can stand in for a tree's: not older, and of the same major version where the distribution
    /// renders for it.
    fn fits(&self, facts: &Facts) -> bool {
        let (theirs, ours) = (release(&facts.version), release(&self.version));
        let renders = facts.rendered != Rendered::Never;
        facts.is_crio() == self.is_crio && theirs <= ours && (!renders || theirs.0 == ours.0)
    }

    fn under(&self, tree: &str) -> Node {
        let renderer = std::env::var(RENDERER).unwrap_or_else(|_| panic!("{RENDERER} names no program"));
        Node::under(tree, &self.program, &self.version, Path::new(&renderer))
    }
}

impl fmt::Display for Daemon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&if self.is_crio { format!("CRI-O {}", self.version) } else { self.version.clone() })
    }
}

fn version(program: &Path) -> String {
    let output = Command::new(program).arg("--version").output().unwrap();
    let line = String::from_utf8(output.stdout).unwrap();
    line.split_whitespace().nth(2).unwrap().trim_start_matches('v').to_owned()
}

/// Major and minor, to compare.
fn release(version: &str) -> (u32, u32) {
    let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap(), numbers.next().unwrap())
}

/// What became of a tree under a daemon.
#[derive(Clone, Copy)]
enum Outcome {
    /// Installed, found unchanged the second time, given back to the byte.
    Kept,
    /// The same, but what somebody else had put there went with it.
    Adopted,
    /// The same, and the daemon's configuration stayed as it was all the time.
    Untouched,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Kept => "kept",
            Self::Adopted => "adopted",
            Self::Untouched => "untouched",
        })
    }
}

/// The whole road of a node. The installer compares what the daemon makes of its candidate; here it is what the
/// daemon makes of the files that are there in the end, rendered ones among them.
fn road(node: &Node, tree: &str, under: &dyn fmt::Display) -> Outcome {
    let runtimes = node.facts.runtimes();
    let (files, before, handlers) = (node.tree(), node.dump(), node.handlers());
    node.must_apply(&runtimes);
    let after = node.dump();
    let ours: &[String] = if node.facts.serves_cri() { &["wasmtime".to_owned()] } else { &[] };
    assert_eq!(before.differences(&after, ours), Vec::<String>::new(), "{tree} under {under}");
    assert_eq!(after.handlers().contains_key("wasmtime"), node.facts.serves_cri(), "{tree} under {under}");
    assert_eq!(node.must_apply(&runtimes), 0, "{tree} under {under}");
    assert_eq!(node.plan(&runtimes).lines().last(), Some("nothing to do"), "{tree} under {under}");
    node.must_apply(&[]);
    if ADOPTED.contains(&tree) {
        return Outcome::Adopted;
    }
    assert_eq!(differences(&node.tree(), &files), Vec::<String>::new(), "{tree} under {under}");
    assert_eq!(before.differences(&node.dump(), &[]), Vec::<String>::new(), "{tree} under {under}");
    assert_eq!(node.handlers(), handlers, "{tree} under {under}");
    if node.facts.serves_cri() { Outcome::Kept } else { Outcome::Untouched }
}

#[test]
#[ignore = "needs real containerds, named by KWASM_CONTAINERDS, and a renderer, named by KWASM_RANCHER_TEMPLATE"]
fn on_every_tree_each_real_daemon_sees_our_handler_and_no_other_difference() {
    let daemons = Daemon::all();
    let heads: Vec<String> = daemons.iter().map(|daemon| format!("{daemon:>20}")).collect();
    println!("{:36}{:12}{}", "tree", "rendered by", heads.concat());
    for tree in names() {
        let facts = Facts::of(&tree);
        let cells = daemons.iter().map(|daemon| {
            // containerd 2 accepts no byte order mark: such a node is broken already.
            let broken = tree.starts_with("bom") && release(&daemon.version) >= (2, 0);
            let outcome = (daemon.fits(&facts) && !broken).then(|| road(&daemon.under(&tree), &tree, daemon));
            outcome.map_or_else(|| format!("{:>20}", "-"), |outcome| format!("{outcome:>20}"))
        });
        let renderer = match facts.rendered {
            Rendered::Never => "",
            Rendered::FromTemplate => "Go",
            Rendered::Merged | Rendered::Substituted => "this test",
        };
        println!("{tree:36}{renderer:12}{}", cells.collect::<String>());
    }
    if !daemons.iter().any(|daemon| daemon.is_crio) {
        println!("{CRIOS} names no CRI-O: the trees of CRI-O were left out");
    }
}

const OWN_TEMPLATE: &str = "k3s-agent-1.30-own-template";

/// Templates that users wrote, below the built-in one: what a text can end with, and what handlers can stand in.
const OWN_TEMPLATES: [&str; 8] = [
    "{{ template \"base\" . }}",
    "{{ template \"base\" . }}\r\n\r\n# by hand\r\n",
    "{{ template \"base\" . }}\n# without a newline",
    "{{- /* trimmed */ -}}\n{{ template \"base\" . -}}\n",
    "{{ template \"base\" . }}\n[debug]\n  level = \"info\"\n{{- if .SystemdCgroup }}\n  gid = 0\n{{- end -}}  \n\n",
    "{{ template \"base\" . }}\n{{ if .NodeConfig.SELinux }}\n[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.\"selinux\"]\n  runtime_type = \"io.containerd.runc.v2\"\n{{ end }}",
    "{{ template \"base\" . }}\n{{ range $name, $extra := .ExtraRuntimes }}\n[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.\"{{ $name }}\"]\n  runtime_type = \"{{ $extra.RuntimeType }}\"\n{{ end }}\n",
    "{{ define \"own\" }}\n[debug]\n  level = \"{{ . }}\"\n{{ end }}{{ template \"base\" . }}{{ template \"own\" \"info\" }}",
];

#[test]
#[ignore = "needs a real containerd 1, named by KWASM_CONTAINERDS, and a renderer, named by KWASM_RANCHER_TEMPLATE"]
fn whatever_stands_in_a_template_of_the_users_own_our_handler_comes_and_goes() {
    let facts = Facts::of(OWN_TEMPLATE);
    for daemon in Daemon::all().iter().filter(|daemon| daemon.fits(&facts)) {
        for template in OWN_TEMPLATES {
            let node = daemon.under(OWN_TEMPLATE);
            fs::write(node.path(&facts.loaded).with_file_name("config.toml.tmpl"), template).unwrap();
            node.boot_anew();
            road(&node, OWN_TEMPLATE, &format!("{daemon}, from {template:?}"));
        }
    }
}

#[test]
#[ignore = "needs a real containerd 1, named by KWASM_CONTAINERDS, and a renderer, named by KWASM_RANCHER_TEMPLATE"]
fn an_option_that_looks_like_an_action_reaches_containerd_as_it_was_ordered() {
    let facts = Facts::of("k3s-1.28");
    let text = "{{ .Nope }} {{{{ end }}";
    let option = OptionValue::String(text.into());
    let runtime = Runtime { options: BTreeMap::from([(text.into(), option)]), ..bundled("wasmtime") }.revise();
    for daemon in Daemon::all().iter().filter(|daemon| daemon.fits(&facts)) {
        let node = daemon.under("k3s-1.28");
        node.must_apply(std::slice::from_ref(&runtime));
        assert_eq!(node.dump().handlers()["wasmtime"]["options"][text], text, "{daemon}");
    }
}

/// A real containerd, which is asked once about each configuration.
struct Oracle<'a> {
    containerd: &'a Path,
    answers: HashMap<Disk, Result<Handlers, Objection>>,
}

impl Oracle<'_> {
    /// The handlers that a node's containerd would serve if it were started at this moment.
    fn handlers(&mut self, node: &Node, moment: &Moment) -> Result<Handlers, Objection> {
        let configuration = moment.disk.without("kwasm");
        let ask = || {
            node.put(moment);
            let (files, loaded) = (Files::below(node.root.path()), Path::new(&node.facts.loaded));
            let printed = ask(&files, node.root.path(), self.containerd, Some(loaded));
            printed.map(|printed| Dump::parse(&printed).unwrap().handlers()).map_err(|error| error.to_string())
        };
        self.answers.entry(configuration).or_insert_with(ask).clone()
    }

    /// What is on the disk leads to the old handlers or to the new ones.
    fn judge(&mut self, road: &Road<'_>, booted: &Moment) -> Result<(), Objection> {
        let [is, old, new] = [booted, road.old, road.new].map(|moment| self.handlers(road.node, moment));
        let (is, old, new) = (is?, old?, new?);
        if is == old || is == new { Ok(()) } else { Err(format!("neither old nor new handlers: {:?}", is.keys())) }
    }
}

#[test]
#[ignore = "needs real containerds, named by KWASM_CONTAINERDS"]
fn after_any_fault_at_any_point_a_real_containerd_loads_the_old_handlers_or_the_new_ones() {
    let daemons: Vec<Daemon> = Daemon::all().into_iter().filter(|daemon| !daemon.is_crio).collect();
    // Each tree has the containerd that is nearest to its own.
    let nearest = |facts: &Facts| {
        let able = daemons.iter().filter(|daemon| daemon.fits(facts));
        able.min_by_key(|daemon| release(&daemon.version)).map(|daemon| &daemon.program)
    };
    for Daemon { program, version, .. } in &daemons {
        let trees: Vec<String> =
            names().into_iter().filter(|tree| nearest(&Facts::of(tree)) == Some(program)).collect();
        let mut oracle = Oracle { containerd: program, answers: HashMap::new() };
        campaign(&trees, stride(23), &mut |road, booted| oracle.judge(road, booted));
        println!("containerd {version} was asked about {} configurations", oracle.answers.len());
    }
}
