//! SQLite's layer over the system's files, with a [`Disk`] in between for the folders that are watched. It is the
//! default layer of this test's process.
#![allow(unsafe_code, reason = "SQLite takes a layer over files as C functions only")]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::{ptr, slice};

use rusqlite::ffi;

use super::disk::{Change, Disk, Operation};

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
pub(crate) fn install() {
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
    });
}

fn find(path: *const c_char) -> Option<(Arc<Disk>, String)> {
    if path.is_null() {
        return None;
    }
    // SAFETY: SQLite gives a path that ends.
    let path = Path::new(unsafe { CStr::from_ptr(path) }.to_str().ok()?);
    let disk = Disk::of(path.parent()?)?;
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
