//! Where ledgers are: in a private folder of the system user, on a local disk.

use std::cmp::Reverse;
use std::fs::{self, DirBuilder, File, Metadata, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};
use std::{env, fmt};

use super::User;
use super::format::LONGEST_FILE;
use crate::exhaustion::is_exhaustion;
use crate::{private_file, state_folder};

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
/// File systems whose locks do not work for all processes that have the file open.
const OF_A_NETWORK: [&str; 15] = [
    "9p",
    "afs",
    "autofs",
    "beegfs",
    "ceph",
    "cifs",
    "gfs2",
    "glusterfs",
    "gpfs",
    "lustre",
    "nfs",
    "nfs4",
    "ocfs2",
    "smb3",
    "smbfs",
];
/// File systems implemented by programs are usually network file systems. These are not.
const OF_A_LOCAL_PROGRAM: [&str; 3] = ["fuse.encfs", "fuse.fuse-overlayfs", "fuse.gocryptfs"];

/// Why there is no ledger.
#[derive(Debug)]
pub(super) struct Unusable {
    why: String,
    /// Whether the system lacked a resource for a moment, so that the ledger may be usable later.
    pub(super) is_passing: bool,
}

impl Unusable {
    pub(super) fn new(why: impl Into<String>) -> Self {
        Self { why: why.into(), is_passing: false }
    }

    /// Adds the error of the system to what failed.
    pub(super) fn of(what: impl fmt::Display, error: &io::Error) -> Self {
        Self { why: format!("{what}: {error}"), is_passing: is_passing(error) }
    }

    /// Adds the file.
    pub(super) fn at(self, path: &Path) -> Self {
        Self { why: format!("{}: {}", path.display(), self.why), ..self }
    }
}

impl fmt::Display for Unusable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.why)
    }
}

/// Returns whether the system lacked a resource that it may have later: a file descriptor, room on the disk or memory.
fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, OutOfMemory, QuotaExceeded, StorageFull, WouldBlock};
    matches!(error.kind(), Interrupted | OutOfMemory | QuotaExceeded | StorageFull | WouldBlock) || is_exhaustion(error)
}

fn because(path: &Path, reason: impl fmt::Display) -> Unusable {
    Unusable::new(format!("{}: {reason}", path.display()))
}

fn refused(path: &Path, error: &io::Error) -> Unusable {
    Unusable::of(path.display(), error)
}

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
    if is_on_a_network(&folder).is_some() || check_folder(&folder).is_err() {
        return Vec::new();
    }
    let Ok(Some(salt)) = read_salt(&folder.join(SALT)) else { return Vec::new() };
    let prefix = prefix(&salt);
    let named = ledgers(&folder).into_iter().map(|(_, path)| path);
    let named = named.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix)));
    named.filter_map(|path| private_file::open(&path, true).ok().filter(|file| check_file(file).is_ok())).collect()
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

/// The state directory comes first: a cron job has no runtime directory, and must share the count with a notebook that
/// has one. The state directory also survives a reboot. The runtime directory is the fallback if the home directory is
/// not writable or is on a network.
pub(super) fn folders() -> Vec<PathBuf> {
    if let Some(folder) = state_folder::chosen() {
        return vec![folder];
    }
    let runtime = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
    [state_folder::usual(), runtime.map(|folder| folder.join("replyio"))].into_iter().flatten().collect()
}

fn open_in(folder: &Path, user: &User) -> Result<(File, PathBuf), Unusable> {
    let folder = folder.join(FOLDER);
    // This comes first, because access to an unreachable server would block.
    if let Some(kind) = is_on_a_network(&folder) {
        return Err(because(&folder, format_args!("it is on a network file system ({kind})")));
    }
    make_folder(&folder).map_err(|error| refused(&folder, &error))?;
    check_folder(&folder).map_err(|reason| because(&folder, reason))?;
    if let Some(kind) = fs::canonicalize(&folder).ok().and_then(|folder| is_on_a_network(&folder)) {
        return Err(because(&folder, format_args!("it is on a network file system ({kind})")));
    }
    let salt = salt(&folder).map_err(|error| refused(&folder.join(SALT), &error))?;
    let path = folder.join(user.file_name(&salt));
    let file = open_or_create(&folder, &path).map_err(|error| refused(&path, &error))?;
    check_file(&file).map_err(|reason| because(&path, reason))?;
    match locks_hold(&path, &file) {
        Ok(true) => Ok((file, path)),
        Ok(false) => Err(because(&path, "two processes can lock it at the same time")),
        Err(error) => Err(refused(&path, &error)),
    }
}

