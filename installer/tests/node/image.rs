//! Runtimes out of images. The registry is played on loopback: what a real one answers is written down in the OCI
//! distribution specification, and the rest is up to the tests of a cluster.

use std::collections::BTreeMap;

use kwasm_api::Runtime;
use kwasm_api::report::NodeState;
use kwasm_api::runtime::{Image, Source};
use kwasm_installer::artifacts::credentials::Credentials;
use kwasm_installer::artifacts::remote::{architecture, platform};
use rstest::rstest;
use serde_json::{Value as Json, json};
use tar::EntryType;

use crate::fake::{Node, runtime};
use crate::program::{Tar, program, sha256};
use crate::server::{Answer, Asked, Server};

const PATH: &str = "/bin/containerd-shim-spin-v2";

fn plain() -> Node {
    Node::with_config("2.1.4", "version = 3\n")
}

/// What a registry holds, by path below the repository.
#[derive(Clone, Default)]
struct Registry {
    content: BTreeMap<String, Vec<u8>>,
    image: String,
}

impl Registry {
    /// An image for this machine, of these layers, the lowest first, in a list with one for another machine.
    fn with(layers: Vec<Vec<u8>>) -> Self {
        Self::default().manifest(layers).index(&[architecture(), "other"])
    }

    fn manifest(mut self, layers: Vec<Vec<u8>>) -> Self {
        let descriptors: Vec<Json> = layers.iter().map(|layer| descriptor(layer)).collect();
        for layer in layers {
            self.content.insert(format!("blobs/sha256:{}", sha256(&layer)), layer);
        }
        self.put(&json!({"schemaVersion": 2, "config": {"digest": "unused", "size": 1}, "layers": descriptors}))
    }

    fn index(self, architectures: &[&str]) -> Self {
        let manifest = self.content[&self.path()].clone();
        let one = |architecture: &&str| {
            let platform = json!({"os": "linux", "architecture": architecture});
            let mut descriptor = descriptor(&manifest);
            descriptor["platform"] = platform;
            descriptor
        };
        let mut manifests: Vec<Json> = architectures.iter().map(one).collect();
        manifests
            .push(json!({"digest": "sha256:0", "size": 1, "platform": {"os": "unknown", "architecture": "unknown"}}));
        self.put(&json!({"schemaVersion": 2, "manifests": manifests}))
    }

    fn put(mut self, document: &Json) -> Self {
        let text = document.to_string().into_bytes();
        self.image = sha256(&text);
        self.content.insert(self.path(), text);
        self
    }

    fn path(&self) -> String {
        format!("manifests/sha256:{}", self.image)
    }

    fn answer(&self, asked: &Asked) -> Answer {
        let found = asked.path.strip_prefix("/v2/team/spin/").and_then(|path| self.content.get(path));
        found.map_or_else(|| Answer::status(404, r#"{"errors": []}"#), |content| Answer::ok(content.clone()))
    }

    fn serve(&self) -> Server {
        let registry = self.clone();
        Server::playing(move |asked| registry.answer(asked))
    }

    fn runtime(&self, server: &Server) -> Runtime {
        let reference = format!("{}/team/spin@sha256:{}", server.address(), self.image);
        runtime("spin", Source::Image(Image { reference, path: PATH.into() }))
    }
}

/// A runtime `spin` that is fetched from an image, and its registry.
pub(crate) fn pulled() -> (Server, Runtime) {
    let registry = Registry::with(vec![layer("one")]);
    let server = registry.serve();
    let runtime = registry.runtime(&server);
    (server, runtime)
}

fn descriptor(content: &[u8]) -> Json {
    json!({"digest": format!("sha256:{}", sha256(content)), "size": content.len()})
}

fn layer(mark: &str) -> Vec<u8> {
    Tar::default().program("./bin/containerd-shim-spin-v2", &program(mark)).gzip()
}

fn whiteout(name: &str) -> Vec<u8> {
    Tar::default().file(name, b"").gzip()
}

/// What is refused, without the registry's port and without the digests that follow from it.
fn refusal(node: &Node, registry: &Registry, server: &Server) -> String {
    let before = node.tree();
    let stop = node.must_fail(&[registry.runtime(server)]);
    assert_eq!(stop.state, NodeState::Unchanged);
    assert_eq!(node.tree(), before);
    format!("{:?}: {}", stop.reason, stop.message.replace(&server.address().to_string(), "host"))
}

#[rstest]
#[case::single_layer(vec![layer("one")], "one")]
#[case::topmost_wins(vec![layer("old"), layer("new")], "new")]
#[case::lower_layer(vec![layer("one"), whiteout("etc/passwd")], "one")]
#[case::put_back(vec![layer("old"), whiteout("bin/.wh.containerd-shim-spin-v2"), layer("new")], "new")]
#[case::zstd(vec![Tar::default().program("bin/containerd-shim-spin-v2", &program("z")).zstd()], "z")]
#[case::a_distribution_around_it(
    vec![Tar::default()
        .link("/bin/sh", EntryType::Symlink, "/etc/alternatives/sh")
        .entry("bin/su", EntryType::Regular, 0o4755, b"", "")
        .link("dev/null", EntryType::Char, "")
        .program("bin/containerd-shim-spin-v2", &program("d"))
        .gzip()],
    "d"
)]
fn a_shim_comes_out_of_the_topmost_layer_that_has_it(#[case] layers: Vec<Vec<u8>>, #[case] mark: &str) {
    let (node, registry) = (plain(), Registry::with(layers));
    let before = node.tree();
    let server = registry.serve();
    node.must_apply(&[registry.runtime(&server)]);
    assert_eq!(node.bytes("/opt/kwasm/bin/containerd-shim-spin-v2"), program(mark));
    node.must_apply(&[]);
    assert_eq!(node.tree(), before);
}

