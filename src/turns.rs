//! Turns: within a process, only one caller at a time changes an account.
//!
//! An update replaces an account in full, so two callers that both read before either of them writes undo each other's
//! changes. A caller takes the account's turn and keeps it from the read to the answer. The key is the service and the
//! account, not the user, because two keys may reach the same account.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

use tokio::sync::Semaphore;

use crate::lock::lock;
use crate::per_process::PerProcess;
use crate::sabotage::{Guard, is_off};

/// The number of entries to keep before looking for unused ones.
const FEWEST_BEFORE_SWEEP: usize = 64;

/// The turns of all accounts of one service in this process.
#[derive(Debug, Clone, Default)]
pub(crate) struct Turns(Arc<Mutex<Entries>>);

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

static SERVICES: PerProcess<Mutex<HashMap<String, Turns>>> = PerProcess::new();

/// Forgets all entries, as the end of a process does.
#[cfg(feature = "simulation")]
pub(crate) fn forget() {
    lock(SERVICES.get_or_init(Mutex::default)).clear();
}

impl Turns {
    /// Returns the turns of a service, by the text that all spellings of its base URL share.
    pub(crate) fn of(service: &str) -> Self {
        let mut services = lock(SERVICES.get_or_init(Mutex::default));
        services.entry(service.to_owned()).or_default().clone()
    }

    /// Returns the turns of one account.
    pub(crate) fn account(&self, id: i64) -> AccountTurns {
        let mut entries = lock(&self.0);
        if let Some(entry) = entries.accounts.get(&id).and_then(Weak::upgrade) {
            return AccountTurns(entry);
        }
        if entries.accounts.len() >= entries.sweep_at.max(FEWEST_BEFORE_SWEEP) {
            entries.accounts.retain(|_, entry| entry.strong_count() > 0);
            entries.sweep_at = entries.accounts.len() * 2;
        }
        let entry = Arc::new(Entry { id, turn: Semaphore::new(1), writes: AtomicU64::new(0) });
        entries.accounts.insert(id, Arc::downgrade(&entry));
        AccountTurns(entry)
    }
}

/// The turns of one account. The entry lives while a handle or a turn exists.
#[derive(Debug, Clone)]
pub(crate) struct AccountTurns(Arc<Entry>);

impl AccountTurns {
    /// Returns how many turns in which this process sent an update have ended during the life of the entry. A caller
    /// that has kept a handle since before it read the account, and has the turn now, learns here whether the account
    /// was updated in the meantime.
    #[cfg(any(feature = "plan", test))]
    pub(crate) fn writes(&self) -> u64 {
        if is_off(Guard::Turns) { 0 } else { self.0.writes.load(Ordering::Acquire) }
    }

    /// Waits for the turn. Dropping it during the wait has no effect.
    pub(crate) async fn take(&self) -> Turn {
        if !is_off(Guard::Turns)
            && let Ok(permit) = self.0.turn.acquire().await
        {
            permit.forget();
        }
        Turn::of(self)
    }

    /// Takes the turn if it is free.
    pub(crate) fn try_take(&self) -> Option<Turn> {
        let permit = self.0.turn.try_acquire().ok()?;
        permit.forget();
        Some(Turn::of(self))
    }
}

/// The turn of an account: no other caller in this process changes it until this is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    account: AccountTurns,
    has_written: AtomicBool,
}

impl Turn {
    fn of(account: &AccountTurns) -> Self {
        Self { account: account.clone(), has_written: AtomicBool::new(false) }
    }

    /// Returns the account.
    pub(crate) fn id(&self) -> i64 {
        self.account.0.id
    }

    /// Records that an update is about to be sent. It counts when the turn ends: a read before that may return the
    /// state before the update.
    pub(crate) fn count_write(&self) {
        self.has_written.store(true, Ordering::Relaxed);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let entry = &self.account.0;
        entry.writes.fetch_add(u64::from(*self.has_written.get_mut()), Ordering::AcqRel);
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
        let watcher = Turns::of("https://several-threads.example").account(1);
        let inside = std::sync::atomic::AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
                    runtime.block_on(async {
                        for _ in 0..50 {
                            let turn = Turns::of("https://several-threads.example").account(1).take().await;
                            assert_eq!(inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                            tokio::task::yield_now().await;
                            inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                            turn.count_write();
                        }
                    });
                });
            }
        });
        assert_eq!(watcher.writes(), 200);
    }

    #[tokio::test]
    async fn writes_are_counted_while_a_handle_lives() {
        let turns = Turns::default();
        let watcher = turns.account(1);
        turns.account(1).take().await.count_write();
        turns.account(2).take().await.count_write();
        assert_eq!(watcher.writes(), 1);
        drop(watcher);
        assert_eq!(turns.account(1).writes(), 0);
    }

    #[tokio::test]
    async fn entries_that_nobody_uses_take_no_memory() {
        let turns = Turns::default();
        let used: Vec<_> = (0..10).map(|id| turns.account(id)).collect();
        for id in 0..100_000 {
            drop(turns.account(id).take().await);
        }
        assert!(lock(&turns.0).accounts.len() <= FEWEST_BEFORE_SWEEP);
        used[3].take().await.count_write();
        assert_eq!(turns.account(3).writes(), 1, "an entry in use is kept");
    }

    #[tokio::test]
    async fn a_reader_that_comes_during_an_update_sees_it_counted_afterwards() {
        let account = Turns::default().account(1);
        let update = account.take().await;
        update.count_write();
        let seen = account.writes();
        drop(update);
        let _turn = account.take().await;
        assert_ne!(account.writes(), seen);
    }

    #[test]
    fn a_service_has_its_own_turns() {
        let one = Turns::of("https://one.example").account(1);
        let _turn = one.try_take().unwrap();
        assert!(Turns::of("https://one.example").account(1).try_take().is_none());
        assert!(Turns::of("https://two.example").account(1).try_take().is_some());
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
                        prop_assert_eq!(watcher.writes(), written.get(id).copied().unwrap_or_default());
                    }
                }
                drop(waiting);
                drop(taken);
                for watcher in watchers.values() {
                    prop_assert!(watcher.try_take().is_some(), "it is free, but cannot be taken");
                }
                prop_assert!(lock(&turns.0).accounts.len() <= FEWEST_BEFORE_SWEEP);
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
