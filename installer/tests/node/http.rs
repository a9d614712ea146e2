//! Runtimes that a web server on loopback serves: what is installed, and what goes wrong on the way.

use std::time::Duration;

use kwasm_api::Runtime;
use kwasm_api::report::NodeState;
use kwasm_api::runtime::{Http, HttpArtifact, RuntimeKind, Source};
use kwasm_installer::artifacts::proxy::Proxies;
use kwasm_installer::artifacts::remote::platform;
use rstest::rstest;

use crate::fake::{Mood, Node, bundled, runtime};
use crate::program::{Tar, dynamic_program, gzip, program, sha256};
use crate::server::{Answer, Authority, Server, Tunnel};

const PLAIN: &str = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]\nruntime_type = \"io.containerd.runc.v2\"\n";
const PAGE: &str = "<!DOCTYPE html>\n<title>404</title>\n";

fn plain() -> Node {
    Node::with_config("1.7.24", PLAIN)
}

/// A runtime `spin` that is fetched from here.
pub(crate) fn served(url: &str, content: &[u8]) -> Runtime {
    let artifact = HttpArtifact { platform: platform(), url: url.into(), sha256: sha256(content) };
    runtime("spin", Source::Http(Http { artifacts: vec![artifact] }))
}

fn oci(mut runtime: Runtime) -> Runtime {
    runtime.kind = RuntimeKind::Oci;
    runtime.revise()
}

/// Applies and expects a refusal that leaves the node as it was; returns the whole message without the server's port.
fn refusal(node: &Node, server: &Server, runtime: Runtime) -> String {
    let before = node.tree();
    let stop = node.must_fail(&[runtime]);
    assert_eq!((stop.state, stop.exit_code()), (NodeState::Unchanged, 3));
    assert_eq!(node.tree(), before);
    assert_eq!(node.restarts(), 0);
    format!("{:?}: {stop}", stop.reason).replace(&server.address().to_string(), "host")
}

#[rstest]
#[case::binary(program("spin"))]
#[case::compressed_binary(gzip(&program("spin")))]
#[case::tar(Tar::with_shim().tar())]
#[case::tar_gz(Tar::with_shim().gzip())]
#[case::tar_zst(Tar::with_shim().zstd())]
#[case::deep(Tar::default().file("a/README", b"x").program("a/b/containerd-shim-spin-v2", &program("spin")).gzip())]
fn a_shim_is_fetched_in_whatever_wrapping_and_registered(#[case] content: Vec<u8>) {
    let (node, server) = (plain(), Server::serving(content.clone()));
    let before = node.tree();
    let wanted = [served(&server.url("any.name"), &content)];
    assert_eq!(node.must_apply(&wanted), 1);
    assert_eq!(node.bytes("/opt/kwasm/bin/containerd-shim-spin-v2"), program("spin"));
    assert!(node.config().contains("/opt/kwasm/bin/containerd-shim-spin-v2"), "{}", node.config());
    assert_eq!(node.handlers(), ["runc", "spin"]);
    node.must_apply(&[]);
    assert_eq!(node.tree(), before);
}

#[test]
fn a_shim_that_is_fetched_is_one_that_crio_starts() {
    let content = Tar::default().program("containerd-shim-spin-v1", &program("spin")).gzip();
    let (node, server) = (Node::of("crio-1.33"), Server::serving(content.clone()));
    node.must_apply(&[served(&server.url("x"), &content)]);
    assert!(node.handlers().contains(&"spin".to_owned()), "{:?}", node.handlers());
    let drop_in = node.read("/etc/crio/crio.conf.d/99-kwasm.conf");
    assert!(drop_in.contains("runtime_path = \"/opt/kwasm/bin/containerd-shim-spin-v2\""), "{drop_in}");
}

