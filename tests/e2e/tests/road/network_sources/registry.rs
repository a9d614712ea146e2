//! A registry with TLS and a login, and its ordinary client.

use std::fs;
use std::io::{BufRead as _, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kwasm_test_cluster::{Session, pieces};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};
use serde_json::json;
use tempfile::TempDir;
use xtask::images::buildah;

/// Where the image is put.
pub(super) const REPOSITORY: &str = "team/runtime";

/// Who may pull and push.
const USER: &str = "team";
/// With which password.
pub(super) const PASSWORD: &str = "four-words-nobody-guesses";
/// And with which not.
pub(super) const WRONG_PASSWORD: &str = "three-words-somebody-guessed";
/// Its bcrypt hash, which is all that the registry knows.
const HASH: &str = "$2y$05$kwasmregistrytestsaltu9urhk8/iUmbX7E5uKaLbsIsi9Fk3826";

/// How long the registry may take to start.
const PATIENCE: Duration = Duration::from_secs(30);

/// A registry, which ends when it is dropped, with all that it keeps.
pub(super) struct Registry {
    process: Child,
    log: Option<JoinHandle<()>>,
    address: String,
    authority: String,
    folder: TempDir,
}

impl Registry {
    /// Starts one at an address of this machine, on a port of its own.
    pub(super) fn at(address: Ipv4Addr) -> Result<Self> {
        let program = pieces::registry(&Session::to_stderr())?;
        let folder = tempfile::tempdir()?;
        let authority = certify(address, folder.path())?;
        fs::write(folder.path().join("htpasswd"), format!("{USER}:{HASH}\n"))?;
        let config = folder.path().join("config.json");
        fs::write(&config, configuration(address, folder.path()).to_string())?;
        // It ends with us, whatever happens to us.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(&program).arg("serve").arg(&config);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let process = command.spawn().with_context(|| program.display().to_string())?;
        let mut registry = Self { process, log: None, address: String::new(), authority, folder };
        registry.address = registry.until_it_listens()?;
        Ok(registry)
    }

    fn until_it_listens(&mut self) -> Result<String> {
        let said = self.process.stderr.take().context("the registry has no standard error")?;
        let (tell, told) = channel();
        self.log = Some(std::thread::spawn(move || read(said, &tell)));
        told.recv_timeout(PATIENCE).with_context(|| format!("no registry listens after {PATIENCE:?}"))
    }

    /// The certificate, in PEM, of the authority that vouches for it.
    pub(super) fn authority(&self) -> &str {
        &self.authority
    }

    /// A login as a file that registries' clients read and that Kubernetes keeps as a Secret.
    pub(super) fn login_file(&self, password: &str) -> Result<PathBuf> {
        let file = self.folder.path().join("login.json");
        let config = json!({"auths": {&self.address: {"auth": login(password)}}});
        fs::write(&file, config.to_string())?;
        Ok(file)
    }

    /// Pushes an image that holds a program at `/runtime`, and returns its name with the digest.
    pub(super) fn push(&self, program: &Path) -> Result<String> {
        let work = tempfile::tempdir()?;
        let context = work.path().join("context");
        fs::create_dir(&context)?;
        fs::copy(program, context.join("runtime")).with_context(|| program.display().to_string())?;
        fs::write(context.join("Containerfile"), "FROM scratch\nCOPY runtime /runtime\n")?;
        run(buildah(work.path(), "bud")?.args(["--isolation", "chroot", "--quiet", "--tag", "runtime"]).arg(&context))?;

        let (name, digest) = (format!("{}/{REPOSITORY}", self.address), work.path().join("digest"));
        let mut push = buildah(work.path(), "push")?;
        // No proxy is between.
        push.env("NO_PROXY", "*");
        push.arg("--cert-dir").arg(self.folder.path().join("authorities"));
        push.arg("--authfile").arg(self.login_file(PASSWORD)?).arg("--digestfile").arg(&digest);
        run(push.arg("--quiet").arg("runtime").arg(format!("docker://{name}")))?;
        Ok(format!("{name}@{}", fs::read_to_string(&digest)?.trim()))
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let ended = self.process.kill().and_then(|()| self.process.wait());
        if let Err(error) = ended {
            eprintln!("the registry did not end: {error}");
        } else if self.log.take().is_some_and(|log| log.join().is_err()) {
            eprintln!("who reads the registry's log panicked");
        }
    }
}

/// What nobody may find in any message.
pub(super) fn secrets() -> [String; 4] {
    [PASSWORD.to_owned(), login(PASSWORD), WRONG_PASSWORD.to_owned(), login(WRONG_PASSWORD)]
}

/// As HTTP's basic authentication wants it.
fn login(password: &str) -> String {
    STANDARD.encode(format!("{USER}:{password}"))
}

/// JSON is YAML too.
fn configuration(address: Ipv4Addr, folder: &Path) -> serde_json::Value {
    json!({
        "version": "0.1",
        "storage": {"filesystem": {"rootdirectory": folder.join("images")}},
        "http": {
            "addr": format!("{address}:0"),
            "tls": {"certificate": folder.join("tls.crt"), "key": folder.join("tls.key")},
        },
        "auth": {"htpasswd": {"realm": "team", "path": folder.join("htpasswd")}},
    })
}

/// Makes an authority and a certificate that it signs; returns the authority's.
fn certify(address: Ipv4Addr, folder: &Path) -> Result<String> {
    let key = KeyPair::generate()?;
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    authority.distinguished_name.push(DnType::CommonName, "the team's authority");
    let certificate = authority.self_signed(&key)?.pem();
    let issuer = Issuer::new(authority, key);

    let key = KeyPair::generate()?;
    let mut server = CertificateParams::default();
    server.distinguished_name.push(DnType::CommonName, "the team's registry");
    server.subject_alt_names.push(SanType::IpAddress(IpAddr::V4(address)));
    fs::write(folder.join("tls.crt"), server.signed_by(&key, &issuer)?.pem())?;
    fs::write(folder.join("tls.key"), key.serialize_pem())?;
    fs::create_dir(folder.join("authorities"))?;
    fs::write(folder.join("authorities/ca.crt"), &certificate)?;
    Ok(certificate)
}

/// Reads the registry's log to its end, so that it can go on writing, and tells where it listens.
fn read(log: impl Read, tell: &Sender<String>) {
    for line in BufReader::new(log).lines().map_while(Result::ok) {
        if let Some((_, rest)) = line.split_once("listening on ") {
            // Nobody waits any more for a registry that came too late.
            tell.send(rest.split(',').next().unwrap_or_default().to_owned()).ok();
        }
    }
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().context("buildah")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "buildah failed ({}): {said}", output.status);
    Ok(())
}
