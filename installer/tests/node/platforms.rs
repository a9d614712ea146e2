//! What differs from system to system, beyond what every tree shows.

use std::fs;

use kwasm_api::Runtime;
use kwasm_installer::failure::Reason;

use crate::facts::Facts;
use crate::fake::{Mood, Node, bundled, differences, preinstalled};

const K3S: &str = "/var/lib/rancher/k3s/agent/etc/containerd";

#[test]
fn on_a_read_only_system_a_handler_that_it_serves_can_be_published() {
    for tree in ["talos-1.9", "bottlerocket-1.30", "gke-cos-117", "flatcar-4152"] {
        let node = Node::of(tree);
        let before = node.tree();
        assert_eq!(node.must_apply(&[preinstalled("runc")]), 0, "{tree}");
        node.must_apply(&[]);
        assert_eq!(differences(&node.tree(), &before), Vec::<String>::new(), "{tree}");
    }
}

#[test]
fn a_read_only_system_that_lacks_the_handler_tells_a_way_out_of_its_own() {
    let remedies = ["talos-1.9", "bottlerocket-1.30", "gke-cos-117", "flatcar-4152"]
        .map(|tree| Node::of(tree).must_fail(&[bundled("wasmtime")]).remedy);
    assert!(remedies[0].starts_with("install the runtime as a system extension"), "{}", remedies[0]);
    assert!(remedies[1].starts_with("use nodes of another system"), "{}", remedies[1]);
    assert!(remedies[2].contains("ubuntu_containerd"), "{}", remedies[2]);
    assert!(remedies[3].contains("CONTAINERD_CONFIG"), "{}", remedies[3]);
}

#[test]
fn a_daemon_that_our_run_left_dead_is_mended_where_it_reads_its_configuration() {
    let mut node = Node::of("flatcar-own-config");
    let elsewhere = "/etc/containerd/flatcar.toml";
    fs::rename(node.path("/etc/containerd/config.toml"), node.path(elsewhere)).unwrap();
    node.facts.loaded = elsewhere.to_owned();
    node.facts.running[1].arguments[2] = elsewhere.to_owned();
    node.boot_anew();
    let before = node.tree();
    assert_eq!(node.mood(Mood::Broken).must_fail(&[bundled("wasmtime")]).exit_code(), 5);
    node.facts.running.remove(1);
    node.facts.units[0].main_pid = None;
    node.mood(Mood::Healthy).must_apply(&[bundled("wasmtime")]);
    assert_eq!(node.handlers(), ["runc", "wasmtime"]);
    node.must_apply(&[]);
    assert_eq!(differences(&node.tree(), &before), Vec::<String>::new());
}

#[test]
fn a_daemon_that_reads_another_file_now_is_told_before_ours_is_forgotten() {
    let mut node = Node::of("flatcar-own-config");
    node.must_apply(&[bundled("wasmtime")]);
    let (config, before) = (node.config(), node.tree());
    node.facts.running = Facts::of("flatcar-4152").running;
    fs::create_dir_all(node.path("/usr/share/containerd")).unwrap();
    fs::write(node.path("/usr/share/containerd/config.toml"), "version = 2\n").unwrap();
    let stop = node.must_fail(&[]);
    assert_eq!((stop.reason, stop.exit_code()), (Reason::NodeAmbiguous, 3), "{stop}");
    let changed = differences(&node.tree(), &before);
    assert!(changed.iter().all(|line| line.starts_with("usr/share")), "{changed:#?}");
    fs::write(node.path("/etc/containerd/config.toml"), config.split("\n# Added by").next().unwrap()).unwrap();
    node.must_apply(&[]);
    assert!(!node.path("/opt/kwasm").exists());
}

#[test]
fn a_template_that_the_user_edited_meanwhile_keeps_the_edits() {
    let node = Node::of("k3s-agent-1.30-own-template");
    let template = format!("{K3S}/config.toml.tmpl");
    let before = node.read(&template);
    node.must_apply(&[bundled("wasmtime")]);
    fs::write(node.path(&template), node.read(&template).replace("gvisor]", "gvisor] # ours") + "[debug]\n").unwrap();
    node.must_apply(&[]);
    assert_eq!(node.read(&template), before.replace("gvisor]", "gvisor] # ours") + "[debug]\n");
    assert_eq!(node.handlers(), ["gvisor", "runc"]);
}