#[test]
fn the_report_tells_the_digest_of_the_program_and_not_of_the_archive() {
    let content = Tar::with_shim().gzip();
    let (node, server) = (plain(), Server::serving(content.clone()));
    let (report, _) = node.apply(&[served(&server.url("x"), &content)]);
    assert_eq!(report.runtimes[0].sha256, Some(sha256(&program("spin"))));
    assert_eq!(report.runtimes[0].path.as_deref(), Some("/opt/kwasm/bin/containerd-shim-spin-v2"));
}

#[test]
fn the_same_order_again_needs_no_network_and_writes_nothing() {
    let content = Tar::with_shim().gzip();
    let node = plain();
    let server = Server::serving(content.clone());
    let wanted = [served(&server.url("x"), &content)];
    node.must_apply(&wanted);
    drop(server);
    let before = node.tree();
    node.must_apply(&wanted);
    assert_eq!(node.log().last().unwrap(), "everything is as it should be: nothing to do");
    assert_eq!(node.tree(), before);
}

#[test]
fn a_runtime_that_goes_leaves_nothing_beside_one_that_stays() {
    let content = program("spin");
    let (node, server) = (plain(), Server::serving(content.clone()));
    let stays = bundled("wasmtime");
    node.must_apply(std::slice::from_ref(&stays));
    let before = node.tree();
    node.must_apply(&[stays.clone(), served(&server.url("x"), &content)]);
    node.must_apply(&[stays]);
    assert_eq!(node.tree(), before);
}

