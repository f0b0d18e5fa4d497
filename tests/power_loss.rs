//! Power loss: a disk that keeps what was synced, and any part of the rest.
//!
//! Killing a process cannot show a missing sync, because the system still has what was written. Here SQLite writes through
//! a file system of ours, which at a random operation takes a picture of what a disk may hold when the power goes.
#![expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "a helper of tests may fail as a test may")]
#![expect(unsafe_code, reason = "SQLite's interface to a file system is one of C")]

use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use replyio::Field;
use replyio::plan::file::{Builder, Header, PlanFile, PlannedRow};
use replyio::plan::{Change, MatchOn, Mode, Nulls, Status, Value};
use rusqlite::ffi;
use tokio::runtime::Builder as RuntimeBuilder;
use tokio::task::JoinSet;

const ROWS: u64 = 60;
const SECTOR: usize = 512;

#[derive(Clone)]
enum Operation {
    Write(usize, Vec<u8>),
    Truncate(usize),
}

impl Operation {
    fn apply(&self, image: &mut Vec<u8>) {
        match self {
            Self::Write(at, bytes) => {
                if image.len() < at + bytes.len() {
                    image.resize(at + bytes.len(), 0);
                }
                image[*at..at + bytes.len()].copy_from_slice(bytes);
            }
            Self::Truncate(length) => image.truncate(*length),
        }
    }
}

#[derive(Clone, Default)]
struct Contents {
    synced: Vec<u8>,
    pending: Vec<Operation>,
}

#[derive(Clone, Debug, PartialEq)]
enum Told {
    Sealed,
    Sending(u64),
    Changed(u64),
}

type Picture = (BTreeMap<String, Vec<u8>>, Vec<Told>);

#[derive(Default)]
struct Disk {
    files: BTreeMap<String, Contents>,
    operations: u64,
    power_goes_at: u64,
    /// As with `synchronous=OFF`: nothing is ever synced.
    never_syncs: bool,
    random: fastrand::Rng,
    told: Vec<Told>,
    picture: Option<Picture>,
}

fn disk() -> MutexGuard<'static, Disk> {
    static DISK: OnceLock<Mutex<Disk>> = OnceLock::new();
    DISK.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner)
}

impl Disk {
    fn operate(&mut self, name: &str, operation: Operation) {
        self.step();
        self.files.entry(name.to_owned()).or_default().pending.push(operation);
    }

    fn sync(&mut self, name: &str) {
        self.step();
        if self.never_syncs {
            return;
        }
        let contents = self.files.entry(name.to_owned()).or_default();
        for operation in std::mem::take(&mut contents.pending) {
            operation.apply(&mut contents.synced);
        }
    }

    fn step(&mut self) {
        self.operations += 1;
        if self.operations == self.power_goes_at {
            let files = self.files.clone();
            let survive = |(name, contents): (String, Contents)| (name, survived(contents, &mut self.random));
            self.picture = Some((files.into_iter().map(survive).collect(), self.told.clone()));
        }
    }
}

/// What is synced, and of the rest any sectors.
fn survived(contents: Contents, random: &mut fastrand::Rng) -> Vec<u8> {
    let mut image = contents.synced;
    for operation in contents.pending {
        match operation {
            Operation::Write(at, bytes) => {
                for (index, sector) in bytes.chunks(SECTOR).enumerate() {
                    if random.bool() {
                        Operation::Write(at + index * SECTOR, sector.to_vec()).apply(&mut image);
                    }
                }
            }
            truncate @ Operation::Truncate(_) => {
                if random.bool() {
                    truncate.apply(&mut image);
                }
            }
        }
    }
    image
}

fn tell(told: Told) {
    disk().told.push(told);
}

/// A file of ours: SQLite's own part, the name, and behind it the file of the system.
#[repr(C)]
struct File {
    base: ffi::sqlite3_file,
    name: *mut String,
}

unsafe fn system(file: *mut ffi::sqlite3_file) -> *mut ffi::sqlite3_file {
    unsafe { file.cast::<u8>().add(size_of::<File>()).cast() }
}

unsafe fn name<'a>(file: *mut ffi::sqlite3_file) -> &'a str {
    unsafe { &*(*file.cast::<File>()).name }
}