#[test]
fn a_template_that_k3s_has_not_rendered_yet_is_left_alone() {
    let node = Node::of("k3s-agent-1.30-own-template");
    let template = format!("{K3S}/config.toml.tmpl");
    fs::write(node.path(&template), node.read(&template).replace("gvisor]", "runsc]")).unwrap();
    assert_eq!(node.must_fail(&[bundled("wasmtime")]).reason, Reason::NodeAmbiguous);
}

#[test]
fn a_template_of_ours_stays_ours_when_k3s_begins_to_import_drop_ins() {
    let node = Node::of("k3s-1.32");
    let before = node.tree();
    node.must_apply(&[bundled("wasmtime")]);
    let built_in = "/run/built-in.toml";
    let importing = node
        .read(built_in)
        .replace("version = 3\n", &format!("version = 3\nimports = [\"{K3S}/config-v3.toml.d/*.toml\"]\n"));
    fs::write(node.path(built_in), importing).unwrap();
    node.boot_anew();
    assert_eq!(node.must_apply(&[bundled("wasmtime")]), 0);
    node.must_apply(&[]);
    let left = differences(&node.tree(), &before);
    assert!(left.iter().all(|line| line.contains("config.toml:")), "{left:#?}");
    assert!(!node.path(&format!("{K3S}/config-v3.toml.tmpl")).exists());
}

#[test]
fn a_template_of_ours_that_another_overrules_is_told() {
    let node = Node::of("k3s-1.32-older-template");
    node.must_apply(&[bundled("wasmtime")]);
    fs::write(node.path(&format!("{K3S}/config-v3.toml.tmpl")), "version = 3\n").unwrap();
    node.boot_anew();
    let stop = node.must_fail(&[bundled("wasmtime")]);
    assert_eq!((stop.reason, stop.exit_code()), (Reason::NodeAmbiguous, 3), "{stop}");
    assert_eq!(node.restarts(), 1);
}

#[test]
fn the_entries_of_kwasm_in_a_template_are_adopted_and_its_other_runtimes_stay() {
    let node = Node::of("k3s-kwasm-0.2");
    assert_eq!(node.must_apply(&[bundled("wasmtime")]), 1);
    let template = node.read(&format!("{K3S}/config.toml.tmpl"));
    assert_eq!(template.matches("runtimes.wasmtime]").count(), 1, "{template}");
    assert_eq!(node.handlers(), ["runc", "spin", "wasmtime"]);
    node.must_apply(&[]);
    assert_eq!(node.handlers(), ["runc", "spin"]);
}

#[test]
fn crio_starts_a_shim_whose_name_ends_in_v2() {
    let node = Node::of("crio-1.33-shim");
    let before = node.tree();
    node.empty_bundle();
    node.bundle_shim("spin", "containerd-shim-spin-v2");
    assert_eq!(node.must_apply(&[bundled("spin")]), 1);
    let drop_in = node.read("/etc/crio/crio.conf.d/99-kwasm.conf");
    assert!(drop_in.contains("runtime_type = \"vm\""), "{drop_in}");
    node.must_apply(&[]);
    assert_eq!(differences(&node.tree(), &before), Vec::<String>::new());
}

#[test]
fn a_handler_that_crio_has_without_us_is_never_replaced() {
    for (tree, handler) in [("crio-built-in-handler", "crun"), ("crio-without-crun", "runc")] {
        let node = Node::of(tree);
        let theirs = Runtime { handler: handler.into(), ..node.facts.runtimes().remove(0) };
        assert_eq!(node.must_fail(&[theirs.revise()]).reason, Reason::HandlerConflict, "{tree}");
    }
}

#[test]
fn a_handler_that_crio_passes_over_is_not_preinstalled() {
    let stop = Node::of("crio-without-crun").must_fail(&[preinstalled("crun")]);
    assert_eq!(
        stop.to_string(),
        "compare the handlers: CRI does not serve the handler `crun`, which is said to be preinstalled"
    );
}

