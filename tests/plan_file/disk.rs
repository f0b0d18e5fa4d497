//! A disk that can lose its power and fail: it writes down what was not yet synced.

use std::collections::BTreeMap;
use std::ffi::c_int;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::{fs, mem, ptr};

use rusqlite::ffi;

use super::power::Known;
use super::{failpoints, layer};

/// What the disk does when asked. Anything else goes to the system's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Read,
    Write,
    Sync,
    Truncate,
    Delete,
}

#[derive(Debug, Clone)]
pub(crate) enum Change {
    Write(usize, Vec<u8>),
    Truncate(usize),
}

/// A file, as far as it is on the disk, and what is only in the system's memory.
#[derive(Debug, Clone, Default)]
struct Content {
    synced: Vec<u8>,
    unsynced: Vec<Change>,
    /// Whether its name is on the disk.
    is_named: bool,
    /// Whether syncing it syncs its folder too; SQLite does that for logs and journals, which it makes itself.
    syncs_folder: bool,
}

/// What becomes of the unsynced when the power goes.
#[derive(Debug, Default)]
struct State {
    files: BTreeMap<String, Content>,
    /// Removed files whose removal is not on the disk.
    ghosts: BTreeMap<String, Content>,
    operations: u64,
    changes: u64,
    image_at: Option<u64>,
    image: Option<Image>,
    failing: Option<Failing>,
    is_deaf: bool,
}

/// Which operations fail.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Failing {
    pub(crate) first: u64,
    /// Whether everything after it fails too.
    pub(crate) lasting: bool,
    /// Whether a write fails for want of room.
    pub(crate) full: bool,
}

/// Everything about the disk at the moment that the power went, and what had been promised by then.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    files: BTreeMap<String, Content>,
    ghosts: BTreeMap<String, Content>,
    pub(crate) known: Known,
}

/// A watched folder.
pub(crate) struct Disk {
    folder: PathBuf,
    known: Arc<Mutex<Known>>,
    state: Mutex<State>,
}

