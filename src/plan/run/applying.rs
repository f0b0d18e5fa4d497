//! Applies a plan: sends the requests of the [`Machine`], and stores its records.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::control::{Control, Phase};
use super::looks::requests_for;
use super::machine::{Machine, Next, Request, Settings, Update};
use super::policy::Refusal;
use super::request::{Counter, admit, open};
use super::selection::Selection;
use super::sent::{sent_now, unknown_yet};
use super::{ApplyOptions, RunError};
use crate::account::ContactAccount;
use crate::answer::Item;
use crate::client::{AccountTurns, Client, ListQuery, Observer, Slot, Turn, Writes, add_kept_members, lacks_members};
use crate::clock::{Moment, now_ms};
use crate::error::{Error, Failure, WaitReason};
use crate::plan::file::{FileError, ItemsProof, OpenRow, PlanFile, Record, Run, State};
use crate::plan::{MatchOn, Mode, Status};
use crate::sabotage::{Guard, is_off};

/// The rows per look if no quota limits the requests of a minute.
const MOST_ON_A_LOOK: usize = 1_000;

/// Returns the number of requests that apply the rest of a plan.
///
/// # Errors
/// Returns [`FileError`] if the file cannot be read.
pub fn requests_to_apply(client: &Client, file: &PlanFile) -> Result<u64, FileError> {
    Ok(requests_for(file.open_rows(&[])?, file.state()?.items, rows_on_a_look(client)))
}

/// Returns how many rows a client reads at once.
pub fn rows_on_a_look(client: &Client) -> usize {
    let Some(quota) = client.config().quota else { return MOST_ON_A_LOOK };
    let quota = quota.for_bulk(client.config().bulk_share);
    let at_once = quota.per_minute.min(quota.per_hour) as usize;
    at_once.saturating_sub(1).clamp(1, MOST_ON_A_LOOK)
}

/// Applies the rest of a plan, or the selected part of it. Returns when no row of it is left, or when the run was asked
/// to stop and no request is in flight.
///
/// # Errors
/// Returns [`RunError`] if the run fails; the file then has the state of every row.
pub async fn apply(
    client: &Client,
    run: Run,
    options: ApplyOptions,
    selection: &Selection,
    control: &Arc<Control>,
    observer: Option<Arc<dyn Observer>>,
) -> Result<(), RunError> {
    client.check_pairs("a plan").map_err(RunError::Call)?;
    let now = now_ms();
    let foreign = unknown_yet(run.recent_requests(now)?);
    client.count_earlier(foreign.into_iter().map(|sent| Duration::from_millis(u64::try_from(now - sent).unwrap_or(0))));
    let also = options.also();
    let open_rows = run.file().open_rows(&also)?;
    let state = run.file().state()?;
    let in_doubt = state.in_doubt(&open_rows);
    let held_up_by = state.held_up_by(&in_doubt);
    let State { items, cleared, .. } = state;
    let rows = selection.of(run.file(), open_rows, held_up_by)?;
    if selection.rows.is_none() && !rows.is_empty() {
        run.file().refuse_if_reverted()?;
    }
    let done = run.file().rows_done(&also)?;
    let header = run.file().header();
    let settings = Settings {
        on_conflict: options.on_conflict,
        on_unknown_member: options.on_unknown_member,
        concurrency: options.concurrency.max(1),
        most_on_a_look: rows_on_a_look(client),
        attempts: client.config().max_attempts,
        fills: header.mode == Mode::Fill && header.is_of_table(),
        is_revert: header.is_revert(),
    };
    {
        let mut progress = control.state();
        progress.phase = Phase::Writing;
        // A resumed run shows the progress of the plan, not of this run.
        progress.rows = done + rows.len() as u64;
        progress.done = done;
    }
    // A revert is for the accounts that were changed, whatever their current names are.
    let match_on = if header.is_of_table() { header.match_on } else { MatchOn::Id };
    let keys = if match_on == MatchOn::Id { HashMap::new() } else { run.file().open_keys()? };
    let driver = Driver {
        client: client.observed(Arc::new(Counter::new(control, observer))),
        control: Arc::clone(control),
        machine: Machine::new(rows, items, settings).matched(match_on, keys).sparing(cleared, in_doubt, held_up_by),
        run,
        started: Instant::now(),
        awake_since: Moment::now(),
        most_in_flight: 2 * settings.concurrency,
        tasks: JoinSet::new(),
        turns: HashMap::new(),
        kept: HashMap::new(),
        failed: None,
        is_ending: watch::Sender::new(false),
    };
    driver.run_to_end().await
}

