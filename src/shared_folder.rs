//! A private folder of the system user on a local disk, for files that its processes share.

use std::fs::{self, DirBuilder, File, Metadata};
use std::path::{Path, PathBuf};
use std::{env, fmt, io};

use crate::exhaustion::is_exhaustion;
use crate::{private_file, state_folder};

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

/// Why a shared file is not usable.
#[derive(Debug)]
pub(crate) struct Unusable {
    why: String,
    /// Whether the system lacked a resource for a moment, so that the file may be usable later.
    pub(crate) is_passing: bool,
}

impl Unusable {
    pub(crate) fn new(why: impl Into<String>) -> Self {
        Self { why: why.into(), is_passing: false }
    }

    /// Adds the error of the system to what failed.
    pub(crate) fn of(what: impl fmt::Display, error: &io::Error) -> Self {
        Self { why: format!("{what}: {error}"), is_passing: is_passing(error) }
    }

    /// Adds the file.
    pub(crate) fn at(self, path: &Path) -> Self {
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

pub(crate) fn because(path: &Path, reason: impl fmt::Display) -> Unusable {
    Unusable::new(format!("{}: {reason}", path.display()))
}

pub(crate) fn refused(path: &Path, error: &io::Error) -> Unusable {
    Unusable::of(path.display(), error)
}

/// Returns the folders to try, best first.
///
/// The state directory comes first: a cron job has no runtime directory, and must share its files with a notebook that
/// has one. The state directory also survives a reboot. The runtime directory is the fallback if the home directory is
/// not writable or is on a network.
pub(crate) fn candidates() -> Vec<PathBuf> {
    if let Some(folder) = state_folder::chosen() {
        return vec![folder];
    }
    let runtime = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
    [state_folder::usual(), runtime.map(|folder| folder.join("replyio"))].into_iter().flatten().collect()
}

/// Creates a folder if it does not exist, and checks that only this user can access it and that locks work in it.
pub(crate) fn prepare(folder: &Path) -> Result<(), Unusable> {
    // This comes first, because access to an unreachable server would block.
    if let Some(kind) = is_on_a_network(folder) {
        return Err(because(folder, format_args!("it is on a network file system ({kind})")));
    }
    make_folder(folder).map_err(|error| refused(folder, &error))?;
    check_folder(folder).map_err(|reason| because(folder, reason))?;
    if let Some(kind) = fs::canonicalize(folder).ok().and_then(|folder| is_on_a_network(&folder)) {
        return Err(because(folder, format_args!("it is on a network file system ({kind})")));
    }
    Ok(())
}

/// Opens a file, or creates it. Only its owner can read and write it.
pub(crate) fn open_or_create(path: &Path, before: impl FnOnce()) -> io::Result<File> {
    match private_file::open(path, true) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        outcome => return outcome,
    }
    before();
    match private_file::create(path) {
        // Another process was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => private_file::open(path, true),
        outcome => outcome,
    }
}

/// Returns whether an open file can be a shared file of this user, at most `longest` bytes long.
pub(crate) fn check_file(file: &File, longest: u64) -> Result<(), String> {
    let found = file.metadata().map_err(|error| error.to_string())?;
    is_private(&found)?;
    // Someone may need it under its other name.
    if private_file::links(&found) > 1 {
        return Err("it has a second name (a hard link)".to_owned());
    }
    if found.len() > longest {
        return Err("it is too long".to_owned());
    }
    Ok(())
}

/// Returns whether a path is a folder that belongs only to this user. A link is not.
pub(crate) fn check_folder(folder: &Path) -> Result<(), String> {
    let found = fs::symlink_metadata(folder).map_err(|error| error.to_string())?;
    if !found.is_dir() {
        return Err("it is not a directory".to_owned());
    }
    is_private(&found).map_err(ToOwned::to_owned)
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
pub(crate) fn is_private(found: &Metadata) -> Result<(), &'static str> {
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
pub(crate) fn is_private(_found: &Metadata) -> Result<(), &'static str> {
    Ok(())
}

/// Returns the kind of a folder's file system, if it is a network file system and the system reports it. Reads only
/// `/proc`.
pub(crate) fn is_on_a_network(folder: &Path) -> Option<String> {
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
}