static WATCHED: Mutex<Vec<Arc<Disk>>> = Mutex::new(Vec::new());

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Disk {
    /// Watches a folder from now on.
    pub(crate) fn watch(folder: &Path, known: &Arc<Mutex<Known>>) -> Arc<Self> {
        layer::install();
        let disk = Self { folder: folder.to_owned(), known: Arc::clone(known), state: Mutex::default() };
        let disk = Arc::new(disk);
        locked(&WATCHED).push(Arc::clone(&disk));
        disk
    }

    /// The disk of a folder that is watched.
    pub(crate) fn of(folder: &Path) -> Option<Arc<Self>> {
        locked(&WATCHED).iter().find(|disk| disk.folder == folder).cloned()
    }

    /// Stops to watch.
    pub(crate) fn forget(&self) {
        locked(&WATCHED).retain(|disk| !ptr::eq(&raw const **disk, self));
    }

    /// The power goes before the n-th change.
    pub(crate) fn lose_power_at(&self, change: u64) {
        locked(&self.state).image_at = Some(change);
    }

    /// Syncing does nothing, as with `synchronous=OFF`.
    pub(crate) fn be_deaf(&self) {
        locked(&self.state).is_deaf = true;
    }

    pub(crate) fn fail(&self, failing: Option<Failing>) {
        locked(&self.state).failing = failing;
    }

    pub(crate) fn operations(&self) -> u64 {
        locked(&self.state).operations
    }

    pub(crate) fn changes(&self) -> u64 {
        locked(&self.state).changes
    }

    pub(crate) fn is_without_power(&self) -> bool {
        locked(&self.state).image.is_some()
    }

    pub(crate) fn image(&self) -> Option<Image> {
        locked(&self.state).image.clone()
    }

    /// Counts an operation, and says with what it fails.
    pub(crate) fn enter(&self, operation: Operation) -> Result<(), c_int> {
        if operation != Operation::Read {
            failpoints::pass();
        }
        let mut state = locked(&self.state);
        state.operations += 1;
        if operation != Operation::Read {
            if state.image_at == Some(state.changes) && state.image.is_none() {
                let known = locked(&self.known).clone();
                state.image = Some(Image { files: state.files.clone(), ghosts: state.ghosts.clone(), known });
            }
            state.changes += 1;
        }
        let number = state.operations;
        let fails = |failing: &Failing| number == failing.first || (failing.lasting && number > failing.first);
        let Some(failing) = state.failing.filter(fails) else { return Ok(()) };
        Err(match operation {
            Operation::Read => ffi::SQLITE_IOERR_READ,
            Operation::Write if failing.full => ffi::SQLITE_FULL,
            Operation::Write => ffi::SQLITE_IOERR_WRITE,
            Operation::Sync => ffi::SQLITE_IOERR_FSYNC,
            Operation::Truncate => ffi::SQLITE_IOERR_TRUNCATE,
            Operation::Delete => ffi::SQLITE_IOERR_DELETE,
        })
    }

    pub(crate) fn open(&self, name: &str, syncs_folder: bool) {
        let mut state = locked(&self.state);
        if !state.files.contains_key(name) {
            let synced = fs::read(self.folder.join(name)).unwrap_or_default();
            let content = Content { is_named: !synced.is_empty(), synced, ..Content::default() };
            state.files.insert(name.to_owned(), content);
        }
        if let Some(content) = state.files.get_mut(name) {
            content.syncs_folder |= syncs_folder;
        }
    }

    pub(crate) fn change(&self, name: &str, change: Change) {
        if let Some(content) = locked(&self.state).files.get_mut(name) {
            content.unsynced.push(change);
        }
    }

    pub(crate) fn sync(&self, name: &str) {
        let mut state = locked(&self.state);
        if state.is_deaf {
            return;
        }
        let Some(content) = state.files.get_mut(name) else { return };
        for change in mem::take(&mut content.unsynced) {
            apply(&mut content.synced, &change);
        }
        if mem::take(&mut content.syncs_folder) {
            sync_folder(&mut state);
        }
    }

    pub(crate) fn delete(&self, name: &str, syncs_folder: bool) {
        let mut state = locked(&self.state);
        if let Some(content) = state.files.remove(name) {
            state.ghosts.insert(name.to_owned(), content);
        }
        if syncs_folder && !state.is_deaf {
            sync_folder(&mut state);
        }
    }
}

fn sync_folder(state: &mut State) {
    state.ghosts.clear();
    state.files.values_mut().for_each(|content| content.is_named = true);
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write(offset, data) => {
            let end = offset + data.len();
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[*offset..end].copy_from_slice(data);
        }
        Change::Truncate(length) => bytes.resize((*length).min(bytes.len()), 0),
    }
}

impl Image {
    /// Makes one of the folders that the loss of power may have left.
    pub(crate) fn write_to(&self, folder: &Path, random: &mut fastrand::Rng) {
        for (name, content) in &self.ghosts {
            if random.bool() {
                fs::write(folder.join(name), content.after_loss(random)).unwrap();
            }
        }
        for (name, content) in &self.files {
            if content.is_named || random.bool() {
                fs::write(folder.join(name), content.after_loss(random)).unwrap();
            }
        }
    }
}

impl Content {
    /// What was synced, and some sectors of what was not: mostly few, mostly all, or any.
    fn after_loss(&self, random: &mut fastrand::Rng) -> Vec<u8> {
        const SECTOR: usize = 512;
        let mut bytes = self.synced.clone();
        let kept = [0.0, 0.05, 0.5, 0.95, 1.0][random.usize(..5)];
        for change in &self.unsynced {
            match change {
                Change::Write(offset, data) => {
                    let mut start = 0;
                    while start < data.len() {
                        let end = data.len().min(start + SECTOR - (offset + start) % SECTOR);
                        if random.f64() < kept {
                            apply(&mut bytes, &Change::Write(offset + start, data[start..end].to_vec()));
                        }
                        start = end;
                    }
                }
                Change::Truncate(_) if random.f64() < kept => apply(&mut bytes, change),
                Change::Truncate(_) => {}
            }
        }
        bytes
    }
}
