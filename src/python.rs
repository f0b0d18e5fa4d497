//! The extension module `replyio._replyio`: a table of contents.

mod sandbox;

use pyo3::prelude::*;

/// The core of replyio, in Rust. Private: use the package `replyio`.
#[pymodule]
mod _replyio {
    use super::*;

    #[pymodule_export]
    use super::sandbox::Sandbox;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
