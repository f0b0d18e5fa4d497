//! Turns: within a process and, on Linux and macOS, among all processes of a system user on a machine, only one caller
//! at a time changes an account.
//!
//! An update replaces an account in full, so two callers that both read before either of them writes undo each other's
//! changes. A caller takes the account's turn and keeps it from the read to the answer. The key is the service and the
//! account, not the user of the service, because two keys may reach the same account.

#[cfg(feature = "simulation")]
#[path = "turns/simulated.rs"]
mod elsewhere;
// The lock of other systems has more fields, and with short pointers it may not reach far enough.
#[cfg(all(not(feature = "simulation"), any(target_os = "linux", target_os = "macos"), target_pointer_width = "64"))]
mod elsewhere;
#[cfg(all(
    not(feature = "simulation"),
    not(all(any(target_os = "linux", target_os = "macos"), target_pointer_width = "64"))
))]
#[path = "turns/nowhere.rs"]
mod elsewhere;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

#[cfg(any(feature = "plan", test))]
use elsewhere::Marks;
use elsewhere::{Attempt, Elsewhere, Locked, Place};
use ring::digest;
use tokio::sync::Semaphore;

use crate::lock::lock;
use crate::per_process::PerProcess;
use crate::sabotage::{Guard, is_off};

/// The number of entries to keep before looking for unused ones.
const FEWEST_BEFORE_SWEEP: usize = 64;

/// How often to try the lock of an account that another process changes: after this time, then after twice the last
/// time, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(32);
/// How long to let a process that waits go first: it tries again within this time.
const LONGEST_YIELD: Duration = Duration::from_millis(64);
/// How long not to do so again for an account if no one took the turn meanwhile: the process that waits is suspended.
const YIELD_REST: Duration = Duration::from_secs(1);

/// The turns of all accounts of one service.
#[derive(Debug, Clone, Default)]
pub(crate) struct Turns {
    entries: Arc<Mutex<Entries>>,
    elsewhere: Option<Arc<OtherProcesses>>,
}

/// What other processes do with the accounts of a service.
#[derive(Debug)]
struct OtherProcesses {
    file: Elsewhere,
    service_hash: u64,
    /// The accounts for which this client lets no other process go first before that moment.
    yield_rests: Mutex<HashMap<i64, Instant>>,
}

/// Unused entries are removed when there are twice as many entries as after the last removal. So dropping a handle
/// takes no lock, and the memory is at most twice of what is in use.
#[derive(Debug, Default)]
struct Entries {
    accounts: HashMap<i64, Weak<Entry>>,
    sweep_at: usize,
}

#[derive(Debug)]
struct Entry {
    id: i64,
    /// One permit. Waiters get it in their order of arrival, from any runtime.
    turn: Semaphore,
    writes: AtomicU64,
}

static SERVICES: PerProcess<Mutex<HashMap<String, Arc<Mutex<Entries>>>>> = PerProcess::new();

/// Forgets all entries, as the end of a process does.
#[cfg(feature = "simulation")]
pub(crate) fn forget() {
    lock(SERVICES.get_or_init(Mutex::default)).clear();
}

impl Turns {
    /// Returns the turns of a service, by the text that all spellings of its base URL share. With folders, processes
    /// that are given the same ones wait for each other, too.
    pub(crate) fn of(service: &str, folders: Option<&[PathBuf]>) -> Self {
        let mut services = lock(SERVICES.get_or_init(Mutex::default));
        let entries = services.entry(service.to_owned()).or_default().clone();
        let elsewhere = folders
            .and_then(Elsewhere::of)
            .map(|file| OtherProcesses { file, service_hash: hash_of(service), yield_rests: Mutex::default() })
            .map(Arc::new);
        Self { entries, elsewhere }
    }

    /// Closes the file of other processes until the next turn. A turn that is taken, and other clients, keep it open.
    #[cfg(feature = "python")]
    pub(crate) fn close_file(&self) {
        if let Some(other) = &self.elsewhere {
            other.file.close();
        }
    }

    /// Returns the turns of one account.
    pub(crate) fn account(&self, id: i64) -> AccountTurns {
        let elsewhere = self.elsewhere.as_ref().map(|other| (Arc::clone(other), Place::of(other.service_hash, id)));
        AccountTurns { entry: self.entry(id), elsewhere }
    }

    fn entry(&self, id: i64) -> Arc<Entry> {
        let mut entries = lock(&self.entries);
        if let Some(entry) = entries.accounts.get(&id).and_then(Weak::upgrade) {
            return entry;
        }
        if entries.accounts.len() >= entries.sweep_at.max(FEWEST_BEFORE_SWEEP) {
            entries.accounts.retain(|_, entry| entry.strong_count() > 0);
            entries.sweep_at = entries.accounts.len() * 2;
        }
        let entry = Arc::new(Entry { id, turn: Semaphore::new(1), writes: AtomicU64::new(0) });
        entries.accounts.insert(id, Arc::downgrade(&entry));
        entry
    }
}

