use rstest::rstest;

use super::*;
use crate::platform::Os;

/// A process that calls itself by the file name of its program.
fn process(pid: u32, parent: u32, program: &str, rest: &[&str]) -> Running {
    let arguments = [program].iter().chain(rest).map(|word| (*word).to_owned()).collect();
    Running { pid, parent, program: program.into(), arguments }
}

fn unit(name: &str, main_pid: Option<u32>) -> Unit {
    Unit { name: name.into(), enabled: true, main_pid }
}

fn systemd() -> Running {
    process(1, 0, "/usr/lib/systemd/systemd", &[])
}

fn evidence(units: Vec<Unit>, mut running: Vec<Running>) -> Evidence {
    running.insert(0, systemd());
    Evidence { units, running, ..Evidence::default() }
}

fn containerd() -> Running {
    process(500, 1, "/usr/bin/containerd", &[])
}

fn k3s() -> [Running; 2] {
    let config = "/var/lib/rancher/k3s/agent/etc/containerd/config.toml";
    let containerd = process(720, 700, "/var/lib/rancher/k3s/data/0/bin/containerd", &["-c", config]);
    [process(700, 1, "/usr/local/bin/k3s", &[]), containerd]
}

#[rstest]
#[case::containerd(vec![unit("containerd.service", Some(500))], vec![containerd()], Kind::Containerd, "containerd.service")]
#[case::k3s(vec![unit("k3s-edge.service", Some(700))], k3s().to_vec(), Kind::K3s, "k3s-edge.service")]
#[case::crio(vec![unit("crio.service", Some(9))], vec![process(9, 1, "/usr/bin/crio", &[])], Kind::Crio, "crio.service")]
#[case::microk8s(
    vec![unit("snap.microk8s.daemon-containerd.service", Some(9))],
    vec![process(9, 1, "/snap/microk8s/1/bin/containerd", &[])],
    Kind::MicroK8s,
    "snap.microk8s.daemon-containerd.service"
)]
#[case::that_crashed(vec![unit("rke2-agent.service", None)], vec![], Kind::Rke2, "rke2-agent.service")]
fn the_daemon_that_runs_is_the_one(
    #[case] units: Vec<Unit>,
    #[case] running: Vec<Running>,
    #[case] kind: Kind,
    #[case] name: &str,
) {
    let claim = claim(&evidence(units, running), None).unwrap();
    assert_eq!((claim.kind, claim.unit.as_deref()), (kind, Some(name)));
}

#[test]
fn a_container_runtime_of_docker_does_not_count() {
    let dockerd = process(510, 1, "/usr/bin/dockerd", &[]);
    let its_own = process(520, 510, "/usr/bin/containerd", &["--config", "/var/run/docker/containerd/containerd.toml"]);
    let seen = evidence(vec![unit("k3s.service", Some(700))], [vec![dockerd, its_own], k3s().to_vec()].concat());
    assert_eq!(claim(&seen, None).unwrap().kind, Kind::K3s);
}

#[test]
fn a_containerd_without_cri_gives_way_to_a_daemon_that_serves_it() {
    let units = vec![unit("containerd.service", Some(500)), unit("k3s.service", Some(700))];
    let mut seen = evidence(units, [vec![containerd()], k3s().to_vec()].concat());
    seen.without_cri = vec![CONTAINERD_CONFIG.into()];
    assert_eq!(claim(&seen, None).unwrap().kind, Kind::K3s);
}

#[test]
fn a_k3s_that_borrows_containerd_leaves_it_the_claim() {
    let mut seen = evidence(vec![unit("containerd.service", Some(500)), unit("k3s.service", None)], vec![containerd()]);
    seen.borrows_daemon = true;
    assert_eq!(claim(&seen, None).unwrap().kind, Kind::Containerd);
}

#[rstest]
#[case::two_daemons(
    vec![unit("containerd.service", Some(500)), unit("k3s.service", Some(700))],
    [vec![containerd()], k3s().to_vec()].concat(),
    "containerd serves CRI (/usr/bin/containerd, pid 500), and k3s serves CRI (/var/lib/rancher/k3s/data/0/bin/containerd, pid 720)"
)]
#[case::another_at_the_next_start(
    vec![unit("containerd.service", Some(500)), unit("crio.service", None)],
    vec![containerd()],
    "containerd serves CRI (/usr/bin/containerd, pid 500), and crio.service is enabled, but does not run"
)]
#[case::two_that_do_not_run(
    vec![unit("containerd.service", None), unit("crio.service", None)],
    vec![],
    "several container runtimes are installed and none serves CRI: process 1 is /usr/lib/systemd/systemd, containerd.service does not run, crio.service does not run"
)]
#[case::under_no_unit(
    vec![],
    vec![containerd()],
    "containerd (pid 500) runs, but under no unit that is known: process 1 is /usr/lib/systemd/systemd, containerd runs (pid 500)"
)]
#[case::nothing(vec![], vec![], "no daemon that serves CRI was found: process 1 is /usr/lib/systemd/systemd")]
fn what_contradicts_itself_is_refused_with_what_was_seen(
    #[case] units: Vec<Unit>,
    #[case] running: Vec<Running>,
    #[case] message: &str,
) {
    assert_eq!(claim(&evidence(units, running), None).unwrap_err().message, message);
}

#[test]
fn a_unit_that_is_installed_but_never_started_is_no_contradiction() {
    let mut units = vec![unit("containerd.service", Some(500)), unit("k3s.service", None)];
    units[1].enabled = false;
    assert_eq!(claim(&evidence(units, vec![containerd()]), None).unwrap().kind, Kind::Containerd);
}

#[test]
fn on_talos_the_daemon_of_the_service_cri_counts() {
    let seen = Evidence {
        os: Os { id: "talos".into(), name: String::new() },
        running: vec![
            process(1, 0, "/sbin/init", &[]),
            process(300, 1, "/usr/bin/containerd", &["--address", "/system/run/containerd/containerd.sock"]),
            process(400, 1, "/usr/bin/containerd", &["--config", "/etc/cri/containerd.toml"]),
        ],
        ..Evidence::default()
    };
    let claim = claim(&seen, None).unwrap();
    assert_eq!((claim.kind, claim.process.map(|process| process.pid)), (Kind::Talos, Some(400)));
}

#[test]
fn of_several_that_do_not_run_the_one_counts_whose_configuration_an_earlier_run_wrote() {
    let seen = evidence(vec![unit("k3s.service", None), unit("containerd.service", None)], Vec::new());
    assert_eq!(claim(&seen, None).unwrap_err().reason, Reason::NodeAmbiguous);
    let ours = Path::new("/var/lib/rancher/k3s/agent/etc/containerd/config-v3.toml.d/kwasm.toml");
    let claim = claim(&seen, Some(ours)).unwrap();
    assert_eq!((claim.kind, claim.unit.as_deref()), (Kind::K3s, Some("k3s.service")));
}
