//! Moments as numbers, for the parts that know no clock.

use std::time::Duration;

use once_cell::race::OnceBox;
use tokio::time::Instant;

/// The moment that the times of quota and budget are measured from.
/// It is set without a lock, which a fork could copy as held.
static EPOCH: OnceBox<Instant> = OnceBox::new();

/// How long after that moment another one is.
pub(crate) fn since_epoch(moment: Instant) -> Duration {
    moment.saturating_duration_since(*EPOCH.get_or_init(|| Box::new(Instant::now())))
}