/// Returns a number for a service that is the same in every process and version.
fn hash_of(service: &str) -> u64 {
    let hash = digest::digest(&digest::SHA256, service.as_bytes());
    hash.as_ref().first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// The updates of an account so far. If it is the same as before, the account was not updated in the meantime.
#[cfg(any(feature = "plan", test))]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Writes {
    /// The number of turns of this process in which an update was sent.
    pub(crate) here: u64,
    /// The marks that the last update of any process has left; `None` while another process has the turn.
    elsewhere: Option<Marks>,
}

/// The turns of one account. The entry lives while a handle or a turn exists.
#[derive(Debug, Clone)]
pub(crate) struct AccountTurns {
    entry: Arc<Entry>,
    elsewhere: Option<(Arc<OtherProcesses>, Place)>,
}

impl AccountTurns {
    /// Returns the updates so far.
    #[cfg(any(feature = "plan", test))]
    pub(crate) fn writes(&self) -> Writes {
        let elsewhere =
            self.elsewhere.as_ref().map_or_else(|| Some(Marks::default()), |(other, place)| other.file.marks(*place));
        Writes { here: self.entry.writes.load(Ordering::Acquire), elsewhere }
    }

    /// Returns whether the account may have been updated since a caller, which has the turn now, asked for the updates
    /// and then read the account.
    #[cfg(any(feature = "plan", test))]
    pub(crate) fn is_updated_since(&self, before: &Writes) -> bool {
        let now = self.writes();
        let is_same = now.here == before.here && before.elsewhere.is_some() && now.elsewhere == before.elsewhere;
        !is_same && !is_off(Guard::Turns)
    }

    /// Waits for the turn. Dropping it during the wait has no effect.
    pub(crate) async fn take(&self) -> Turn {
        if !is_off(Guard::Turns)
            && let Ok(permit) = self.entry.turn.acquire().await
        {
            permit.forget();
        }
        let mut turn = Turn::of(self);
        let mut is_locked = turn.lock();
        if let Some(other) = self.elsewhere.as_ref().filter(|_| turn.yields()).map(|(other, _)| other) {
            turn.unlock();
            // Before the wait, because the caller may give up during it.
            lock(&other.yield_rests).insert(self.entry.id, Instant::now() + YIELD_REST);
            tokio::time::sleep(LONGEST_YIELD).await;
            is_locked = turn.lock();
            if !turn.is_awaited() {
                lock(&other.yield_rests).remove(&self.entry.id);
            }
        }
        // Declared after the turn, so that it ends before another caller of this process can wait.
        let (mut pause, mut waiting) = (FIRST_PAUSE, None);
        while !is_locked && !turn.lock() {
            waiting = waiting.or_else(|| self.elsewhere.as_ref().and_then(|(other, place)| other.file.wait(*place)));
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        turn
    }

    /// Takes the turn if it is free and no other process waits for it.
    pub(crate) fn try_take(&self) -> Option<Turn> {
        let permit = self.entry.turn.try_acquire().ok()?;
        permit.forget();
        let mut turn = Turn::of(self);
        (turn.lock() && !turn.yields()).then_some(turn)
    }

    /// Returns the other process that has the turn, or that goes first; 0 if it cannot be named.
    pub(crate) fn other_process(&self) -> Option<u32> {
        let holder = self.elsewhere.as_ref().and_then(|(other, place)| other.file.holder(*place));
        let waiter = || self.elsewhere.as_ref().and_then(|(other, place)| other.file.waiter(*place));
        holder.or_else(|| waiter().filter(|_| self.entry.turn.available_permits() > 0))
    }
}

/// The turn of an account: no other caller changes it until this is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    account: AccountTurns,
    has_written: AtomicBool,
    locked: Option<Locked>,
}

impl Turn {
    fn of(account: &AccountTurns) -> Self {
        Self { account: account.clone(), has_written: AtomicBool::new(false), locked: None }
    }

    /// Keeps other processes out. Returns whether no other process has the turn, as far as is known.
    fn lock(&mut self) -> bool {
        let Some((other, place)) = self.account.elsewhere.as_ref().filter(|_| !is_off(Guard::Turns)) else {
            return true;
        };
        match other.file.try_lock(*place) {
            Attempt::Locked(locked) => self.locked = Some(locked),
            Attempt::Unknown => {}
            Attempt::Taken => return false,
        }
        true
    }

    /// Lets other processes have the account.
    fn unlock(&mut self) {
        if let Some(locked) = self.locked.take() {
            locked.end();
        }
    }

