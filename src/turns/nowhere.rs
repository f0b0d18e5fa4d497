//! On this system, a process does not know the turns of others.

use std::path::PathBuf;

/// The place of an account.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place;

impl Place {
    pub(super) const fn of(_service_hash: u64, _id: i64) -> Self {
        Self
    }
}

/// The marks of an account, which nothing leaves here.
#[cfg(any(feature = "plan", test))]
pub(super) type Marks = ();

/// The outcome of an attempt to lock an account.
#[derive(Debug)]
#[expect(dead_code, reason = "there is no file to lock it in")]
pub(super) enum Attempt {
    Locked(Locked),
    Taken,
    Unknown,
}

/// The lock of an account, which no process here can have.
#[derive(Debug)]
pub(super) enum Locked {}

impl Locked {
    pub(super) fn mark(&self) {
        match *self {}
    }

    pub(super) fn is_awaited(&self) -> bool {
        match *self {}
    }

    pub(super) fn end(self) {
        match self {}
    }
}

/// What says that a process waits for an account.
#[derive(Debug)]
pub(super) enum Waiting {}

/// The file of this machine's processes, which is not used here.
#[derive(Debug)]
pub(super) enum Elsewhere {}

impl Elsewhere {
    pub(super) fn of(_folders: &[PathBuf]) -> Option<Self> {
        None
    }

    #[cfg(feature = "python")]
    pub(super) fn close(&self) {
        match *self {}
    }

    #[cfg(feature = "plan")]
    pub(super) fn has(&self, _locked: Option<&Locked>) -> bool {
        match *self {}
    }

    pub(super) fn wait(&self, _place: Place) -> Option<Waiting> {
        match *self {}
    }

    pub(super) fn waiter(&self, _place: Place) -> Option<u32> {
        match *self {}
    }

    pub(super) fn try_lock(&self, _place: Place) -> Attempt {
        match *self {}
    }

    #[cfg(any(feature = "plan", test))]
    pub(super) fn marks(&self, _place: Place) -> Option<Marks> {
        match *self {}
    }

    pub(super) fn holder(&self, _place: Place) -> Option<u32> {
        match *self {}
    }
}
