//! Moments as numbers, for modules that do not read the clock.

use std::time::Duration;
#[cfg(feature = "plan")]
use std::time::{SystemTime, UNIX_EPOCH};

use once_cell::race::OnceBox;
use tokio::time::Instant;

/// The moment from which the quota and the retry budget measure time. It is set without a lock, because a fork could
/// copy a held lock.
static EPOCH: OnceBox<Instant> = OnceBox::new();

/// Returns the time from that moment to another one.
pub(crate) fn since_epoch(moment: Instant) -> Duration {
    moment.saturating_duration_since(*EPOCH.get_or_init(|| Box::new(Instant::now())))
}

/// Returns the time of day, in milliseconds since 1970.
#[cfg(feature = "plan")]
pub(crate) fn now_ms() -> i64 {
    #[cfg(feature = "simulation")]
    if crate::simulation::is_running() {
        return crate::simulation::now_ms();
    }
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
