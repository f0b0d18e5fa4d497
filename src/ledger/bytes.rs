//! Reads and writes bytes at positions of a file, independent of the file's own position.

use std::fs::File;
use std::io;

/// The storage of a ledger.
pub(super) trait Disk {
    /// Returns the bytes of a part, fewer at its end.
    fn read_part(&self, offset: u64, length: usize) -> io::Result<Vec<u8>>;

    /// Writes bytes at a position.
    fn write_part(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
}

impl Disk for File {
    fn read_part(&self, mut offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        let mut read = 0;
        while let Some(rest) = bytes.get_mut(read..).filter(|rest| !rest.is_empty()) {
            #[cfg(unix)]
            let count = std::os::unix::fs::FileExt::read_at(self, rest, offset)?;
            #[cfg(windows)]
            let count = std::os::windows::fs::FileExt::seek_read(self, rest, offset)?;
            if count == 0 {
                break;
            }
            read += count;
            offset += count as u64;
        }
        bytes.truncate(read);
        Ok(bytes)
    }

    fn write_part(&self, mut offset: u64, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            #[cfg(unix)]
            let count = std::os::unix::fs::FileExt::write_at(self, bytes, offset)?;
            #[cfg(windows)]
            let count = std::os::windows::fs::FileExt::seek_write(self, bytes, offset)?;
            if count == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            bytes = bytes.get(count..).unwrap_or_default();
            offset += count as u64;
        }
        Ok(())
    }
}