/// A finished operation.
enum Back {
    Page {
        rows: Vec<OpenRow>,
        answer: Result<Vec<Item>, Error>,
    },
    Account {
        row: OpenRow,
        answer: Result<Box<ContactAccount>, Error>,
    },
    /// A look was given up, because the run is to stop.
    Stopped,
    Update {
        update: Box<Update>,
        outcome: Outcome,
    },
    Claimed {
        row: OpenRow,
        claim: Result<Claim, Failure>,
    },
    Recorded {
        result: Result<(), FileError>,
        status: Option<Status>,
    },
}

/// The outcome of an update that the run was about to send.
enum Outcome {
    Answered(Result<Box<ContactAccount>, Error>),
    /// It was not sent, although its row is marked: all requests are held back, or it would have been late.
    HeldBack,
    /// Someone on this machine changes the account, has done so after the look, or may have: the turn came late.
    Overtaken,
    /// The plan file could not be written, so nothing was sent.
    NotMarked(FileError),
}

/// What a run has to change an account that was overtaken.
enum Claim {
    /// The turn, and the slots of a read and an update.
    Taken(Turn, Vec<Slot>),
    /// Someone on this machine did not end the turn: another process, by its number, or a call of this process.
    Blocked(Option<u32>),
    /// The run is to stop.
    Stopped,
}

/// If an update waits longer than this for its account's turn, its look no longer counts.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// The longest time to wait for the turn before other rows go first.
const LONGEST_TURN: Duration = Duration::from_secs(1);

/// The longest time to wait for the turn of a row that was overtaken. The run continues with other rows meanwhile.
const LONGEST_CLAIM: Duration = Duration::from_secs(420);

/// The longest time to keep the turn of an account without a request. Other processes wait for it.
const LONGEST_KEPT: Duration = Duration::from_secs(10);

/// The longest time from the decision to send an update to its request. Its row is marked in the file meanwhile.
const LONGEST_DELAY: Duration = Duration::from_secs(30);

/// The turns of a row's account, and its updates at the look.
type Seen = (AccountTurns, Writes);

/// What the run keeps of an account that it reads again: its turn, the slots of a read and an update, and until when.
struct Kept {
    turn: Turn,
    slots: Vec<Slot>,
    until: Instant,
}

struct Driver {
    client: Client,
    control: Arc<Control>,
    machine: Machine,
    run: Run,
    started: Instant,
    /// A moment after which the computer has not slept, as far as is known.
    awake_since: Moment,
    /// Requests and file writes, so that a slow disk delays requests.
    most_in_flight: usize,
    tasks: JoinSet<Back>,
    turns: HashMap<u64, Seen>,
    kept: HashMap<u64, Kept>,
    failed: Option<FileError>,
    /// Whether the run ends early: no row waits for its turn any more.
    is_ending: watch::Sender<bool>,
}

