//! Opens files without blocking, and creates files that only their owner can read, without following a link.
//!
//! All files of this crate go through here: a name in a folder may be a trap (a symbolic link to a valuable file, or a
//! FIFO that blocks the process that opens it).

#[cfg(feature = "sandbox")]
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::Path;
#[cfg(feature = "sandbox")]
use std::path::PathBuf;

/// The most names to try for a temporary file. Each has 64 random bits, so a second one is hardly ever needed.
#[cfg(feature = "sandbox")]
const NAMES: usize = 16;

/// Creates a new file that only its owner can read and write.
///
/// # Errors
/// Returns [`io::ErrorKind::AlreadyExists`] if anything has that name, including a dangling link.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    // `O_EXCL` never opens an existing file, and never follows a link.
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Opens a regular file for reading, and also for writing if `write` is true.
///
/// # Errors
/// Returns an error if the file does not exist, cannot be opened, or is not a regular file but a link, a FIFO, a device
/// or a folder. None of these blocks.
pub(crate) fn open(path: &Path, write: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(write);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NOFOLLOW | libc::O_NONBLOCK);
    #[cfg(not(unix))]
    if fs::symlink_metadata(path)?.is_symlink() {
        return Err(not_regular());
    }
    let file = match options.open(path) {
        Ok(file) => file,
        // The error of `O_NOFOLLOW` for a link is "too many levels of symbolic links", which is misleading.
        Err(error) if fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink()) => {
            return Err(io::Error::new(error.kind(), "it is a symbolic link"));
        }
        Err(error) => return Err(error),
    };
    regular(file)
}

/// Returns whether the rights of a file or a folder keep this process from reading and writing it.
#[cfg(feature = "plan")]
pub(crate) fn is_forbidden(path: &Path) -> bool {
    #[cfg(unix)]
    {
        use nix::errno::Errno;
        use nix::unistd::{AccessFlags, access};
        let refused = access(path, AccessFlags::R_OK | AccessFlags::W_OK).err();
        matches!(refused, Some(Errno::EACCES | Errno::EPERM | Errno::EROFS))
    }
    #[cfg(not(unix))]
    fs::metadata(path).is_ok_and(|found| found.permissions().readonly())
}

/// Returns whether a path leads to this file.
///
/// # Errors
/// Returns an error if the file's metadata cannot be read.
#[cfg(feature = "sandbox")]
pub(crate) fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let open = file.metadata()?;
        Ok(fs::symlink_metadata(path).is_ok_and(|found| (found.dev(), found.ino()) == (open.dev(), open.ino())))
    }
    // On this system an open file cannot be replaced.
    #[cfg(not(unix))]
    file.metadata().map(|_| path.exists())
}

/// Returns the number of names of a file: 0 if it was deleted while it was open.
#[cfg(unix)]
pub(crate) fn links(found: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::nlink(found)
}

/// On this system an open file cannot be deleted, and other names are not counted.
#[cfg(not(unix))]
pub(crate) fn links(_found: &fs::Metadata) -> u64 {
    1
}

/// Opens a regular file of the user for reading. Follows a link to one.
///
/// # Errors
/// Returns an error if the file does not exist, cannot be opened, or is not a regular file. None of these blocks.
pub(crate) fn open_linked(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NONBLOCK);
    regular(options.open(path)?)
}

/// Returns the file if it is a regular file.
fn regular(file: File) -> io::Result<File> {
    match file.metadata()?.file_type() {
        found if found.is_file() => Ok(file),
        #[cfg(unix)]
        found if found.is_dir() => Err(io::Error::from_raw_os_error(libc::EISDIR)),
        _ => Err(not_regular()),
    }
}

fn not_regular() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file")
}

/// Replaces a file completely or not at all: writes it under a random name next to it, flushes it to the disk, and
/// renames it. Replaces an existing file; replaces a link itself, not its target.
///
/// # Errors
/// Returns an error if the file cannot be written. The old content then stays, and no other file is left.
#[cfg(feature = "sandbox")]
pub(crate) fn replace(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<File> {
    let (beside, mut file) = create_beside(path)?;
    let placed = write(&mut file).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&beside, path));
    if let Err(error) = placed {
        let _ = fs::remove_file(&beside);
        return Err(error);
    }
    sync_folder(path);
    Ok(file)
}