#[test]
fn another_mirror_of_the_same_content_is_not_asked() {
    let content = program("spin");
    let (node, server) = (plain(), Server::serving(content.clone()));
    node.must_apply(&[served(&server.url("x"), &content)]);
    assert_eq!(node.must_apply(&[served("http://127.0.0.1:1/mirror", &content)]), 0);
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn a_lost_ledger_costs_no_download() {
    let content = program("spin");
    let (node, server) = (plain(), Server::serving(content.clone()));
    let wanted = [served(&server.url("x"), &content)];
    node.must_apply(&wanted);
    std::fs::remove_file(node.path("/var/lib/kwasm/installer/ledger.json")).unwrap();
    let (report, stop) = node.apply(&wanted);
    assert!(stop.is_none(), "{stop:#?}");
    assert_eq!(report.runtimes[0].sha256, Some(sha256(&content)));
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn a_new_version_costs_no_restart_and_the_old_one_goes_when_nobody_runs_it() {
    let [one, two] = ["one", "two"].map(program);
    let node = plain();
    let server = Server::playing(move |asked| Answer::ok(program(asked.path.trim_start_matches('/'))));
    node.must_apply(&[served(&server.url("one"), &one)]);
    let old = std::fs::read_link(node.path("/opt/kwasm/bin/containerd-shim-spin-v2")).unwrap();
    node.process(old.to_str().unwrap());
    assert_eq!(node.must_apply(&[served(&server.url("two"), &two)]), 0);
    assert_eq!(node.bytes("/opt/kwasm/bin/containerd-shim-spin-v2"), two);
    assert_eq!(node.bytes(old.to_str().unwrap()), one);
    node.no_processes();
    node.must_apply(&[served(&server.url("two"), &two)]);
    assert!(!node.path(old.to_str().unwrap()).exists());
}

#[test]
fn a_plan_asks_nobody_and_names_the_source() {
    let (node, server) = (plain(), Server::serving("x"));
    let before = node.tree();
    let plan = node.plan(&[served(&server.url("x?signature"), b"x")]);
    assert!(
        plan.contains(&format!("fetch {}?… and install it in /opt/kwasm/runtimes/spin/", server.url("x"))),
        "{plan}"
    );
    assert!(plan.contains("+runtime_type = \"/opt/kwasm/bin/containerd-shim-spin-v2\""), "{plan}");
    assert_eq!(server.asked().len(), 0);
    assert_eq!(node.tree(), before);
}

#[test]
fn a_shim_brings_the_programs_beside_it() {
    let content = Tar::default()
        .file("dist/README", b"x")
        .program("dist/containerd-shim-x-v9", &program("shim"))
        .program("dist/engine", b"e")
        .gzip();
    let (node, server) = (plain(), Server::serving(content.clone()));
    node.must_apply(&[served(&server.url("x"), &content)]);
    let shim = std::fs::read_link(node.path("/opt/kwasm/bin/containerd-shim-spin-v2")).unwrap();
    let beside: Vec<_> = std::fs::read_dir(node.path(shim.parent().unwrap().to_str().unwrap())).unwrap().collect();
    assert_eq!(beside.len(), 2);
    assert_eq!(node.read(shim.with_file_name("engine").to_str().unwrap()), "e");
}

#[test]
fn an_oci_runtime_keeps_its_own_name() {
    let content = Tar::default().program("spin", &program("s")).program("helper", &program("h")).gzip();
    let (node, server) = (plain(), Server::serving(content.clone()));
    node.must_apply(&[oci(served(&server.url("x"), &content))]);
    assert_eq!(node.bytes("/opt/kwasm/bin/spin"), program("s"));
    assert!(node.config().contains("BinaryName = \"/opt/kwasm/bin/spin\""), "{}", node.config());
}

#[test]
fn redirects_are_followed_up_to_ten_and_no_further() {
    let content = program("spin");
    let server = |last: usize, content: Vec<u8>| {
        Server::playing(move |asked| match asked.path.trim_start_matches('/').parse::<usize>().unwrap() {
            number if number == last => Answer::ok(content.clone()),
            number => Answer::redirect(&format!("/{}", number + 1)),
        })
    };
    let ten = server(10, content.clone());
    plain().must_apply(&[served(&ten.url("0"), &content)]);
    let eleven = server(11, content.clone());
    assert_eq!(
        refusal(&plain(), &eleven, served(&eleven.url("0"), &content)),
        "ArtifactNotFetched: fetch the runtime spin from http://host/0: http://host/0: more than 10 redirects"
    );
}

#[test]
fn a_download_that_breaks_goes_on_where_it_broke() {
    let content = program(&"x".repeat(100_000));
    let body = content.clone();
    let server = Server::playing(move |asked| {
        let answer = |body: &[u8]| Answer::ok(body).with("ETag", "\"one\"");
        match asked.header("range") {
            None => answer(&body).cut_after(40_000),
            Some(range) => {
                let from: usize = range.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap();
                Answer::status(206, &body[from..])
                    .with("Content-Range", format!("bytes {from}-{}/{}", body.len() - 1, body.len()))
            }
        }
    });
    let node = plain();
    node.must_apply(&[served(&server.url("x"), &content)]);
    let asked = server.asked();
    assert_eq!(asked.len(), 2);
    let from: usize =
        asked[1].header("range").unwrap().trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap();
    assert!((1..=40_000).contains(&from), "{from}");
    assert_eq!(asked[1].header("if-range"), Some("\"one\""));
    assert_eq!(node.bytes("/opt/kwasm/bin/containerd-shim-spin-v2").len(), content.len());
}

#[test]
fn a_server_that_cannot_go_on_is_read_from_the_beginning_again() {
    let content = program(&"x".repeat(100_000));
    let (body, mut first) = (content.clone(), true);
    let server = Server::playing(move |_| {
        let answer = Answer::ok(body.clone());
        if std::mem::take(&mut first) { answer.cut_after(40_000) } else { answer }
    });
    plain().must_apply(&[served(&server.url("x"), &content)]);
    assert_eq!(server.asked().len(), 2);
    assert_eq!(server.asked()[1].header("range"), None);
}

#[test]
fn content_that_changes_between_two_tries_is_refused() {
    let content = program(&"x".repeat(100_000));
    let (body, mut first) = (content.clone(), true);
    let server = Server::playing(move |_| {
        if std::mem::take(&mut first) {
            Answer::ok(body.clone()).cut_after(40_000)
        } else {
            Answer::ok("y".repeat(body.len()))
        }
    });
    assert_eq!(
        refusal(&plain(), &server, served(&server.url("x"), &content)),
        "ArtifactRefused: fetch the runtime spin from http://host/x: http://host/x: it changed while it was downloaded"
    );
}

#[test]
fn a_server_that_is_busy_is_asked_again() {
    let content = program("spin");
    let (body, mut times) = (content.clone(), 0);
    let server = Server::playing(move |_| {
        times += 1;
        if times < 4 { Answer::status(503, "busy") } else { Answer::ok(body.clone()) }
    });
    let node = plain();
    node.must_apply(&[served(&server.url("x"), &content)]);
    let tries: Vec<String> = node.log().into_iter().filter(|line| line.contains("trying again")).collect();
    let line = |seconds: u32| {
        format!("{}: HTTP 503 Service Unavailable; it begins with `busy`: trying again in {seconds} s", server.url("x"))
    };
    assert_eq!(tries, [line(1), line(2), line(4)]);
}

#[rstest]
#[case::page(
    Answer::status(404, PAGE),
    "http://host/x: HTTP 404 Not Found; it begins with `<!DOCTYPE html>\\n<title>404</title>\\n`"
)]
#[case::forbidden(Answer::status(403, ""), "http://host/x: HTTP 403 Forbidden; it is empty")]
#[case::gone(
    Answer::redirect("ftp://user:secret@elsewhere/x?secret"),
    "http://host/x: redirected to ftp://…@elsewhere/x?…, which is not followed: it is no URL of a web server"
)]
#[case::too_large(Answer::ok("x".repeat(5000)), "http://host/x: it is larger than 4096 bytes")]
#[case::too_large_without_saying(
    Answer::ok(format!("1388\r\n{}\r\n0\r\n\r\n", "x".repeat(5000))).with("Transfer-Encoding", "chunked"),
    "http://host/x: it is larger than 4096 bytes"
)]
#[case::broken(
    Answer::ok("x".repeat(100)).cut_after(0),
    "http://host/x: the connection broke after 0 bytes: Peer disconnected"
)]
#[case::slow(
    Answer::ok("x".repeat(100)).stall_after(10),
    "http://host/x: the connection broke after 10 bytes: not a byte for 1.0 s"
)]
fn a_server_that_does_not_serve_it_leaves_the_node_as_it_was(#[case] answer: Answer, #[case] message: &str) {
    let mut node = plain();
    node.limits.served = 4096;
    node.limits.idle = Duration::from_secs(1);
    node.limits.tries = 2;
    let server = Server::playing(move |_| answer.clone());
    let refusal = refusal(&node, &server, served(&server.url("x"), b"something"));
    let reason = if message.contains("larger") { "ArtifactRefused" } else { "ArtifactNotFetched" };
    assert_eq!(refusal, format!("{reason}: fetch the runtime spin from http://host/x: {message}"));
}