#[test]
fn a_folder_in_which_crio_would_stumble_is_left_alone() {
    let node = Node::of("crio-1.33");
    std::os::unix::fs::symlink("/nowhere", node.path("/etc/crio/crio.conf.d/50-gone.conf")).unwrap();
    let before = node.tree();
    let stop = node.must_fail(&node.facts.runtimes());
    assert!(stop.message.contains("/etc/crio/crio.conf.d/50-gone.conf is no file"), "{stop}");
    assert_eq!((stop.reason, node.tree()), (Reason::ConfigNotLoadable, before));
}

#[test]
fn a_folder_of_which_crio_reads_every_file_never_holds_half_of_one() {
    let node = Node::of("crio-1.33");
    let touched = node.points().of(|| {
        node.must_apply(&node.facts.runtimes());
        node.must_apply(&[]);
    });
    let mut there: Vec<&str> = touched.iter().filter_map(|point| point.split_once(' ')).map(|(_, path)| path).collect();
    there.retain(|path| path.starts_with("/etc/crio/crio.conf.d/"));
    there.dedup();
    assert_eq!(there, ["/etc/crio/crio.conf.d/99-kwasm.conf"]);
}

#[test]
fn a_file_of_somebody_elses_on_the_path_is_not_replaced() {
    let shim = "/usr/local/bin/containerd-shim-wasmtime-v1";
    let node = Node::of("docker-without-kubernetes");
    fs::write(node.path(shim), "theirs").unwrap();
    assert_eq!(node.must_fail(&[bundled("wasmtime")]).reason, Reason::HandlerConflict);
    let node = Node::of("nerdctl-without-kubernetes");
    fs::write(node.path(shim), "theirs").unwrap();
    node.must_apply(&[bundled("wasmtime")]);
    node.must_apply(&[]);
    assert_eq!(node.read(shim), "theirs");
}

#[test]
fn a_shim_that_does_not_answer_is_taken_away_again() {
    let node = Node::of("docker-without-kubernetes");
    let before = node.tree();
    let stop = node.mood(Mood::CannotRun("as exec put it")).must_fail(&[bundled("wasmtime")]);
    assert_eq!((stop.reason, stop.exit_code()), (Reason::HandlerNotServed, 4));
    assert_eq!(differences(&node.tree(), &before), Vec::<String>::new());
}

#[test]
fn the_link_on_the_path_goes_when_the_machine_becomes_a_node_of_kubernetes() {
    let mut node = Node::of("nerdctl-without-kubernetes");
    node.must_apply(&[bundled("wasmtime")]);
    assert!(node.path("/usr/local/bin/containerd-shim-wasmtime-v1").is_symlink());
    node.facts.running.push(Facts::plain("2.1.4").running.pop().unwrap());
    node.must_apply(&[bundled("wasmtime")]);
    assert!(!node.path("/usr/local/bin/containerd-shim-wasmtime-v1").is_symlink());
    assert_eq!(node.handlers(), ["runc", "wasmtime"]);
}

#[test]
fn a_k3s_that_does_not_start_with_our_template_gets_its_own_back() {
    for tree in ["k3s-1.28", "k3s-1.35-drop-ins", "microk8s-1.32", "crio-1.33"] {
        let node = Node::of(tree);
        let (before, handlers) = (node.tree(), node.handlers());
        let stop = node.mood(Mood::Refuses("wasmtime")).must_fail(&node.facts.runtimes());
        assert_eq!(stop.exit_code(), 4, "{tree}: {stop}");
        assert_eq!(differences(&node.tree(), &before), Vec::<String>::new(), "{tree}");
        assert_eq!(node.handlers(), handlers, "{tree}");
    }
}

#[test]
fn what_kwasm_left_in_the_folder_of_microk8s_is_replaced_and_comes_back_only_with_an_undo() {
    let node = Node::of("microk8s-1.32");
    let shim = "/var/snap/microk8s/common/kwasm/bin/containerd-shim-wasmtime-v1";
    fs::create_dir_all(node.path(shim).parent().unwrap()).unwrap();
    fs::write(node.path(shim), "of KWasm 0.2").unwrap();
    let before = node.tree();
    node.mood(Mood::Refuses("wasmtime"));
    node.must_fail(&[bundled("wasmtime")]);
    assert_eq!(node.tree(), before);
    node.mood(Mood::Healthy);
    node.must_apply(&[bundled("wasmtime")]);
    assert!(fs::read_link(node.path(shim)).is_ok(), "a link to ours");
}
