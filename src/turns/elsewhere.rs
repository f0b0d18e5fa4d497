//! The turns of other processes of this machine: a file in which a process locks an account while it changes it, and
//! leaves a mark for each update.
//!
//! The lock is one of POSIX: it ends with its process, a forked child does not inherit it, and a process is never kept
//! out by itself. [`Turns`](super::Turns) keep callers within a process apart. The bytes to lock are far behind the end
//! of the file, so the file needs no room for them. No problem with the file delays or stops a call: the process then
//! knows only its own turns.

use std::fs::{self, File, Metadata};
use std::mem::forget;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};
use std::{io, process};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};

use crate::lock::lock;
use crate::per_process::PerProcess;
use crate::shared_folder::{self, Unusable};

/// The folder for the file in the state directory, and the name of the file.
const FOLDER: &str = "turns";
const NAME: &str = "accounts";
/// The marks in the file. Two accounts whose numbers differ by a multiple of this share a mark; then an update of one
/// makes others read the other account again.
const MARKS: u64 = 1 << 20;
const MARK_LENGTH: u64 = size_of::<u64>() as u64;
/// The first mark of the file is for all accounts.
const LONGEST_FILE: u64 = (MARKS + 1) * MARK_LENGTH;
/// The places of accounts. Each has two bytes to lock, one for the turn and one for the processes that wait for it. A
/// file offset is a signed number, and this leaves room for the marks.
const PLACES: u64 = 1 << 61;

/// How long a client does not try the first folder again whose file was not usable, or for which the system lacked a
/// resource.
const REST: Duration = Duration::from_secs(60);
const SHORT_REST: Duration = Duration::from_secs(1);

/// The kinds of lock. Their type differs between systems.
#[expect(clippy::cast_possible_truncation, reason = "0 to 3")]
mod kind {
    use libc::c_short;

    pub(super) const READ: c_short = libc::F_RDLCK as c_short;
    pub(super) const WRITE: c_short = libc::F_WRLCK as c_short;
    pub(super) const NONE: c_short = libc::F_UNLCK as c_short;
}

/// The place of an account in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place(u64);

impl Place {
    /// Returns the place of an account of a service, which a hash stands for.
    pub(super) const fn of(service_hash: u64, id: i64) -> Self {
        Self(service_hash.wrapping_add(id.cast_unsigned()) % PLACES)
    }

    const fn of_mark(self) -> u64 {
        (1 + self.0 % MARKS) * MARK_LENGTH
    }

    fn mark(self, file: &File) {
        // The disk may have no room for another block of the file. The first one is there.
        if mark_at(file, self.of_mark()).is_err() {
            let _ = mark_at(file, 0);
        }
    }

    /// Returns the marks of the account; `None` if the first one is missing, because the disk had no room for it, or
    /// because someone has emptied the file: then an update may have left no mark.
    #[cfg(any(feature = "plan", test))]
    fn marks(self, file: &File) -> Option<Marks> {
        let marks = [0, self.of_mark()].map(|position| {
            let mut mark = [0; size_of::<u64>()];
            // A file that ends before the mark has none yet.
            let _ = file.read_exact_at(&mut mark, position);
            u64::from_ne_bytes(mark)
        });
        if marks[0] == 0 {
            let _ = mark_at(file, 0);
            return None;
        }
        Some(marks)
    }

    const fn turn(self) -> u64 {
        LONGEST_FILE + self.0
    }

    const fn waiting(self) -> u64 {
        LONGEST_FILE + PLACES + self.0
    }
}

/// Returns the lock of one byte.
fn lock_of(byte: u64, kind: libc::c_short) -> libc::flock {
    #[expect(clippy::cast_possible_truncation, reason = "0")]
    let whence = libc::SEEK_SET as libc::c_short;
    libc::flock { l_type: kind, l_whence: whence, l_start: byte.cast_signed(), l_len: 1, l_pid: 0 }
}

