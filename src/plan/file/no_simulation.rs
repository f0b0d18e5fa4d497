//! What `simulation.rs` does, without the feature `simulation`: nothing. No connection is kept open, and only the disk
//! decides about a commit.

use std::path::Path;

use rusqlite::Connection;

use super::error::FileErrorKind;

pub(super) type Kept = Connection;

pub(super) const fn keep(_path: &Path, connection: Connection) -> Kept {
    connection
}

pub(super) const fn is_at_hand(_path: &Path) -> bool {
    false
}

pub(super) const fn at_hand(_path: &Path) -> Option<Kept> {
    None
}

pub(super) const fn at_hand_for_writing(_path: &Path) -> Option<Kept> {
    None
}

pub(super) const fn close(_path: &Path) {}

pub(super) const fn is_on() -> bool {
    false
}

pub(super) const fn is_dead(_path: &Path) -> bool {
    false
}

pub(super) const fn fill(_bytes: &mut [u8]) -> bool {
    false
}

#[expect(clippy::unnecessary_wraps, reason = "a simulation refuses some commits")]
pub(super) const fn before_commit(_path: &Path) -> Result<(), FileErrorKind> {
    Ok(())
}

#[expect(clippy::unnecessary_wraps, reason = "a simulation refuses some commits")]
pub(super) const fn after_commit(_path: &Path) -> Result<(), FileErrorKind> {
    Ok(())
}