#[test]
fn a_manifest_needs_no_list_of_platforms() {
    let (node, registry) = (plain(), Registry::default().manifest(vec![layer("one")]));
    let server = registry.serve();
    node.must_apply(&[registry.runtime(&server)]);
    assert_eq!(node.bytes("/opt/kwasm/bin/containerd-shim-spin-v2"), program("one"));
}

#[test]
fn the_same_image_again_needs_no_network_and_writes_nothing() {
    let (node, registry) = (plain(), Registry::with(vec![layer("one")]));
    let server = registry.serve();
    let wanted = [registry.runtime(&server)];
    node.must_apply(&wanted);
    drop(server);
    let before = node.tree();
    node.must_apply(&wanted);
    assert_eq!(node.log().last().unwrap(), "everything is as it should be: nothing to do");
    assert_eq!(node.tree(), before);
}

#[test]
fn layers_below_the_one_that_has_it_are_not_downloaded() {
    let registry = Registry::with(vec![vec![0; 100_000], layer("one")]);
    let server = registry.serve();
    plain().must_apply(&[registry.runtime(&server)]);
    assert_eq!(server.asked().iter().filter(|asked| asked.path.contains("/blobs/")).count(), 1);
}

#[rstest]
#[case::nowhere(
    vec![whiteout("etc/x"), whiteout("etc/y")],
    "there is no file `/bin/containerd-shim-spin-v2`: none of the image's 2 layers has it"
)]
#[case::deleted(
    vec![layer("one"), whiteout("bin/.wh.containerd-shim-spin-v2")],
    "there is no file `/bin/containerd-shim-spin-v2`: the image does not hold it: a layer deletes `/bin/containerd-shim-spin-v2`"
)]
#[case::folder_deleted(
    vec![layer("one"), whiteout(".wh.bin")],
    "there is no file `/bin/containerd-shim-spin-v2`: the image does not hold it: a layer deletes `/bin`"
)]
#[case::folder_replaced(
    vec![layer("one"), whiteout("bin/.wh..wh..opq")],
    "there is no file `/bin/containerd-shim-spin-v2`: the image does not hold it: a layer replaces all of `/bin`"
)]
#[case::link(
    vec![layer("one"), Tar::default().link("bin/containerd-shim-spin-v2", EntryType::Symlink, "/etc/shadow").gzip()],
    "there is no file `/bin/containerd-shim-spin-v2`: `/bin/containerd-shim-spin-v2` is a link to `/etc/shadow`: name the file itself"
)]
#[case::no_program(
    vec![Tar::default().program("bin/containerd-shim-spin-v2", b"#!/bin/sh").gzip()],
    "`containerd-shim-spin-v2` is not an ELF binary: it begins with `#!/bin/sh`"
)]
fn an_image_without_the_program_is_refused(#[case] layers: Vec<Vec<u8>>, #[case] message: &str) {
    let registry = Registry::with(layers);
    assert_eq!(refusal(&plain(), &registry, &registry.serve()), format!("ArtifactRefused: {message}"));
}

#[test]
fn an_image_for_other_machines_is_refused_with_those_it_is_for() {
    let registry = Registry::default().manifest(vec![layer("one")]).index(&["other", "another"]);
    assert_eq!(
        refusal(&plain(), &registry, &registry.serve()),
        format!("ArtifactRefused: the image has no manifest for {}; it has: linux/other, linux/another", platform())
    );
}