    /// Returns whether another process waits for the turn, which this one has locked.
    fn is_awaited(&self) -> bool {
        self.locked.as_ref().is_some_and(Locked::is_awaited)
    }

    /// Returns whether to let another process go first. Otherwise a process that changes an account again and again
    /// would leave it no moment to take the turn.
    fn yields(&self) -> bool {
        let Some((other, _)) = self.account.elsewhere.as_ref().filter(|_| self.is_awaited()) else { return false };
        let mut rests = lock(&other.yield_rests);
        let now = Instant::now();
        rests.retain(|_, until| *until > now);
        !rests.contains_key(&self.id())
    }

    /// Returns whether every other caller of this machine is kept out, as far as they can be.
    #[cfg(feature = "plan")]
    pub(crate) fn excludes_others(&self) -> bool {
        let Some((other, _)) = &self.account.elsewhere else { return true };
        other.file.has(self.locked.as_ref())
    }

    /// Returns the account.
    pub(crate) fn id(&self) -> i64 {
        self.account.entry.id
    }

    /// Records that an update is about to be sent. For other callers of this process it counts when the turn ends: a
    /// read before that may return the state before the update. For other processes it counts now, because this one may
    /// be killed.
    pub(crate) fn count_write(&self) {
        if !self.has_written.swap(true, Ordering::Relaxed)
            && let Some(locked) = &self.locked
        {
            locked.mark();
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let has_written = *self.has_written.get_mut();
        self.unlock();
        let entry = &self.account.entry;
        entry.writes.fetch_add(u64::from(has_written), Ordering::AcqRel);
        entry.turn.add_permits(1);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::{FEWEST_BEFORE_SWEEP, Turns, lock};

    const SOON: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn a_second_change_of_an_account_waits_for_the_first() {
        let turns = Turns::default();
        let first = turns.account(1).take().await;
        assert!(turns.account(1).try_take().is_none());
        assert!(timeout(SOON, turns.account(1).take()).await.is_err());
        assert!(turns.account(2).try_take().is_some(), "another account has a turn of its own");
        drop(first);
        assert_eq!(turns.account(1).take().await.id(), 1);
    }

    #[tokio::test]
    async fn a_waiter_that_is_dropped_takes_nothing_and_the_next_one_goes_on() {
        let account = Turns::default().account(1);
        let first = account.take().await;
        let dropped = tokio::spawn({
            let account = account.clone();
            async move { account.take().await }
        });
        let next = tokio::spawn({
            let account = account.clone();
            async move { account.take().await }
        });
        tokio::task::yield_now().await;
        // It receives the turn, and is dropped before it runs again.
        drop(first);
        dropped.abort();
        drop(timeout(SOON, next).await.unwrap().unwrap());
        assert!(timeout(SOON, account.take()).await.is_ok());
    }

    #[test]
    fn runtimes_of_several_threads_wait_for_each_other() {
        let watcher = Turns::of("https://several-threads.example", None).account(1);
        let inside = std::sync::atomic::AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
                    runtime.block_on(async {
                        for _ in 0..50 {
                            let turn = Turns::of("https://several-threads.example", None).account(1).take().await;
                            assert_eq!(inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                            tokio::task::yield_now().await;
                            inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                            turn.count_write();
                        }
                    });
                });
            }
        });
        assert_eq!(watcher.writes().here, 200);
    }

    #[tokio::test]
    async fn writes_are_counted_while_a_handle_lives() {
        let turns = Turns::default();
        let watcher = turns.account(1);
        turns.account(1).take().await.count_write();
        turns.account(2).take().await.count_write();
        assert_eq!(watcher.writes().here, 1);
        drop(watcher);
        assert_eq!(turns.account(1).writes().here, 0);
    }

    #[tokio::test]
    async fn entries_that_nobody_uses_take_no_memory() {
        let turns = Turns::default();
        let used: Vec<_> = (0..10).map(|id| turns.account(id)).collect();
        for id in 0..100_000 {
            drop(turns.account(id).take().await);
        }
        assert!(lock(&turns.entries).accounts.len() <= FEWEST_BEFORE_SWEEP);
        used[3].take().await.count_write();
        assert_eq!(turns.account(3).writes().here, 1, "an entry in use is kept");
    }

    #[tokio::test]
    async fn a_reader_that_comes_during_an_update_sees_it_counted_afterwards() {
        let account = Turns::default().account(1);
        let update = account.take().await;
        update.count_write();
        let seen = account.writes();
        drop(update);
        let _turn = account.take().await;
        assert!(account.is_updated_since(&seen));
    }

    #[test]
    fn a_service_has_its_own_turns() {
        let one = Turns::of("https://one.example", None).account(1);
        let _turn = one.try_take().unwrap();
        assert!(Turns::of("https://one.example", None).account(1).try_take().is_none());
        assert!(Turns::of("https://two.example", None).account(1).try_take().is_some());
    }
}

