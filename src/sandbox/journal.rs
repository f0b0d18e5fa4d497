//! The file that keeps a sandbox's accounts: an append-only journal of JSON lines.
//!
//! The first line identifies the file. Every other line is one stored account or one removal, with a checksum. An
//! answered update survives `kill -9`: each line is passed to the system before the answer is sent. A power failure may
//! lose the newest lines, because a test double does not wait for the disk.

use std::fs::{File, TryLockError};
use std::io::{self, Read, Write};
use std::path::Path;

use serde_json::{Value, json};

use super::SandboxError;
use super::accounts::{Accounts, Shown};
use crate::account::ContactAccount;
use crate::private_file;

const HEAD: &str = r#"{"replyio":"sandbox accounts","version":1}"#;
const BEFORE_SUM: &str = r#"{"sum":""#;
const AFTER_SUM: &str = r#"","entry":"#;
const SUM_DIGITS: usize = 16;

/// An open journal.
#[derive(Debug)]
pub(super) struct Journal {
    file: File,
    length: u64,
}

impl Journal {
    /// Opens the file, or creates it with the initial accounts. Compacts the journal to one line per account, with an
    /// atomic rename.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read or written, belongs to another program, is in use by another
    /// sandbox, or is damaged anywhere but in an incomplete last line.
    pub(super) fn open(path: &Path, initial: Accounts) -> Result<(Self, Accounts), SandboxError> {
        let failed = |source| SandboxError::File { path: path.to_owned(), source };
        // Locked until its successor has the name and its own lock.
        let mut before = open_locked(path).map_err(failed)?;
        let mut bytes = Vec::new();
        before.read_to_end(&mut bytes).map_err(failed)?;
        let accounts = if bytes.is_empty() {
            initial
        } else {
            read(&bytes).map_err(|(line, reason)| SandboxError::Damaged { path: path.to_owned(), line, reason })?
        };
        let journal = Self::replace(path, &accounts).map_err(failed)?;
        Ok((journal, accounts))
    }

    /// Releases the file for another sandbox. A forked child shares the lock, so it does not end with this process
    /// alone.
    pub(super) fn unlock(&self) {
        let _ = self.file.unlock();
    }

    fn replace(path: &Path, accounts: &Accounts) -> io::Result<Self> {
        let mut text = format!("{HEAD}\n");
        for account in accounts.iter() {
            text.push_str(&line(&put(account)));
        }
        let file = private_file::replace(path, |file| {
            lock(file)?;
            file.write_all(text.as_bytes())
        })?;
        let length = u64::try_from(text.len()).unwrap_or(u64::MAX);
        Ok(Self { file, length })
    }

    pub(super) fn put(&mut self, account: &ContactAccount) -> io::Result<()> {
        self.append(&put(account))
    }

    pub(super) fn remove(&mut self, id: i64) -> io::Result<()> {
        self.append(&json!({"remove": id}))
    }

    fn append(&mut self, entry: &Value) -> io::Result<()> {
        let line = line(entry);
        if let Err(error) = self.file.write_all(line.as_bytes()) {
            // A partial line in the middle of the file would be damage at the next start.
            self.file.set_len(self.length)?;
            io::Seek::seek(&mut self.file, io::SeekFrom::End(0))?;
            return Err(error);
        }
        self.length += u64::try_from(line.len()).unwrap_or_default();
        Ok(())
    }
}

/// Opens the file, or creates an empty one, and locks out other sandboxes.
fn open_locked(path: &Path) -> io::Result<File> {
    loop {
        let file = match private_file::open(path, false) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => match private_file::create(path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                made => made?,
            },
            opened => opened?,
        };
        lock(&file)?;
        // Another sandbox may have replaced the file, and stopped, after this one opened it.
        if private_file::is_at(&file, path)? {
            return Ok(file);
        }
    }
}

fn lock(file: &File) -> io::Result<()> {
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => {
            Err(io::Error::other("another sandbox uses it; stop that one, or choose another path"))
        }
        // Not every file system has locks.
        Err(TryLockError::Error(error)) if error.kind() != io::ErrorKind::Unsupported => Err(error),
        _ => Ok(()),
    }
}

fn put(account: &ContactAccount) -> Value {
    json!({"put": Shown::detailed(account)})
}

fn line(entry: &Value) -> String {
    let entry = entry.to_string();
    format!("{BEFORE_SUM}{:016x}{AFTER_SUM}{entry}}}\n", sum(entry.as_bytes()))
}

/// FNV-1a: detects damage, not an attacker.
fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Reads a whole journal; the fault is told with the number of its line.
fn read(bytes: &[u8]) -> Result<Accounts, (usize, &'static str)> {
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let text = bytes.get(..whole).unwrap_or_default();
    let mut lines = text.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end).enumerate();
    if !matches!(lines.next(), Some((_, head)) if head == HEAD.as_bytes()) {
        return Err((1, "this is not a file of sandbox accounts"));
    }
    let mut accounts = Accounts::default();
    for (index, line) in lines {
        read_line(line, &mut accounts).map_err(|reason| (index + 1, reason))?;
    }
    Ok(accounts)
}

fn read_line(line: &[u8], accounts: &mut Accounts) -> Result<(), &'static str> {
    let line = str::from_utf8(line).map_err(|_| "not UTF-8")?;
    let parts = line.strip_prefix(BEFORE_SUM).and_then(|rest| rest.strip_suffix('}'));
    let parts = parts.and_then(|rest| rest.split_at_checked(SUM_DIGITS));
    let (digits, rest) = parts.ok_or("not a line of this journal")?;
    let entry = rest.strip_prefix(AFTER_SUM).ok_or("not a line of this journal")?;
    if u64::from_str_radix(digits, 16) != Ok(sum(entry.as_bytes())) {
        return Err("the text does not match its checksum");
    }
    let mut entry: Value = serde_json::from_str(entry).map_err(|_| "not JSON")?;
    if let Some(account) = entry.get_mut("put").map(Value::take) {
        accounts.insert(serde_json::from_value(account).map_err(|_| "not an account")?);
    } else if let Some(id) = entry.get("remove").and_then(Value::as_i64) {
        accounts.remove(id);
    } else {
        return Err("neither an account nor a removal");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::seed::account_from_json;

    fn account(id: i64, name: &str) -> ContactAccount {
        account_from_json(&json!({"id": id, "name": name})).unwrap()
    }

    fn journal() -> Vec<u8> {
        let mut text = format!("{HEAD}\n");
        for entry in [
            json!({"put": account(1, "Acme")}),
            json!({"put": account(2, "Globex")}),
            json!({"put": account(1, "Acme again")}),
            json!({"remove": 2}),
        ] {
            text.push_str(&line(&entry));
        }
        text.into_bytes()
    }

    #[test]
    fn the_last_word_on_an_account_counts() {
        let accounts = read(&journal()).unwrap();
        assert_eq!(accounts.iter().map(|account| account.name.as_str()).collect::<Vec<_>>(), ["Acme again"]);
    }

    #[test]
    fn a_torn_last_line_is_dropped_wherever_it_tore() {
        let whole = journal();
        let last = whole[..whole.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
        for end in last..whole.len() {
            assert_eq!(read(&whole[..end]).unwrap().iter().count(), 2, "cut at {end}");
        }
    }

    #[test]
    fn a_changed_byte_anywhere_else_is_refused() {
        let whole = journal();
        for index in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[index] ^= 1;
            let torn = index == whole.len() - 1;
            assert_eq!(read(&damaged).is_err(), !torn, "byte {index}");
        }
    }
}