#[test]
fn a_registry_that_serves_another_manifest_is_caught() {
    let mut registry = Registry::with(vec![layer("one")]);
    registry.content.insert(registry.path(), b"{}".to_vec());
    let server = registry.serve();
    assert_eq!(
        refusal(&plain(), &registry, &server),
        format!(
            "ArtifactRefused: http://host/v2/team/spin/manifests/sha256:{0}: expected SHA-256 {0}, found {1}: 2 bytes",
            registry.image,
            sha256(b"{}")
        )
    );
}

#[test]
fn a_registry_that_serves_another_layer_is_caught_before_it_is_read() {
    let one = layer("one");
    let mut registry = Registry::with(vec![one.clone()]);
    let two = vec![b'x'; one.len()];
    let digest = sha256(&one);
    registry.content.insert(format!("blobs/sha256:{digest}"), two.clone());
    let server = registry.serve();
    let message = refusal(&plain(), &registry, &server);
    let expected = format!(
        "ArtifactRefused: http://host/v2/team/spin/blobs/sha256:{digest}: expected SHA-256 {digest}, found {}: {} bytes, not an ELF",
        sha256(&two),
        one.len()
    );
    assert!(message.starts_with(&expected), "{message}");
}

#[test]
fn a_layer_that_is_longer_than_the_manifest_says_is_cut_off() {
    let one = layer("one");
    let mut registry = Registry::with(vec![one.clone()]);
    let digest = sha256(&one);
    registry.content.insert(format!("blobs/sha256:{digest}"), vec![0; 1 << 20]);
    let server = registry.serve();
    assert_eq!(
        refusal(&plain(), &registry, &server),
        format!(
            "ArtifactRefused: http://host/v2/team/spin/blobs/sha256:{digest}: it is larger than {} bytes",
            one.len()
        )
    );
}

#[test]
fn what_is_no_manifest_is_refused() {
    let registry = Registry::default().put(&json!({"schemaVersion": 1}));
    let server = registry.serve();
    assert_eq!(
        refusal(&plain(), &registry, &server),
        format!(
            "ArtifactRefused: http://host/v2/team/spin/manifests/sha256:{}: it is no image: its manifest has schemaVersion 1; 2 is known here",
            registry.image
        )
    );
}

