//! The quota of a user across all programs of this machine: a small file, the ledger, with all bookings.
//!
//! The windows still decide. Before they decide, they read from the file what other processes booked, and afterward
//! they write their own bookings. A process holds the file lock only during this step, never during a wait or a
//! request, and the lock ends with its process. No problem with the file delays or stops a call: the process then
//! counts only its own requests.

mod bytes;
mod clock;
mod format;
mod place;

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::{has_its_name, read_at, write_at};
use clock::Reading;
use format::{CAPACITY, ELSEWHERE, Found, HEADER_LENGTH, Header, Record, micros};
use place::Unusable;
use ring::hmac;

use crate::quota::{Edit, HOUR, LONGEST_HOLD, MINUTE, Windows};

/// How long to try to get a lock. A holder needs some microseconds, and more only if the system suspends it.
const PATIENCE: Duration = Duration::from_millis(50);
/// How long calls do not wait for the lock after one waited in vain.
const PAUSE: Duration = Duration::from_secs(1);
/// If the lock is unavailable for this long, its holder is not a ledger.
const STUCK: Duration = Duration::from_secs(5);
/// How often to check whether the file still has its name.
const LOOK: Duration = Duration::from_millis(100);
/// The largest limit of a shared window: all bookings must fit into the file.
const LARGEST_SHARED: u32 = CAPACITY / 2;
/// The fastest clock of a shared quota: the times of a faster clock do not fit into the file.
const FASTEST_SHARED: f64 = 1_000.0;

/// The requests of a process in each window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessUse {
    /// The process id; 0 for processes of other machines that the service reports.
    pub process: u32,
    /// In the last minute.
    pub minute: u32,
    /// In the last hour.
    pub hour: u32,
}

/// The ledger of one user.
#[derive(Debug)]
pub(crate) struct Ledger {
    folders: Vec<PathBuf>,
    user: User,
    file: Option<File>,
    /// The moment, on both clocks, since when this process counts only its own requests.
    off: Option<(Instant, u64)>,
    header: Header,
    /// The number of records of the area that the windows have applied; `None` if they must load everything.
    followed: Option<u32>,
    /// Whether the file contains nothing usable, so that all bookings must be written.
    is_new: bool,
    /// The hold that the file and the windows share.
    common_hold: Duration,
    missed_since: Option<Instant>,
    /// The last time that a patient attempt failed.
    patient: Instant,
    looked: Instant,
    has_warned: bool,
    warning: Option<String>,
}

/// The user of a ledger.
#[derive(Debug, Clone)]
pub(crate) struct User {
    /// A hash of the API key. The user of a ledger outlives the clients, and their key must not.
    pub key_hash: [u8; 32],
    /// The service.
    pub service: String,
    /// What else distinguishes users.
    pub rest: String,
    /// How much faster than real time the quota's clock runs.
    pub scale: f64,
}

impl User {
    /// Returns the name of the file, which reveals nothing about the user.
    fn file_name(&self, salt: &[u8]) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &[salt, &self.key_hash].concat());
        let user = format!("{}\n{}\n{}", self.scale, self.service, self.rest);
        format!("{}{}{}", service_prefix(&self.service, salt), hex(&key, &user, 16), place::ENDING)
    }
}

/// Returns the common prefix of all ledgers of a service.
fn service_prefix(service: &str, salt: &[u8]) -> String {
    hex(&hmac::Key::new(hmac::HMAC_SHA256, salt), service, 8) + "-"
}

fn hex(key: &hmac::Key, text: &str, bytes: usize) -> String {
    use std::fmt::Write;
    hmac::sign(key, text.as_bytes()).as_ref().iter().take(bytes).fold(String::new(), |mut name, byte| {
        let _ = write!(name, "{byte:02x}");
        name
    })
}

/// Empties the ledgers of a service that starts again, such as a sandbox on the port of an earlier one. Every process
/// that has one of them open then forgets its counts.
#[cfg(any(feature = "python", all(test, unix)))]
pub(crate) fn forget(service: &str, folder: Option<PathBuf>) {
    for folder in folder.map_or_else(place::folders, |folder| vec![folder]) {
        for file in place::of_service(&folder, |salt| service_prefix(service, salt)) {
            if !place::lock(&file, PATIENCE).unwrap_or(false) {
                continue;
            }
            if let Ok(Found::Header(header)) = read_at(&file, 0, HEADER_LENGTH).map(|bytes| Header::read(&bytes)) {
                let empty = Header { epoch: new_epoch(), count: 0, held_until: 0, ..header };
                let _ = write_at(&file, 0, &empty.to_bytes());
            }
            let _ = file.unlock();
        }
    }
}

