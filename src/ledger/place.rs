//! Where ledgers are: in a private folder of the system's user, on a disk of this machine.

use std::fs::{self, DirBuilder, File, Metadata};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{env, fmt};

use super::format::LONGEST_FILE;
use crate::private_file;

const SALT: &str = "salt";
const SALT_LENGTH: usize = 32;
/// No ledger says anything about a request that is older.
const KEPT: Duration = Duration::from_secs(86_400);
/// How many files of a folder are looked at for old ones.
const MOST_LOOKED_AT: usize = 1_000;
/// File systems whose locks do not reach, or do not hold, everybody who has the file open.
const OF_A_NETWORK: [&str; 16] = [
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "9p",
    "afs",
    "ceph",
    "lustre",
    "gpfs",
    "beegfs",
    "fuse.sshfs",
    "fuse.s3fs",
    "fuse.glusterfs",
    "fuse.ceph",
    "fuse.rclone",
];

/// Why there is no ledger.
#[derive(Debug)]
pub(super) struct Unusable(pub(super) String);

impl fmt::Display for Unusable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

fn because(path: &Path, reason: impl fmt::Display) -> Unusable {
    Unusable(format!("{}: {reason}", path.display()))
}

/// Opens the ledger whose name is made from the salt of its folder: in the folder given, or in the first that can be used.
pub(super) fn open(folder: Option<&Path>, name: impl Fn(&[u8]) -> String) -> Result<File, Unusable> {
    let mut refused = Unusable("there is no folder for it: set REPLYIO_STATE_DIR".to_owned());
    for folder in folder.map_or_else(folders, |folder| vec![folder.to_owned()]) {
        match open_in(&folder, &name) {
            Ok(file) => return Ok(file),
            Err(unusable) => refused = unusable,
        }
    }
    Err(refused)
}

/// The state folder comes first: a job of cron has no runtime folder, and both are to count together. It outlives a reboot
/// too. The runtime folder serves those whose home cannot be written or is on a network.
fn folders() -> Vec<PathBuf> {
    let variable = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    if let Some(folder) = env::var_os("REPLYIO_STATE_DIR").filter(|folder| !folder.is_empty()) {
        return vec![PathBuf::from(folder)];
    }
    let state = if cfg!(windows) {
        variable("LOCALAPPDATA")
    } else if cfg!(target_os = "macos") {
        variable("HOME").map(|home| home.join("Library/Application Support"))
    } else {
        variable("XDG_STATE_HOME").or_else(|| variable("HOME").map(|home| home.join(".local/state")))
    };
    [state, variable("XDG_RUNTIME_DIR")].into_iter().flatten().map(|folder| folder.join("replyio")).collect()
}

fn open_in(folder: &Path, name: &impl Fn(&[u8]) -> String) -> Result<File, Unusable> {
    let folder = folder.join("quota");
    make_folder(&folder).map_err(|error| because(&folder, error))?;
    // Nothing on the way to it may be somebody else's link; what `folder` itself is, is looked at below.
    let owner = fs::symlink_metadata(&folder).map_err(|error| because(&folder, error))?;
    if !owner.is_dir() {
        return Err(because(&folder, "it is not a folder"));
    }
    is_private(&owner, None).map_err(|reason| because(&folder, reason))?;
    if let Some(kind) = kind_of_file_system(&folder).filter(|kind| OF_A_NETWORK.contains(&kind.as_str())) {
        return Err(because(&folder, format_args!("it is on a file system of a network ({kind})")));
    }
    let salt = salt(&folder).map_err(|error| because(&folder.join(SALT), error))?;
    let path = folder.join(name(&salt));
    let file = open_or_create(&folder, &path).map_err(|error| because(&path, error))?;
    let found = file.metadata().map_err(|error| because(&path, error))?;
    is_private(&found, Some(&owner)).map_err(|reason| because(&path, reason))?;
    if found.len() > LONGEST_FILE {
        return Err(because(&path, "it is no ledger: it is too long"));
    }
    match locks_hold(&path, &file) {
        Ok(true) => Ok(file),
        Ok(false) => Err(because(&path, "two can lock it at the same time")),
        Err(error) => Err(because(&path, error)),
    }
}

fn make_folder(folder: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// Whether only this process's user can reach it, and, for a file, whether it has one name.
#[cfg(unix)]
fn is_private(found: &Metadata, folder: Option<&Metadata>) -> Result<(), &'static str> {
    use std::os::unix::fs::MetadataExt;
    // Who this process is; where the system does not say so, the owner of the folder.
    let me = fs::metadata("/proc/self").ok().map(|me| me.uid()).or_else(|| folder.map(MetadataExt::uid));
    if me.is_some_and(|me| me != found.uid()) {
        return Err("it belongs to somebody else");
    }
    if found.mode() & 0o077 != 0 {
        return Err("others can reach it: its mode must be 0700, or 0600 for a file");
    }
    if folder.is_some() && found.nlink() > 1 {
        return Err("it has a second name");
    }
    Ok(())
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "as on Unix")]
fn is_private(_found: &Metadata, _folder: Option<&Metadata>) -> Result<(), &'static str> {
    Ok(())
}

