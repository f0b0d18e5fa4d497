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
mod replica;
#[cfg(test)]
mod simulation;

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

#[cfg(any(feature = "python", all(test, unix)))]
use bytes::Disk;
use clock::Reading;
use format::{CAPACITY, micros};
#[cfg(any(feature = "python", all(test, unix)))]
use format::{Found, HEADER_LENGTH, Header};
use replica::Replica;
use ring::hmac;

use crate::private_file::links;
use crate::quota::{HOUR, MINUTE, Windows};
use crate::shared_folder::{self, Unusable};
use crate::text::hex;

/// How long to try to get a lock. A holder needs some microseconds, or longer if the system suspends it.
const PATIENCE: Duration = Duration::from_millis(50);
/// How long calls do not wait for the lock after one waited in vain.
const PAUSE: Duration = Duration::from_secs(1);
/// If the lock is unavailable for this long, its holder is not a ledger.
const STUCK: Duration = Duration::from_secs(5);
/// How long to count alone after a passing fault, such as a full disk, before the file is tried again.
const RETRY: Duration = Duration::from_secs(60);
/// How often to check whether the file still has its name.
const LOOK: Duration = Duration::from_millis(100);
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
    /// Where the file is that was opened last.
    path: PathBuf,
    /// The moment, on both clocks, since when this process counts only its own requests.
    off: Option<(Instant, u64)>,
    /// When a passing fault last kept this process from the file, if that still counts.
    paused: Option<Instant>,
    replica: Replica,
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
        format!("{}{}{}", service_prefix(&self.service, salt), hashed(&key, &user, 16), place::ENDING)
    }
}

/// Returns the common prefix of all ledgers of a service.
fn service_prefix(service: &str, salt: &[u8]) -> String {
    hashed(&hmac::Key::new(hmac::HMAC_SHA256, salt), service, 8) + "-"
}

/// Returns the first bytes of a keyed hash.
fn hashed(key: &hmac::Key, text: &str, bytes: usize) -> String {
    hex(hmac::sign(key, text.as_bytes()).as_ref().get(..bytes).unwrap_or_default())
}

/// Empties the ledgers of a service that starts again, such as a sandbox on the port of an earlier one. Every process
/// that has one of them open then forgets its counts.
#[cfg(any(feature = "python", all(test, unix)))]
pub(crate) fn forget(service: &str, folder: Option<PathBuf>) {
    for folder in folder.map_or_else(shared_folder::candidates, |folder| vec![folder]) {
        for file in place::of_service(&folder, |salt| service_prefix(service, salt)) {
            if !place::lock(&file, PATIENCE).unwrap_or(false) {
                continue;
            }
            if let Ok(Found::Header(header)) = file.read_part(0, HEADER_LENGTH).map(|bytes| Header::read(&bytes)) {
                let empty = Header { epoch: replica::new_epoch(), count: 0, held_until: 0, ..header };
                let _ = file.write_part(0, &empty.to_bytes());
            }
            let _ = file.unlock();
        }
    }
}

impl Ledger {
    /// Creates the ledger of a user, in a folder or in the default place. Opens nothing yet.
    pub(crate) fn new(user: User, folder: Option<PathBuf>) -> Self {
        let is_scaled_within = (1.0..=FASTEST_SHARED).contains(&user.scale);
        let mut ledger = Self {
            folders: folder.map_or_else(shared_folder::candidates, |folder| vec![folder]),
            file: None,
            path: PathBuf::new(),
            off: None,
            paused: None,
            replica: Replica::new(user.scale),
            user,
            missed_since: None,
            patient: Instant::now(),
            looked: Instant::now(),
            has_warned: false,
            warning: None,
        };
        if !is_scaled_within {
            ledger.tick();
            ledger.off = Some((Instant::now(), ledger.replica.header.last));
        }
        ledger
    }

    /// Returns whether a quota fits into a ledger.
    pub(crate) fn can_hold(per_hour: u32) -> bool {
        per_hour <= replica::LARGEST_SHARED
    }

    /// Returns whether it shares the count with other processes, as far as is known.
    pub(crate) fn is_shared(&self) -> bool {
        self.off.is_none() && self.paused.is_none() && self.missed_since.is_none()
    }

    /// Returns why the quota counts only this process. Returns the reason once.
    pub(crate) fn take_warning(&mut self) -> Option<String> {
        self.warning.take()
    }

