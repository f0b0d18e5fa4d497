//! The byte format of a ledger file. Pure.
//!
//! A header of 64 bytes, then two areas of records. Records are appended to one area, and the header contains how many
//! count. When the area is full, the records that still count are written to the other one, and the header switches to
//! it. A process that is killed between the two writes has changed nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::quota::Edit;

const MAGIC: [u8; 8] = *b"rplyqta1";
pub(super) const HEADER_LENGTH: usize = 64;
const RECORD_LENGTH: usize = 24;
/// The latest time of a clock: the year 2255, in microseconds since 1970.
const LATEST: u64 = 9_000_000_000_000_000;
/// The number of records in an area.
pub(super) const CAPACITY: u32 = 8_192;
/// The length of a file with two full areas.
pub(super) const LONGEST_FILE: u64 = HEADER_LENGTH as u64 + 2 * CAPACITY as u64 * RECORD_LENGTH as u64;

/// The state of the whole ledger. Times are in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Header {
    /// Changes when the records are written again. Its last bit selects the area.
    pub epoch: u64,
    /// The number of records of the area that count.
    pub count: u32,
    /// The ledger's time at the last change.
    pub last: u64,
    /// The offset of the ledger's clock from the system's.
    pub ahead: u64,
    /// The boot from which the system's clock counts.
    pub boot: u64,
    /// The moment until which the service asked to wait, on the quota's clock.
    pub held_until: u64,
}

/// The content of the first bytes of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    Header(Header),
    /// Nothing was ever written, or nothing is left: the bytes have no meaning.
    Nothing,
    /// A header whose bytes have changed.
    Damaged,
    /// Something that this crate did not write.
    Foreign,
}

impl Header {
    pub(super) fn to_bytes(self) -> [u8; HEADER_LENGTH] {
        let mut bytes = [0; HEADER_LENGTH];
        let parts = [
            &MAGIC[..],
            &self.epoch.to_le_bytes(),
            &self.last.to_le_bytes(),
            &self.ahead.to_le_bytes(),
            &self.held_until.to_le_bytes(),
            &self.count.to_le_bytes(),
            &self.boot.to_le_bytes(),
        ];
        fill(&mut bytes, &parts);
        seal(&mut bytes);
        bytes
    }

    pub(super) fn read(bytes: &[u8]) -> Found {
        if bytes.iter().all(|byte| *byte == 0) {
            return Found::Nothing;
        }
        if !bytes.starts_with(&MAGIC) {
            return Found::Foreign;
        }
        if bytes.len() != HEADER_LENGTH || !is_sealed(bytes) {
            return Found::Damaged;
        }
        let header = Self {
            epoch: number(bytes, 8),
            last: number(bytes, 16),
            ahead: number(bytes, 24),
            held_until: number(bytes, 32),
            boot: number(bytes, 44),
            count: u32::try_from(number(bytes, 40) & u64::from(u32::MAX)).unwrap_or(u32::MAX),
        };
        let is_possible = header.count <= CAPACITY && header.last <= LATEST && header.ahead <= LATEST;
        if is_possible { Found::Header(header) } else { Found::Damaged }
    }

    /// The position of a record in the file.
    pub(super) fn offset(self, record: u32) -> u64 {
        let area = (self.epoch & 1) * u64::from(CAPACITY);
        HEADER_LENGTH as u64 + (area + u64::from(record)) * RECORD_LENGTH as u64
    }
}

/// The length of a number of records, in bytes.
pub(super) fn length(records: u32) -> usize {
    records as usize * RECORD_LENGTH
}

/// The id for processes of other machines. No process has this id.
pub(super) const ELSEWHERE: u32 = 0;

/// A change, with its process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record {
    pub edit: Edit,
    pub process: u32,
}

impl Record {
    pub(super) fn append_to(self, bytes: &mut Vec<u8>) {
        let mut record = [0; RECORD_LENGTH];
        let moment = |moment: Option<Duration>| moment.map_or(0, micros).to_le_bytes();
        fill(&mut record, &[&moment(self.edit.removed), &moment(self.edit.added), &self.process.to_le_bytes()]);
        seal(&mut record);
        bytes.extend(record);
    }
}

/// Parses the records. Skips a damaged one.
pub(super) fn records(bytes: &[u8]) -> impl Iterator<Item = Record> {
    let moment = |micros: u64| (micros != 0).then(|| Duration::from_micros(micros));
    bytes.chunks_exact(RECORD_LENGTH).filter(|record| is_sealed(record)).map(move |record| Record {
        edit: Edit {
            removed: moment(number(record, 0)),
            added: moment(number(record, 8)),
            elsewhere: process_in(record) == ELSEWHERE,
        },
        process: process_in(record),
    })
}

