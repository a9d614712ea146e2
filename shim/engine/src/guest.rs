//! What the guest sees of the world: its arguments, environment, the container's root and network.

use wasmtime::component::ResourceTable;
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::{FsPerms, WasiCtxBuilder, WasiCtxView, WasiView};

/// The state behind a guest's WASI calls.
pub(crate) struct Guest {
    wasi: WasiP1Ctx,
    table: ResourceTable,
}

impl Guest {
    /// A guest with these arguments, the process's environment, descriptors and network, and the process's root as `/`.
    ///
    /// # Errors
    /// If the root cannot be opened by the container's user.
    pub(crate) fn new(args: &[String]) -> wasmtime::Result<Self> {
        let mut builder = WasiCtxBuilder::new();
        builder.inherit_stdio().inherit_network().allow_ip_name_lookup(true).allow_tcp(true).allow_udp(true);
        builder.allow_blocking_current_thread(true);
        builder.args(args).envs(&environment());
        if let Some(cwd) = std::env::current_dir().ok().as_deref().and_then(|path| path.to_str()) {
            builder.initial_cwd(cwd);
        }
        // The kernel keeps what is read-only in the container; the engine need not know.
        builder.preopened_dir("/", "/", FsPerms::ReadWrite)?;
        Ok(Self { wasi: builder.build_p1(), table: ResourceTable::new() })
    }

    /// The state of WASI preview 1.
    pub(crate) fn preview1(&mut self) -> &mut WasiP1Ctx {
        &mut self.wasi
    }
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: self.wasi.ctx().ctx, table: &mut self.table }
    }
}

/// The process's environment, without what is not text: WASI knows only text.
fn environment() -> Vec<(String, String)> {
    let text =
        std::env::vars_os().filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)));
    text.collect()
}