/// Returns another process that has locked a byte; 0 if it cannot be named.
fn holder_of(file: &File, byte: u64) -> Option<u32> {
    let mut found = lock_of(byte, kind::WRITE);
    fcntl(file, FcntlArg::F_GETLK(&mut found)).ok()?;
    (found.l_type != kind::NONE).then(|| u32::try_from(found.l_pid).unwrap_or_default())
}

fn unlock(file: &File, byte: u64) {
    let _ = fcntl(file, FcntlArg::F_SETLK(&lock_of(byte, kind::NONE)));
}

fn mark_at(file: &File, position: u64) -> io::Result<()> {
    // A forked child has the random numbers of its parent.
    let mark = fastrand::u64(..) ^ u64::from(process::id());
    file.write_all_at(&mark.to_ne_bytes(), position)
}

/// The marks of an account: a reader that finds others than before reads the account again.
#[cfg(any(feature = "plan", test))]
pub(super) type Marks = [u64; 2];

/// The outcome of an attempt to lock an account.
#[derive(Debug)]
pub(super) enum Attempt {
    /// No other process has it.
    Locked(Locked),
    /// Another process changes the account.
    Taken,
    /// The file is not usable, so this is unknown.
    Unknown,
}

/// The lock of an account, until [`Locked::end`].
#[derive(Debug)]
pub(super) struct Locked {
    open: Arc<Open>,
    place: Place,
}

impl Locked {
    /// Leaves a mark of an update. A reader of the account that finds another mark than before reads it again.
    pub(super) fn mark(&self) {
        if let Some(file) = self.open.file() {
            self.place.mark(file);
        }
    }

    /// Returns whether another process waits for the account.
    pub(super) fn is_awaited(&self) -> bool {
        self.open.file.as_ref().is_some_and(|file| holder_of(file, self.place.waiting()).is_some())
    }

    /// Lets others have the account.
    pub(super) fn end(self) {
        if let Some(file) = self.open.file() {
            unlock(file, self.place.turn());
        }
    }
}

/// Says that this process waits for an account, until it is dropped.
#[derive(Debug)]
pub(super) struct Waiting {
    open: Arc<Open>,
    place: Place,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(file) = self.open.file() {
            unlock(file, self.place.waiting());
        }
    }
}

/// The file of this machine's processes, as a client has it.
#[derive(Debug)]
pub(super) struct Elsewhere {
    folders: Vec<PathBuf>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The file, and its path, if it is open.
    open: Option<(Arc<Open>, Arc<Path>)>,
    /// Set if the file in the first folder is not usable: until then, it is not tried again.
    rests_until: Option<Instant>,
}

impl State {
    /// Opens the file in the first folder where it is usable. If that is not the first one, it is not tried again for
    /// some time.
    fn of_first(folders: &[PathBuf]) -> Self {
        let mut rest = None;
        for folder in folders {
            let path = folder.join(FOLDER).join(NAME);
            match Open::at(&path) {
                Ok(open) => {
                    let rests_until = rest.map(|rest| Instant::now() + rest);
                    return Self { open: Some((open, path.into())), rests_until };
                }
                Err(unusable) => rest = rest.or(Some(if unusable.is_passing { SHORT_REST } else { REST })),
            }
        }
        Self { open: None, rests_until: Some(Instant::now() + rest.unwrap_or(REST)) }
    }

    /// Returns whether to try the first folder again.
    fn is_due(&self) -> bool {
        self.rests_until.is_some_and(|until| until <= Instant::now())
    }
}

/// The files that this process has open. It opens each only once, by whatever path, because closing one of two
/// descriptors of a file would give up all its locks.
static FILES: PerProcess<Mutex<Vec<Known>>> = PerProcess::new();

#[derive(Debug)]
struct Known {
    id: FileId,
    open: Weak<Open>,
    /// Other descriptors of the same file, to close when the file is no longer in use.
    spare: Vec<File>,
}

impl Drop for Known {
    fn drop(&mut self) {
        self.spare.drain(..).for_each(|file| close(file, self.id));
    }
}

