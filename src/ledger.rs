//! The quota of a user over all programs of this machine: a small file that says what is booked.
//!
//! What the windows decide stays theirs. Before they decide they take from the file what other processes have booked, and
//! then they tell what they have booked themselves. The lock of the file is held for that long only, never for a wait or a
//! request, and ends with its process. No fault of the file delays or stops a call: then the process counts alone.

mod format;
mod place;

use std::fs::{File, TryLockError};
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use format::{CAPACITY, Found, HEADER_LENGTH, Header, Record, micros};
use place::Unusable;
use ring::hmac;

use crate::config::ApiKey;
use crate::quota::{Edit, HOUR, LONGEST_HOLD, MINUTE, Windows};

/// How long a lock is tried for. Who has it needs some microseconds, or, when it is not given the processor, a moment more.
const PATIENCE: Duration = Duration::from_millis(2);
/// A lock that nobody gets for so long is held by something else than a ledger.
const STUCK: Duration = Duration::from_secs(5);
/// How often it is looked whether the file still has its name.
const LOOK: Duration = Duration::from_millis(100);
/// The largest limit of a window that is shared: what is booked must fit into the file.
const LARGEST_SHARED: u32 = CAPACITY / 2;
/// Beyond it the times of the quota's clock do not fit into the file.
const FASTEST_SHARED: f64 = 1_000.0;

/// How many requests of a process are in each window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessUse {
    /// The process, by its id.
    pub process: u32,
    /// In the last minute.
    pub minute: u32,
    /// In the last hour.
    pub hour: u32,
}

/// The ledger of one user.
#[derive(Debug)]
pub(crate) struct Ledger {
    folder: Option<PathBuf>,
    user: User,
    file: Option<File>,
    /// Since when, by both clocks, this process counts alone.
    off: Option<(Instant, u64)>,
    header: Header,
    /// How many records of the area the windows have followed; `None` when they are to be loaded.
    followed: Option<u32>,
    /// Whether the file holds nothing that can be used, so that all that is booked is to be written.
    is_new: bool,
    missed_since: Option<Instant>,
    looked: Instant,
    has_warned: bool,
    warning: Option<String>,
}

/// Whose ledger it is.
#[derive(Debug, Clone)]
pub(crate) struct User {
    pub api_key: ApiKey,
    /// What else tells one user from another.
    pub rest: String,
    /// How much faster than real time the quota's clock goes.
    pub scale: f64,
}

impl User {
    /// The name of the file, from which nothing about the user can be told.
    fn file_name(&self, salt: &[u8]) -> String {
        use std::fmt::Write;
        let signing = hmac::Key::new(hmac::HMAC_SHA256, &self.api_key.keyed_hash(salt));
        let tag = hmac::sign(&signing, format!("{}\n{}", self.scale, self.rest).as_bytes());
        let mut name = String::new();
        for byte in tag.as_ref().iter().take(16) {
            let _ = write!(name, "{byte:02x}");
        }
        name + ".ledger"
    }
}

impl Ledger {
    /// The ledger of a user, in a folder or where this system has it. Nothing is opened yet.
    pub(crate) fn new(user: User, folder: Option<PathBuf>) -> Self {
        let mut ledger = Self {
            folder,
            user,
            file: None,
            off: None,
            header: Header::default(),
            followed: None,
            is_new: false,
            missed_since: None,
            looked: Instant::now(),
            has_warned: false,
            warning: None,
        };
        if ledger.user.scale > FASTEST_SHARED {
            ledger.tick();
            ledger.off = Some((Instant::now(), ledger.header.last));
        }
        ledger
    }

    /// Whether a quota fits into a ledger.
    pub(crate) fn can_hold(per_hour: u32) -> bool {
        per_hour <= LARGEST_SHARED
    }

    /// Whether it counts together with other processes, as far as is known.
    pub(crate) fn is_shared(&self) -> bool {
        self.off.is_none() && self.missed_since.is_none()
    }

    /// Why the quota is that of this process alone. It is said once.
    pub(crate) fn take_warning(&mut self) -> Option<String> {
        self.warning.take()
    }