#[cfg(test)]
mod properties {
    use std::collections::HashMap;
    use std::future::{Future, poll_fn};
    use std::pin::Pin;
    use std::task::Poll;

    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::{AccountTurns, FEWEST_BEFORE_SWEEP, Turn, Turns, lock};

    #[derive(Debug, Clone)]
    enum Step {
        /// A caller asks for the turn, and keeps a handle.
        Ask(i64),
        /// The caller checks whether it has the turn.
        Poll(Index),
        /// The caller gives up.
        GiveUp(Index),
        Write(Index),
        End(Index),
    }

    fn any_step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (1_i64..4).prop_map(Step::Ask),
            3 => any::<Index>().prop_map(Step::Poll),
            1 => any::<Index>().prop_map(Step::GiveUp),
            1 => any::<Index>().prop_map(Step::Write),
            2 => any::<Index>().prop_map(Step::End),
        ]
    }

    type Asking = Pin<Box<dyn Future<Output = Turn>>>;

    async fn polled(asking: &mut Asking) -> Option<Turn> {
        poll_fn(|context| {
            Poll::Ready(match asking.as_mut().poll(context) {
                Poll::Ready(turn) => Some(turn),
                Poll::Pending => None,
            })
        })
        .await
    }

    fn asking(account: &AccountTurns) -> Asking {
        let account = account.clone();
        Box::pin(async move { account.take().await })
    }

    proptest! {
        #[test]
        fn an_account_has_one_turn_at_a_time_and_never_loses_it(steps in vec(any_step(), 1..80)) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let outcome: Result<(), TestCaseError> = runtime.block_on(async {
                let turns = Turns::default();
                let watchers: HashMap<i64, AccountTurns> = (1..4).map(|id| (id, turns.account(id))).collect();
                let mut waiting: Vec<Asking> = Vec::new();
                let mut taken: Vec<(Turn, bool)> = Vec::new();
                let mut written: HashMap<i64, u64> = HashMap::new();
                for step in steps {
                    match step {
                        Step::Ask(id) => waiting.push(asking(&turns.account(id))),
                        Step::Poll(index) if !waiting.is_empty() => {
                            let index = index.index(waiting.len());
                            if let Some(turn) = polled(&mut waiting[index]).await {
                                drop(waiting.swap_remove(index));
                                prop_assert!(taken.iter().all(|(other, _)| other.id() != turn.id()), "two have it");
                                taken.push((turn, false));
                            }
                        }
                        Step::GiveUp(index) if !waiting.is_empty() => {
                            drop(waiting.swap_remove(index.index(waiting.len())));
                        }
                        Step::Write(index) if !taken.is_empty() => {
                            let index = index.index(taken.len());
                            let (turn, wrote) = &mut taken[index];
                            turn.count_write();
                            *wrote = true;
                        }
                        Step::End(index) if !taken.is_empty() => {
                            let (turn, wrote) = taken.swap_remove(index.index(taken.len()));
                            *written.entry(turn.id()).or_default() += u64::from(wrote);
                        }
                        _ => {}
                    }
                    for (id, watcher) in &watchers {
                        prop_assert_eq!(watcher.writes().here, written.get(id).copied().unwrap_or_default());
                    }
                }
                drop(waiting);
                drop(taken);
                for watcher in watchers.values() {
                    prop_assert!(watcher.try_take().is_some(), "it is free, but cannot be taken");
                }
                prop_assert!(lock(&turns.entries).accounts.len() <= FEWEST_BEFORE_SWEEP);
                Ok(())
            });
            outcome?;
        }

        #[test]
        fn who_asked_first_has_the_turn_first(count in 1_usize..12, gone in vec(any::<Index>(), 0..4)) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let outcome: Result<(), TestCaseError> = runtime.block_on(async {
                let account = Turns::default().account(1);
                let mut turn = account.take().await;
                let mut waiting: Vec<(usize, Asking)> = (0..count).map(|number| (number, asking(&account))).collect();
                for (_, asking) in &mut waiting {
                    prop_assert!(polled(asking).await.is_none());
                }
                for index in gone {
                    if waiting.len() > 1 {
                        drop(waiting.remove(index.index(waiting.len())));
                    }
                }
                while !waiting.is_empty() {
                    drop(turn);
                    for (_, asking) in waiting.iter_mut().skip(1) {
                        prop_assert!(polled(asking).await.is_none(), "a later one has it");
                    }
                    let (_, mut first) = waiting.remove(0);
                    let Some(next) = polled(&mut first).await else {
                        return Err(TestCaseError::fail("the first one does not have it"));
                    };
                    turn = next;
                }
                Ok(())
            });
            outcome?;
        }
    }
}