#[test]
fn a_long_download_says_how_far_it_is() {
    let content = program(&"x".repeat(3 << 20));
    let (mut node, server) = (plain(), Server::serving(content.clone()));
    node.limits.tell_every = Duration::ZERO;
    node.must_apply(&[served(&server.url("x"), &content)]);
    let log = node.log();
    let line = log.iter().rfind(|line| line.contains("MiB/s")).unwrap();
    assert!(line.starts_with(&format!("{}: 3.0 of 3.0 MiB, ", server.url("x"))), "{line}");
}

#[test]
fn a_proxy_of_the_environment_is_asked_for_what_it_alone_can_resolve() {
    let content = program("spin");
    let (mut node, server) = (plain(), Server::serving(content.clone()));
    let tunnel = Tunnel::to(server.address());
    let proxy = format!("http://{}", tunnel.address());
    node.network.proxies = Proxies::of(|name| (name == "HTTP_PROXY").then(|| proxy.clone()));
    node.must_apply(&[served("http://only-the-proxy-knows.example/x", &content)]);
    assert_eq!(tunnel.asked(), ["CONNECT only-the-proxy-knows.example:80 HTTP/1.1"]);
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn a_server_that_an_authority_of_the_node_vouches_for_is_trusted() {
    let content = program("spin");
    let (node, authority) = (plain(), Authority::new());
    let server = Server::with_tls(&authority, content.clone());
    std::fs::create_dir_all(node.path("/etc/ssl/certs")).unwrap();
    std::fs::write(node.path("/etc/ssl/certs/ca-certificates.crt"), authority.pem()).unwrap();
    node.must_apply(&[served(&server.url("x"), &content)]);
}

#[test]
fn a_server_that_nobody_vouches_for_is_refused_with_the_list_that_was_looked_at() {
    let (mut node, server) = (plain(), Server::with_tls(&Authority::new(), "x"));
    node.limits.tries = 1;
    std::fs::create_dir_all(node.path("/etc/ssl/certs")).unwrap();
    std::fs::write(node.path("/etc/ssl/certs/ca-certificates.crt"), Authority::new().pem()).unwrap();
    let message = refusal(&node, &server, served(&server.url("x"), b"x"));
    assert!(message.contains("https://host/x: invalid peer certificate: "), "{message}");
    assert!(message.ends_with("(trusted: the node's /etc/ssl/certs/ca-certificates.crt)"), "{message}");
}

#[test]
fn a_redirect_out_of_tls_is_not_followed() {
    let (node, authority) = (plain(), Authority::new());
    let server = Server::playing_with_tls(&authority, |_| Answer::redirect("http://127.0.0.1:1/x"));
    std::fs::create_dir_all(node.path("/etc/ssl/certs")).unwrap();
    std::fs::write(node.path("/etc/ssl/certs/ca-certificates.crt"), authority.pem()).unwrap();
    assert_eq!(
        refusal(&node, &server, served(&server.url("x"), b"x")),
        "ArtifactNotFetched: fetch the runtime spin from https://host/x: \
         https://host/x: redirected to http://127.0.0.1:1/x, which is not followed: it would leave TLS"
    );
}

#[test]
fn a_server_that_is_not_there_is_named() {
    let mut node = plain();
    node.limits.tries = 1;
    // tcpmux: nobody listens there.
    let stop = node.must_fail(&[served("http://127.0.0.1:1/x", b"")]);
    assert_eq!(stop.message, "http://127.0.0.1:1/x: Connection refused (os error 111)");
}

#[test]
fn a_run_that_has_no_time_left_says_what_it_waited_for() {
    let mut node = plain();
    node.limits.total = Duration::from_secs(1);
    let server = Server::playing(|_| Answer::ok("x".repeat(100)).stall_after(10));
    assert_eq!(
        refusal(&node, &server, served(&server.url("x"), b"")),
        "ArtifactNotFetched: fetch the runtime spin from http://host/x: http://host/x: not done within 1 s; the answer was still coming"
    );
}

#[test]
fn other_content_than_ordered_is_shown_before_anything_of_it_is_unpacked() {
    let server = Server::serving(PAGE);
    let message = refusal(&plain(), &server, served(&server.url("x"), b"something"));
    let (expected, found) = (sha256(b"something"), sha256(PAGE.as_bytes()));
    assert_eq!(
        message,
        format!(
            "ArtifactRefused: fetch the runtime spin from http://host/x: http://host/x: expected SHA-256 {expected}, found {found}: \
             35 bytes, not an ELF binary nor an archive: it begins with `<!DOCTYPE html>\\n<title>404</title>\\n`"
        )
    );
}

#[rstest]
#[case::page(PAGE.into(), "not an ELF binary nor an archive: it begins with `<!DOCTYPE html>\\n<title>404</title>\\n`")]
#[case::nothing(Vec::new(), "not an ELF binary nor an archive: it is empty")]
#[case::dynamic(
    dynamic_program("/lib/ld-none.so.1"),
    "`containerd-shim-spin-v2` needs the loader /lib/ld-none.so.1, which this node does not have: a statically linked build runs on every node"
)]
#[case::script(
    Tar::default().program("containerd-shim-x", b"#!/bin/sh\n").gzip(),
    "`containerd-shim-spin-v2` is not an ELF binary: it begins with `#!/bin/sh\\n`"
)]
#[case::two_shims(
    Tar::with_shim().program("x/containerd-shim-y", b"").gzip(),
    "the archive must hold exactly one file `containerd-shim-…`, it holds `containerd-shim-spin-v2`, `x/containerd-shim-y`"
)]
#[case::no_shim(Tar::default().file("README", b"").gzip(), "the archive must hold exactly one file `containerd-shim-…`, it holds none")]
fn content_that_is_no_runtime_is_refused(#[case] content: Vec<u8>, #[case] message: &str) {
    let server = Server::serving(content.clone());
    let refusal = refusal(&plain(), &server, served(&server.url("x"), &content));
    assert_eq!(refusal, format!("ArtifactRefused: fetch the runtime spin from http://host/x: {message}"));
}

