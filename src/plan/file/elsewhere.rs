//! Finds the log of an interrupted run that is not next to its plan: SQLite names a log after the name by which the run
//! had opened the plan.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::error::FileErrorKind;
use super::private::{FileId, links, with_suffix};
use super::{LONGEST_SHOWN, connect, state};
use crate::private_file;
use crate::text::plain_line;

/// A log begins with the state of its run, so the first bytes are enough to recognize it.
const BEGIN: u64 = 1_024 * 1_024;

/// Returns the error of a plan whose log is not next to it. `created_as` is its file name at its creation.
pub(super) fn find(path: &Path, created_as: &str) -> FileErrorKind {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let log = with_suffix(path, "-wal");
    if let Some((opened_as, log)) = other_log(path) {
        // Someone may have put another plan in its place.
        let is_gone = !opened_as.exists() || writer(&opened_as) != writer(path);
        let what = if is_gone {
            format!("because this file or its log was renamed; rename the log to {name}-wal, then open this file again")
        } else if FileId::at(&opened_as) == FileId::at(path) {
            format!("because this file has two names (hard links); open {}", opened_as.display())
        } else {
            format!("because this file is a copy; copy the log, too, as {name}-wal, or open {}", opened_as.display())
        };
        return FileErrorKind::LogElsewhere(format!("is in {}, {what}", log.display()));
    }
    let created_as = plain_line(created_as, LONGEST_SHOWN);
    let links = links(path);
    if links > 1 {
        return FileErrorKind::LogElsewhere(format!(
            "is in a log next to one of the {links} names of this file (hard links), which was created as \
             {created_as}; open it by the name of that log. If the log is lost, copy the file to another folder and \
             open the copy"
        ));
    }
    let or = if created_as == name {
        String::new()
    } else {
        format!(" (or in {created_as}-wal, if the file was renamed since)")
    };
    FileErrorKind::NeedsLog(format!("{}{or}", log.display()))
}

/// Returns the name by which the last run had opened a plan, and its log, if that is in the same folder.
fn other_log(path: &Path) -> Option<(PathBuf, PathBuf)> {
    fs::read_dir(path.parent()?).ok()?.flatten().find_map(|found| {
        let log = found.path();
        let opened_as = log.to_str()?.strip_suffix("-wal")?;
        (path != Path::new(opened_as) && is_log_of(path, &log)).then(|| (PathBuf::from(opened_as), log.clone()))
    })
}

/// Returns the number of the run that wrote a plan last.
fn writer(path: &Path) -> Option<String> {
    let connection = connect::immutable(path).ok()?;
    state::mark(&connection).ok()??.writer
}

/// Returns whether a log contains the number of the run that wrote a plan last.
fn is_log_of(path: &Path, log: &Path) -> bool {
    let begins = |writer: String| {
        let mut begin = Vec::new();
        private_file::open(log, false).ok()?.take(BEGIN).read_to_end(&mut begin).ok()?;
        Some(begin.windows(writer.len()).any(|found| found == writer.as_bytes()))
    };
    writer(path).filter(|writer| !writer.is_empty()).and_then(begins).unwrap_or(false)
}