/// Closes a file, unless its descriptor is that of another one by now.
fn close(file: File, id: FileId) {
    if file.metadata().is_ok_and(|found| id_of(&found) == id) {
        drop(file);
    } else {
        forget(file);
    }
}

impl Elsewhere {
    /// Returns the file in the first usable folder. Opens nothing yet.
    #[expect(clippy::unnecessary_wraps, reason = "not every system has such locks")]
    pub(super) fn of(folders: &[PathBuf]) -> Option<Self> {
        Some(Self { folders: folders.to_vec(), state: Mutex::default() })
    }

    /// Tries to lock an account.
    pub(super) fn try_lock(&self, place: Place) -> Attempt {
        // The file of the last turn is nearly always the current one. The third attempt is for a file that was deleted
        // or moved after it was opened.
        for open in [Self::last, Self::open, Self::open] {
            let open = open(self);
            let Some((open, file)) = open.as_ref().and_then(|open| Some((open, open.file.as_ref()?))) else { continue };
            let locked = fcntl(file, FcntlArg::F_SETLK(&lock_of(place.turn(), kind::WRITE)));
            // Another process that comes now must find the lock, so this follows it.
            if !self.is_current(open) {
                if locked.is_ok() {
                    unlock(file, place.turn());
                }
                continue;
            }
            match locked {
                Ok(_) => return Attempt::Locked(Locked { open: Arc::clone(open), place }),
                Err(Errno::EACCES | Errno::EAGAIN) => return Attempt::Taken,
                Err(_) => {
                    *lock(&self.state) = State { open: None, rests_until: Some(Instant::now() + REST) };
                    break;
                }
            }
        }
        Attempt::Unknown
    }

    /// Returns whether a lock is in the file that other processes use now. Without a file, no lock is needed.
    #[cfg(any(feature = "plan", test))]
    pub(super) fn has(&self, locked: Option<&Locked>) -> bool {
        match (self.open(), locked) {
            (Some(open), Some(locked)) => Arc::ptr_eq(&open, &locked.open),
            (open, locked) => open.is_none() && locked.is_none(),
        }
    }

    /// Lets other processes know that this one waits for an account.
    pub(super) fn wait(&self, place: Place) -> Option<Waiting> {
        let open = self.open()?;
        fcntl(open.file.as_ref()?, FcntlArg::F_SETLK(&lock_of(place.waiting(), kind::READ))).ok()?;
        Some(Waiting { open, place })
    }

    /// Returns another process that waits for an account; 0 if it cannot be named.
    pub(super) fn waiter(&self, place: Place) -> Option<u32> {
        holder_of(self.open()?.file.as_ref()?, place.waiting())
    }

    /// Returns the marks that the last update of an account by any process of this machine has left. Returns `None`
    /// while another process has locked the account: its update may be under way, or may follow.
    #[cfg(any(feature = "plan", test))]
    pub(super) fn marks(&self, place: Place) -> Option<Marks> {
        let open = self.open();
        let Some(file) = open.as_ref().and_then(|open| open.file.as_ref()) else { return Some(Marks::default()) };
        let marks = place.marks(file);
        // After the marks: a process that locks the account later leaves another one.
        marks.filter(|_| holder_of(file, place.turn()).is_none())
    }

    /// Returns the process that has locked an account; 0 if it cannot be named.
    pub(super) fn holder(&self, place: Place) -> Option<u32> {
        holder_of(self.open()?.file.as_ref()?, place.turn())
    }

    /// Returns the file that other processes use now. Its descriptor is its own.
    fn open(&self) -> Option<Arc<Open>> {
        if let Some((open, path)) = self.known()
            && open.is_at(&path)
            && open.file().is_some()
        {
            return Some(open);
        }
        let mut state = lock(&self.state);
        if state.open.is_none() && state.rests_until.is_some() && !state.is_due() {
            return None;
        }
        *state = State::of_first(&self.folders);
        state.open.as_ref().map(|(open, _)| Arc::clone(open))
    }

    /// Returns the file that other processes used at the last turn, which may have been moved since. Its descriptor is
    /// its own.
    fn last(&self) -> Option<Arc<Open>> {
        self.known().map(|(open, _)| open).filter(|open| open.file().is_some())
    }