macro_rules! forward {
    ($( $function:ident $method:ident ( $( $argument:ident : $type:ty ),* ) -> $result:ty; )+) => {
        $( unsafe extern "C" fn $function(file: *mut ffi::sqlite3_file $(, $argument: $type)*) -> $result {
            unsafe { (*(*system(file)).pMethods).$method.unwrap()(system(file) $(, $argument)*) }
        } )+
    };
}

forward! {
    read xRead(buffer: *mut c_void, length: c_int, at: i64) -> c_int;
    file_size xFileSize(size: *mut i64) -> c_int;
    lock xLock(level: c_int) -> c_int;
    unlock xUnlock(level: c_int) -> c_int;
    check_lock xCheckReservedLock(found: *mut c_int) -> c_int;
    control xFileControl(operation: c_int, argument: *mut c_void) -> c_int;
    sector_size xSectorSize() -> c_int;
    characteristics xDeviceCharacteristics() -> c_int;
    shm_map xShmMap(page: c_int, size: c_int, extend: c_int, map: *mut *mut c_void) -> c_int;
    shm_lock xShmLock(offset: c_int, count: c_int, flags: c_int) -> c_int;
    shm_barrier xShmBarrier() -> ();
    shm_unmap xShmUnmap(delete: c_int) -> c_int;
    forward_write xWrite(buffer: *const c_void, length: c_int, at: i64) -> c_int;
    forward_truncate xTruncate(length: i64) -> c_int;
    forward_close xClose() -> c_int;
}

unsafe extern "C" fn write(file: *mut ffi::sqlite3_file, buffer: *const c_void, length: c_int, at: i64) -> c_int {
    unsafe {
        let bytes = std::slice::from_raw_parts(buffer.cast::<u8>(), length.try_into().unwrap());
        disk().operate(name(file), Operation::Write(at.try_into().unwrap(), bytes.to_vec()));
        forward_write(file, buffer, length, at)
    }
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, length: i64) -> c_int {
    unsafe {
        disk().operate(name(file), Operation::Truncate(length.try_into().unwrap()));
        forward_truncate(file, length)
    }
}

unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, _flags: c_int) -> c_int {
    disk().sync(unsafe { name(file) });
    ffi::SQLITE_OK
}

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    unsafe {
        let result = forward_close(file);
        drop(Box::from_raw((*file.cast::<File>()).name));
        result
    }
}

static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_lock),
    xFileControl: Some(control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: None,
    xUnfetch: None,
};

unsafe fn below(vfs: *mut ffi::sqlite3_vfs) -> *mut ffi::sqlite3_vfs {
    unsafe { (*vfs).pAppData.cast() }
}

unsafe extern "C" fn open(
    vfs: *mut ffi::sqlite3_vfs,
    path: *const c_char,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    given: *mut c_int,
) -> c_int {
    unsafe {
        let opened = (*below(vfs)).xOpen.unwrap()(below(vfs), path, system(file), flags, given);
        if opened != ffi::SQLITE_OK {
            (*file).pMethods = std::ptr::null();
            return opened;
        }
        let known = if path.is_null() { "temporary" } else { CStr::from_ptr(path).to_str().unwrap() };
        (*file.cast::<File>()).name = Box::into_raw(Box::new(known.to_owned()));
        (*file).pMethods = &raw const METHODS;
        opened
    }
}

unsafe extern "C" fn delete(vfs: *mut ffi::sqlite3_vfs, path: *const c_char, sync: c_int) -> c_int {
    unsafe {
        {
            let mut disk = disk();
            disk.step();
            disk.files.remove(CStr::from_ptr(path).to_str().unwrap());
        }
        (*below(vfs)).xDelete.unwrap()(below(vfs), path, sync)
    }
}

/// Has all of SQLite in this process write through a disk of ours.
fn install() {
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| unsafe {
        ffi::sqlite3_initialize();
        let system = ffi::sqlite3_vfs_find(std::ptr::null());
        let mut vfs = Box::new(*system);
        vfs.zName = c"a disk that can lose power".as_ptr();
        vfs.szOsFile = (*system).szOsFile + c_int::try_from(size_of::<File>()).unwrap();
        vfs.pAppData = system.cast();
        vfs.pNext = std::ptr::null_mut();
        vfs.xOpen = Some(open);
        vfs.xDelete = Some(delete);
        assert_eq!(ffi::sqlite3_vfs_register(Box::into_raw(vfs), 1), ffi::SQLITE_OK);
    });
}

