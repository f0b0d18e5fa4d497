//! The quota's two windows. Pure: the caller passes the time.

use std::time::Duration;

use super::SandboxQuota;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);

/// The two windows of one user. Each opens with the first request in it, and closes as a whole.
#[derive(Debug, Default)]
pub(super) struct Windows {
    minute: Window,
    hour: Window,
}

#[derive(Debug, Default)]
struct Window {
    opened: Duration,
    used: u32,
}

impl Window {
    /// Returns the time until a request is allowed; `None` if one is allowed now.
    fn wait(&mut self, now: Duration, length: Duration, limit: u32) -> Option<Duration> {
        let closes = self.opened + length;
        if self.used == 0 || now >= closes {
            *self = Self { opened: now, used: 0 };
        }
        (self.used >= limit).then(|| (self.opened + length).saturating_sub(now))
    }
}

/// The remaining quota of a window.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Left {
    /// Its name.
    pub(super) window: &'static str,
    /// Its length in seconds.
    pub(super) length: u64,
    pub(super) limit: u32,
    pub(super) remaining: u32,
    /// Seconds of real time until it resets.
    pub(super) reset: u64,
}

impl Windows {
    /// Returns the remaining quota of both windows.
    pub(super) fn left(&self, now: Duration, quota: SandboxQuota, clock_scale: f64) -> Vec<Left> {
        let windows = [("minute", &self.minute, MINUTE, quota.per_minute), ("hour", &self.hour, HOUR, quota.per_hour)];
        let left = windows.into_iter().map(|(name, window, length, limit)| Left {
            window: name,
            length: length.as_secs(),
            limit,
            remaining: limit.saturating_sub(window.used),
            reset: retry_after((window.opened + length).saturating_sub(now), clock_scale),
        });
        left.collect()
    }

    /// Counts one request.
    ///
    /// # Errors
    /// Returns the time until the window resets if one of the two is full. A refused request does not count.
    pub(super) fn take(&mut self, now: Duration, quota: SandboxQuota) -> Result<(), Duration> {
        let minute = self.minute.wait(now, MINUTE, quota.per_minute);
        let hour = self.hour.wait(now, HOUR, quota.per_hour);
        if let Some(wait) = minute.max(hour) {
            return Err(wait);
        }
        self.minute.used += 1;
        self.hour.used += 1;
        Ok(())
    }
}

/// Converts a wait on the quota's clock to whole seconds of real time, rounded up, so that the window has reset after
/// the wait.
pub(super) fn retry_after(wait: Duration, clock_scale: f64) -> u64 {
    let seconds = wait.div_f64(clock_scale).as_nanos().div_ceil(1_000_000_000);
    u64::try_from(seconds).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUOTA: SandboxQuota = SandboxQuota { per_minute: 2, per_hour: 3 };

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_full_minute_is_refused_until_it_resets() {
        let mut windows = Windows::default();
        assert_eq!(windows.take(at(10), QUOTA), Ok(()));
        assert_eq!(windows.take(at(20), QUOTA), Ok(()));
        assert_eq!(windows.take(at(30), QUOTA), Err(at(40)));
        assert_eq!(windows.take(at(70), QUOTA), Ok(()));
    }

    #[test]
    fn a_full_hour_is_refused_for_most_of_an_hour() {
        let mut windows = Windows::default();
        for second in [0, 1, 60] {
            assert_eq!(windows.take(at(second), QUOTA), Ok(()));
        }
        assert_eq!(windows.take(at(61), QUOTA), Err(at(3539)));
        assert_eq!(windows.take(at(3600), QUOTA), Ok(()));
    }

    #[test]
    fn refused_requests_do_not_count() {
        let mut windows = Windows::default();
        let quota = SandboxQuota { per_minute: 1, per_hour: 2 };
        assert_eq!(windows.take(at(0), quota), Ok(()));
        for second in 1..50 {
            assert!(windows.take(at(second), quota).is_err());
        }
        assert_eq!(windows.take(at(60), quota), Ok(()));
    }

    #[test]
    fn what_is_left_is_told_for_both_windows() {
        let mut windows = Windows::default();
        assert_eq!(windows.take(at(10), QUOTA), Ok(()));
        assert_eq!(windows.take(at(20), QUOTA), Ok(()));
        let left: Vec<_> =
            windows.left(at(30), QUOTA, 2.0).iter().map(|left| (left.limit, left.remaining, left.reset)).collect();
        assert_eq!(left, [(2, 0, 20), (3, 1, 1790)]);
    }

    #[test]
    fn a_faster_clock_shortens_the_wait_and_rounds_it_up() {
        assert_eq!(retry_after(at(59), 1.0), 59);
        assert_eq!(retry_after(Duration::from_millis(58_001), 1.0), 59);
        assert_eq!(retry_after(at(3541), 60.0), 60);
        assert_eq!(retry_after(at(3), 60.0), 1);
    }
}
