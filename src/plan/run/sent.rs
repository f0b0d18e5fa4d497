//! When requests were sent, so that those of other processes count as well.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::clock::now_ms;
use crate::per_process::PerProcess;

/// When this process sent requests, and when others did as far as it has counted them, in milliseconds since 1970, of the
/// last hour.
static KNOWN: PerProcess<Mutex<BTreeSet<i64>>> = PerProcess::new();

/// Now, as the moment at which this process sends a request.
pub(super) fn sent_now() -> i64 {
    let now = now_ms();
    known(now).insert(now);
    now
}

/// Those moments out of a plan's file that are in no quota of this process yet.
pub(super) fn unknown_yet(moments: Vec<i64>) -> Vec<i64> {
    let mut known = known(now_ms());
    // Several may have gone out in one millisecond.
    let unknown: Vec<i64> = moments.into_iter().filter(|moment| !known.contains(moment)).collect();
    known.extend(&unknown);
    unknown
}

fn known(now: i64) -> MutexGuard<'static, BTreeSet<i64>> {
    const HOUR_MS: i64 = 3_600_000;
    let mut known = KNOWN.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    while known.first().is_some_and(|first| *first < now - HOUR_MS) {
        known.pop_first();
    }
    known
}

/// What a process knows ends with it.
#[cfg(feature = "simulation")]
pub(crate) fn forget() {
    KNOWN.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner).clear();
}