/// Returns a number that no other ledger had, for the first area.
fn new_epoch() -> u64 {
    fastrand::u64(..) & !1
}

impl Ledger {
    /// Creates the ledger of a user, in a folder or in the default place. Opens nothing yet.
    pub(crate) fn new(user: User, folder: Option<PathBuf>) -> Self {
        let is_scaled_within = (1.0..=FASTEST_SHARED).contains(&user.scale);
        let mut ledger = Self {
            folders: folder.map_or_else(place::folders, |folder| vec![folder]),
            user,
            file: None,
            off: None,
            header: Header::default(),
            followed: None,
            is_new: false,
            common_hold: Duration::ZERO,
            missed_since: None,
            patient: Instant::now(),
            looked: Instant::now(),
            has_warned: false,
            warning: None,
        };
        if !is_scaled_within {
            ledger.tick();
            ledger.off = Some((Instant::now(), ledger.header.last));
        }
        ledger
    }

    /// Returns whether a quota fits into a ledger.
    pub(crate) fn can_hold(per_hour: u32) -> bool {
        per_hour <= LARGEST_SHARED
    }

    /// Returns whether it shares the count with other processes, as far as is known.
    pub(crate) fn is_shared(&self) -> bool {
        self.off.is_none() && self.missed_since.is_none()
    }

    /// Returns why the quota counts only this process. Returns the reason once.
    pub(crate) fn take_warning(&mut self) -> Option<String> {
        self.warning.take()
    }

    /// Runs an operation on the windows, synchronized with other processes. The operation gets the time of the quota's
    /// clock.
    pub(crate) fn in_step<T>(&mut self, windows: &mut Windows, decide: impl FnOnce(&mut Windows, Duration) -> T) -> T {
        let Some(file) = self.take_file(windows) else {
            return self.out_of_step(windows, decide);
        };
        match self.lock(&file) {
            Ok(true) => {}
            Ok(false) => {
                let decided = self.out_of_step(windows, decide);
                self.file = Some(file);
                if windows.edits().len() > CAPACITY as usize {
                    self.turn_off(windows, &Unusable("another program holds its lock".to_owned()));
                }
                return decided;
            }
            Err(error) => {
                self.turn_off(windows, &Unusable(format!("it cannot be locked: {error}")));
                return self.out_of_step(windows, decide);
            }
        }
        let read = self.read(&file, windows);
        let now = self.tick();
        let decided = decide(windows, now);
        let written = read.and_then(|()| self.write(&file, windows));
        let unlocked = file.unlock().map_err(|error| Unusable(format!("it cannot be unlocked: {error}")));
        match written.and(unlocked) {
            Ok(()) => {
                windows.edits_are_told();
                self.common_hold = windows.held_until();
                self.file = Some(file);
            }
            Err(unusable) => self.turn_off(windows, &unusable),
        }
        decided
    }

    /// Runs an operation on the windows without reading the bookings of other processes, which learn about it with the
    /// next step.
    pub(crate) fn out_of_step<T>(
        &mut self,
        windows: &mut Windows,
        decide: impl FnOnce(&mut Windows, Duration) -> T,
    ) -> T {
        let now = self.tick();
        decide(windows, now)
    }

    /// Returns what each process used of the windows.
    pub(crate) fn used(&mut self, windows: &mut Windows) -> Vec<ProcessUse> {
        let now = self.in_step(windows, |_, now| now);
        let Some(file) = &self.file else {
            return Self::count(windows.booked().map(|moment| (moment, std::process::id())), now);
        };
        // Records are only ever appended: without the lock, a reader may miss some, or all while they are being moved.
        let records = read_at(file, self.header.offset(0), format::length(self.header.count)).unwrap_or_default();
        let booked = format::replay(format::records(&records), now.saturating_sub(HOUR), now);
        Self::count(booked.into_iter(), now)
    }