    /// Runs an operation on the windows, synchronized with other processes. The operation gets the time of the quota's
    /// clock.
    pub(crate) fn in_step<T>(&mut self, windows: &mut Windows, decide: impl FnOnce(&mut Windows, Duration) -> T) -> T {
        let Some(file) = self.take_file(windows) else {
            let decided = self.out_of_step(windows, decide);
            self.bound_edits(windows);
            return decided;
        };
        match self.lock(&file) {
            Ok(true) => {}
            Ok(false) => {
                let decided = self.out_of_step(windows, decide);
                self.file = Some(file);
                self.bound_edits(windows);
                return decided;
            }
            Err(error) => {
                self.count_alone(windows, &Unusable::of("it cannot be locked", &error).at(&self.path));
                return self.out_of_step(windows, decide);
            }
        }
        let (decided, stepped) = self.replica.step(&file, windows, Reading::now(), std::process::id(), decide);
        let unlocked = file.unlock().map_err(|error| Unusable::of("it cannot be unlocked", &error));
        match stepped.and_then(|was_damaged| unlocked.map(|()| was_damaged)) {
            Ok(was_damaged) => {
                self.file = Some(file);
                if self.paused.take().is_some() {
                    self.has_warned = false;
                }
                if was_damaged {
                    self.warn(format!(
                        "the quota file {} was damaged, so replyio created a new one",
                        self.path.display()
                    ));
                }
            }
            Err(unusable) => self.count_alone(windows, &unusable.at(&self.path)),
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
        Self::count(self.replica.booked(file, now).into_iter(), now)
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
        if self.off.is_some() || self.paused.is_some_and(|since| since.elapsed() < RETRY) {
            return None;
        }
        if let Some(file) = self.file.take() {
            if self.looked.elapsed() < LOOK {
                return Some(file);
            }
            self.looked = Instant::now();
            if file.metadata().is_ok_and(|found| links(&found) > 0) {
                return Some(file);
            }
            // Deleted or replaced: another process would open a new one.
            self.replica.forget();
        }
        let opened = place::open(&self.folders, &self.user);
        match opened {
            Ok((file, path, elsewhere)) => {
                self.path = path;
                if let Some(why) = elsewhere {
                    self.warn(format!(
                        "the quota might not count other programs, because its usual file is unusable: {why}"
                    ));
                }
                windows.keep_edits(true);
                Some(file)
            }
            Err(unusable) => {
                self.count_alone(windows, &unusable);
                None
            }
        }
    }

    /// Closes the file until the next booking.
    pub(crate) fn close(&mut self) {
        self.file = None;
    }

    /// Counts only this process: for a minute after a passing fault, and from now on after another one. In that minute,
    /// the windows keep their changes, so that others learn them with the next step.
    fn count_alone(&mut self, windows: &mut Windows, why: &Unusable) {
        if !why.is_passing {
            return self.turn_off(windows, why);
        }
        self.file = None;
        self.paused = Some(Instant::now());
        windows.keep_edits(true);
        self.warn(format!(
            "for now, the quota counts only this process: {why}; replyio tries the quota file again in {} s",
            RETRY.as_secs()
        ));
    }

    /// Limits the changes that others do not know yet to what the file can hold.
    fn bound_edits(&mut self, windows: &mut Windows) {
        if windows.edits().len() <= CAPACITY as usize {
            return;
        }
        windows.merge_edits(self.replica.quota_time().saturating_sub(HOUR));
        if windows.edits().len() > CAPACITY as usize {
            self.turn_off(windows, &Unusable::new("its file has been unusable for too long"));
        }
    }

    /// Counts only this process from now on.
    fn turn_off(&mut self, windows: &mut Windows, why: &Unusable) {
        self.file = None;
        if self.paused.take().is_some() {
            self.has_warned = false;
        }
        self.tick();
        self.off = Some((Instant::now(), self.replica.header.last));
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
            self.warn(format!(
                "the quota counts only this process: another program holds the lock of {}",
                self.path.display()
            ));
        }
        Ok(false)
    }

    /// Returns the current time on the quota's clock.
    fn tick(&mut self) -> Duration {
        match self.off {
            Some((since, last)) => self.replica.header.last = last.saturating_add(micros(since.elapsed())),
            None => return self.replica.tick(Reading::now()),
        }
        self.replica.quota_time()
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests;