    /// Lets the windows decide something, in step with those of other processes. It is given the time of the quota's clock.
    pub(crate) fn in_step<T>(&mut self, windows: &mut Windows, decide: impl FnOnce(&mut Windows, Duration) -> T) -> T {
        let Some(file) = self.take_file(windows) else {
            let now = self.tick();
            return decide(windows, now);
        };
        match self.lock(&file) {
            Ok(true) => {}
            Ok(false) => {
                let now = self.tick();
                let decided = decide(windows, now);
                self.file = Some(file);
                if windows.edits().len() > CAPACITY as usize {
                    self.turn_off(windows, &Unusable("its lock is held by something else".to_owned()));
                }
                return decided;
            }
            Err(error) => {
                self.turn_off(windows, &Unusable(format!("it cannot be locked: {error}")));
                let now = self.tick();
                return decide(windows, now);
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
                self.file = Some(file);
            }
            Err(unusable) => self.turn_off(windows, &unusable),
        }
        decided
    }

    /// What each process has used of the windows.
    pub(crate) fn used(&mut self, windows: &mut Windows) -> Vec<ProcessUse> {
        let now = self.in_step(windows, |_, now| now);
        let Some(file) = &self.file else {
            return Self::count(windows.booked().map(|moment| (moment, std::process::id())), now);
        };
        // Records are only ever added: without the lock some are missed, or all, when they are just being moved.
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

    /// The open file, taken so that a panic closes it and with it frees its lock.
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
        let opened = place::open(self.folder.as_deref(), |salt| self.user.file_name(salt));
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

    /// From now on this process counts alone.
    fn turn_off(&mut self, windows: &mut Windows, why: &Unusable) {
        self.file = None;
        self.tick();
        self.off = Some((Instant::now(), self.header.last));
        windows.keep_edits(false);
        self.warn(format!("the quota counts this process alone: {why}"));
    }

    fn warn(&mut self, warning: String) {
        if !std::mem::replace(&mut self.has_warned, true) {
            self.warning = Some(warning);
        }
    }

    /// Tries to get the lock for a moment, and once only while it cannot be had.
    fn lock(&mut self, file: &File) -> io::Result<bool> {
        let began = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => {
                    self.missed_since = None;
                    return Ok(true);
                }
                Err(TryLockError::Error(error)) => return Err(error),
                Err(TryLockError::WouldBlock) => {}
            }
            if let Some(since) = self.missed_since {
                if since.elapsed() > STUCK {
                    self.warn(
                        "the quota counts this process alone: another program holds the ledger's lock".to_owned(),
                    );
                }
                return Ok(false);
            }
            if began.elapsed() > PATIENCE {
                self.missed_since = Some(began);
                return Ok(false);
            }
            std::thread::yield_now();
        }
    }

    /// Now, on the quota's clock. It never goes back, whatever happens to the system's.
    fn tick(&mut self) -> Duration {
        if let Some((since, last)) = self.off {
            self.header.last = last.saturating_add(micros(since.elapsed()));
            return Duration::from_micros(scaled(self.header.last, self.user.scale));
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = micros(since).saturating_add(self.header.ahead);
        if now < self.header.last {
            self.header.ahead = self.header.ahead.saturating_add(self.header.last - now);
        }
        self.header.last = self.header.last.max(now);
        Duration::from_micros(scaled(self.header.last, self.user.scale))
    }

    /// The latest moment that anybody can have a reason to book.
    fn horizon(&self, now: Duration) -> Duration {
        now + 2 * HOUR + LONGEST_HOLD.mul_f64(self.user.scale)
    }

    fn read(&mut self, file: &File, windows: &mut Windows) -> Result<(), Unusable> {
        let bytes = read_at(file, 0, HEADER_LENGTH).map_err(cannot_be_read)?;
        let header = match Header::read(&bytes) {
            Found::Header(header) => header,
            Found::Foreign => return Err(Unusable("its file is no ledger: delete it".to_owned())),
            found => {
                if found == Found::Damaged {
                    self.warn("the ledger of the quota was damaged, and is made anew".to_owned());
                }
                self.is_new = true;
                self.header = Header {
                    epoch: fastrand::u64(..) & !1,
                    count: 0,
                    held_until: micros(windows.held_until()),
                    ..self.header
                };
                return Ok(());
            }
        };
        self.is_new = false;
        let followed = self.followed.filter(|followed| header.epoch == self.header.epoch && *followed <= header.count);
        self.header = Header { last: self.header.last.max(header.last), ..header };
        let now = self.tick();
        let (from, until) = (now.saturating_sub(HOUR), self.horizon(now));
        let held_until = Duration::from_micros(header.held_until);
        // A hold that nobody can have made is none.
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
                windows.load(booked.into_iter().map(|(moment, _)| moment).collect(), held_until);
            }
        }
        windows.hold_until(held_until);
        self.followed = Some(header.count);
        Ok(())
    }

    /// Tells what was decided: first the records, then the header that makes them count.
    fn write(&mut self, file: &File, windows: &Windows) -> Result<(), Unusable> {
        let process = std::process::id();
        let held_until = micros(windows.held_until());
        let edits = windows.edits();
        let mut bytes = Vec::new();
        let added =
            |(moment, process): (Duration, u32)| Record { edit: Edit { removed: None, added: Some(moment) }, process };
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
            let now = Duration::from_micros(scaled(header.last, self.user.scale));
            let all = read_at(file, header.offset(0), format::length(header.count)).map_err(cannot_be_read)?;
            let own = edits.iter().map(|edit| Record { edit: *edit, process });
            let known = format::records(&all).chain(own);
            let booked = format::replay(known, now.saturating_sub(HOUR), self.horizon(now));
            let newest = booked.iter().rev().take(LARGEST_SHARED as usize);
            newest.clone().for_each(|one| added(*one).append_to(&mut bytes));
            header.count = u32::try_from(newest.len()).unwrap_or_default();
            header.epoch = header.epoch.wrapping_add(1);
            write_at(file, header.offset(0), &bytes).map_err(cannot_be_written)?;
        } else {
            for edit in edits {
                Record { edit: *edit, process }.append_to(&mut bytes);
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
    Unusable(format!("its ledger cannot be read: {error}"))
}

#[expect(clippy::needless_pass_by_value, reason = "as map_err gives it")]
fn cannot_be_written(error: io::Error) -> Unusable {
    Unusable(format!("its ledger cannot be written: {error}"))
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

/// Whether a file can still be found by others.
#[cfg(unix)]
fn has_its_name(file: &File) -> bool {
    file.metadata().is_ok_and(|found| std::os::unix::fs::MetadataExt::nlink(&found) > 0)
}

/// Whether a file can still be found by others: here an open file cannot be deleted.
#[cfg(not(unix))]
fn has_its_name(_file: &File) -> bool {
    true
}

/// The bytes of a part of a file, fewer where it ends.
fn read_at(file: &File, mut offset: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    let mut read = 0;
    while let Some(rest) = bytes.get_mut(read..).filter(|rest| !rest.is_empty()) {
        #[cfg(unix)]
        let count = std::os::unix::fs::FileExt::read_at(file, rest, offset)?;
        #[cfg(windows)]
        let count = std::os::windows::fs::FileExt::seek_read(file, rest, offset)?;
        if count == 0 {
            break;
        }
        read += count;
        offset += count as u64;
    }
    bytes.truncate(read);
    Ok(bytes)
}

fn write_at(file: &File, mut offset: u64, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        #[cfg(unix)]
        let count = std::os::unix::fs::FileExt::write_at(file, bytes, offset)?;
        #[cfg(windows)]
        let count = std::os::windows::fs::FileExt::seek_write(file, bytes, offset)?;
        if count == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        bytes = bytes.get(count..).unwrap_or_default();
        offset += count as u64;
    }
    Ok(())
}

#[cfg(test)]
#[cfg(unix)]
mod tests;
