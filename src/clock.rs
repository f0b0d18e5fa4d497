//! Moments as numbers, for the parts that know no clock.

use std::sync::LazyLock;
use std::time::Duration;

use tokio::time::Instant;

/// The moment that the times of quota and budget are measured from.
static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// How long after that moment another one is.
pub(crate) fn since_epoch(moment: Instant) -> Duration {
    moment.saturating_duration_since(*EPOCH)
}
