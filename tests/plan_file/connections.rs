//! The connections of this test's process as SQLite opens them: how many pages a plan may have on them.
#![allow(unsafe_code, reason = "SQLite shows its connections to C functions only")]

use std::collections::BTreeMap;
use std::ffi::{c_char, c_int};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use rusqlite::auto_extension::{init_auto_extension, register_auto_extension};
use rusqlite::{Connection, ffi};

/// The plans that may not grow as they like: the number of their pages, and the connection that was opened last.
static LIMITED: Mutex<BTreeMap<PathBuf, (u32, Option<Connection>)>> = Mutex::new(BTreeMap::new());

fn limited() -> MutexGuard<'static, BTreeMap<PathBuf, (u32, Option<Connection>)>> {
    LIMITED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on a plan may have this number of pages, by `PRAGMA max_page_count`. Whoever has it open must not be using
/// it just now.
pub(crate) fn limit_pages(plan: &Path, pages: u32) {
    static INSTALLED: Once = Once::new();
    // SAFETY: `opened` opens and closes nothing.
    INSTALLED.call_once(|| unsafe { register_auto_extension(opened) }.unwrap());
    let mut limited = limited();
    let (limit, open) = limited.entry(plan.to_owned()).or_default();
    *limit = pages;
    if let Some(connection) = open {
        connection.pragma_update(None, "max_page_count", pages).unwrap();
    }
}

unsafe extern "C" fn opened(
    connection: *mut ffi::sqlite3,
    message: *mut *mut c_char,
    _: *const ffi::sqlite3_api_routines,
) -> c_int {
    // SAFETY: SQLite gives the connection that it has just opened.
    unsafe { init_auto_extension(connection, message, limit) }
}

fn limit(connection: Connection) -> rusqlite::Result<()> {
    let Some(path) = connection.path().map(PathBuf::from) else { return Ok(()) };
    // Views come and go, and take up no room.
    if connection.is_readonly("main")? {
        return Ok(());
    }
    if let Some((pages, open)) = limited().get_mut(&path) {
        connection.pragma_update(None, "max_page_count", *pages)?;
        *open = Some(connection);
    }
    Ok(())
}