fn planned(row: u64) -> PlannedRow {
    let change = Change { field: Field::City, before: Value::Null, after: Value::Text(format!("City {row}")) };
    PlannedRow {
        row,
        account_id: Some(row.cast_signed() + 1),
        key: None,
        status: Status::Pending,
        error: None,
        position: Some(row),
        changes: vec![change],
    }
}

/// Plans, seals and applies with eight rows in flight, and tells each time what was promised.
fn work(path: &Path) {
    let header = Header {
        base_url: "http://127.0.0.1:1/v3".to_owned(),
        act_as: None,
        team_id: None,
        mode: Mode::Patch,
        nulls: Nulls::Keep,
        match_on: MatchOn::Id,
        created_at_ms: 0,
        source: String::new(),
        is_revert: false,
    };
    let mut builder = Builder::create(path, &header).unwrap();
    (0..ROWS).for_each(|row| builder.add(planned(row)).unwrap());
    let file = builder.seal(ROWS).unwrap();
    tell(Told::Sealed);
    RuntimeBuilder::new_current_thread().build().unwrap().block_on(async {
        let mut tasks = JoinSet::new();
        for row in 0..ROWS {
            if tasks.len() >= 8 {
                tasks.join_next().await.unwrap().unwrap();
            }
            let file = file.clone();
            tasks.spawn(async move {
                file.sending(row, 1).await.unwrap();
                tell(Told::Sending(row));
                file.finish(row, Status::Changed, None, None).await.unwrap();
                tell(Told::Changed(row));
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
    });
    file.close().unwrap();
}

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("replyio-power-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs the work, and looks at what a loss of power at some operation left. Gives what is wrong with it.
fn lose_power(seed: u64, operations: u64, never_syncs: bool) -> Result<(), String> {
    let mut random = fastrand::Rng::with_seed(seed);
    let power_goes_at = random.u64(1..=operations.max(1));
    *disk() = Disk { power_goes_at, never_syncs, random, ..Disk::default() };
    let folder = Folder::new("before");
    work(&folder.0.join("a.replyplan"));
    let Some((files, told)) = disk().picture.take() else { return Ok(()) };
    let after = Folder::new("after");
    for (name, bytes) in files.iter().filter(|(name, _)| !name.ends_with("-shm") && !name.contains(".lock")) {
        fs::write(after.0.join(Path::new(name).file_name().unwrap()), bytes).unwrap();
    }
    *disk() = Disk::default();
    let opened = PlanFile::open(&after.0.join("a.replyplan"));
    let file = match (opened, told.contains(&Told::Sealed)) {
        (Ok(file), _) => file,
        (Err(_), false) => return Ok(()),
        (Err(error), true) => return Err(format!("seed {seed}: a sealed plan was refused: {error}")),
    };
    let mut rows = Vec::new();
    file.for_each_row(|row| rows.push(row.status)).map_err(|error| error.to_string())?;
    if rows.len() as u64 != ROWS {
        return Err(format!("seed {seed}: {} rows", rows.len()));
    }
    for told in told {
        let kept = match told {
            Told::Sealed => true,
            Told::Sending(row) => rows[usize::try_from(row).unwrap()] != Status::Pending,
            Told::Changed(row) => rows[usize::try_from(row).unwrap()] == Status::Changed,
        };
        if !kept {
            return Err(format!("seed {seed}: {told:?} was promised"));
        }
    }
    Ok(())
}

#[test]
fn what_was_promised_survives_a_loss_of_power() {
    install();
    let folder = Folder::new("count");
    *disk() = Disk::default();
    work(&folder.0.join("a.replyplan"));
    let operations = disk().operations;
    assert!(operations > 100, "{operations}");
    let seeds: u64 = std::env::var("REPLYIO_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(100);
    let short: Vec<String> = (0..seeds).filter_map(|seed| lose_power(seed, operations, false).err()).collect();
    println!("reliability: power loss tried {seeds} short {}", short.len());
    assert_eq!(short, Vec::<String>::new());
    let control = (0..50).filter(|seed| lose_power(*seed, operations, true).is_err()).count();
    println!("reliability: power loss without any sync tried 50 short {control}");
    assert!(control > 10, "a disk that is never synced must lose something: {control} of 50");
}
