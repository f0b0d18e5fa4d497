//! Where ledgers are: in a private folder of the system user, on a local disk.

use std::cmp::Reverse;
use std::fs::{self, File, Metadata, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::User;
use super::format::LONGEST_FILE;
use crate::private_file;
use crate::shared_folder::{self, Unusable, because, check_file, is_on_a_network, is_private, refused};

/// The suffix of the name of a ledger.
pub(super) const ENDING: &str = ".ledger";
/// The folder for ledgers in the state directory.
const FOLDER: &str = "quota";
const SALT: &str = "salt";
const SALT_LENGTH: usize = 32;
/// A ledger that was not written for this long is expired: no window and no hold is longer.
const KEPT: Duration = Duration::from_secs(4 * 3_600);
/// The bookings of a ledger that was not written for this long have left every window.
const COUNTS: Duration = Duration::from_secs(3_600);
/// The most ledgers in a folder that no longer count. Each sandbox has its own port, and with it a ledger for each key.
pub(super) const MOST: usize = 200;
/// How long to try a lock without a pause, and the length of each pause after that.
const AT_ONCE: Duration = Duration::from_micros(200);
/// The most entries of a folder to look at.
const MOST_LOOKED_AT: usize = 10_000;
/// Opens the ledger of a user in the first usable folder. Also returns why an earlier folder is not usable, if that may
/// concern only this process: others may count there. A folder that may be usable later is not replaced by another one.
pub(super) fn open(folders: &[PathBuf], user: &User) -> Result<(File, PathBuf, Option<Unusable>), Unusable> {
    let mut refused = Unusable::new("there is no directory for its file; set REPLYIO_STATE_DIR");
    let mut others_may_count = false;
    for folder in folders {
        match open_in(folder, user) {
            Ok((file, path)) => return Ok((file, path, others_may_count.then_some(refused))),
            Err(unusable) if unusable.is_passing => return Err(unusable),
            Err(unusable) => {
                others_may_count |= is_on_a_network(&folder.join(FOLDER)).is_none();
                refused = unusable;
            }
        }
    }
    Err(refused)
}

/// Opens the ledgers of a service in a folder.
#[cfg(any(feature = "python", all(test, unix)))]
pub(super) fn of_service(folder: &Path, prefix: impl FnOnce(&[u8]) -> String) -> Vec<File> {
    let folder = folder.join(FOLDER);
    if is_on_a_network(&folder).is_some() || shared_folder::check_folder(&folder).is_err() {
        return Vec::new();
    }
    let Ok(Some(salt)) = read_salt(&folder.join(SALT)) else { return Vec::new() };
    let prefix = prefix(&salt);
    let named = ledgers(&folder).into_iter().map(|(_, path)| path);
    let named = named.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix)));
    named
        .filter_map(|path| private_file::open(&path, true).ok().filter(|file| check_file(file, LONGEST_FILE).is_ok()))
        .collect()
}

/// Tries to lock a file, for as long as `patience` allows.
pub(super) fn lock(file: &File, patience: Duration) -> io::Result<bool> {
    let mut began = None;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) => {}
        }
        let waited = began.get_or_insert_with(Instant::now).elapsed();
        if waited >= patience {
            return Ok(false);
        }
        if waited < AT_ONCE {
            std::thread::yield_now();
        } else {
            std::thread::sleep(AT_ONCE);
        }
    }
}

fn open_in(folder: &Path, user: &User) -> Result<(File, PathBuf), Unusable> {
    let folder = folder.join(FOLDER);
    shared_folder::prepare(&folder)?;
    let salt = salt(&folder).map_err(|error| refused(&folder.join(SALT), &error))?;
    let path = folder.join(user.file_name(&salt));
    let file = shared_folder::open_or_create(&path, || remove_old(&folder)).map_err(|error| refused(&path, &error))?;
    check_file(&file, LONGEST_FILE).map_err(|reason| because(&path, reason))?;
    match locks_hold(&path, &file) {
        Ok(true) => Ok((file, path)),
        Ok(false) => Err(because(&path, "two processes can lock it at the same time")),
        Err(error) => Err(refused(&path, &error)),
    }
}