    /// Returns whether this is still the file that other processes use.
    fn is_current(&self, open: &Arc<Open>) -> bool {
        self.known().is_some_and(|(known, path)| Arc::ptr_eq(&known, open) && open.is_at(&path))
    }

    /// Returns the file of the last turn and its path, unless it is time to try the first folder again.
    fn known(&self) -> Option<(Arc<Open>, Arc<Path>)> {
        let state = lock(&self.state);
        state.open.clone().filter(|_| !state.is_due())
    }

    /// Closes the file until it is needed again. A turn that is taken, and other clients, keep it open.
    #[cfg(any(feature = "python", test))]
    pub(super) fn close(&self) {
        // In a forked child, a copied lock may be held, so this does not wait for it.
        if let Ok(mut state) = self.state.try_lock() {
            *state = State::default();
        }
    }
}

/// An open file.
#[derive(Debug)]
struct Open {
    /// Taken out only by `drop`.
    file: Option<File>,
    id: FileId,
    process: u32,
}

/// The device of a file, and its number there.
type FileId = (u64, u64);

fn id_of(found: &Metadata) -> FileId {
    (found.dev(), found.ino())
}

impl Open {
    fn at(path: &Path) -> Result<Arc<Self>, Unusable> {
        path.parent().map_or(Ok(()), shared_folder::prepare)?;
        // Declared before the lock on the list, because dropping the last reference takes that lock, too.
        let mut found;
        let mut files = lock(FILES.get_or_init(Mutex::default));
        let known =
            |files: &[Known], id| files.iter().find(|known| known.id == id).and_then(|known| known.open.upgrade());
        found = fs::symlink_metadata(path).ok().and_then(|at| known(&files, id_of(&at)));
        if let Some(open) = found.take_if(|open| open.file().is_some()) {
            return Ok(open);
        }
        let opened = shared_folder::open_or_create(path, || ());
        let file = opened.map_err(|error| shared_folder::refused(path, &error))?;
        let metadata = file.metadata().map_err(|error| shared_folder::refused(path, &error))?;
        let id = id_of(&metadata);
        if let Some(known) = files.iter_mut().find(|known| known.id == id)
            && let Some(open) = known.open.upgrade()
        {
            if open.file().is_some() {
                // It was moved to this path just now.
                known.spare.push(file);
                return Ok(open);
            }
            found = Some(open);
        }
        shared_folder::check_file(&file, LONGEST_FILE).map_err(|reason| shared_folder::because(path, reason))?;
        if metadata.len() < MARK_LENGTH {
            // Later, the disk may have no room for it. A lock needs none.
            let _ = mark_at(&file, 0);
        }
        let open = Arc::new(Self { file: Some(file), id, process: process::id() });
        match files.iter_mut().find(|known| known.id == id) {
            Some(known) => known.open = Arc::downgrade(&open),
            None => files.push(Known { id, open: Arc::downgrade(&open), spare: Vec::new() }),
        }
        drop((files, found));
        Ok(open)
    }

    /// Returns the file, unless its descriptor is that of another one: a program may have closed all descriptors, as a
    /// daemon does, and opened other files since. A forked child has a copy of what its parent had, but not its locks.
    fn file(&self) -> Option<&File> {
        let is_this = |file: &&File| file.metadata().is_ok_and(|found| id_of(&found) == self.id);
        self.file.as_ref().filter(|_| process::id() == self.process).filter(is_this)
    }