    fn count(booked: impl Iterator<Item = (Duration, u32)>, now: Duration) -> Vec<ProcessUse> {
        let mut used: Vec<ProcessUse> = Vec::new();
        for (moment, process) in booked.filter(|(moment, _)| *moment <= now && *moment + HOUR > now) {
            let minute = u32::from(moment + MINUTE > now);
            match used.iter_mut().find(|other| other.process == process) {
                Some(known) => {
                    known.minute += minute;
                    known.hour += 1;
                }
                None => used.push(ProcessUse { process, minute, hour: 1 }),
            }
        }
        used
    }

    /// The open file, taken out so that a panic closes it and releases its lock.
    fn take_file(&mut self, windows: &mut Windows) -> Option<File> {
        if self.off.is_some() {
            return None;
        }
        if let Some(file) = self.file.take() {
            if self.looked.elapsed() < LOOK {
                return Some(file);
            }
            self.looked = Instant::now();
            if has_its_name(&file) {
                return Some(file);
            }
            // Deleted or replaced: another process would open a new one.
            self.followed = None;
        }
        let opened = place::open(&self.folders, &self.user);
        match opened {
            Ok(file) => {
                windows.keep_edits(true);
                Some(file)
            }
            Err(unusable) => {
                self.turn_off(windows, &unusable);
                None
            }
        }
    }

    /// Closes the file until the next booking.
    pub(crate) fn close(&mut self) {
        self.file = None;
    }

    /// Counts only this process from now on.
    fn turn_off(&mut self, windows: &mut Windows, why: &Unusable) {
        self.file = None;
        self.tick();
        self.off = Some((Instant::now(), self.header.last));
        windows.keep_edits(false);
        self.warn(format!("the quota counts only this process: {why}"));
    }

    fn warn(&mut self, warning: String) {
        if !std::mem::replace(&mut self.has_warned, true) {
            self.warning = Some(warning);
        }
    }

    /// Tries to get the lock: briefly, and without waiting while it is unavailable, except for one attempt per second
    /// until it is clear that its holder is not a ledger.
    fn lock(&mut self, file: &File) -> io::Result<bool> {
        let is_patient = match self.missed_since {
            None => true,
            Some(since) => since.elapsed() < STUCK && self.patient.elapsed() > PAUSE,
        };
        let locked = place::lock(file, if is_patient { PATIENCE } else { Duration::ZERO })?;
        if is_patient && !locked {
            self.patient = Instant::now();
        }
        if locked {
            self.missed_since = None;
            return Ok(true);
        }
        if self.missed_since.get_or_insert_with(Instant::now).elapsed() > STUCK {
            self.warn(
                "the quota counts only this process: another program holds the lock of the quota \
                file"
                    .to_owned(),
            );
        }
        Ok(false)
    }

    /// Returns the current time on the quota's clock.
    fn tick(&mut self) -> Duration {
        match self.off {
            Some((since, last)) => self.header.last = last.saturating_add(micros(since.elapsed())),
            None => self.header.tick(Reading::now()),
        }
        self.quota_time()
    }

    /// Returns the last time of the ledger, on the quota's clock.
    fn quota_time(&self) -> Duration {
        Duration::from_micros(scaled(self.header.last, self.user.scale))
    }

    /// Returns the latest moment that a process can have a reason to book.
    fn horizon(&self, now: Duration) -> Duration {
        now + 2 * HOUR + LONGEST_HOLD.mul_f64(self.user.scale)
    }

