//! Whether this process may use SQLite.
//!
//! A thread of a plan may be inside SQLite at the moment of a fork. The child then has a copy of SQLite's held locks,
//! which no thread will release, and its first plan would wait forever. So a child that was forked while a plan was
//! open opens none.

use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

/// The process id in the upper half, and the number of its open plans in the lower half. One number, so that no fork
/// can happen between the two.
static OPEN: AtomicU64 = AtomicU64::new(0);

/// A plan is open, or about to be, until this is dropped.
pub(super) struct Presence(());

impl Presence {
    /// Enters; returns `None` in a process that was forked while a plan was open.
    pub(super) fn enter() -> Option<Self> {
        let here = u64::from(process::id()) << 32;
        let enter = |open: u64| match (open >> 32 << 32 == here, open << 32 == 0) {
            (true, _) => Some(open + 1),
            (false, true) => Some(here + 1),
            (false, false) => None,
        };
        OPEN.fetch_update(Ordering::SeqCst, Ordering::SeqCst, enter).ok().map(|_| Self(()))
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::SeqCst);
    }
}