    /// Returns whether a path leads to this file.
    fn is_at(&self, path: &Path) -> bool {
        fs::symlink_metadata(path).is_ok_and(|found| id_of(&found) == self.id)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let Some(file) = self.file.take() else { return };
        if process::id() != self.process {
            return forget(file);
        }
        // Closed under this lock: another thread may open the file and lock an account as soon as it is free.
        let mut files = lock(FILES.get_or_init(Mutex::default));
        let place = files.iter().position(|known| known.id == self.id);
        match place.and_then(|place| files.get_mut(place)) {
            // Another thread has opened it again since its last reference is gone.
            Some(known) if known.open.strong_count() > 0 => known.spare.push(file),
            _ => {
                close(file, self.id);
                place.map(|place| files.swap_remove(place));
            }
        }
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::fs::{OpenOptions, hard_link, remove_file, rename};
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    const PLACE: Place = Place::of(7, 4711);

    fn folders(folder: &TempDir) -> Vec<PathBuf> {
        vec![folder.path().join("state")]
    }

    /// Stands for another process: a process is not kept out by its own locks, except by those of this kind.
    struct OtherProcess(File);

    impl OtherProcess {
        fn of(folder: &TempDir) -> Self {
            let path = folder.path().join("state").join(FOLDER).join(NAME);
            Self(OpenOptions::new().read(true).write(true).open(path).unwrap())
        }

        fn lock(&self, place: Place, kind: libc::c_short) -> bool {
            self.lock_byte(place.turn(), kind)
        }

        fn lock_byte(&self, byte: u64, kind: libc::c_short) -> bool {
            fcntl(&self.0, FcntlArg::F_OFD_SETLK(&lock_of(byte, kind))).is_ok()
        }
    }

    #[test]
    fn a_process_that_has_an_account_keeps_others_out_until_it_lets_go() {
        let folder = TempDir::new().unwrap();
        let elsewhere = Elsewhere::of(&folders(&folder)).unwrap();
        let Attempt::Locked(locked) = elsewhere.try_lock(PLACE) else { panic!("it is free") };
        let other = OtherProcess::of(&folder);
        assert!(!other.lock(PLACE, kind::WRITE));
        assert!(other.lock(Place::of(7, 4712), kind::WRITE), "another account");
        assert!(other.lock(Place::of(8, 4712), kind::WRITE), "another service");
        locked.end();
        let before = elsewhere.marks(PLACE);
        assert!(before.is_some());
        assert!(other.lock(PLACE, kind::WRITE));
        assert!(elsewhere.marks(PLACE).is_none(), "an update may be under way");
        assert!(matches!(elsewhere.try_lock(PLACE), Attempt::Taken));
        assert!(elsewhere.holder(PLACE).is_some());
        assert!(other.lock(PLACE, kind::NONE));
        assert!(elsewhere.holder(PLACE).is_none());
        assert_eq!(elsewhere.marks(PLACE), before);
        assert!(matches!(elsewhere.try_lock(PLACE), Attempt::Locked(_)));
    }

    #[test]
    fn each_update_leaves_another_mark_and_only_for_its_account() {
        let folder = TempDir::new().unwrap();
        let elsewhere = Elsewhere::of(&folders(&folder)).unwrap();
        let (before, neighbor) = (elsewhere.marks(PLACE), elsewhere.marks(Place::of(7, 4712)));
        let Attempt::Locked(locked) = elsewhere.try_lock(PLACE) else { panic!("it is free") };
        assert_eq!(elsewhere.marks(PLACE), before, "nothing was updated yet");
        locked.mark();
        let first = elsewhere.marks(PLACE);
        locked.mark();
        assert!(before != first && first != elsewhere.marks(PLACE));
        assert_eq!(elsewhere.marks(Place::of(7, 4712)), neighbor);
    }

    #[test]
    fn a_deleted_file_is_replaced_and_its_locks_no_longer_count() {
        let folder = TempDir::new().unwrap();
        let elsewhere = Elsewhere::of(&folders(&folder)).unwrap();
        let Attempt::Locked(locked) = elsewhere.try_lock(PLACE) else { panic!("it is free") };
        locked.end();
        let other = OtherProcess::of(&folder);
        assert!(other.lock(PLACE, kind::WRITE));
        remove_file(folder.path().join("state").join(FOLDER).join(NAME)).unwrap();
        let Attempt::Locked(_locked) = elsewhere.try_lock(PLACE) else { panic!("it is made again") };
        assert!(!OtherProcess::of(&folder).lock(PLACE, kind::WRITE));
    }

    #[test]
    fn a_client_that_reaches_the_file_by_another_path_gives_up_no_lock() {
        let folder = TempDir::new().unwrap();
        let elsewhere = Elsewhere::of(&folders(&folder)).unwrap();
        let Attempt::Locked(_locked) = elsewhere.try_lock(PLACE) else { panic!("it is free") };
        let other = OtherProcess::of(&folder);
        symlink(folder.path().join("state"), folder.path().join("link")).unwrap();
        for path in ["link", "state/../state", "state/."] {
            let client = Elsewhere::of(&[folder.path().join(path)]).unwrap();
            assert!(matches!(client.try_lock(Place::of(7, 1)), Attempt::Locked(_)), "{path}");
            client.close();
            drop(client);
            assert!(!other.lock(PLACE, kind::WRITE), "{path}");
        }
        elsewhere.close();
        assert!(matches!(elsewhere.try_lock(Place::of(7, 1)), Attempt::Locked(_)));
        assert!(!other.lock(PLACE, kind::WRITE), "a turn that is taken keeps the file open");
    }

    #[test]
    fn threads_that_open_and_close_the_file_leave_no_descriptor_and_lose_no_lock() {
        let folder = TempDir::new().unwrap();
        let folders = folders(&folder);
        Elsewhere::of(&folders).unwrap().try_lock(PLACE);
        let path = folder.path().join("state").join(FOLDER).join(NAME);
        let descriptors = || {
            let open = fs::read_dir("/proc/self/fd").unwrap().flatten();
            open.filter(|entry| fs::read_link(entry.path()).is_ok_and(|at| at == path)).count()
        };
        // Closing one of them would end the locks of this process.
        let others: Vec<OtherProcess> = (0..4).map(|_| OtherProcess::of(&folder)).collect();
        std::thread::scope(|scope| {
            for (thread, other) in (0..).zip(&others) {
                let folders = &folders;
                scope.spawn(move || {
                    for _ in 0..500 {
                        let client = Elsewhere::of(folders).unwrap();
                        let place = Place::of(7, thread);
                        let Attempt::Locked(locked) = client.try_lock(place) else { panic!("it is free") };
                        assert!(!other.lock(place, kind::WRITE));
                        locked.end();
                    }
                });
            }
        });
        drop(others);
        assert_eq!(descriptors(), 0);
    }

    #[test]
    fn a_process_that_waits_comes_before_one_that_asks_later() {
        let folder = TempDir::new().unwrap();
        let elsewhere = Elsewhere::of(&folders(&folder)).unwrap();
        let waiting = elsewhere.wait(PLACE).unwrap();
        assert!(elsewhere.waiter(PLACE).is_none(), "it does not wait for itself");
        let other = OtherProcess::of(&folder);
        assert!(!other.lock_byte(PLACE.waiting(), kind::WRITE), "others see that it waits");
        drop(waiting);
        assert!(other.lock_byte(PLACE.waiting(), kind::WRITE));
        assert!(elsewhere.waiter(PLACE).is_some() && elsewhere.waiter(Place::of(7, 1)).is_none());
        assert!(matches!(elsewhere.try_lock(PLACE), Attempt::Locked(_)), "the turn itself is free");
    }

    #[test]
    fn an_account_is_free_again_although_the_file_has_another_name_or_a_second_one() {
        for change in ["link", "rename"] {
            let folder = TempDir::new().unwrap();
            let elsewhere = Elsewhere::of(&folders(&folder)).unwrap();
            let Attempt::Locked(locked) = elsewhere.try_lock(PLACE) else { panic!("it is free") };
            let other = OtherProcess::of(&folder);
            let path = folder.path().join("state").join(FOLDER).join(NAME);
            match change {
                "link" => hard_link(&path, path.with_extension("link")).unwrap(),
                _ => rename(&path, path.with_extension("renamed")).unwrap(),
            }
            locked.end();
            assert!(other.lock(PLACE, kind::WRITE), "{change}");
        }
    }

    #[test]
    fn a_file_that_was_not_usable_is_tried_again_later() {
        let folder = TempDir::new().unwrap();
        let elsewhere = Elsewhere::of(&folders(&folder)).unwrap();
        assert!(matches!(elsewhere.try_lock(PLACE), Attempt::Locked(_)));
        let path = folder.path().join("state").join(FOLDER).join(NAME);
        let second = path.with_extension("link");
        hard_link(&path, &second).unwrap();
        elsewhere.close();
        assert!(matches!(elsewhere.try_lock(PLACE), Attempt::Unknown));
        assert!(elsewhere.has(None), "there is nothing to lock");
        remove_file(&second).unwrap();
        assert!(matches!(elsewhere.try_lock(PLACE), Attempt::Unknown), "not at each call");
        lock(&elsewhere.state).rests_until = Some(Instant::now());
        assert!(!elsewhere.has(None), "another process may have the account by now");
        assert!(matches!(elsewhere.try_lock(PLACE), Attempt::Locked(_)));
    }

    #[test]
    fn a_process_returns_to_the_first_folder_when_its_file_is_usable_again() {
        let (folder, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let all = [folders(&folder), folders(&other)].concat();
        Elsewhere::of(&all).unwrap().try_lock(PLACE);
        let path = folder.path().join("state").join(FOLDER).join(NAME);
        let second = path.with_extension("link");
        hard_link(&path, &second).unwrap();
        let elsewhere = Elsewhere::of(&all).unwrap();
        let Attempt::Locked(locked) = elsewhere.try_lock(PLACE) else { panic!("it is free") };
        assert!(!OtherProcess::of(&other).lock(PLACE, kind::WRITE), "until then, the second folder serves");
        remove_file(&second).unwrap();
        assert!(elsewhere.has(Some(&locked)));
        lock(&elsewhere.state).rests_until = Some(Instant::now());
        assert!(!elsewhere.has(Some(&locked)), "another process may have the account in the first folder");
        locked.end();
        let Attempt::Locked(_locked) = elsewhere.try_lock(PLACE) else { panic!("it is free") };
        assert!(!OtherProcess::of(&folder).lock(PLACE, kind::WRITE));
        assert!(OtherProcess::of(&other).lock(PLACE, kind::WRITE));
    }

    #[test]
    fn a_file_that_was_emptied_shows_no_update_as_missing() {
        let folder = TempDir::new().unwrap();
        let elsewhere = Elsewhere::of(&folders(&folder)).unwrap();
        let Attempt::Locked(locked) = elsewhere.try_lock(PLACE) else { panic!("it is free") };
        let path = folder.path().join("state").join(FOLDER).join(NAME);
        let empty = || OpenOptions::new().write(true).open(&path).unwrap().set_len(0).unwrap();
        empty();
        assert!(elsewhere.marks(PLACE).is_none());
        let before = elsewhere.marks(PLACE);
        assert!(before.is_some(), "the next reader has a mark again");
        locked.mark();
        empty();
        assert!(elsewhere.marks(PLACE).is_none());
        assert_ne!(elsewhere.marks(PLACE), before);
    }

    #[test]
    fn without_room_for_the_first_mark_there_is_none_to_rely_on() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join(NAME);
        fs::write(&path, []).unwrap();
        let file = File::open(&path).unwrap();
        for _ in 0..2 {
            assert!(PLACE.marks(&file).is_none(), "nothing can be written, as on a full disk");
        }
    }

    #[test]
    fn every_account_has_a_byte_of_its_own_behind_the_marks() {
        for id in [1, 2, i64::MAX] {
            for service_hash in [0, 7, u64::MAX] {
                let place = Place::of(service_hash, id);
                assert!(place.of_mark() < LONGEST_FILE, "{service_hash} {id}");
                assert!(place.turn() >= LONGEST_FILE && place.turn() < Place(0).waiting(), "{service_hash} {id}");
                assert!(libc::off_t::try_from(place.waiting()).is_ok(), "{service_hash} {id}");
            }
        }
    }
}
