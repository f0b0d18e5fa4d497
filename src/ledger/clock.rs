//! The clock that all processes of a machine share.
//!
//! On Linux it counts from the boot, including time asleep, so that no one can set it. After a reboot it continues at
//! the time of day. Elsewhere it is the time of day.

use std::time::{SystemTime, UNIX_EPOCH};

use super::format::{Header, micros};

/// The time of the system clocks, in microseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading {
    /// The boot from which the clock counts.
    pub(super) boot: u64,
    pub(super) since_boot: u64,
    /// `None` for the system's own time of day, which is seldom needed.
    pub(super) time_of_day: Option<u64>,
}

impl Reading {
    #[cfg(target_os = "linux")]
    pub(super) fn now() -> Self {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let part = |number: i64| u64::try_from(number).unwrap_or_default();
        let since_boot = part(time.tv_sec).saturating_mul(1_000_000).saturating_add(part(time.tv_nsec) / 1_000);
        Self { boot: boot(), since_boot, time_of_day: None }
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn now() -> Self {
        Self { boot: 0, since_boot: time_of_day(), time_of_day: None }
    }
}

/// Returns the boot and its clock namespace. Zero if the system does not report it.
#[cfg(target_os = "linux")]
fn boot() -> u64 {
    use std::fs;

    use once_cell::race::OnceBox;

    static BOOT: OnceBox<u64> = OnceBox::new();
    // Without a free file descriptor, the file cannot be read now, but it can later.
    let known = BOOT.get_or_try_init(|| {
        let id = fs::read("/proc/sys/kernel/random/boot_id").map_err(drop)?;
        let namespace = fs::read_link("/proc/self/ns/time").unwrap_or_default();
        let both = [id.as_slice(), namespace.as_os_str().as_encoded_bytes()].concat();
        let hash = ring::digest::digest(&ring::digest::SHA256, &both);
        Ok::<_, ()>(Box::new(hash.as_ref().first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes))))
    });
    known.copied().unwrap_or_default()
}

fn time_of_day() -> u64 {
    micros(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

impl Header {
    /// Advances the ledger's time to now. It never goes back, whatever happens to the system's clock.
    pub(super) fn tick(&mut self, now: Reading) {
        if self.boot != now.boot || self.last == 0 {
            // After a reboot, only the time of day shows how long the machine was off, and that may be wrong.
            self.boot = now.boot;
            let today = now.time_of_day.unwrap_or_else(time_of_day);
            self.ahead = self.last.max(today).saturating_sub(now.since_boot);
        }
        let time = now.since_boot.saturating_add(self.ahead);
        self.ahead = self.ahead.saturating_add(self.last.saturating_sub(time));
        self.last = self.last.max(time);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    fn at(boot: u64, since_boot: u64) -> Reading {
        Reading { boot, since_boot, time_of_day: None }
    }

    #[test]
    fn the_first_reading_is_the_time_of_day_and_the_next_ones_count_from_it() {
        let (before, mut header) = (time_of_day(), Header::default());
        header.tick(at(1, 5 * SECOND));
        let first = header.last;
        assert!((before..=time_of_day()).contains(&first));
        header.tick(at(1, 6 * SECOND));
        assert_eq!(header.last, first + SECOND);
    }

    #[test]
    fn a_boot_continues_at_the_time_of_day_and_not_before_the_last_time() {
        let mut header = Header::default();
        header.tick(at(1, 1_000 * SECOND));
        header.tick(at(2, SECOND));
        assert!(time_of_day().abs_diff(header.last) < 10 * SECOND);
        // The time of day of the new boot is behind that of the old one.
        let tomorrow = time_of_day() + 86_400 * SECOND;
        let mut header = Header { boot: 1, last: tomorrow, ..Header::default() };
        header.tick(at(2, SECOND));
        assert_eq!(header.last, tomorrow);
        header.tick(at(2, 2 * SECOND));
        assert_eq!(header.last, tomorrow + SECOND);
    }

    #[test]
    fn a_clock_that_is_set_back_goes_on_from_the_last_time() {
        let mut header = Header { boot: 1, last: 100 * SECOND, ahead: 0, ..Header::default() };
        for (since_boot, expected) in [(40, 100), (41, 101), (10, 101), (12, 103)] {
            header.tick(at(1, since_boot * SECOND));
            assert_eq!(header.last, expected * SECOND);
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn linux_tells_its_boot() {
        assert_ne!(Reading::now().boot, 0);
        assert!(Reading::now().since_boot > 0);
    }
}