fn open_or_create(folder: &Path, path: &Path) -> io::Result<File> {
    match private_file::open(path, true) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        outcome => return outcome,
    }
    remove_old(folder);
    match private_file::create(path) {
        // Somebody else was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => private_file::open(path, true),
        outcome => outcome,
    }
}

/// Removes ledgers that say nothing any more: there is one for each key and each address that was ever used.
fn remove_old(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.take(MOST_LOOKED_AT).flatten() {
        let is_ours = entry.file_name().to_str().is_some_and(is_name);
        let Ok(found) = entry.metadata() else { continue };
        let age = found.modified().ok().and_then(|modified| modified.elapsed().ok());
        if is_ours && found.is_file() && age.is_some_and(|age| age > KEPT) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Whether a file is named as ledgers are: 32 hexadecimal digits and an ending.
fn is_name(name: &str) -> bool {
    name.strip_suffix(".ledger")
        .is_some_and(|hash| hash.len() == 32 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Random bytes of this folder, so that the name of a ledger, in a warning for instance, cannot be used to try keys.
fn salt(folder: &Path) -> io::Result<Vec<u8>> {
    let path = folder.join(SALT);
    if let Some(salt) = read_salt(&path)? {
        return Ok(salt);
    }
    let mut salt = [0; SALT_LENGTH];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut salt)
        .map_err(|_| io::Error::other("the system gives no random numbers"))?;
    let beside = folder.join(format!("{SALT}.{:016x}", fastrand::u64(..)));
    let mut file = private_file::create(&beside)?;
    // A link and no rename: the first one stays.
    let placed = file.write_all(&salt).and_then(|()| fs::hard_link(&beside, &path));
    let _ = fs::remove_file(&beside);
    match placed {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => read_salt(&path)?.ok_or_else(|| io::Error::other("it is gone again")),
    }
}

fn read_salt(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let mut file = match private_file::open(path, false) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        outcome => outcome?,
    };
    // While it is made it has two names.
    is_private(&file.metadata()?, None).map_err(io::Error::other)?;
    let mut salt = vec![0; SALT_LENGTH];
    file.read_exact(&mut salt).map_err(|_| io::Error::other("it is damaged: delete it"))?;
    Ok(Some(salt))
}

/// Whether a second one is kept out while the first has the lock. Somebody else may have it already, which shows the same.
fn locks_hold(path: &Path, file: &File) -> io::Result<bool> {
    let second = private_file::open(path, true)?;
    match file.try_lock() {
        Err(fs::TryLockError::WouldBlock) => return Ok(true),
        outcome => outcome?,
    }
    let kept_out = matches!(second.try_lock(), Err(fs::TryLockError::WouldBlock));
    drop(second);
    file.unlock()?;
    Ok(kept_out)
}

/// The kind of file system that a folder is on, where the system says so.
fn kind_of_file_system(folder: &Path) -> Option<String> {
    let folder = fs::canonicalize(folder).ok()?;
    kind_in(&fs::read_to_string("/proc/self/mountinfo").ok()?, &folder)
}

/// The kind in the list of mounts, of which the last of the longest path counts.
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
        let mounts = "1 0 8:1 / / rw - ext4 /dev/a rw\n2 1 0:5 / /home rw shared:1 - nfs4 server:/home rw\n\
            3 2 0:6 / /home/a\\040b rw - tmpfs tmpfs rw\n";
        for (folder, kind) in
            [("/var/x", "ext4"), ("/home/anna/.local", "nfs4"), ("/homes", "ext4"), ("/home/a b/c", "tmpfs")]
        {
            assert_eq!(kind_in(mounts, Path::new(folder)).as_deref(), Some(kind), "{folder}");
        }
        assert_eq!(kind_in("", Path::new("/")), None);
        assert!(OF_A_NETWORK.contains(&"nfs4"));
    }

    #[test]
    fn only_files_named_as_ledgers_are_taken_for_old_ledgers() {
        assert!(is_name("0123456789abcdef0123456789abcdef.ledger"));
        for name in ["salt", "x.ledger", "0123456789abcdef0123456789abcdez.ledger", "0123456789abcdef0123456789abcdef"]
        {
            assert!(!is_name(name), "{name}");
        }
    }
}
