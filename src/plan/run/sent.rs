//! The times of sent requests, so that those of other processes count too.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard};

use crate::clock::now_ms;
use crate::lock::lock;
use crate::per_process::PerProcess;
use crate::plan::HOUR_MS;

/// The times of the requests that this process sent or counted from others in the last hour, in milliseconds since
/// 1970.
static KNOWN: PerProcess<Mutex<BTreeSet<i64>>> = PerProcess::new();

/// Records the current time as that of a request of this process, and returns it.
pub(super) fn sent_now() -> i64 {
    let now = now_ms();
    known(now).insert(now);
    now
}

/// Returns the times in a plan's file that no quota of this process contains yet.
pub(super) fn unknown_yet(moments: Vec<i64>) -> Vec<i64> {
    let mut known = known(now_ms());
    // Several requests may have been sent in one millisecond.
    let unknown: Vec<i64> = moments.into_iter().filter(|moment| !known.contains(moment)).collect();
    known.extend(&unknown);
    unknown
}

fn known(now: i64) -> MutexGuard<'static, BTreeSet<i64>> {
    let mut known = lock(KNOWN.get_or_init(Mutex::default));
    while known.first().is_some_and(|first| *first < now - HOUR_MS) {
        known.pop_first();
    }
    known
}

/// Forgets all times, as the end of a process does.
#[cfg(feature = "simulation")]
pub(crate) fn forget() {
    lock(KNOWN.get_or_init(Mutex::default)).clear();
}