#[test]
fn a_loader_that_the_node_has_will_do() {
    let content = dynamic_program("/lib64/ld-linux.so");
    let (node, server) = (plain(), Server::serving(content.clone()));
    std::fs::create_dir(node.path("/lib64")).unwrap();
    std::fs::write(node.path("/lib64/ld-linux.so"), "").unwrap();
    node.must_apply(&[served(&server.url("x"), &content)]);
}

#[test]
fn a_program_that_does_not_run_here_is_not_installed() {
    let content = program("spin");
    let (node, server) = (plain(), Server::serving(content.clone()));
    let words = "error while loading shared libraries: libseccomp.so.2: cannot open shared object file";
    node.mood(Mood::CannotRun(words));
    assert_eq!(
        refusal(&node, &server, served(&server.url("x"), &content)),
        format!(
            "ArtifactRefused: fetch the runtime spin from http://host/x: it is installed nowhere, because it does not run here: \
             `containerd-shim-spin-v2 -v` failed: {words}"
        )
    );
}

#[test]
fn a_second_runtime_that_fails_to_come_takes_the_first_one_with_it() {
    let content = program("spin");
    let (node, server) = (plain(), Server::serving(content.clone()));
    let mut other = served(&server.url("x"), b"other");
    other.name = "wasmedge".into();
    other.handler = "wasmedge".into();
    let before = node.tree();
    let stop = node.must_fail(&[served(&server.url("x"), &content), other.revise(), bundled("wasmtime")]);
    assert!(stop.step.starts_with("fetch the runtime wasmedge"), "{stop}");
    assert_eq!(node.tree(), before);
}

#[test]
fn what_a_dead_run_had_fetched_goes_with_the_next_one() {
    let node = plain();
    std::fs::create_dir_all(node.path("/opt/.kwasm-download/spin")).unwrap();
    std::fs::write(node.path("/opt/.kwasm-download/spin/.served"), "half").unwrap();
    node.must_apply(&[]);
    assert!(!node.path("/opt/.kwasm-download").exists());
}

#[test]
fn a_daemon_that_refuses_a_fetched_runtime_gets_its_old_files_back() {
    let content = program("spin");
    let (node, server) = (plain(), Server::serving(content.clone()));
    let before = node.tree();
    let stop = node.mood(Mood::Refuses("spin")).must_fail(&[served(&server.url("x"), &content)]);
    assert_eq!(stop.state, NodeState::RolledBack);
    assert_eq!(node.tree(), before);
}
