//! On this system, a process does not know the turns of others.

use std::path::PathBuf;
use std::sync::Arc;

/// The place of an account.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place;

impl Place {
    pub(super) const fn of(_service_hash: u64, _id: i64) -> Self {
        Self
    }
}

/// The outcome of an attempt to lock an account.
#[derive(Debug)]
#[expect(dead_code, reason = "as on Unix")]
pub(super) enum Attempt {
    Locked(Locked),
    Taken,
    Unknown,
}

/// The lock of an account.
#[derive(Debug)]
pub(super) struct Locked;

impl Locked {
    #[expect(clippy::unused_self, reason = "as on Unix")]
    pub(super) fn mark(&self) {}
}

/// The file of this machine's processes.
#[derive(Debug)]
pub(super) struct Elsewhere;

#[expect(clippy::unused_self, reason = "as on Unix")]
impl Elsewhere {
    pub(super) fn of(_folders: &[PathBuf]) -> Arc<Self> {
        Arc::new(Self)
    }

    pub(super) fn try_lock(&self, _place: Place) -> Attempt {
        Attempt::Unknown
    }

    pub(super) fn mark(&self, _place: Place) -> u64 {
        0
    }

    pub(super) fn holder(&self, _place: Place) -> Option<u32> {
        None
    }
}
