//! What a person may do with the installer, over and over and all at once.

use anyhow::{Context, Result, ensure};
use kwasm_e2e::kube::NAMESPACE;
use kwasm_e2e::site::Site;
use xtask::by_hand::{ByHand, said};

use crate::OnSite;

pub(crate) const TESTS: &[(&str, OnSite)] = &[
    ("installed and removed over and over, wasm and Linux pods keep running with the same pids", over_and_over),
    ("of ten installers at once one works and nine find it done, with one restart", ten_at_once),
    ("five runtimes take one restart, a new binary none, and the same again writes nothing", few_restarts),
];

/// How many rounds a loop takes: enough to see it, or, with `KWASM_TEST_LONG`, enough to trust it.
fn rounds() -> usize {
    if std::env::var_os("KWASM_TEST_LONG").is_some() { 100 } else { 3 }
}

fn over_and_over(site: &Site<'_>) -> Result<()> {
    let installer = ByHand::on(site.node)?;
    installer.run(&["install"])?;
    let wasm = site.start(site.pod("survivor").demo(&[]))?;
    let linux = site.start(site.pod("linux").runtime_class(None).image("linux-hello", &["/linux-hello"]))?;
    let pids = [site.pids(&wasm)?, site.pids(&linux)?];
    for round in 1..=rounds() {
        one_round(site, &installer).with_context(|| format!("round {round}"))?;
        ensure!([site.pids(&wasm)?, site.pids(&linux)?] == pids, "round {round}: the pids changed");
    }
    let refused = installer.exec(&["uninstall"])?;
    let message = said(&refused);
    let named = [format!("{NAMESPACE}/{wasm} (handler wasmtime)"), ", containerd-shim".to_owned()];
    let told = message.contains("still running: ") && named.iter().all(|user| message.contains(user));
    ensure!(refused.status.code() == Some(3) && told, "{message}");
    site.delete(&wasm)?;
    site.delete(&linux)?;
    removed(site, &installer)
}

fn one_round(site: &Site<'_>, installer: &ByHand<'_>) -> Result<()> {
    installer.run(&["uninstall", "--force"])?;
    ensure!(site.containerd_config()? == site.original_config()?, "config.toml is not what it was");
    installer.run(&["install"])?;
    let ending = site.run(site.pod("hello").demo(&["echo", "hello"]))?;
    ensure!(ending.logs == "hello\n", "{ending:?}");
    Ok(())
}

fn ten_at_once(site: &Site<'_>) -> Result<()> {
    let installer = ByHand::on(site.node)?;
    let starts = site.containerd_starts()?;
    let children = (0..10).map(|_| installer.start(&["install"])).collect::<Result<Vec<_>>>()?;
    let mut idle = 0;
    for child in children {
        let output = child.wait_with_output()?;
        let message = said(&output);
        ensure!(output.status.success(), "{message}");
        idle += usize::from(message.contains("nothing to do"));
    }
    ensure!(idle == 9, "{idle} of ten found nothing to do");
    ensure!(site.containerd_starts()? == starts + 1, "more than one restart");
    let ending = site.run(site.pod("ten").demo(&["echo", "one"]))?;
    ensure!(ending.logs == "one\n", "{ending:?}");
    removed(site, &installer)
}

fn few_restarts(site: &Site<'_>) -> Result<()> {
    let installer = ByHand::on(site.node)?;
    let starts = site.containerd_starts()?;
    let order = order(&["wasm-a", "wasm-b", "wasm-c", "wasm-d", "wasmtime"]);
    installer.apply(&order)?;
    ensure!(site.containerd_starts()? == starts + 1, "five runtimes took more than one restart");
    installer.renew("wasmtime/wasmtime-engine")?;
    let said = installer.apply(&order)?;
    ensure!(said.contains("link /opt/kwasm/bin/containerd-shim-wasmtime-v1"), "{said}");
    ensure!(site.containerd_starts()? == starts + 1, "a new binary took a restart");
    let ending = site.run(site.pod("renewed").demo(&["echo", "new"]))?;
    ensure!(ending.logs == "new\n", "{ending:?}");
    let footprint = installer.footprint()?;
    let said = installer.apply(&order)?;
    ensure!(said.contains("nothing to do"), "{said}");
    ensure!(installer.footprint()? == footprint, "something was written");
    ensure!(site.containerd_starts()? == starts + 1, "the same Order took a restart");
    removed(site, &installer)
}

/// An Order for handlers that all run the bundled shim.
pub(crate) fn order(names: &[&str]) -> String {
    let runtime = |name: &&str| serde_json::json!({"name": name, "handler": name, "revision": "1", "source": {"bundled": {"name": "wasmtime"}}});
    serde_json::json!({"version": 1, "node": "by-hand", "runtimes": names.iter().map(runtime).collect::<Vec<_>>()})
        .to_string()
}

fn removed(site: &Site<'_>, installer: &ByHand<'_>) -> Result<()> {
    installer.run(&["uninstall"])?;
    ensure!(site.containerd_config()? == site.original_config()?, "config.toml is not what it was");
    let left = ["/opt/kwasm", "/var/lib/kwasm"].map(|path| site.path(path)).into_iter().find(|path| path.exists());
    ensure!(left.is_none(), "{left:?} is left");
    Ok(())
}