    fn read(&mut self, file: &File, windows: &mut Windows) -> Result<(), Unusable> {
        let bytes = read_at(file, 0, HEADER_LENGTH).map_err(cannot_be_read)?;
        let header = match Header::read(&bytes) {
            Found::Header(header) => header,
            Found::Foreign => return Err(Unusable("its file is not a quota file; delete it".to_owned())),
            found => {
                if found == Found::Damaged {
                    self.warn("the quota file was damaged, so replyio created a new one".to_owned());
                }
                self.is_new = true;
                self.header =
                    Header { epoch: new_epoch(), count: 0, held_until: micros(windows.held_until()), ..self.header };
                return Ok(());
            }
        };
        self.is_new = false;
        let followed = self.followed.filter(|followed| header.epoch == self.header.epoch && *followed <= header.count);
        self.header = Header { last: self.header.last.max(header.last), ..header };
        let now = self.tick();
        let (from, until) = (now.saturating_sub(HOUR), self.horizon(now));
        let held_until = Duration::from_micros(header.held_until);
        // Ignores a hold that no process can have set.
        let held_until = if held_until <= until { held_until } else { Duration::ZERO };
        match followed {
            Some(followed) if followed == header.count => {}
            Some(followed) => {
                let length = format::length(header.count - followed);
                let bytes = read_at(file, header.offset(followed), length).map_err(cannot_be_read)?;
                let bounded = |moment: &Duration| *moment > from && *moment <= until;
                format::records(&bytes)
                    .map(|record| Edit { added: record.edit.added.filter(bounded), ..record.edit })
                    .for_each(|edit| windows.follow(edit));
            }
            None => {
                let bytes = read_at(file, header.offset(0), format::length(header.count)).map_err(cannot_be_read)?;
                let booked = format::replay(format::records(&bytes), from, until);
                // If the file was emptied, for example by a sandbox that starts again, no hold remains.
                let own_hold = windows.held_until();
                let kept = if own_hold > self.common_hold { own_hold } else { Duration::ZERO };
                windows.load(booked.into_iter().map(|(moment, _)| moment).collect(), kept);
            }
        }
        windows.hold_until(held_until);
        self.followed = Some(header.count);
        Ok(())
    }

    /// Writes the decision: first the records, then the header that makes them count.
    fn write(&mut self, file: &File, windows: &Windows) -> Result<(), Unusable> {
        let process = std::process::id();
        let held_until = micros(windows.held_until());
        let edits = windows.edits();
        let mut bytes = Vec::new();
        let added = |(moment, process): (Duration, u32)| Record {
            edit: Edit { removed: None, added: Some(moment), elsewhere: process == ELSEWHERE },
            process,
        };
        let records = u32::try_from(edits.len()).unwrap_or(u32::MAX);
        let mut header = Header { held_until: self.header.held_until.max(held_until), ..self.header };
        if std::mem::take(&mut self.is_new) {
            let booked: Vec<Duration> = windows.booked().rev().take(LARGEST_SHARED as usize).collect();
            for moment in &booked {
                added((*moment, process)).append_to(&mut bytes);
            }
            header.count = u32::try_from(booked.len()).unwrap_or_default();
            write_at(file, header.offset(0), &bytes).map_err(cannot_be_written)?;
        } else if edits.is_empty() {
            if held_until <= self.header.held_until {
                return Ok(());
            }
        } else if self.header.count.saturating_add(records) > CAPACITY {
            let now = self.quota_time();
            let all = read_at(file, header.offset(0), format::length(header.count)).map_err(cannot_be_read)?;
            let own = edits
                .iter()
                .map(|edit| Record { edit: *edit, process: if edit.elsewhere { ELSEWHERE } else { process } });
            let known = format::records(&all).chain(own);
            let booked = format::replay(known, now.saturating_sub(HOUR), self.horizon(now));
            let newest = booked.iter().rev().take(LARGEST_SHARED as usize);
            newest.clone().for_each(|one| added(*one).append_to(&mut bytes));
            header.count = u32::try_from(newest.len()).unwrap_or_default();
            header.epoch = header.epoch.wrapping_add(1);
            write_at(file, header.offset(0), &bytes).map_err(cannot_be_written)?;
        } else {
            for edit in edits {
                Record { edit: *edit, process: if edit.elsewhere { ELSEWHERE } else { process } }.append_to(&mut bytes);
            }
            write_at(file, header.offset(header.count), &bytes).map_err(cannot_be_written)?;
            header.count += records;
        }
        write_at(file, 0, &header.to_bytes()).map_err(cannot_be_written)?;
        self.followed = Some(header.count);
        self.header = header;
        Ok(())
    }
}

#[expect(clippy::needless_pass_by_value, reason = "as map_err gives it")]
fn cannot_be_read(error: io::Error) -> Unusable {
    Unusable(format!("its file cannot be read: {error}"))
}

#[expect(clippy::needless_pass_by_value, reason = "as map_err gives it")]
fn cannot_be_written(error: io::Error) -> Unusable {
    Unusable(format!("its file cannot be written: {error}"))
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

#[cfg(test)]
#[cfg(unix)]
mod tests;
