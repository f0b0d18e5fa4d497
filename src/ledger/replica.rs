//! The view that a process has of a ledger, and its synchronization with the bytes that all processes share.
//!
//! Has no file, no lock and no clock, so that a simulation can run it.

use std::io;
use std::time::Duration;

use super::bytes::Disk;
use super::clock::Reading;
use super::format::{self, CAPACITY, ELSEWHERE, Found, HEADER_LENGTH, Header, Record, micros};
use crate::quota::{Edit, HOUR, LONGEST_HOLD, Windows};
use crate::shared_folder::Unusable;

/// The largest limit of a shared window: all bookings must fit into the bytes.
pub(super) const LARGEST_SHARED: u32 = CAPACITY / 2;

/// The view that a process has of a ledger.
#[derive(Debug)]
pub(super) struct Replica {
    pub(super) header: Header,
    /// The number of records of the area that the windows have applied; `None` if they must load everything.
    followed: Option<u32>,
    /// Whether the bytes contain nothing usable, so that all bookings must be written.
    is_new: bool,
    /// The hold that the bytes and the windows share.
    common_hold: Duration,
    scale: f64,
}

/// Returns a number that no other ledger had, for the first area.
pub(super) fn new_epoch() -> u64 {
    fastrand::u64(..) & !1
}

impl Replica {
    pub(super) fn new(scale: f64) -> Self {
        Self { header: Header::default(), followed: None, is_new: false, common_hold: Duration::ZERO, scale }
    }

    /// Makes the next step load everything: the bytes are different now.
    pub(super) fn forget(&mut self) {
        self.followed = None;
    }

    /// Runs an operation on the windows in step with other processes. The caller must hold the lock of the ledger.
    /// Returns whether the bytes were damaged.
    ///
    /// # Errors
    /// Returns why the bytes do not contain the decision of the windows.
    pub(super) fn step<T>(
        &mut self,
        disk: &impl Disk,
        windows: &mut Windows,
        now: Reading,
        process: u32,
        decide: impl FnOnce(&mut Windows, Duration) -> T,
    ) -> (T, Result<bool, Unusable>) {
        let read = self.read(disk, windows, now);
        let time = self.tick(now);
        let decided = decide(windows, time);
        let written = read.and_then(|was_damaged| self.write(disk, windows, process).map(|()| was_damaged));
        if written.is_ok() {
            windows.edits_are_told();
            self.common_hold = windows.held_until();
        }
        (decided, written)
    }

    /// Advances the time of the ledger to now, and returns it on the quota's clock.
    pub(super) fn tick(&mut self, now: Reading) -> Duration {
        self.header.tick(now);
        self.quota_time()
    }

    /// Returns the last time of the ledger, on the quota's clock.
    pub(super) fn quota_time(&self) -> Duration {
        Duration::from_micros(scaled(self.header.last, self.scale))
    }

    /// Returns the bookings of the hour until now, each with its process.
    pub(super) fn booked(&self, disk: &impl Disk, now: Duration) -> Vec<(Duration, u32)> {
        let records = disk.read_part(self.header.offset(0), format::length(self.header.count)).unwrap_or_default();
        format::replay(format::records(&records), now.saturating_sub(HOUR), now)
    }

    /// Returns the latest moment that a process can have a reason to book.
    fn horizon(&self, now: Duration) -> Duration {
        now + 2 * HOUR + LONGEST_HOLD.mul_f64(self.scale)
    }