fn process_in(record: &[u8]) -> u32 {
    u32::try_from(number(record, 16) & u64::from(u32::MAX)).unwrap_or_default()
}

/// Returns the bookings after all changes that have not ended by `from`, in the order of time, with their processes. No
/// process can have booked anything after `until`.
pub(super) fn replay(records: impl Iterator<Item = Record>, from: Duration, until: Duration) -> Vec<(Duration, u32)> {
    let mut booked: BTreeMap<Duration, Vec<u32>> = BTreeMap::new();
    for Record { edit, process } in records {
        if let Some(removed) = edit.removed
            && let Some(processes) = booked.get_mut(&removed)
        {
            let position = processes.iter().position(|other| *other == process).unwrap_or(0);
            processes.swap_remove(position);
            if processes.is_empty() {
                booked.remove(&removed);
            }
        }
        if let Some(added) = edit.added.filter(|added| *added > from && *added <= until) {
            booked.entry(added).or_default().push(process);
        }
    }
    let with_moment = |(moment, processes): (Duration, Vec<u32>)| processes.into_iter().map(move |one| (moment, one));
    booked.into_iter().flat_map(with_moment).collect()
}

pub(super) fn micros(moment: Duration) -> u64 {
    u64::try_from(moment.as_micros()).unwrap_or(u64::MAX)
}

fn fill(bytes: &mut [u8], parts: &[&[u8]]) {
    bytes.iter_mut().zip(parts.iter().copied().flatten()).for_each(|(to, from)| *to = *from);
}

/// The last four bytes are the checksum of the others.
fn seal(bytes: &mut [u8]) {
    if let Some((content, checksum)) = bytes.split_last_chunk_mut::<4>() {
        *checksum = crc32fast::hash(content).to_le_bytes();
    }
}

fn is_sealed(bytes: &[u8]) -> bool {
    bytes.split_last_chunk::<4>().is_some_and(|(content, checksum)| *checksum == crc32fast::hash(content).to_le_bytes())
}

fn number(bytes: &[u8], from: usize) -> u64 {
    bytes.get(from..).and_then(<[u8]>::first_chunk::<8>).map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    fn change(removed: u64, added: u64, process: u32) -> Record {
        let moment = |count: u64| (count > 0).then(|| seconds(count));
        Record {
            edit: Edit { removed: moment(removed), added: moment(added), elsewhere: process == ELSEWHERE },
            process,
        }
    }

    fn bytes(changes: &[Record]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for change in changes {
            change.append_to(&mut bytes);
        }
        bytes
    }

    #[test]
    fn a_header_is_read_as_it_was_written_and_a_changed_bit_is_noticed() {
        let header = Header { epoch: 7, count: 12, last: 1 << 50, ahead: 5, boot: u64::MAX, held_until: 99 };
        let written = header.to_bytes();
        assert_eq!(Header::read(&written), Found::Header(header));
        for bit in 0..written.len() * 8 {
            let mut changed = written;
            changed[bit / 8] ^= 1 << (bit % 8);
            let expected = if bit < 64 { Found::Foreign } else { Found::Damaged };
            assert_eq!(Header::read(&changed), expected, "bit {bit}");
        }
        assert_eq!(Header::read(&written[..40]), Found::Damaged);
        assert_eq!(Header::read(&[]), Found::Nothing);
        assert_eq!(Header::read(&[0; HEADER_LENGTH]), Found::Nothing);
        assert_eq!(Header::read(b"my diary"), Found::Foreign);
        for impossible in [
            Header { count: CAPACITY + 1, ..header },
            Header { last: LATEST + 1, ..header },
            Header { ahead: LATEST + 1, ..header },
        ] {
            assert_eq!(Header::read(&impossible.to_bytes()), Found::Damaged, "{impossible:?}");
        }
    }

    #[test]
    fn a_damaged_record_is_left_out_and_the_others_count() {
        let changes = [change(0, 10, 1), change(10, 11, 1), change(11, 0, 2)];
        let mut written = bytes(&changes);
        assert_eq!(records(&written).collect::<Vec<_>>(), changes);
        written[30] ^= 1;
        assert_eq!(records(&written).collect::<Vec<_>>(), [changes[0], changes[2]]);
        assert_eq!(records(&written[..written.len() - 1]).collect::<Vec<_>>(), [changes[0]]);
    }

    #[test]
    fn what_is_booked_is_what_all_changes_leave_within_the_bounds() {
        let changes = [
            change(0, 10, 1),
            change(0, 20, 1),
            change(0, 20, 2),
            change(20, 25, 2),
            change(0, 5, 3),
            change(0, 5000, 3),
            change(77, 0, 3),
        ];
        let booked = replay(changes.into_iter(), seconds(5), seconds(100));
        assert_eq!(booked, [(seconds(10), 1), (seconds(20), 1), (seconds(25), 2)]);
    }
}