/// A registry behind a login: a token for `user:password`, or for anybody.
fn guarded(registry: &Registry, password: Option<&'static str>) -> Server {
    let registry = registry.clone();
    Server::playing(move |asked| {
        let authorization = asked.header("authorization");
        if asked.path.starts_with("/token?") {
            let scope = "/token?service=registry&scope=repository:team/spin:pull";
            return match password {
                _ if asked.path != scope => Answer::status(400, asked.path.clone()),
                Some(password) if authorization != Some(password) => Answer::status(401, ""),
                _ => Answer::ok(r#"{"token": "t0ken"}"#),
            };
        }
        if authorization == Some("Bearer t0ken") {
            return registry.answer(asked);
        }
        let host = asked.header("host").unwrap_or_default();
        let challenge = format!(r#"Bearer realm="http://{host}/token",service="registry""#);
        Answer::status(401, "").with("WWW-Authenticate", challenge)
    })
}

/// A node whose Job has a pull secret for this registry.
fn with_secret(server: &Server, auth: &str) -> Node {
    let secrets = tempfile::tempdir().unwrap();
    std::fs::create_dir(secrets.path().join("pull")).unwrap();
    let content = json!({"auths": {server.address().to_string(): {"auth": auth}}}).to_string();
    std::fs::write(secrets.path().join("pull/.dockerconfigjson"), content).unwrap();
    let mut node = plain();
    node.network.credentials = Credentials::in_folder(secrets.path());
    node
}

#[test]
fn a_registry_that_gives_anybody_a_token_is_asked_for_one() {
    let registry = Registry::with(vec![layer("one")]);
    let server = guarded(&registry, None);
    plain().must_apply(&[registry.runtime(&server)]);
    assert_eq!(server.asked().iter().filter(|asked| asked.path.starts_with("/token")).count(), 1);
}

#[test]
fn a_token_that_ends_on_the_way_is_renewed() {
    let registry = Registry::with(vec![layer("one")]);
    let (inner, mut tokens) = (registry.clone(), 0);
    let server = Server::playing(move |asked| {
        if asked.path.starts_with("/token?") {
            tokens += 1;
            return Answer::ok(format!(r#"{{"token": "{tokens}"}}"#));
        }
        let host = asked.header("host").unwrap_or_default();
        let challenge = format!(r#"Bearer realm="http://{host}/token",service="registry""#);
        let enough = if asked.path.contains("/blobs/") { "Bearer 2" } else { "Bearer 1" };
        match asked.header("authorization") {
            Some(token) if token >= enough => inner.answer(asked),
            _ => Answer::status(401, "").with("WWW-Authenticate", challenge),
        }
    });
    plain().must_apply(&[registry.runtime(&server)]);
    assert_eq!(server.asked().iter().filter(|asked| asked.path.starts_with("/token")).count(), 2);
}

#[test]
fn a_pull_secret_of_the_job_opens_its_registry() {
    let registry = Registry::with(vec![layer("one")]);
    let server = guarded(&registry, Some("Basic dXNlcjpwYXNzd29yZA=="));
    let node = with_secret(&server, "dXNlcjpwYXNzd29yZA==");
    node.must_apply(&[registry.runtime(&server)]);
    let everything = format!("{:?} {:?}", node.tree(), node.log());
    assert!(!everything.contains("dXNlcjpwYXNzd29yZA") && !everything.contains("t0ken"), "{everything}");
}

#[test]
fn a_pull_secret_that_is_refused_is_said_to_be() {
    let registry = Registry::with(vec![layer("one")]);
    let server = guarded(&registry, Some("Basic dXNlcjpwYXNzd29yZA=="));
    assert_eq!(
        refusal(&with_secret(&server, "dXNlcjp3cm9uZw=="), &registry, &server),
        format!(
            "ArtifactNotFetched: http://host/v2/team/spin/manifests/sha256:{}: http://host/token?… refuses the pull secret: HTTP 401 Unauthorized",
            registry.image
        )
    );
}

#[test]
fn a_pull_secret_that_is_refused_without_a_token_is_said_to_be() {
    let registry = Registry::with(vec![layer("one")]);
    let server = Server::playing(|_| Answer::status(401, "").with("WWW-Authenticate", r#"Basic realm="team""#));
    assert_eq!(
        refusal(&with_secret(&server, "dXNlcjp3cm9uZw=="), &registry, &server),
        format!(
            "ArtifactNotFetched: http://host/v2/team/spin/manifests/sha256:{}: it refuses the pull secret: HTTP 401 Unauthorized",
            registry.image
        )
    );
}

#[test]
fn a_registry_that_wants_a_login_without_a_secret_says_so() {
    let registry = Registry::with(vec![layer("one")]);
    let server = guarded(&registry, Some("Basic dXNlcjpwYXNzd29yZA=="));
    assert_eq!(
        refusal(&plain(), &registry, &server),
        format!(
            "ArtifactNotFetched: http://host/v2/team/spin/manifests/sha256:{}: http://host/token?… has no pull secret of ours: HTTP 401 Unauthorized",
            registry.image
        )
    );
}

#[test]
fn a_token_is_not_shown_to_where_a_layer_is_redirected() {
    let registry = Registry::with(vec![layer("one")]);
    let elsewhere = registry.serve();
    let (address, inner) = (elsewhere.address(), registry.clone());
    let guard = Server::playing(move |asked| {
        let host = asked.header("host").unwrap_or_default();
        match asked.header("authorization") {
            _ if asked.path.starts_with("/token") => Answer::ok(r#"{"access_token": "t0ken"}"#),
            None => Answer::status(401, "")
                .with("WWW-Authenticate", format!(r#"Bearer realm="http://{host}/token",service="x""#)),
            _ if asked.path.contains("/blobs/") => Answer::redirect(&format!("http://{address}{}", asked.path)),
            _ => inner.answer(asked),
        }
    });
    plain().must_apply(&[registry.runtime(&guard)]);
    assert_eq!(elsewhere.asked().len(), 1);
    assert_eq!(elsewhere.asked()[0].header("authorization"), None);
}

#[test]
fn a_login_is_not_sent_where_there_is_no_tls() {
    let registry = Registry::with(vec![layer("one")]);
    let server = Server::playing(|_| {
        Answer::status(401, "").with("WWW-Authenticate", r#"Bearer realm="http://auth.example/token",service="x""#)
    });
    let message = refusal(&with_secret(&server, "dXNlcjpwYXNzd29yZA=="), &registry, &server);
    assert!(message.ends_with("it wants a login at a place without TLS"), "{message}");
}