impl Driver {
    async fn run_to_end(mut self) -> Result<(), RunError> {
        loop {
            if self.control.is_stopping() || self.failed.is_some() {
                self.machine.wind_down();
            }
            if self.machine.is_ending() {
                self.kept.clear();
                self.is_ending.send_replace(true);
            }
            let now = Instant::now();
            for (row, _) in self.kept.extract_if(|_, kept| kept.until <= now) {
                self.machine.gave_up_turn(row);
            }
            let kept_until = self.kept.values().map(|kept| kept.until).min();
            let end_of_turn = sleep_until(kept_until.unwrap_or(now));
            self.control.state().requests_left = self.machine.requests_left();
            self.notice_sleep();
            let next = self.machine.next(self.started.elapsed());
            let has_room = self.tasks.len() < self.most_in_flight + self.machine.claiming();
            if next == Next::Request
                && has_room
                && let Some(slot) = self.kept_slot()
            {
                self.start(slot);
                continue;
            }
            // Results come before new requests: they may ask to wait or to stop.
            let back = match next {
                Next::Request if has_room => tokio::select! {
                    biased;
                    Some(back) = self.tasks.join_next() => Some(back),
                    () = end_of_turn, if kept_until.is_some() => continue,
                    slot = admit(&self.client, &self.control) => {
                        match slot {
                            Ok(Some(slot)) => self.start(slot),
                            Ok(None) => {}
                            Err(failure) => self.machine.fail(RunError::Acquire(failure)),
                        }
                        continue;
                    }
                },
                Next::Wait(until, reason) => tokio::select! {
                    biased;
                    Some(back) = self.tasks.join_next() => Some(back),
                    () = end_of_turn, if kept_until.is_some() => continue,
                    () = self.control.wait(self.started + until, reason) => continue,
                },
                Next::Request | Next::Idle => {
                    let (control, waits_for_turns) = (&self.control, self.machine.waits_for_turns());
                    tokio::select! {
                        biased;
                        back = self.tasks.join_next() => back,
                        () = end_of_turn, if kept_until.is_some() => continue,
                        () = control.show_later(WaitReason::Turn), if waits_for_turns => continue,
                    }
                }
                Next::Done => {
                    let records = self.machine.last_records();
                    self.record(records);
                    self.tasks.join_next().await
                }
            };
            match back {
                Some(Ok(back)) => self.take(back),
                Some(Err(_)) => self.fail(FileError::internal("a task of the run ended without a result")),
                None if next == Next::Done || self.failed.is_some() => break,
                None => self.fail(FileError::internal("a run has nothing to wait for and is not done")),
            }
        }
        if let Some(error) = self.failed {
            return Err(error.into());
        }
        let stop = self.machine.into_stop();
        self.control.state().obstacle = stop.as_ref().and_then(RunError::obstacle);
        stop.map_or(Ok(()), Err)
    }

    fn fail(&mut self, error: FileError) {
        self.failed.get_or_insert(error);
    }

    /// tokio's clock stops while the computer sleeps, so the state machine would treat its looks as fresh.
    fn notice_sleep(&mut self) {
        let now = Moment::now();
        if self.awake_since.has_slept_until(&now) && !is_off(Guard::Sleep) {
            self.machine.slept();
        }
        self.awake_since = now;
    }

    /// Starts the next request, in its slot of the quota.
    fn start(&mut self, slot: Slot) {
        self.notice_sleep();
        match self.machine.start(self.started.elapsed()) {
            None => {}
            Some(Request::Page { rows, top, skip }) => self.look_at_page(slot, rows, top, skip),
            Some(Request::Account { row }) => self.look_at_account(slot, row),
            Some(Request::Update(update)) => self.update(slot, update),
        }
    }

    /// Returns a slot that the run keeps for the next request.
    fn kept_slot(&mut self) -> Option<Slot> {
        let row = self.machine.next_kept(self.started.elapsed()).filter(|_| self.client.held().is_none())?;
        self.kept.get_mut(&row)?.slots.pop()
    }

    /// Remembers the updates of an account before the look.
    fn watch(&mut self, row: &OpenRow) {
        if let Some(id) = row.account_id {
            let turns = self.client.account(id);
            let writes = turns.writes();
            self.turns.insert(row.row, (turns, writes));
        }
    }

    /// Stores the time of a look, which belongs to no row.
    fn note_look(&mut self) {
        let stored = self.run.store(Record::Requests(vec![sent_now()]));
        self.tasks.spawn(async move { Back::Recorded { result: stored.await, status: None } });
    }

    fn look_at_page(&mut self, slot: Slot, rows: Vec<OpenRow>, top: u32, skip: u64) {
        self.note_look();
        for row in &rows {
            self.watch(row);
        }
        let (client, control) = (self.client.clone(), Arc::clone(&self.control));
        self.tasks.spawn(async move {
            let query = ListQuery::default();
            let asked = client.list_page_once(slot, &query, top, skip);
            // A lost read has no effect.
            let answer = control.unless_stopped(asked).await;
            answer.map_or(Back::Stopped, |answer| Back::Page { rows, answer: answer.map(|page| page.items) })
        });
    }

    fn look_at_account(&mut self, slot: Slot, row: OpenRow) {
        self.note_look();
        self.watch(&row);
        if let Some(kept) = self.kept.get_mut(&row.row) {
            kept.until += self.client.config().attempt_timeout;
        }
        let (client, control) = (self.client.clone(), Arc::clone(&self.control));
        self.tasks.spawn(async move {
            // A row without an account has no changes; the machine reports it.
            let asked = client.get_once(slot, row.account_id.unwrap_or_default());
            let answer = control.unless_stopped(asked).await;
            answer.map_or(Back::Stopped, |answer| Back::Account { row, answer: answer.map(Box::new) })
        });
    }

