//! The client as a Rust program uses it, asked against the sandbox: the contract row by row, then what goes wrong.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a helper of tests may fail as a test may")]

mod answers;
mod callers;
mod clients;
mod deadline;
mod errors;
mod events;
mod fresh;
mod listing;
mod patching;
mod quota;
mod retries;
mod secrets;
mod support;
mod turns;
mod updates;
