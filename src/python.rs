//! The extension module `replyio._replyio`: a table of contents.

mod acquire;
mod arrow;
mod bridge;
mod cells;
mod check;
mod client;
mod convert;
mod deviations;
mod engine;
mod errors;
mod events;
mod exit;
mod guard;
mod hooks;
mod interpreter;
mod job;
mod lane;
mod listing;
mod once;
mod overview;
mod plan;
mod rows;
mod sandbox;
mod settings;
mod table;
mod text;

use pyo3::prelude::*;

/// Another thread than the allocating one frees half of a call's allocations; see `docs/design/`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

// The core of replyio, in Rust. Private: use the package `replyio`.
//
// pyo3 would declare that the module is safe without the GIL. No test has shown that yet; see docs/platforms.md.
#[pymodule(gil_used = true)]
mod _replyio {
    use super::{Bound, PyModule, PyModuleMethods, PyResult};

    #[pymodule_export]
    use super::acquire::{Asked, QuotaGate};
    #[pymodule_export]
    use super::check::Check;
    #[pymodule_export]
    use super::client::{Client, field_faults};
    #[pymodule_export]
    use super::engine::Pending;
    #[pymodule_export]
    use super::job::Job;
    #[pymodule_export]
    use super::listing::{AccountTable, Batch, Listing};
    #[pymodule_export]
    use super::plan::{PlanFile, Report};
    #[pymodule_export]
    use super::sandbox::Sandbox;
    #[pymodule_export]
    use super::settings::state_folder;
    #[pymodule_export]
    use super::table::{Table, TableReader};
    #[pymodule_export]
    use super::text::{exact_text, means_nothing, safe_text};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        super::interpreter::refuse_a_second(module.py())?;
        super::guard::keep_panics_quiet();
        super::hooks::register(module.py())?;
        // Looking for it only after a failure would need a file descriptor, and there may be none left then.
        super::errors::module(module.py())?;
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        module.add("COMPANY_SIZES", crate::CompanySize::DOCUMENTED.to_vec())?;
        module.add(
            "ERROR_KINDS",
            crate::ErrorKind::ALL.iter().copied().map(super::errors::class_name).collect::<Vec<_>>(),
        )?;
        let row = |member: &crate::Member| {
            (
                member.name,
                member.wire,
                format!("{:?}", member.kind),
                member.writable,
                member.always_answered,
                member.doc,
            )
        };
        module.add("MEMBERS", crate::MEMBERS.iter().map(row).collect::<Vec<_>>())
    }
}