    fn update(&mut self, slot: Slot, update: Box<Update>) {
        let (client, run, control) = (self.client.clone(), self.run.clone(), Arc::clone(&self.control));
        let kept = self.kept.remove(&update.row.row).map(|kept| kept.turn);
        let seen = self.turns.remove(&update.row.row).map(|seen| (seen, kept));
        let decided = self.awake_since;
        self.tasks.spawn(async move {
            let outcome = send(&client, &run, &control, slot, &update, seen, decided).await;
            Back::Update { update, outcome }
        });
    }

    /// Waits for what a row needs that was overtaken.
    fn claim(&mut self, row: OpenRow, id: i64) {
        let (client, control) = (self.client.clone(), Arc::clone(&self.control));
        let mut is_ending = self.is_ending.subscribe();
        self.tasks.spawn(async move {
            let claim = tokio::select! {
                biased;
                // The sender lives as long as the run.
                _ = is_ending.wait_for(|is_ending| *is_ending) => Ok(Claim::Stopped),
                claim = control.unless_stopped(claim(&client, &control, id)) => claim.unwrap_or(Ok(Claim::Stopped)),
            };
            Back::Claimed { row, claim }
        });
    }

    fn take(&mut self, back: Back) {
        self.notice_sleep();
        let now = self.started.elapsed();
        let records = match back {
            Back::Page { rows, answer } => {
                let numbers: Vec<u64> = rows.iter().map(|row| row.row).collect();
                match self.run.file().changes_of(&numbers) {
                    Ok(planned) => self.machine.looked_at_page(rows, planned, answer.map_err(Refusal::from), now),
                    Err(error) => return self.look_failed(error),
                }
            }
            Back::Account { row, answer } => match self.run.file().changes_of(&[row.row]) {
                Ok(mut planned) => {
                    if answer.is_err() {
                        // The next attempt may come much later.
                        self.kept.remove(&row.row);
                        self.machine.gave_up_turn(row.row);
                    } else if let Some(kept) = self.kept.get_mut(&row.row) {
                        kept.until = Instant::now() + LONGEST_KEPT;
                    }
                    let changes = planned.remove(&row.row).unwrap_or_default();
                    self.machine.looked_at_account(
                        row,
                        changes,
                        answer.map(|account| *account).map_err(Refusal::from),
                        now,
                    )
                }
                Err(error) => return self.look_failed(error),
            },
            Back::Stopped => {
                self.machine.gave_up_look();
                Vec::new()
            }
            Back::Update { update, outcome } => match outcome {
                Outcome::Answered(answer) => {
                    self.machine.wrote(*update, answer.map(|account| *account).map_err(Refusal::from), now)
                }
                Outcome::HeldBack => self.machine.held_back(&update),
                Outcome::Overtaken => {
                    self.machine.overtaken();
                    self.claim(update.row, update.account.id);
                    Vec::new()
                }
                Outcome::NotMarked(error) => {
                    self.machine.not_marked();
                    self.fail(error);
                    Vec::new()
                }
            },
            Back::Claimed { row, claim } => match claim {
                Ok(Claim::Taken(turn, slots)) => {
                    self.kept.insert(row.row, Kept { turn, slots, until: Instant::now() + LONGEST_KEPT });
                    self.machine.claimed(row);
                    Vec::new()
                }
                Ok(Claim::Blocked(process)) => self.machine.blocked(row, process),
                Ok(Claim::Stopped) => {
                    self.machine.gave_up_claim();
                    Vec::new()
                }
                Err(failure) => {
                    self.machine.gave_up_claim();
                    self.machine.fail(RunError::Acquire(failure));
                    Vec::new()
                }
            },
            Back::Recorded { result, status } => {
                match (result, status) {
                    (Ok(()), Some(status)) => self.control.count(status),
                    (Ok(()), None) => {}
                    (Err(error), _) => self.fail(error),
                }
                Vec::new()
            }
        };
        self.record(records);
    }

    fn look_failed(&mut self, error: FileError) {
        self.machine.gave_up_look();
        self.fail(error);
    }