    fn read(&mut self, disk: &impl Disk, windows: &mut Windows, now: Reading) -> Result<bool, Unusable> {
        let bytes = disk.read_part(0, HEADER_LENGTH).map_err(cannot_be_read)?;
        let header = match Header::read(&bytes) {
            Found::Header(header) => header,
            Found::Foreign => return Err(Unusable::new("it is not a quota file; delete it")),
            found => {
                self.is_new = true;
                self.header =
                    Header { epoch: new_epoch(), count: 0, held_until: micros(windows.held_until()), ..self.header };
                return Ok(found == Found::Damaged);
            }
        };
        self.is_new = false;
        let followed = self.followed.filter(|followed| header.epoch == self.header.epoch && *followed <= header.count);
        self.header = Header { last: self.header.last.max(header.last), ..header };
        let now = self.tick(now);
        let (from, until) = (now.saturating_sub(HOUR), self.horizon(now));
        let held_until = Duration::from_micros(header.held_until);
        // Ignores a hold that no process can have set.
        let held_until = if held_until <= until { held_until } else { Duration::ZERO };
        match followed {
            Some(followed) if followed == header.count => {}
            Some(followed) => {
                let length = format::length(header.count - followed);
                let bytes = disk.read_part(header.offset(followed), length).map_err(cannot_be_read)?;
                let bounded = |moment: &Duration| *moment > from && *moment <= until;
                format::records(&bytes)
                    .map(|record| Edit { added: record.edit.added.filter(bounded), ..record.edit })
                    .for_each(|edit| windows.follow(edit));
            }
            None => {
                let bytes = disk.read_part(header.offset(0), format::length(header.count)).map_err(cannot_be_read)?;
                let booked = format::replay(format::records(&bytes), from, until);
                // If the file was emptied, for example by a sandbox that starts again, no hold remains.
                let own_hold = windows.held_until();
                let kept = if own_hold > self.common_hold { own_hold } else { Duration::ZERO };
                windows.load(booked.into_iter().map(|(moment, _)| moment).collect(), kept);
            }
        }
        windows.hold_until(held_until);
        self.followed = Some(header.count);
        Ok(false)
    }

    /// Writes the decision: first the records, then the header that makes them count.
    fn write(&mut self, disk: &impl Disk, windows: &Windows, process: u32) -> Result<(), Unusable> {
        let held_until = micros(windows.held_until());
        let edits = windows.edits();
        let mut bytes = Vec::new();
        let added = |(moment, process): (Duration, u32)| Record {
            edit: Edit { removed: None, added: Some(moment), elsewhere: process == ELSEWHERE },
            process,
        };
        let own =
            edits.iter().map(|edit| Record { edit: *edit, process: if edit.elsewhere { ELSEWHERE } else { process } });
        let records = u32::try_from(edits.len()).unwrap_or(u32::MAX);
        let mut header = Header { held_until: self.header.held_until.max(held_until), ..self.header };
        if std::mem::take(&mut self.is_new) {
            let from = self.quota_time().saturating_sub(HOUR);
            let booked: Vec<Duration> =
                windows.booked().filter(|moment| *moment > from).take(LARGEST_SHARED as usize).collect();
            for moment in &booked {
                added((*moment, process)).append_to(&mut bytes);
            }
            header.count = u32::try_from(booked.len()).unwrap_or_default();
            disk.write_part(header.offset(0), &bytes).map_err(cannot_be_written)?;
        } else if edits.is_empty() {
            if held_until <= self.header.held_until {
                return Ok(());
            }
        } else if self.header.count.saturating_add(records) > CAPACITY {
            let now = self.quota_time();
            let all = disk.read_part(header.offset(0), format::length(header.count)).map_err(cannot_be_read)?;
            let known = format::records(&all).chain(own);
            let booked = format::replay(known, now.saturating_sub(HOUR), self.horizon(now));
            // What does not fit is hours away. The requests of the last hour always fit.
            let first = booked.iter().take(LARGEST_SHARED as usize);
            first.clone().for_each(|one| added(*one).append_to(&mut bytes));
            header.count = u32::try_from(first.len()).unwrap_or_default();
            header.epoch = header.epoch.wrapping_add(1);
            disk.write_part(header.offset(0), &bytes).map_err(cannot_be_written)?;
        } else {
            own.for_each(|record| record.append_to(&mut bytes));
            disk.write_part(header.offset(header.count), &bytes).map_err(cannot_be_written)?;
            header.count += records;
        }
        disk.write_part(0, &header.to_bytes()).map_err(cannot_be_written)?;
        self.followed = Some(header.count);
        self.header = header;
        Ok(())
    }
}

#[expect(clippy::needless_pass_by_value, reason = "as map_err gives it")]
fn cannot_be_read(error: io::Error) -> Unusable {
    Unusable::of("it cannot be read", &error)
}

#[expect(clippy::needless_pass_by_value, reason = "as map_err gives it")]
fn cannot_be_written(error: io::Error) -> Unusable {
    Unusable::of("it cannot be written", &error)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "bounded above"
)]
fn scaled(micros: u64, scale: f64) -> u64 {
    if scale.to_bits() == 1.0_f64.to_bits() { micros } else { (micros as f64 * scale) as u64 }
}