/// Creates a file with a random name in the folder of `path`.
#[cfg(feature = "sandbox")]
fn create_beside(path: &Path) -> io::Result<(PathBuf, File)> {
    let name =
        path.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path has no file name"))?;
    let mut last = None;
    for _ in 0..NAMES {
        let mut beside = OsString::from(".");
        beside.push(name);
        beside.push(format!(".{:016x}", fastrand::u64(..)));
        let beside = path.with_file_name(beside);
        match create(&beside) {
            Ok(file) => return Ok((beside, file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => last = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(last.unwrap_or_else(not_regular))
}

/// Makes a rename or a new file durable. Not every file system can do that, and the file is complete either way.
#[cfg(all(unix, any(feature = "plan", feature = "sandbox")))]
pub(crate) fn sync_folder(path: &Path) {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
}

#[cfg(all(not(unix), any(feature = "plan", feature = "sandbox")))]
pub(crate) fn sync_folder(_path: &Path) {}

#[cfg(all(unix, feature = "sandbox"))]
#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::process::Command;

    use tempfile::TempDir;

    use super::*;

    struct Folder(TempDir);

    impl Folder {
        fn new() -> Self {
            Self(TempDir::with_prefix("replyio-private-").unwrap())
        }

        fn at(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn names(&self) -> Vec<String> {
            let mut names: Vec<String> = fs::read_dir(self.0.path())
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        }
    }

    fn write(path: &Path, content: &[u8]) -> io::Result<()> {
        replace(path, |file| file.write_all(content)).map(drop)
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_new_file_is_readable_by_its_owner_alone_and_never_follows_a_dangling_link() {
        let folder = Folder::new();
        create(&folder.at("new")).unwrap();
        assert_eq!(mode(&folder.at("new")), 0o600);
        symlink(folder.at("target"), folder.at("link")).unwrap();
        for name in ["new", "link"] {
            assert_eq!(create(&folder.at(name)).unwrap_err().kind(), io::ErrorKind::AlreadyExists, "{name}");
        }
        assert!(!folder.at("target").exists());
    }

    #[test]
    fn replacing_a_link_leaves_what_it_points_to_and_whatever_else_has_a_name_nearby() {
        let folder = Folder::new();
        fs::write(folder.at("precious"), "keep me").unwrap();
        symlink("precious", folder.at("file")).unwrap();
        symlink("precious", folder.at("file.new")).unwrap();
        write(&folder.at("file"), b"new").unwrap();
        assert_eq!(fs::read_to_string(folder.at("precious")).unwrap(), "keep me");
        assert!(!fs::symlink_metadata(folder.at("file")).unwrap().is_symlink());
        assert_eq!((fs::read_to_string(folder.at("file")).unwrap(), mode(&folder.at("file"))), ("new".into(), 0o600));
        assert_eq!(folder.names(), ["file", "file.new", "precious"]);
    }

    #[test]
    fn a_write_that_fails_leaves_what_was_there_and_nothing_beside_it() {
        let folder = Folder::new();
        write(&folder.at("file"), b"old").unwrap();
        let failed = replace(&folder.at("file"), |file| {
            file.write_all(b"half")?;
            Err(io::Error::other("no room"))
        });
        assert_eq!(failed.unwrap_err().to_string(), "no room");
        assert_eq!(fs::read_to_string(folder.at("file")).unwrap(), "old");
        assert_eq!(folder.names(), ["file"]);
    }

    #[test]
    fn only_a_regular_file_is_opened_and_nothing_blocks() {
        let folder = Folder::new();
        write(&folder.at("file"), b"x").unwrap();
        symlink("file", folder.at("link")).unwrap();
        symlink("nothing", folder.at("dangling")).unwrap();
        fs::create_dir(folder.at("folder")).unwrap();
        assert!(Command::new("mkfifo").arg(folder.at("fifo")).status().unwrap().success());
        assert!(open(&folder.at("file"), true).is_ok());
        for name in ["link", "dangling", "folder", "fifo", "missing"] {
            assert!(open(&folder.at(name), false).is_err(), "{name}");
        }
        assert!(open(&folder.at("link"), false).unwrap_err().to_string().contains("symbolic link"));
        assert!(!folder.at("nothing").exists());
    }
}