/// Returns whether a path is a folder that belongs only to this user. A link is not.
fn check_folder(folder: &Path) -> Result<(), String> {
    let found = fs::symlink_metadata(folder).map_err(|error| error.to_string())?;
    if !found.is_dir() {
        return Err("it is not a directory".to_owned());
    }
    is_private(&found).map_err(ToOwned::to_owned)
}

/// Returns whether an open file can be a ledger of this user.
fn check_file(file: &File) -> Result<(), String> {
    let found = file.metadata().map_err(|error| error.to_string())?;
    is_private(&found)?;
    // Someone may need it under its other name.
    if private_file::links(&found) > 1 {
        return Err("it has a second name (a hard link)".to_owned());
    }
    if found.len() > LONGEST_FILE {
        return Err("it is not a quota file: it is too long".to_owned());
    }
    Ok(())
}

fn make_folder(folder: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// Returns whether a file or a folder belongs to this process's user and no other user can access it.
#[cfg(unix)]
fn is_private(found: &Metadata) -> Result<(), &'static str> {
    use std::os::unix::fs::MetadataExt;
    if found.uid() != rustix::process::geteuid().as_raw() {
        return Err("it belongs to another user");
    }
    if found.mode() & 0o077 != 0 {
        return Err("other users can access it; its mode must be 0700 for a directory or 0600 for a file");
    }
    Ok(())
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "as on Unix")]
fn is_private(_found: &Metadata) -> Result<(), &'static str> {
    Ok(())
}

fn open_or_create(folder: &Path, path: &Path) -> io::Result<File> {
    match private_file::open(path, true) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        outcome => return outcome,
    }
    remove_old(folder);
    match private_file::create(path) {
        // Another process was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => private_file::open(path, true),
        outcome => outcome,
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

/// Returns the kind of a folder's file system, if it is a network file system and the system reports it. Reads only
/// `/proc`.
fn is_on_a_network(folder: &Path) -> Option<String> {
    let folder = std::path::absolute(folder).ok()?;
    kind_in(&fs::read_to_string("/proc/self/mountinfo").ok()?, &folder).filter(|kind| is_of_a_network(kind))
}

fn is_of_a_network(kind: &str) -> bool {
    OF_A_NETWORK.contains(&kind) || (kind.starts_with("fuse.") && !OF_A_LOCAL_PROGRAM.contains(&kind))
}

/// Returns the kind from the list of mounts. The last entry with the longest path applies.
fn kind_in(mounts: &str, folder: &Path) -> Option<String> {
    let mount = |line: &str| {
        let (place, kind) = line.split_once(" - ")?;
        let path = place.split(' ').nth(4)?.replace("\\040", " ");
        let kind = kind.split(' ').next()?.to_owned();
        folder.starts_with(&path).then_some((path.len(), kind))
    };
    mounts.lines().filter_map(mount).max_by_key(|(length, _)| *length).map(|(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_system_of_a_folder_is_that_of_its_nearest_mount() {
        let mounts = "1 0 8:1 / / rw - ext4 /dev/a rw\n2 1 0:5 / /srv rw shared:1 - nfs4 server:/srv rw\n\
            3 2 0:6 / /srv/a\\040b rw - tmpfs tmpfs rw\n";
        for (folder, kind) in
            [("/var/x", "ext4"), ("/srv/anna/.local", "nfs4"), ("/srvs", "ext4"), ("/srv/a b/c", "tmpfs")]
        {
            assert_eq!(kind_in(mounts, Path::new(folder)).as_deref(), Some(kind), "{folder}");
        }
        assert_eq!(kind_in("", Path::new("/")), None);
        for (kind, expected) in
            [("nfs4", true), ("ext4", false), ("fuse.sshfs", true), ("fuse.fuse-overlayfs", false), ("fuseblk", false)]
        {
            assert_eq!(is_of_a_network(kind), expected, "{kind}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_lack_of_descriptors_room_or_memory_passes_and_a_refusal_does_not() {
        let is_passing = |number| Unusable::of("its file", &io::Error::from_raw_os_error(number)).is_passing;
        for number in [libc::EMFILE, libc::ENFILE, libc::ENOSPC, libc::EDQUOT, libc::EINTR, libc::ENOMEM] {
            assert!(is_passing(number), "{number}");
        }
        for number in [libc::EACCES, libc::EROFS, libc::ELOOP, libc::ENOENT, libc::EIO, libc::ENOTSUP] {
            assert!(!is_passing(number), "{number}");
        }
    }

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
