//! What a display shows of a plan. Counting the rows of a large plan takes seconds, so the counts are kept while no one
//! writes the file.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::client::Client;
use crate::plan::Status;
use crate::plan::file::{FileError, PlanFile, with_suffix};
use crate::plan::run;

/// A smaller file is counted in no time.
const LARGE: u64 = 4 << 20;
/// Two writes within this time may leave the same time in the file. The clock of a kernel ticks every 10 ms or faster.
const TICK: Duration = Duration::from_millis(50);
/// The same on a file system that stores whole seconds, or pairs of them.
const COARSE_TICK: Duration = Duration::from_secs(3);

/// The number of rows and of changes.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    pub(super) counts: BTreeMap<Status, u64>,
    pub(super) stored_otherwise: u64,
    pub(super) changes: u64,
}

impl Tally {
    pub(super) fn of(file: &PlanFile) -> Result<Self, FileError> {
        Ok(Self { counts: file.counts()?, stored_otherwise: file.stored_otherwise()?, changes: file.count_changes()? })
    }
}

/// The number of requests that apply the rest of a plan. It depends on how many rows a client reads at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Requests {
    pub(super) rows_at_once: usize,
    pub(super) count: u64,
}

impl Requests {
    pub(super) fn of(client: &Client, file: &PlanFile) -> Result<Self, FileError> {
        let count = run::requests_to_apply(client, file)?;
        Ok(Self { rows_at_once: run::rows_on_a_look(client), count })
    }
}

/// What was counted, and in which state of the file.
#[derive(Debug, Default)]
pub(super) struct Known {
    stamp: Option<Stamp>,
    pub(super) tally: Option<Tally>,
    pub(super) requests: Option<Requests>,
}

impl Known {
    /// Counts a large file in advance, so that showing it does not wait. Waits until a file that was just written has
    /// another time than it would get from the next write.
    pub(super) fn in_advance(client: Option<&Client>, file: &PlanFile) -> Result<Self, FileError> {
        if fs::metadata(file.real_path()).map_or(0, |found| found.len()) < LARGE {
            return Ok(Self::default());
        }
        let mut stamp = Stamp::of(file.real_path());
        if stamp.as_ref().is_some_and(|stamp| !stamp.is_settled) {
            std::thread::sleep(TICK);
            stamp = Stamp::of(file.real_path());
        }
        let tally = Tally::of(file)?;
        let requests = client.map(|client| Requests::of(client, file)).transpose()?;
        let mut known = Self { stamp, tally: Some(tally), requests };
        if !known.is_of(Stamp::of(file.real_path()).as_ref()) {
            known = Self::default();
        }
        Ok(known)
    }

    /// Returns whether this was counted in that state of the file.
    pub(super) fn is_of(&self, stamp: Option<&Stamp>) -> bool {
        stamp.is_some() && self.stamp.as_ref() == stamp && self.stamp.as_ref().is_some_and(|stamp| stamp.is_settled)
    }

    /// Forgets what was counted in another state of the file.
    pub(super) fn renew(&mut self, stamp: Option<Stamp>) {
        *self = Self { stamp, ..Self::default() };
    }
}

/// Identifies a state of a plan's file and its log: any write changes one of them.
#[derive(Debug, Clone)]
pub(super) struct Stamp {
    files: [Option<(u64, SystemTime, u64)>; 2],
    /// Whether a later write would have changed the times.
    is_settled: bool,
}

impl PartialEq for Stamp {
    fn eq(&self, other: &Self) -> bool {
        self.files == other.files
    }
}

impl Stamp {
    /// Returns nothing where the times of an open file are not reliable. The path must have no links.
    pub(super) fn of(path: &Path) -> Option<Self> {
        if cfg!(windows) {
            return None;
        }
        let found = [fs::metadata(path).ok(), fs::metadata(with_suffix(path, "-wal")).ok()];
        let is_settled = found.iter().flatten().filter_map(|found| found.modified().ok()).all(has_settled);
        let state = |found: Metadata| Some((found.len(), found.modified().ok()?, number(&found)));
        let files = found.map(|found| found.and_then(state));
        files[0].is_some().then_some(Self { files, is_settled })
    }
}

/// A time in the future has no age.
fn age(time: SystemTime) -> Duration {
    SystemTime::now().duration_since(time).unwrap_or_default()
}

fn has_settled(time: SystemTime) -> bool {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    age(time) >= if since.subsec_nanos().is_multiple_of(1_000_000) { COARSE_TICK } else { TICK }
}

#[cfg(unix)]
fn number(found: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(found)
}

#[cfg(not(unix))]
fn number(_: &Metadata) -> u64 {
    0
}
