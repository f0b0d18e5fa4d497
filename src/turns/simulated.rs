//! In a simulation, the turns of other processes: a table in memory instead of a file, because all processes of a seed
//! are really one.

use std::path::PathBuf;

use crate::simulation as seed;

/// The place of an account. A seed has one service.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place(i64);

impl Place {
    pub(super) const fn of(_service_hash: u64, id: i64) -> Self {
        Self(id)
    }
}

/// The mark of an account.
pub(super) type Marks = u64;

/// The outcome of an attempt to lock an account.
#[derive(Debug)]
pub(super) enum Attempt {
    Locked(Locked),
    Taken,
    #[expect(dead_code, reason = "a table in memory is always usable")]
    Unknown,
}

/// The lock of an account by a process of the seed.
#[derive(Debug)]
pub(super) struct Locked {
    process: usize,
    place: Place,
}

impl Locked {
    pub(super) fn mark(&self) {
        seed::mark_account(self.process, self.place.0);
    }

    /// Says nothing: in a seed, it is chance who comes first.
    #[expect(clippy::unused_self, reason = "as with a file")]
    pub(super) const fn is_awaited(&self) -> bool {
        false
    }

    pub(super) fn end(self) {
        seed::unlock_account(self.process, self.place.0);
    }
}

/// What says that a process waits for an account.
#[derive(Debug)]
pub(super) enum Waiting {}

/// What a process of the seed knows of the others.
#[derive(Debug)]
pub(super) struct Elsewhere {
    process: usize,
}

impl Elsewhere {
    pub(super) fn of(_folders: &[PathBuf]) -> Option<Self> {
        seed::process_of_new_clients().map(|process| Self { process })
    }

    #[cfg(feature = "python")]
    #[expect(clippy::unused_self, reason = "there is no file to close")]
    pub(super) const fn close(&self) {}

    /// Says nothing: in a seed, it is chance who comes first.
    #[expect(clippy::unused_self, reason = "as with a file")]
    pub(super) const fn wait(&self, _place: Place) -> Option<Waiting> {
        None
    }

    #[expect(clippy::unused_self, reason = "as with a file")]
    pub(super) const fn waiter(&self, _place: Place) -> Option<u32> {
        None
    }

    pub(super) fn try_lock(&self, place: Place) -> Attempt {
        if seed::lock_account(self.process, place.0) {
            Attempt::Locked(Locked { process: self.process, place })
        } else {
            Attempt::Taken
        }
    }

    pub(super) fn has(&self, locked: Option<&Locked>) -> bool {
        locked.is_some_and(|locked| seed::holder_of_account(locked.place.0) == Some(self.process))
    }

    pub(super) fn marks(&self, place: Place) -> Option<Marks> {
        self.holder(place).is_none().then(|| seed::mark_of_account(place.0))
    }

    pub(super) fn holder(&self, place: Place) -> Option<u32> {
        let holder = seed::holder_of_account(place.0).filter(|holder| *holder != self.process)?;
        u32::try_from(holder).ok()
    }
}