/// Deletes expired ledgers, and those beyond the limit of a folder that no longer count.
fn remove_old(folder: &Path) {
    let mut found = ledgers(folder);
    found.sort_unstable_by_key(|(written, _)| Reverse(*written));
    for (number, (written, path)) in found.iter().enumerate() {
        let age = written.elapsed().unwrap_or_default();
        // A ledger that may still count is kept, however many there are.
        if age > KEPT || (age > COUNTS && number + 1 >= MOST) {
            let _ = fs::remove_file(path);
        }
    }
}

/// Returns the ledgers in a folder, each with the time of its last write.
fn ledgers(folder: &Path) -> Vec<(SystemTime, PathBuf)> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let named = entries.take(MOST_LOOKED_AT).flatten().filter(|entry| entry.file_name().to_str().is_some_and(is_name));
    let found = named.filter_map(|entry| {
        let found = entry.metadata().ok().filter(Metadata::is_file)?;
        Some((found.modified().ok()?, entry.path()))
    });
    found.collect()
}

/// Returns whether a file has the name of a ledger: 16 hexadecimal digits, a hyphen, 32 digits, and the suffix.
fn is_name(name: &str) -> bool {
    let is_hex = |part: &str, length: usize| part.len() == length && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let parts = name.strip_suffix(ENDING).and_then(|hashes| hashes.split_once('-'));
    parts.is_some_and(|(service, user)| is_hex(service, 16) && is_hex(user, 32))
}

/// Returns random bytes of this folder, so that the name of a ledger, for example in a warning, cannot be used to test
/// keys.
fn salt(folder: &Path) -> io::Result<Vec<u8>> {
    let path = folder.join(SALT);
    if let Some(salt) = read_salt(&path)? {
        return Ok(salt);
    }
    let mut salt = [0; SALT_LENGTH];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut salt)
        .map_err(|_| io::Error::other("the operating system provides no random numbers"))?;
    let beside = folder.join(format!("{SALT}.{:016x}", fastrand::u64(..)));
    let mut file = private_file::create(&beside)?;
    // A link instead of a rename: the first one stays.
    let placed = file.write_all(&salt).and_then(|()| fs::hard_link(&beside, &path));
    let _ = fs::remove_file(&beside);
    match placed {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => read_salt(&path)?.ok_or_else(|| io::Error::other("it disappeared")),
    }
}

fn read_salt(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let mut file = match private_file::open(path, false) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        outcome => outcome?,
    };
    // While it is created, it has two names.
    is_private(&file.metadata()?).map_err(io::Error::other)?;
    let mut salt = vec![0; SALT_LENGTH];
    file.read_exact(&mut salt).map_err(|_| io::Error::other("it is damaged; delete it"))?;
    Ok(Some(salt))
}

/// Returns whether a second process is locked out while the first holds the lock. A lock that another process already
/// holds shows the same.
fn locks_hold(path: &Path, file: &File) -> io::Result<bool> {
    let second = private_file::open(path, true)?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => return Ok(true),
        outcome => outcome?,
    }
    let kept_out = matches!(second.try_lock(), Err(TryLockError::WouldBlock));
    drop(second);
    file.unlock()?;
    Ok(kept_out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_named_as_ledgers_are_taken_for_old_ledgers() {
        let name = "0123456789abcdef-0123456789abcdef0123456789abcdef.ledger";
        assert!(is_name(name));
        let changed =
            [name.replace('-', ""), name.replace('f', "g"), name.replace(".ledger", ""), name[1..].to_owned()];
        for name in ["salt", "x.ledger", "-.ledger"].into_iter().chain(changed.iter().map(String::as_str)) {
            assert!(!is_name(name), "{name}");
        }
    }
}