    /// Sends records to the writer, in their order. A row counts when its record is on the disk.
    fn record(&mut self, records: Vec<Record>) {
        for mut record in records {
            let status = if let Record::Finish { row, finished } = &mut record {
                self.turns.remove(row);
                self.kept.remove(row);
                self.machine.gave_up_turn(*row);
                finished.at_ms = Some(now_ms());
                // `failures` shows the row of a revert that left a field with another value.
                finished.stored_otherwise |= !finished.left.is_empty();
                self.machine.name_lost(*row, finished);
                Some(finished.status)
            } else {
                None
            };
            if record == Record::Items(ItemsProof::Incomplete) {
                self.control.state().items_are_incomplete = true;
            }
            let stored = self.run.store(record);
            self.tasks.spawn(async move { Back::Recorded { result: stored.await, status } });
        }
    }
}

/// Sends an update, in its turn, after its row was marked in the file, unless something holds it back. `decided` is
/// when the run decided to send it.
async fn send(
    client: &Client,
    run: &Run,
    control: &Control,
    slot: Slot,
    update: &Update,
    seen: Option<(Seen, Option<Turn>)>,
    decided: Moment,
) -> Outcome {
    let Some(((turns, writes), kept)) = seen else { return Outcome::Overtaken };
    // The look came after the run had this turn, so nothing can have overtaken it.
    let turn = if let Some(turn) = kept.filter(Turn::excludes_others) {
        turn
    } else {
        let Ok(turn) = timeout(LONGEST_TURN, turns.take()).await else { return Outcome::Overtaken };
        if turns.is_updated_since(&writes) || decided.elapsed() > LONGEST_WAIT {
            return Outcome::Overtaken;
        }
        turn
    };
    let sent = Record::Sent { row: update.row.row, attempt: update.attempt.clone(), at_ms: sent_now() };
    if let Err(error) = run.store(sent).await {
        return Outcome::NotMarked(error);
    }
    // The disk may have been slow, or the computer may have slept.
    if client.held().is_some() || decided.elapsed() > LONGEST_DELAY {
        return Outcome::HeldBack;
    }
    match client.put_once(slot, &turn, &update.fields).await {
        Ok(None) => Outcome::HeldBack,
        Ok(Some(answered)) => {
            // The next read changes nothing, and may wait for the quota.
            drop(turn);
            Outcome::Answered(Ok(Box::new(with_kept_members(client, run, control, &update.account, answered).await)))
        }
        Err(error) => Outcome::Answered(Err(error)),
    }
}

/// Waits for the turn of an account, and for the slots of a read and an update in it. Keeps no turn while it waits for
/// a slot, and keeps its place among those who wait for the turn.
async fn claim(client: &Client, control: &Control, id: i64) -> Result<Claim, Failure> {
    let turns = client.account(id);
    let mut booked = None;
    loop {
        let Ok(turn) = timeout(LONGEST_CLAIM, turns.take()).await else {
            return Ok(Claim::Blocked(turns.other_process()));
        };
        let mut slots = booked.take().unwrap_or_else(|| vec![client.book(), client.book()]);
        // A booking may be old by now, and its window full.
        if client.held().is_none() && slots.iter_mut().all(Slot::send) {
            return Ok(Claim::Taken(turn, slots));
        }
        drop(turn);
        for slot in &mut slots {
            open(client, control, slot).await?;
        }
        booked = Some(slots);
    }
}

/// Returns the answer to an update. Reads the account once more if the answer lacks members that the account had. If
/// this read fails, they count as cleared.
async fn with_kept_members(
    client: &Client,
    run: &Run,
    control: &Control,
    before: &ContactAccount,
    answer: ContactAccount,
) -> ContactAccount {
    if !lacks_members(before, &answer) {
        return answer;
    }
    let Ok(Some(slot)) = admit(client, control).await else { return answer };
    if run.store(Record::Requests(vec![sent_now()])).await.is_err() {
        return answer;
    }
    match client.get_once(slot, before.id).await {
        Ok(read) => add_kept_members(before, answer, &read),
        Err(_) => answer,
    }
}

#[cfg(test)]
#[cfg(feature = "sandbox")]
mod tests {
    use std::sync::Mutex;

    use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
    use http::Method;
    use serde_json::{Value as Json, json};
    use tempfile::TempDir;

    use super::*;
    use crate::account::{AccountFields, Presence};
    use crate::clock;
    use crate::config::{BaseUrl, Config};
    use crate::lock::lock;
    use crate::plan::run::plan;
    use crate::plan::source::{Options, Table};
    use crate::quota::Quota;
    use crate::sandbox::{Deviations, Fault, Response, Sandbox, SandboxOptions, account_from_json};

