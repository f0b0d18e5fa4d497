//! A simulation of whole jobs against a model of the service, on virtual time, driven by one seed. Not part of any
//! release.
//!
//! The client, the quota, the retries, the planner, the run and the plan file are the real ones. Three things are
//! replaced: `transport` calls [`service`], the model, instead of the network; time is tokio's paused clock; and a plan
//! file is written immediately instead of by a thread, so that the simulation decides at which write the disk fails or
//! the process dies. [`oracle`] checks the events with the knowledge of the model.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::result_large_err,
    clippy::struct_excessive_bools,
    reason = "in no release: a fault of the simulation itself must end it, and numbers are small"
)]

mod dice;
mod event;
mod job;
mod oracle;
mod permission;
mod play;
mod runner;
mod service;
mod shrink;
mod stage;
mod story;
mod texts;
mod turns;
mod wire;
mod world;

pub use self::runner::{main, run_seed};
pub(crate) use self::turns::{
    holder_of_account, lock_account, mark_account, mark_of_account, process_of_new_clients, unlock_account,
};
pub(crate) use self::wire::{exchange, is_running, line, now_ms, page_and_slack, since_start, slept};
