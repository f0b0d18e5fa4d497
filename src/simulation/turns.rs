//! The turns of a machine's processes: which of them has locked an account, and the mark of its last update.

use std::collections::BTreeMap;

use super::dice::Dice;
use super::stage::{is_set, stage};
use super::wire::line;

/// How many worlds in a thousand have processes that share their turns. In the others, the file of turns is not usable.
const SHARED_PER_MILLE: u32 = 850;

/// Returns whether the processes of a world share their turns.
pub(super) fn are_shared(seed: u64) -> bool {
    Dice::new(seed, "turns of processes", 0).chance(SHARED_PER_MILLE)
}

/// The turns that processes have.
#[derive(Debug, Default)]
pub(super) struct SharedTurns {
    holders: BTreeMap<i64, usize>,
    marks: BTreeMap<i64, u64>,
    marked: u64,
}

impl SharedTurns {
    /// The locks of a process end with it, and its marks stay.
    pub(super) fn die(&mut self, process: usize) {
        self.holders.retain(|_, holder| *holder != process);
    }

    fn mark(&mut self, id: i64) {
        self.marked += 1;
        self.marks.insert(id, self.marked);
    }
}

/// Returns the process of the clients that are created from now on, if a seed runs on this thread.
pub(crate) fn process_of_new_clients() -> Option<usize> {
    is_set().then(|| stage(|stage| stage.lines[line()].process))
}

/// Locks an account for a process. Returns whether it has it.
pub(crate) fn lock_account(process: usize, id: i64) -> bool {
    stage(|stage| !stage.is_dead(process) && *stage.turns.holders.entry(id).or_insert(process) == process)
}

/// Ends the lock of a process on an account.
pub(crate) fn unlock_account(process: usize, id: i64) {
    stage(|stage| {
        if stage.turns.holders.get(&id) == Some(&process) {
            stage.turns.holders.remove(&id);
        }
    });
}

/// Leaves a mark of an update, unless its process is dead.
pub(crate) fn mark_account(process: usize, id: i64) {
    stage(|stage| {
        if !stage.is_dead(process) {
            stage.turns.mark(id);
        }
    });
}

/// Returns the mark of the last update of an account.
pub(crate) fn mark_of_account(id: i64) -> u64 {
    stage(|stage| stage.turns.marks.get(&id).copied().unwrap_or_default())
}

/// Returns the process that has locked an account.
pub(crate) fn holder_of_account(id: i64) -> Option<usize> {
    stage(|stage| stage.turns.holders.get(&id).copied())
}