    const ACCOUNTS: i64 = 30;

    fn account(id: i64, phone: &str) -> Json {
        json!({"id": id, "name": format!("Company {id}"), "city": "Oslo", "phone": phone})
    }

    /// Plans to change the city of the first accounts.
    async fn planned(client: &Client, accounts: i64, folder: &TempDir) -> Run {
        let options = Options::default();
        let ids: ArrayRef = Arc::new((1..=accounts).collect::<Int64Array>());
        let cities: ArrayRef = Arc::new(StringArray::from(vec!["Bergen"; usize::try_from(accounts).unwrap()]));
        let batch = RecordBatch::try_from_iter([("id", ids), ("city", cities)]).unwrap();
        let table = Table::from_batches(&batch.schema(), vec![batch], &options).unwrap();
        let (path, control) = (folder.path().join("a.replyplan"), Arc::new(Control::default()));
        let file = plan(client, &table, &options, &path, &control, None).await.unwrap();
        file.unwrap().start_run().unwrap()
    }

    /// A client of a key of its own, which has this many requests a minute. A minute takes two seconds.
    fn client(sandbox: &Sandbox, key: &str, per_minute: Option<u32>) -> Client {
        let mut config = Config::new(format!("{key}-{}", sandbox.port())).unwrap();
        config.base_url = BaseUrl::new(&sandbox.url()).unwrap();
        config.quota = per_minute.map(|per_minute| Quota { per_minute, per_hour: 1_000 });
        config.quota_clock_scale = 30.0;
        Client::new(config).unwrap()
    }

    async fn applied(client: &Client, run: Run) {
        let (selection, control) = (Selection::default(), Arc::new(Control::default()));
        apply(client, run, ApplyOptions::default(), &selection, &control, None).await.unwrap();
    }

    /// Changes the phone number of the first account until it is dropped. Notes how long the longest change took.
    async fn colleague(client: Client, slowest: Arc<Mutex<Duration>>, pause: Duration) {
        for number in 0_u64.. {
            let began = Instant::now();
            let phone = Presence::Value(number.to_string());
            client.patch(1, &AccountFields { phone, ..AccountFields::default() }).await.unwrap();
            {
                let mut slowest = lock(&slowest);
                *slowest = slowest.max(began.elapsed());
            }
            tokio::time::sleep(pause).await;
        }
    }

    fn city_of_the_first(sandbox: &Sandbox) -> Option<String> {
        sandbox.accounts().into_iter().find(|account| account.id == 1)?.city
    }

    #[tokio::test]
    async fn a_run_that_waits_for_its_quota_holds_no_account_and_ends() {
        let accounts = vec![account_from_json(&account(1, "+47 1")).unwrap()];
        let sandbox = Sandbox::start(SandboxOptions { accounts: Some(accounts), ..SandboxOptions::default() }).unwrap();
        let (folder, slowest) = (tempfile::tempdir().unwrap(), Arc::default());
        let (run_of, other) = (client(&sandbox, "run", Some(2)), client(&sandbox, "colleague", None));
        let run = planned(&run_of, 1, &folder).await;
        tokio::select! {
            () = applied(&run_of, run) => {}
            () = colleague(other, Arc::clone(&slowest), Duration::from_millis(10)) => {}
            () = tokio::time::sleep(Duration::from_secs(30)) => panic!("the run does not end"),
        }
        assert_eq!(city_of_the_first(&sandbox).as_deref(), Some("Bergen"));
        let slowest = *lock(&slowest);
        assert!(slowest < Duration::from_millis(800), "a change took {slowest:?}");
    }

    #[tokio::test]
    async fn a_run_that_fails_does_not_wait_for_turns() {
        let accounts = (1..=3).map(|id| account_from_json(&account(id, "+47 1")).unwrap()).collect();
        let sandbox = Sandbox::start(SandboxOptions { accounts: Some(accounts), ..SandboxOptions::default() }).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let client = client(&sandbox, "run", None);
        let run = planned(&client, 3, &folder).await;
        let turn = client.account(1).take().await;
        // The key is revoked while the run waits for the turn.
        let delay = Duration::from_secs(2);
        for id in [2, 3] {
            let response = Some(Response::status(401).unwrap());
            let fault = Fault { id: Some(id), method: Some(Method::PUT), delay, response, ..Fault::default() };
            sandbox.add_fault(fault);
        }
        let (selection, control) = (Selection::default(), Arc::new(Control::default()));
        let applied = apply(&client, run, ApplyOptions::default(), &selection, &control, None);
        let ended = timeout(Duration::from_secs(20), applied).await.expect("the run waits for the turn");
        assert!(matches!(ended, Err(RunError::Call(_))), "{ended:?}");
        drop(turn);
    }

