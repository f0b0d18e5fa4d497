//! Bytes in a file by their place, whatever the file's own position is.

use std::fs::File;
use std::io;

/// What a ledger is kept in.
pub(super) trait Disk {
    /// The bytes of a part, fewer where it ends.
    fn read_part(&self, offset: u64, length: usize) -> io::Result<Vec<u8>>;

    /// Writes bytes to a place.
    fn write_part(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
}

impl Disk for File {
    fn read_part(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        read_at(self, offset, length)
    }

    fn write_part(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        write_at(self, offset, bytes)
    }
}

fn read_at(file: &File, mut offset: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    let mut read = 0;
    while let Some(rest) = bytes.get_mut(read..).filter(|rest| !rest.is_empty()) {
        #[cfg(unix)]
        let count = std::os::unix::fs::FileExt::read_at(file, rest, offset)?;
        #[cfg(windows)]
        let count = std::os::windows::fs::FileExt::seek_read(file, rest, offset)?;
        if count == 0 {
            break;
        }
        read += count;
        offset += count as u64;
    }
    bytes.truncate(read);
    Ok(bytes)
}

fn write_at(file: &File, mut offset: u64, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        #[cfg(unix)]
        let count = std::os::unix::fs::FileExt::write_at(file, bytes, offset)?;
        #[cfg(windows)]
        let count = std::os::windows::fs::FileExt::seek_write(file, bytes, offset)?;
        if count == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        bytes = bytes.get(count..).unwrap_or_default();
        offset += count as u64;
    }
    Ok(())
}

/// Whether others can still find a file by its name.
#[cfg(unix)]
pub(super) fn has_its_name(file: &File) -> bool {
    file.metadata().is_ok_and(|found| std::os::unix::fs::MetadataExt::nlink(&found) > 0)
}

/// Whether others can still find a file by its name: here nobody can delete an open file.
#[cfg(not(unix))]
pub(super) fn has_its_name(_file: &File) -> bool {
    true
}
