//! A disk that can lose its power and fail: SQLite's own layer over the system's files, which writes down what was not
//! yet synced. It is the default layer of this test's process, and changes nothing outside of the folders it watches.
#![allow(unsafe_code, reason = "SQLite takes a layer over files as C functions only")]

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::{fs, mem, ptr, slice};

use rusqlite::ffi;

use super::power::Known;

/// What the disk does when asked. Anything else goes to the system's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Read,
    Write,
    Sync,
    Truncate,
    Delete,
}

#[derive(Debug, Clone)]
enum Change {
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
        layer();
        let disk = Self { folder: folder.to_owned(), known: Arc::clone(known), state: Mutex::default() };
        let disk = Arc::new(disk);
        locked(&WATCHED).push(Arc::clone(&disk));
        disk
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
    fn enter(&self, operation: Operation) -> Result<(), c_int> {
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

    fn open(&self, name: &str, syncs_folder: bool) {
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

    fn change(&self, name: &str, change: Change) {
        if let Some(content) = locked(&self.state).files.get_mut(name) {
            content.unsynced.push(change);
        }
    }

    fn sync(&self, name: &str) {
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

    fn delete(&self, name: &str, syncs_folder: bool) {
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

/// What is kept behind the system's own record of an open file.
struct Tracked {
    disk: Arc<Disk>,
    name: String,
    /// What the system does with the file; logs and journals have another table than what is locked.
    under: ffi::sqlite3_io_methods,
    over: ffi::sqlite3_io_methods,
}

struct Layer {
    under: *mut ffi::sqlite3_vfs,
    /// Where in a file's record the pointer to its [`Tracked`] is.
    place: usize,
}

// SAFETY: the system's layer is made for any thread, and is never changed.
unsafe impl Send for Layer {}
// SAFETY: as above.
unsafe impl Sync for Layer {}

static LAYER: OnceLock<Layer> = OnceLock::new();

/// Puts the layer over the system's, once.
fn layer() -> &'static Layer {
    LAYER.get_or_init(|| {
        // SAFETY: the default layer lives as long as the process, and so does its leaked copy.
        unsafe {
            ffi::sqlite3_initialize();
            let under = ffi::sqlite3_vfs_find(ptr::null());
            let mut over = *under;
            let place = usize::try_from(over.szOsFile).unwrap().next_multiple_of(align_of::<*mut Tracked>());
            over.szOsFile = c_int::try_from(place + size_of::<*mut Tracked>()).unwrap();
            over.zName = CString::new("replyio-test").unwrap().into_raw();
            over.pNext = ptr::null_mut();
            over.xOpen = Some(open);
            over.xDelete = Some(delete);
            assert_eq!(ffi::sqlite3_vfs_register(Box::leak(Box::new(over)), 1), ffi::SQLITE_OK);
            Layer { under, place }
        }
    })
}

fn find(path: *const c_char) -> Option<(Arc<Disk>, String)> {
    if path.is_null() {
        return None;
    }
    // SAFETY: SQLite gives a path that ends.
    let path = Path::new(unsafe { CStr::from_ptr(path) }.to_str().ok()?);
    let disk = locked(&WATCHED).iter().find(|disk| path.parent() == Some(&disk.folder)).cloned()?;
    Some((disk, path.file_name()?.to_str()?.to_owned()))
}

/// The place behind a file's record.
unsafe fn place(file: *mut ffi::sqlite3_file) -> *mut *mut Tracked {
    // SAFETY: `szOsFile` was enlarged by a pointer, at an aligned place.
    unsafe { file.cast::<u8>().add(LAYER.get().map_or(0, |layer| layer.place)).cast() }
}

unsafe fn tracked<'a>(file: *mut ffi::sqlite3_file) -> &'a Tracked {
    // SAFETY: only files with a `Tracked` have the methods that come here, until they are closed.
    unsafe { &**place(file) }
}

unsafe extern "C" fn open(
    _: *mut ffi::sqlite3_vfs,
    path: ffi::sqlite3_filename,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    // SAFETY: everything is as SQLite gave it; the layer below sees its own record at the start of ours.
    unsafe {
        let under = LAYER.get().unwrap().under;
        let code = (*under).xOpen.unwrap()(under, path, file, flags, out);
        let Some((disk, name)) = find(path).filter(|_| code == ffi::SQLITE_OK) else { return code };
        disk.open(&name, flags & (ffi::SQLITE_OPEN_MAIN_JOURNAL | ffi::SQLITE_OPEN_WAL) != 0);
        let under = *(*file).pMethods;
        let over = ffi::sqlite3_io_methods {
            xClose: Some(close),
            xRead: Some(read),
            xWrite: Some(write),
            xTruncate: Some(truncate),
            xSync: Some(sync),
            ..under
        };
        let tracked = Box::into_raw(Box::new(Tracked { disk, name, under, over }));
        *place(file) = tracked;
        (*file).pMethods = &raw const (*tracked).over;
        code
    }
}

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: a file is closed once.
    unsafe {
        let tracked = Box::from_raw(*place(file));
        tracked.under.xClose.unwrap()(file)
    }
}

unsafe extern "C" fn read(file: *mut ffi::sqlite3_file, into: *mut c_void, length: c_int, offset: i64) -> c_int {
    // SAFETY: passed on as it came.
    unsafe {
        let tracked = tracked(file);
        match tracked.disk.enter(Operation::Read) {
            Ok(()) => tracked.under.xRead.unwrap()(file, into, length, offset),
            Err(code) => code,
        }
    }
}

unsafe extern "C" fn write(file: *mut ffi::sqlite3_file, from: *const c_void, length: c_int, offset: i64) -> c_int {
    // SAFETY: SQLite gives as many bytes as it says.
    unsafe {
        let tracked = tracked(file);
        if let Err(code) = tracked.disk.enter(Operation::Write) {
            return code;
        }
        let data = slice::from_raw_parts(from.cast::<u8>(), usize::try_from(length).unwrap()).to_vec();
        tracked.disk.change(&tracked.name, Change::Write(usize::try_from(offset).unwrap(), data));
        tracked.under.xWrite.unwrap()(file, from, length, offset)
    }
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, length: i64) -> c_int {
    // SAFETY: passed on as it came.
    unsafe {
        let tracked = tracked(file);
        if let Err(code) = tracked.disk.enter(Operation::Truncate) {
            return code;
        }
        tracked.disk.change(&tracked.name, Change::Truncate(usize::try_from(length).unwrap()));
        tracked.under.xTruncate.unwrap()(file, length)
    }
}

/// The true disk is not waited for: the power that goes here is not the machine's.
unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, _: c_int) -> c_int {
    // SAFETY: the file is open.
    let tracked = unsafe { tracked(file) };
    match tracked.disk.enter(Operation::Sync) {
        Ok(()) => {
            tracked.disk.sync(&tracked.name);
            ffi::SQLITE_OK
        }
        Err(code) => code,
    }
}

unsafe extern "C" fn delete(_: *mut ffi::sqlite3_vfs, path: *const c_char, syncs_folder: c_int) -> c_int {
    // SAFETY: passed on as it came.
    unsafe {
        let under = LAYER.get().unwrap().under;
        if let Some((disk, name)) = find(path) {
            if let Err(code) = disk.enter(Operation::Delete) {
                return code;
            }
            disk.delete(&name, syncs_folder != 0);
        }
        (*under).xDelete.unwrap()(under, path, syncs_folder)
    }
}
