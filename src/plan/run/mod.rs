//! Planning and applying: the requests, the pace, and what is kept when.
//!
//! A run is one future on one thread. It books every request in the quota before it is sent, so that nothing is marked as
//! being sent while it waits; `sending` is committed before the first byte leaves, and the outcome before it is counted.

mod applying;
mod control;
mod pace;
mod planning;
mod sent;

use super::file::FileError;
use crate::error::Error;

pub use self::applying::{CONCURRENCY, OnConflict, apply, requests_to_apply};
pub use self::control::{Control, Phase, Progress};
pub use self::planning::{plan, reverse};

/// How often a row is tried, each time with all attempts of a call, while others succeed.
const ROUNDS: u32 = 3;

/// Why a run ended before its end.
#[derive(Debug)]
pub enum RunError {
    /// The service refused the key, or was out of reach too long. No row was lost.
    Call(Error),
    /// The plan file cannot go on.
    File(FileError),
}

impl From<FileError> for RunError {
    fn from(error: FileError) -> Self {
        Self::File(error)
    }
}