    #[tokio::test]
    async fn the_turn_ends_before_the_read_that_looks_for_a_member() {
        let mut first = account(1, "+47 1");
        first["stage"] = json!({"id": 3, "name": "Lead", "colorId": 1});
        let accounts = vec![account_from_json(&first).unwrap()];
        let deviations = Deviations { update_clears: ["stage".to_owned()].into(), ..Deviations::default() };
        let options = SandboxOptions { accounts: Some(accounts), deviations, ..SandboxOptions::default() };
        let sandbox = Sandbox::start(options).unwrap();
        let client = client(&sandbox, "run", Some(2));
        let updated = || sandbox.requests().iter().any(|request| request.method == Method::PUT);
        let city = AccountFields { city: Presence::Value("Bergen".to_owned()), ..AccountFields::default() };
        let folder = tempfile::tempdir().unwrap();
        for is_run in [false, true] {
            sandbox.set_account(&account_from_json(&first).unwrap()).unwrap();
            let run = if is_run { Some(planned(&client, 1, &folder).await) } else { None };
            sandbox.clear_requests();
            let other = async {
                while !updated() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                let taken = timeout(Duration::from_millis(800), client.account(1).take()).await;
                assert!(taken.is_ok(), "it waits for the quota: {is_run}");
            };
            let change = async {
                match run {
                    None => assert!(!client.patch(1, &city).await.unwrap().deviations.is_empty()),
                    // It stops, because the update has cleared the stage.
                    Some(run) => {
                        let (selection, control) = (Selection::default(), Arc::new(Control::default()));
                        apply(&client, run, ApplyOptions::default(), &selection, &control, None).await.unwrap_err();
                    }
                }
            };
            tokio::join!(other, change);
            assert_eq!(sandbox.requests().last().unwrap().method, Method::GET);
        }
    }

    #[tokio::test]
    async fn no_update_is_made_from_what_was_read_before_the_machine_slept() {
        let accounts = (1..=ACCOUNTS).map(|id| account_from_json(&account(id, "+47 1")).unwrap()).collect();
        let options = SandboxOptions { accounts: Some(accounts), ..SandboxOptions::default() };
        let sandbox = Sandbox::start(options).unwrap();
        let mut config = Config::new(format!("slept-{}", sandbox.port())).unwrap();
        config.base_url = BaseUrl::new(&sandbox.url()).unwrap();
        // A minute takes two seconds, and the run waits for the next one when it has read a page.
        config.quota = Some(Quota { per_minute: 20, per_hour: 1_000 });
        config.quota_clock_scale = 30.0;
        let client = Client::new(config).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let run = planned(&client, ACCOUNTS, &folder).await;
        let control = Arc::new(Control::default());

        let stored = |id| sandbox.accounts().into_iter().find(|account| account.id == id).unwrap();
        let puts = || sandbox.requests().iter().filter(|request| request.method == Method::PUT).count();
        let colleague = async {
            let mut before = 0;
            loop {
                tokio::time::sleep(Duration::from_millis(200)).await;
                let now = sandbox.requests().len();
                if puts() > 0 && now == before {
                    break;
                }
                before = now;
            }
            let written = puts();
            for id in 1..=ACCOUNTS {
                let stored = stored(id);
                let mut changed = account(id, "+47 2");
                changed["city"] = stored.city.as_deref().into();
                sandbox.set_account(&account_from_json(&changed).unwrap()).unwrap();
            }
            clock::sleep(Duration::from_secs(8 * 3_600));
            written
        };
        let options = ApplyOptions { concurrency: 1, ..ApplyOptions::default() };
        let selection = Selection::default();
        let applied = apply(&client, run, options, &selection, &control, None);
        let (applied, written) = tokio::join!(applied, colleague);
        applied.unwrap();
        assert!(written < usize::try_from(ACCOUNTS).unwrap(), "nothing was left to write");
        for id in 1..=ACCOUNTS {
            let account = stored(id);
            assert_eq!((account.city.as_deref(), account.phone.as_deref()), (Some("Bergen"), Some("+47 2")), "{id}");
        }
    }
}
