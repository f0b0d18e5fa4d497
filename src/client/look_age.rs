//! How old a read is, when an update is made from it.

use std::time::Duration;

use tokio::time::Instant;

use crate::clock::Moment;

/// The maximum time between the answer to a read and its update.
pub(super) const LONGEST_AGE: Duration = Duration::from_secs(1);

/// A read that an update is made from.
pub(super) struct Look {
    pub(super) sent: Moment,
    pub(super) answered: Moment,
}

impl Look {
    /// Returns whether an update that is sent at a moment, or now if that is past, is sent too long after the read. An
    /// answer may have waited in the system while the machine slept.
    pub(super) fn is_stale_at(&self, moment: Instant) -> bool {
        let wait = moment.saturating_duration_since(Instant::now());
        self.answered.elapsed() + wait > LONGEST_AGE || self.sent.has_slept()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn a_read_is_stale_after_a_second_or_when_the_machine_slept() {
        let look = Look { sent: Moment::now(), answered: Moment::now() };
        let now = Instant::now();
        assert!(!look.is_stale_at(now) && !look.is_stale_at(now + LONGEST_AGE / 2));
        assert!(look.is_stale_at(now + 2 * LONGEST_AGE));
        let sent = Moment::now();
        clock::sleep(Duration::from_secs(3_600));
        assert!(look.is_stale_at(now));
        assert!(Look { sent, answered: Moment::now() }.is_stale_at(now), "the answer waited while the machine slept");
    }
}
