//! Moments as numbers, for modules that do not read the clock, and times that pass while the machine sleeps.

#[cfg(feature = "plan")]
use std::time::UNIX_EPOCH;
use std::time::{Duration, SystemTime};

use once_cell::race::OnceBox;
use tokio::time::Instant;

/// The moment from which the quota and the retry budget measure time. It is set without a lock, because a fork could
/// copy a held lock.
static EPOCH: OnceBox<Instant> = OnceBox::new();

/// Returns the time from that moment to another one.
pub(crate) fn since_epoch(moment: Instant) -> Duration {
    // The first seed of a process may ask for this hours after it began, which would stop the time of the next ones.
    #[cfg(feature = "simulation")]
    if crate::simulation::is_running() {
        return crate::simulation::since_start(moment);
    }
    moment.saturating_duration_since(*EPOCH.get_or_init(|| Box::new(Instant::now())))
}

/// By how much more than tokio's clock the others must advance, so that it is sleep and not a clock being adjusted.
const ASLEEP: Duration = Duration::from_secs(1);

/// A moment. The time since then includes the time for which the machine slept or was paused, when tokio's clock stands
/// still on most systems.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    awake: Instant,
    /// On Linux, the time since the boot, with sleep but without the pauses of a virtual machine. Zero elsewhere.
    since_boot: Duration,
    time_of_day: SystemTime,
}

impl Moment {
    pub(crate) fn now() -> Self {
        #[cfg(feature = "simulation")]
        if crate::simulation::is_running() {
            let awake = Instant::now();
            let since_boot = since_epoch(awake) + crate::simulation::slept();
            return Self { awake, since_boot, time_of_day: SystemTime::UNIX_EPOCH };
        }
        Self { awake: Instant::now(), since_boot: since_boot(), time_of_day: SystemTime::now() }
    }

    /// Returns the time from this moment to a later one. A time of day that was set forward counts as sleep.
    pub(crate) fn until(&self, later: &Self) -> Duration {
        let awake = later.awake.saturating_duration_since(self.awake);
        let of_day = later.time_of_day.duration_since(self.time_of_day).unwrap_or_default();
        with_sleep(awake, later.since_boot.saturating_sub(self.since_boot).max(of_day))
    }

    /// Returns the time since this moment.
    pub(crate) fn elapsed(&self) -> Duration {
        self.until(&Self::now())
    }

    /// Returns whether the machine slept since this moment.
    pub(crate) fn has_slept(&self) -> bool {
        self.has_slept_until(&Self::now())
    }

    /// Returns whether the machine slept between this moment and a later one.
    pub(crate) fn has_slept_until(&self, later: &Self) -> bool {
        self.until(later) > later.awake.saturating_duration_since(self.awake) + ASLEEP
    }
}

fn with_sleep(awake: Duration, other: Duration) -> Duration {
    if other > awake + ASLEEP { other } else { awake }
}

#[cfg(test)]
thread_local! {
    static SLEPT: std::cell::Cell<Duration> = const { std::cell::Cell::new(Duration::ZERO) };
}

/// Lets this thread see a machine that has just slept.
#[cfg(test)]
pub(crate) fn sleep(time: Duration) {
    SLEPT.set(SLEPT.get() + time);
}

#[cfg(test)]
fn since_boot() -> Duration {
    since_boot_of_system() + SLEPT.get()
}

#[cfg(not(test))]
use since_boot_of_system as since_boot;

#[cfg(target_os = "linux")]
fn since_boot_of_system() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(time.tv_sec.try_into().unwrap_or_default(), time.tv_nsec.try_into().unwrap_or_default())
}

#[cfg(not(target_os = "linux"))]
const fn since_boot_of_system() -> Duration {
    Duration::ZERO
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

#[cfg(test)]
mod tests {
    use super::*;

    const HOURS: Duration = Duration::from_secs(8 * 3_600);
    const SECOND: Duration = Duration::from_secs(1);

    fn later(from: &Moment, awake: Duration, since_boot: Duration) -> Moment {
        Moment {
            awake: from.awake + awake,
            since_boot: from.since_boot + since_boot,
            time_of_day: from.time_of_day + since_boot,
        }
    }

    #[test]
    fn time_passes_while_the_machine_sleeps() {
        let then = Moment::now();
        assert_eq!(then.until(&later(&then, SECOND, HOURS)), HOURS);
        // Only the time of day shows that a virtual machine was paused.
        let resumed = Moment { since_boot: then.since_boot + SECOND, ..later(&then, SECOND, HOURS) };
        assert_eq!(then.until(&resumed), HOURS);
        assert!(!then.has_slept());
        sleep(HOURS);
        assert!(then.has_slept() && then.elapsed() >= HOURS);
    }

    #[test]
    fn a_clock_that_is_adjusted_or_set_back_is_no_sleep() {
        let then = Moment::now();
        assert_eq!(then.until(&later(&then, SECOND, SECOND + SECOND / 2)), SECOND);
        let set_back = Moment { time_of_day: then.time_of_day - HOURS, ..later(&then, SECOND, SECOND) };
        assert_eq!(then.until(&set_back), SECOND);
    }
}
