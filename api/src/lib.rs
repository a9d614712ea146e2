//! What the pieces of KWasm say to each other.
//!
//! - [`Order`] and [`Report`]: between the operator and the program that runs on a node.
//! - [`WasmRuntime`](wasm_runtime::WasmRuntime) and [`WasmNode`](wasm_node::WasmNode): the Kubernetes
//!   objects (feature `kubernetes`).
//! - [`names`]: every label, annotation and finalizer.
//!
//! Nothing here does I/O.

pub mod names;
pub mod order;
pub mod report;
pub mod runtime;
#[cfg(feature = "kubernetes")]
pub mod wasm_node;
#[cfg(feature = "kubernetes")]
pub mod wasm_runtime;

pub use order::Order;
pub use report::Report;
pub use runtime::Runtime;
