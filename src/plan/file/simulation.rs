//! Plan files in a simulation: everything runs on the calling thread, random numbers come from a seed, nothing waits,
//! and the simulation decides at which commit the disk fails or the process dies.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::error::FileErrorKind;
use super::private::FileId;

/// The fate of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It succeeds.
    Made,
    /// The disk refuses it, and nothing of it is kept.
    Fails,
    /// The process dies before it: nothing of it is kept.
    DiesBefore,
    /// The process dies after it: it is kept, but no one learns about it.
    DiesAfter,
}

type Decide = dyn FnMut(&Path, u64) -> Fate;

struct Simulated {
    random: fastrand::Rng,
    fate: Box<Decide>,
    commits: u64,
    now: Fate,
    /// The folders of dead processes.
    dead: BTreeSet<PathBuf>,
    /// One connection to a plan, by its path.
    kept: BTreeMap<PathBuf, (Option<FileId>, Connection)>,
}

thread_local! {
    static HERE: RefCell<Option<Simulated>> = const { RefCell::new(None) };
}

/// Ends the simulation of this thread when it is dropped. Drop every plan, run and builder first.
#[derive(Debug)]
pub struct Simulation(());

impl Simulation {
    /// Begins a simulation on this thread, in which each process has its own folder. Calls `fate` before each commit,
    /// with the plan's path and the number of the commit, from 1. Commits are the claim of a run, each write of a run,
    /// the header, each batch of rows and the seal of a new plan, and a recovery.
    pub fn begin(seed: u64, fate: impl FnMut(&Path, u64) -> Fate + 'static) -> Self {
        let simulated = Simulated {
            random: fastrand::Rng::with_seed(seed),
            fate: Box::new(fate),
            commits: 0,
            now: Fate::Made,
            dead: BTreeSet::new(),
            kept: BTreeMap::new(),
        };
        HERE.set(Some(simulated));
        Self(())
    }

    /// Returns the number of commits.
    pub fn commits(&self) -> u64 {
        with(|simulated| simulated.commits).unwrap_or_default()
    }

    /// Restarts the dead processes. Drop everything that they had open first.
    pub fn restart(&self) {
        with(|simulated| simulated.dead.clear());
    }
}

/// Ends the process of a folder: it writes nothing after that.
pub(crate) fn kill(folder: &Path) {
    close_in(folder);
    with(|simulated| simulated.dead.insert(folder.to_owned()));
}

/// Restarts the process of a folder.
pub(crate) fn restart(folder: &Path) {
    close_in(folder);
    with(|simulated| simulated.dead.remove(folder));
}

impl Drop for Simulation {
    fn drop(&mut self) {
        HERE.set(None);
    }
}

fn with<T>(ask: impl FnOnce(&mut Simulated) -> T) -> Option<T> {
    HERE.with_borrow_mut(|here| here.as_mut().map(ask))
}

/// A connection that stays open for the next use by the same process: to open a plan takes longer than to read it.
pub(super) struct Kept {
    path: PathBuf,
    file: Option<FileId>,
    /// `None` only while it is dropped.
    connection: Option<Connection>,
}

pub(super) fn keep(path: &Path, connection: Connection) -> Kept {
    Kept { path: path.to_owned(), file: FileId::at(path), connection: Some(connection) }
}

impl Deref for Kept {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.connection.as_ref().expect("it is not dropped")
    }
}

impl DerefMut for Kept {
    fn deref_mut(&mut self) -> &mut Connection {
        self.connection.as_mut().expect("it is not dropped")
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let (path, connection) = (std::mem::take(&mut self.path), self.connection.take());
        let Some(mut connection) = connection.filter(Connection::is_autocommit) else { return };
        // If its file was refused, it still has the bound of an unknown file, which a large plan exceeds.
        let _ = super::connect::trust(&mut connection);
        let file = self.file;
        let closed = with(|simulated| {
            let is_needed = simulated.kept.get(&path).is_none_or(|(_, kept)| !can_write(kept));
            if simulated.is_dead(&path) || !is_needed {
                return None;
            }
            simulated.kept.insert(path, (file, connection))
        });
        drop(closed);
    }
}

fn can_write(connection: &Connection) -> bool {
    connection.is_readonly("main").is_ok_and(|is_readonly| !is_readonly)
}

/// Returns whether a connection to this file is open and not in use.
pub(super) fn is_at_hand(path: &Path) -> bool {
    let is_kept = |file| with(|simulated| simulated.kept.get(path).is_some_and(|(kept, _)| *kept == Some(file)));
    FileId::at(path).and_then(is_kept) == Some(true)
}

/// Returns such a connection.
pub(super) fn at_hand(path: &Path) -> Option<Kept> {
    let (file, connection) = with(|simulated| simulated.kept.remove(path)).flatten()?;
    let is_at_hand = file.is_some() && FileId::at(path) == file;
    is_at_hand.then(|| Kept { path: path.to_owned(), file, connection: Some(connection) })
}

/// Returns such a connection if it can write, and closes it otherwise.
pub(super) fn at_hand_for_writing(path: &Path) -> Option<Kept> {
    let found = at_hand(path)?;
    if can_write(&found) {
        return Some(found);
    }
    drop(found);
    close(path);
    None
}

/// Closes the connection to a plan.
pub(super) fn close(path: &Path) {
    drop(with(|simulated| simulated.kept.remove(path)));
}

fn close_in(folder: &Path) {
    let closed = with(|simulated| {
        let (closed, kept): (BTreeMap<_, _>, BTreeMap<_, _>) =
            std::mem::take(&mut simulated.kept).into_iter().partition(|(path, _)| path.starts_with(folder));
        simulated.kept = kept;
        closed
    });
    drop(closed);
}

/// Returns whether this thread is in a simulation.
pub(super) fn is_on() -> bool {
    with(|_| ()).is_some()
}

impl Simulated {
    fn is_dead(&self, path: &Path) -> bool {
        path.parent().is_some_and(|folder| self.dead.contains(folder))
    }

    fn die_if(&mut self, path: &Path, dies: Fate) -> Result<(), FileErrorKind> {
        if self.now == dies {
            self.dead.extend(path.parent().map(Path::to_owned));
        }
        if self.is_dead(path) { Err(FileErrorKind::Lost("its process has died".to_owned())) } else { Ok(()) }
    }
}

/// Returns whether the process of a plan has died. A dead process writes nothing, not even that it ends.
pub(super) fn is_dead(path: &Path) -> bool {
    with(|simulated| simulated.is_dead(path)).unwrap_or_default()
}

/// Fills in random numbers, if this thread is in a simulation.
pub(super) fn fill(bytes: &mut [u8]) -> bool {
    with(|simulated| simulated.random.fill(bytes)).is_some()
}

/// Decides about a commit before it happens.
pub(super) fn before_commit(path: &Path) -> Result<(), FileErrorKind> {
    let decided = with(|simulated| {
        if !simulated.is_dead(path) {
            simulated.commits += 1;
            simulated.now = (simulated.fate)(path, simulated.commits);
        }
        simulated.die_if(path, Fate::DiesBefore)?;
        if simulated.now == Fate::Fails { Err(FileErrorKind::Full) } else { Ok(()) }
    });
    decided.unwrap_or(Ok(()))
}

/// Applies the decision after the commit, if it comes after it.
pub(super) fn after_commit(path: &Path) -> Result<(), FileErrorKind> {
    with(|simulated| simulated.die_if(path, Fate::DiesAfter)).unwrap_or(Ok(()))
}
