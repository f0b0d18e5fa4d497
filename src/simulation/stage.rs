//! The state of one seed: the clock, the service, the client processes, and the record of all events.
//!
//! A seed runs on one thread, so the stage is a thread-local variable. The core's futures move between threads in
//! production, so they must not hold any of it.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use serde_json::{Map, Value as Json};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::dice::Dice;
use super::event::{Event, Record};
use super::oracle::Job;
use super::permission::Granted;
use super::service::{Asked, Effect, Reply, Service, Values};
use super::story::{Sheet, Step};
use super::turns::SharedTurns;
use super::world::{Fault, Trait, World};
use crate::account::Field;
use crate::plan::Value;
use crate::plan::file::simulation::{Fate, kill, restart};

thread_local! {
    static STAGE: RefCell<Option<Stage>> = const { RefCell::new(None) };
}

/// Reads or changes the stage of this thread.
pub(super) fn stage<T>(act: impl FnOnce(&mut Stage) -> T) -> T {
    STAGE.with_borrow_mut(|stage| act(stage.as_mut().expect("a seed is running")))
}

/// Returns whether there is a stage.
pub(super) fn is_set() -> bool {
    STAGE.with_borrow(Option::is_some)
}

/// Sets or clears the stage.
pub(super) fn set_stage(next: Option<Stage>) -> Option<Stage> {
    STAGE.replace(next)
}

/// A client process, from its start to its end or death.
#[derive(Debug)]
pub(super) struct Process {
    /// The folder of its plan files.
    folder: PathBuf,
    died_at: Option<Duration>,
    died: Arc<Notify>,
    /// How often it has sent, received or written something.
    steps: u64,
    dies_at: Option<u64>,
    writes: u64,
    /// Until when the service has asked it to wait.
    held_until: Duration,
    /// The previous `held_until`, and the time, the line and the account of the last answer that asked the process to
    /// wait. A request of another line or for another account at that moment cannot take that answer into account.
    held_before: (Duration, Duration, usize, Option<i64>),
    /// The write that fails, like every later one until the next operation.
    disk_fails_at: Option<u64>,
    pub(super) granted: Granted,
}

/// A client.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line {
    pub(super) process: usize,
    pub(super) lane: usize,
}

/// An operation of a lane.
#[derive(Debug, Clone)]
pub(super) struct Operation {
    pub(super) lane: usize,
    pub(super) step: Step,
    pub(super) started: Duration,
    pub(super) ended: Option<Duration>,
    /// The number of its requests.
    pub(super) requests: u64,
    /// The number of its requests that failed.
    pub(super) failures: u64,
    /// The number of calls that others began and of updates that they sent during it, and of operations that run when
    /// it starts. Each may have had the turn of one of its accounts.
    pub(super) overtaken: u64,
    /// The number of requests of all operations before it.
    pub(super) earlier_requests: u64,
    /// How long the faults of its requests may make it wait.
    pub(super) excuse: Duration,
    /// Whether its call has said that no update was applied.
    pub(super) is_said_unapplied: bool,
    /// Whether the function of the quota failed during it.
    pub(super) is_refused_permission: bool,
}

/// An update of a client, with what only the model knows about it.
#[derive(Debug, Clone)]
pub(super) struct Put {
    pub(super) operation: usize,
    pub(super) process: usize,
    pub(super) id: i64,
    /// The value of each field; none if it omits the field.
    pub(super) body: Vec<Option<Value>>,
    has_unknown_member: bool,
    /// Whether it cleared a member that the client does not know.
    pub(super) has_lost: bool,
    /// Whether it reset the stage, which nothing had changed before.
    pub(super) has_reset: bool,
    /// Whether its answer differs from what it sent, or from what it cannot include.
    pub(super) differs: bool,
    /// Whether something else may have changed such a member between the look and the update.
    pub(super) is_unsure: bool,
    pub(super) sent: Duration,
    pub(super) arrived: Option<Duration>,
    pub(super) effect: Effect,
    /// What its answer says, once there is one.
    answer: Option<Said>,
    /// When the client received the answer.
    pub(super) delivered: Option<Duration>,
    /// Whether the client waits for the answer.
    pub(super) is_open: bool,
    /// When the client had an answer, or waited no longer, if its process lived.
    pub(super) over: Option<Duration>,
}

/// What an answer says of its update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    Applied,
    /// The service did not apply it.
    Refused,
    /// The answer may be from a proxy, also if the service applied the update.
    Nothing,
}

impl Said {
    fn of(reply: &Reply, is_good: bool) -> Self {
        let has_code = || serde_json::from_slice(&reply.body).is_ok_and(|body: Json| body["code"].is_string());
        match reply.status {
            _ if is_good => Self::Applied,
            403 | 404 if !has_code() => Self::Nothing,
            400..500 => Self::Refused,
            _ => Self::Nothing,
        }
    }
}

impl Put {
    /// Returns whether no answer has shown that it was not applied.
    pub(super) fn may_be_applied(&self) -> bool {
        let is_refused = self.answer == Some(Said::Refused);
        self.effect == Effect::Written || self.delivered.is_none() || !is_refused
    }

    pub(super) fn value(&self, field: Field) -> Value {
        self.body[field as usize].clone().unwrap_or(Value::Null)
    }

    pub(super) fn is_answered_well(&self) -> bool {
        self.delivered.is_some() && self.answer == Some(Said::Applied)
    }
}

/// The fate of one request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Way {
    pub(super) fault: Option<Fault>,
    pub(super) there: Duration,
    pub(super) back: Duration,
    /// Whether it is withdrawn if the client gives up before it has arrived.
    pub(super) is_withdrawn: bool,
}

/// A broken promise.
#[derive(Debug, Clone)]
pub(super) struct Violation {
    /// The number of the promise.
    pub(super) promise: u8,
    pub(super) text: String,
}

pub(super) struct Stage {
    pub(super) seed: u64,
    started: Instant,
    /// How long the machine slept, which tokio's clock does not count.
    slept: Duration,
    pub(super) world: World,
    pub(super) service: Service,
    pub(super) record: Record,
    pub(super) processes: Vec<Process>,
    pub(super) lines: Vec<Line>,
    pub(super) turns: SharedTurns,
    pub(super) operations: Vec<Operation>,
    /// The current operation of each lane.
    pub(super) current: Vec<Option<usize>>,
    pub(super) puts: Vec<(usize, Put)>,
    pub(super) violations: Vec<Violation>,
    /// The jobs of all lanes, by lane and number.
    pub(super) jobs: BTreeMap<(usize, usize), Job>,
    /// Their tables.
    pub(super) sheets: BTreeMap<(usize, usize), Sheet>,
    /// The plans of their last reverts.
    pub(super) reverted_by: BTreeMap<(usize, usize), PathBuf>,
    /// The reported texts of rows.
    pub(super) told: BTreeSet<(usize, u64, String)>,
    /// The accounts whose hidden field a page has shown, with the operation that read it.
    pub(super) listed: BTreeSet<(usize, i64)>,
    /// The same of pages that are on their way, by request.
    pages: BTreeMap<usize, Vec<i64>>,
    requests: usize,
    most_requests: usize,
    /// How long an answer in flight asks to wait.
    waits: BTreeMap<usize, Duration>,
}

impl Stage {
    pub(super) fn new(seed: u64, world: &World, lanes: usize) -> Self {
        Self {
            seed,
            started: Instant::now(),
            slept: Duration::ZERO,
            world: world.clone(),
            service: Service::new(seed, world),
            record: Record::default(),
            processes: Vec::new(),
            lines: Vec::new(),
            turns: SharedTurns::default(),
            operations: Vec::new(),
            current: vec![None; lanes],
            puts: Vec::new(),
            violations: Vec::new(),
            jobs: BTreeMap::new(),
            sheets: BTreeMap::new(),
            reverted_by: BTreeMap::new(),
            told: BTreeSet::new(),
            listed: BTreeSet::new(),
            pages: BTreeMap::new(),
            requests: 0,
            most_requests: 5_000,
            waits: BTreeMap::new(),
        }
    }

    pub(super) fn now(&self) -> Duration {
        self.started.elapsed() + self.slept
    }

    /// Returns the time from the start to a moment, without sleep.
    pub(super) fn since_start(&self, moment: Instant) -> Duration {
        moment.saturating_duration_since(self.started)
    }

    /// Returns by how much a read may be older than the accounts.
    pub(super) const fn lag(&self) -> Duration {
        Duration::from_millis(self.world.lag_ms)
    }

    pub(super) const fn slept(&self) -> Duration {
        self.slept
    }

    /// The machine sleeps, while others change accounts.
    pub(super) fn sleep(&mut self, dice: &mut Dice) {
        let time = Duration::from_secs(dice.between(200, 30_000));
        self.tell(Event::Other(format!("the machine sleeps for {} s", time.as_secs())));
        self.slept += time;
        // What was read before is read again, in the time of the quota.
        let again = Duration::from_secs(600);
        for number in self.current.iter().flatten() {
            self.operations[*number].excuse += time + again;
        }
        for _ in 0..dice.between(0, 4) {
            let now = self.now();
            if let Some(text) = self.service.colleague(now, dice) {
                self.tell(Event::Other(text));
            }
        }
    }

    pub(super) fn tell(&mut self, event: Event) {
        let now = self.now();
        self.record.push(now, event);
    }

    pub(super) fn violated(&mut self, promise: u8, text: String) {
        self.tell(Event::Violated(promise, text.clone()));
        self.violations.push(Violation { promise, text });
    }

    pub(super) fn all_violated(&mut self, broken: Vec<(u8, String)>) {
        for (promise, text) in broken {
            self.violated(promise, text);
        }
    }

    pub(super) fn start_process(&mut self, folder: &Path) -> usize {
        restart(folder);
        // All processes of a seed are really one, so the others forget with this one.
        self.processes.iter_mut().for_each(|process| process.held_until = Duration::ZERO);
        self.processes.push(Process {
            folder: folder.to_owned(),
            died_at: None,
            died: Arc::default(),
            steps: 0,
            dies_at: None,
            writes: 0,
            held_until: Duration::ZERO,
            held_before: (Duration::ZERO, Duration::ZERO, 0, None),
            disk_fails_at: None,
            granted: Granted::default(),
        });
        self.processes.len() - 1
    }

    /// Adds a client of a lane.
    pub(super) fn add_line(&mut self, process: usize, lane: usize) -> usize {
        self.lines.push(Line { process, lane });
        self.lines.len() - 1
    }

    /// Returns the number of requests of all operations.
    pub(super) fn requests(&self) -> u64 {
        self.operations.iter().map(|operation| operation.requests).sum()
    }

    pub(super) fn start_operation(&mut self, lane: usize, step: &Step) -> usize {
        // A call has the turn of its account from its read on, also if it then sends no update.
        if matches!(step, Step::Patch(..) | Step::Update(..)) {
            for other in self.current.iter().flatten() {
                self.operations[*other].overtaken += 1;
            }
        }
        let operation = Operation {
            lane,
            step: step.clone(),
            started: self.now(),
            ended: None,
            requests: 0,
            failures: 0,
            overtaken: self.current.iter().flatten().count() as u64,
            earlier_requests: self.requests(),
            // Another operation of the process may have been told to wait.
            excuse: self.processes.iter().map(|it| it.held_until.saturating_sub(self.now())).max().unwrap_or_default(),
            is_said_unapplied: false,
            is_refused_permission: false,
        };
        self.operations.push(operation);
        let number = self.operations.len() - 1;
        self.current[lane] = Some(number);
        self.tell(Event::Started { lane, step: step.to_string() });
        number
    }

    pub(super) fn end_operation(&mut self, number: usize, result: String) {
        let (now, lane) = (self.now(), self.operations[number].lane);
        self.operations[number].ended = Some(now);
        self.current[lane] = None;
        self.tell(Event::Ended { lane, result });
    }

    /// Ends a process after this number of further steps.
    pub(super) fn die_after(&mut self, process: usize, steps: u64) {
        let process = &mut self.processes[process];
        process.dies_at = Some(process.steps + steps);
    }

    /// Makes the disk of a process fail from that write on, until the operation ends.
    pub(super) fn fail_disk_after(&mut self, process: usize, writes: u64) {
        let process = &mut self.processes[process];
        process.disk_fails_at = Some(process.writes + writes);
    }

    /// Cancels the planned fate of a process after its operation has ended.
    pub(super) fn spare(&mut self, process: usize) {
        let process = &mut self.processes[process];
        (process.dies_at, process.disk_fails_at) = (None, None);
    }

    /// A process is killed: only what is on its disk at this moment remains.
    pub(super) fn die(&mut self, number: usize) {
        self.mark_dead(number);
        kill(&self.processes[number].folder);
    }

    fn mark_dead(&mut self, number: usize) {
        let (now, process) = (self.now(), &mut self.processes[number]);
        if process.died_at.is_none() {
            process.died_at = Some(now);
            process.died.notify_one();
            self.turns.die(number);
            self.tell(Event::Died { process: number });
        }
    }

    pub(super) fn is_dead(&self, process: usize) -> bool {
        self.died_at(process).is_some()
    }

    /// Returns when a process was killed.
    pub(super) fn died_at(&self, process: usize) -> Option<Duration> {
        self.processes[process].died_at
    }

    pub(super) fn died(&self, process: usize) -> Arc<Notify> {
        Arc::clone(&self.processes[process].died)
    }

    /// Counts a step of a process. Returns whether it lives.
    fn step(&mut self, number: usize) -> bool {
        if self.is_last_step(number) {
            self.die(number);
        }
        !self.is_dead(number)
    }

    fn is_last_step(&mut self, number: usize) -> bool {
        let process = &mut self.processes[number];
        process.steps += 1;
        process.dies_at == Some(process.steps)
    }

    /// A plan file is about to be written.
    pub(super) fn writes(&mut self, path: &Path) -> Fate {
        let Some(number) = self.processes.iter().rposition(|process| path.starts_with(&process.folder)) else {
            return Fate::Made;
        };
        if self.is_last_step(number) {
            self.mark_dead(number);
            return Fate::DiesBefore;
        }
        let process = &mut self.processes[number];
        process.writes += 1;
        if process.disk_fails_at.is_some_and(|from| process.writes >= from) {
            self.tell(Event::DiskFailed { process: number });
            return Fate::Fails;
        }
        if self.is_last_step(number) {
            self.mark_dead(number);
            return Fate::DiesAfter;
        }
        Fate::Made
    }

    /// A client sends a request. Returns `None` if its process is dead, and sends nothing.
    pub(super) fn send(&mut self, line: usize, asked: &Asked) -> Option<(usize, Way)> {
        let Line { process, lane } = self.lines[line];
        if self.is_dead(process) || !self.step(process) {
            return None;
        }
        let number = self.requests;
        self.requests += 1;
        if self.requests > self.most_requests {
            // This is enough: the process is stopped, and the violation explains why.
            if self.requests == self.most_requests + 1 {
                self.violated(6, format!("more than {} requests, and no end", self.most_requests));
            }
            self.die(process);
            return None;
        }
        let (now, it) = (self.now(), &self.processes[process]);
        let (before, told, told_on, account) = it.held_before;
        let is_meanwhile = told == now && (told_on != line || (account.is_some() && account != asked.id()));
        let held_until = if is_meanwhile { before } else { it.held_until };
        if now < held_until {
            let text = format!(
                "request {number} is sent {:?} before the end of the wait that the service asked for",
                held_until.saturating_sub(now)
            );
            self.violated(5, text);
        }
        self.uses_permission(process, number);
        let way = self.way(number, asked);
        self.tell(Event::Sent { number, lane, asked: asked.clone(), fault: way.fault });
        let operation = self.current[lane];
        if operation.is_none() {
            self.violated(5, format!("request {number} is sent by an operation that has ended"));
        }
        if let Some(operation) = operation {
            let longest_wait = match way.fault {
                Some(Fault::Busy | Fault::Throttled) => Duration::from_secs(90 + 300),
                // No answer, or that of an unavailable service.
                Some(
                    Fault::NoConnection
                    | Fault::RequestLost
                    | Fault::AnswerLost
                    | Fault::AnswerCut
                    | Fault::Late
                    | Fault::Silence
                    | Fault::ServerError
                    | Fault::ServerErrorApplied,
                ) => Duration::from_secs(30 + 300),
                // An invalid answer is no reason to wait.
                _ => Duration::ZERO,
            };
            let operation = &mut self.operations[operation];
            operation.requests += 1;
            operation.failures += u64::from(way.fault.is_some());
            operation.excuse += longest_wait;
        }
        if let Asked::Put(id, body) = asked {
            for (other, current) in self.current.iter().enumerate() {
                if let Some(operation) = current.filter(|_| other != lane) {
                    self.operations[operation].overtaken += 1;
                }
            }
            let put = Put {
                operation: operation.unwrap_or(usize::MAX),
                process,
                id: *id,
                body: read_body(body),
                has_lost: false,
                has_reset: false,
                differs: false,
                is_unsure: false,
                has_unknown_member: super::service::UNKNOWN_MEMBERS.iter().any(|name| body.contains_key(*name)),
                sent: self.now(),
                arrived: None,
                effect: Effect::None,
                answer: None,
                delivered: None,
                is_open: true,
                over: None,
            };
            super::oracle::sent(self, &put);
            self.puts.push((number, put));
        }
        Some((number, way))
    }

    fn way(&self, number: usize, asked: &Asked) -> Way {
        let mut dice = Dice::new(self.seed, "fate", number as u64);
        let (there, back) = (self.world.latency(&mut dice), self.world.latency(&mut dice));
        let is_withdrawn = dice.chance(500);
        let late = Duration::from_secs(dice.between(25, 200));
        let concerns = |fault: &Fault| match fault {
            Fault::Ignored => matches!(asked, Asked::Put(..)),
            Fault::PageRepeats | Fault::PageEmpty => matches!(asked, Asked::List { .. }),
            Fault::OtherAccount => matches!(asked, Asked::Put(..) | Asked::Get(_)),
            _ => true,
        };
        let mut fault = None;
        for (which, per_mille) in &self.world.faults {
            let happens = dice.chance(*per_mille) && concerns(which);
            if happens && fault.is_none() && !self.service.is_calm {
                fault = Some(*which);
            }
        }
        let (there, is_withdrawn) = if fault == Some(Fault::Late) { (late, false) } else { (there, is_withdrawn) };
        Way { fault, there, back, is_withdrawn }
    }

    /// A request has arrived at the service.
    pub(super) fn arrive(&mut self, number: usize, line: usize, asked: &Asked, headers: &HeaderMap, way: Way) -> Reply {
        let (now, Line { process, lane }) = (self.now(), self.lines[line]);
        let lag = self.lag();
        let (had_member, may_have_had_member) = match asked {
            Asked::Put(id, _) => self.service.accounts.get(id).map_or((false, false), |account| {
                let has = |version: &super::service::Version| version.unknown_member.is_some();
                (has(account.now()), account.during(now.saturating_sub(super::oracle::WINDOW + lag), now).any(has))
            }),
            _ => (false, false),
        };
        let stage_of = |service: &Service| match asked {
            Asked::Put(id, _) => service.accounts.get(id).map(|account| (account.now().stage, account.has_one_stage())),
            _ => None,
        };
        let (stage_before, has_one_stage) = stage_of(&self.service).unwrap_or((None, true));
        let (reply, effect) = self.service.handle(now, number, process, asked, headers, way.fault);
        self.tell(Event::Arrived { number, status: reply.status, effect });
        if let Some(field) = self.world.hidden.filter(|_| matches!(asked, Asked::List { .. }) && way.fault.is_none()) {
            self.pages.insert(number, listed_with(&reply.body, field));
        }
        if reply.status == 429 && way.fault != Some(Fault::Throttled) {
            super::oracle::refused_by_quota(self, process);
        }
        if reply.status == 429 {
            // All operations of the process wait.
            for operation in self.current.iter().flatten() {
                self.operations[*operation].excuse += Duration::from_secs(3_700);
            }
        }
        let is_page = reply.headers.get(http::header::CONTENT_TYPE).is_some_and(|it| it == "text/html");
        if let Some(operation) = self.current[lane] {
            self.operations[operation].failures += u64::from(reply.status != 200 || (is_page && way.fault.is_none()));
        }
        let wait = reply.headers.get(http::header::RETRY_AFTER).and_then(|wait| wait.to_str().ok()?.parse().ok());
        if let Some(wait) = wait {
            self.waits.insert(number, Duration::from_secs(wait));
        }
        let is_unreadable = matches!(asked, Asked::Put(4, _)) && self.world.is(Trait::AccountUnreadable);
        let spoils = match way.fault {
            Some(Fault::AnswerTruncated | Fault::LoginPage) => true,
            // Without another account, the answer is about the right one.
            Some(Fault::OtherAccount) => matches!(asked, Asked::Put(id, _) if self.service.has_other(*id)),
            _ => false,
        };
        let is_good = reply.status == 200 && !spoils && !is_unreadable && !is_page;
        let shown = if let Asked::Put(id, _) = asked { self.answered_values(*id) } else { Vec::new() };
        let is_unlisted = self.world.is(Trait::StageUnlisted) && !self.spares_members(number);
        let is_reset = stage_of(&self.service).is_some_and(|(stage, _)| stage != stage_before);
        if let Some(put) = self.put(number) {
            put.arrived = Some(now);
            put.effect = effect;
            put.has_lost = effect == Effect::Written && had_member && !put.has_unknown_member;
            put.has_reset = is_reset && has_one_stage;
            // If a page does not show the stage, a run that may clear it does not know that it did.
            put.is_unsure = (may_have_had_member && !had_member) || !has_one_stage || (put.has_reset && is_unlisted);
            let differs = |(field, shown): &(Field, Value)| !super::oracle::same(*field, &put.value(*field), shown);
            put.differs = put.has_lost || put.has_reset || shown.iter().any(differs);
            put.answer = Some(Said::of(&reply, is_good));
            let operation = put.operation;
            if effect == Effect::Written && self.operations.get(operation).is_some_and(|it| it.is_said_unapplied) {
                self.violated(2, "an update is applied after its call said that none was".to_owned());
            }
        }
        self.step(process);
        reply
    }

    /// The client receives an answer. Returns whether its process lives.
    pub(super) fn deliver(&mut self, number: usize, line: usize, is_answer: bool) -> bool {
        let (now, process) = (self.now(), self.lines[line].process);
        if !self.step(process) {
            return false;
        }
        self.tell(Event::Delivered { number, is_answer });
        if let (Some(ids), Some(operation)) = (self.pages.remove(&number), self.current[self.lines[line].lane]) {
            self.listed.extend(ids.into_iter().map(|id| (operation, id)));
        }
        if let Some(wait) = self.waits.remove(&number).filter(|_| is_answer) {
            let of = self.put(number).map(|put| put.id);
            let process = &mut self.processes[process];
            if process.held_before.1 != now {
                process.held_before = (process.held_until, now, line, of);
            }
            process.held_until = process.held_until.max(now + wait);
        }
        if let Some(put) = self.put(number)
            && is_answer
        {
            put.delivered = Some(now);
        }
        true
    }

    /// The client no longer waits for the answer.
    pub(super) fn close(&mut self, number: usize) {
        let now = self.now();
        if let Some(put) = self.put(number) {
            put.is_open = false;
            let process = put.process;
            let over = Some(now).filter(|_| !self.is_dead(process));
            self.put(number).into_iter().for_each(|put| put.over = over);
        }
    }

    fn put(&mut self, number: usize) -> Option<&mut Put> {
        let index = self.puts.partition_point(|(other, _)| *other < number);
        self.puts.get_mut(index).filter(|(other, _)| *other == number).map(|(_, put)| put)
    }

    /// Returns whether the operation of an update stops before it clears members.
    fn spares_members(&mut self, number: usize) -> bool {
        self.put(number).map(|put| put.operation).is_none_or(|operation| self.operation_spares_members(operation))
    }

    /// Returns whether an operation stops before it clears members.
    pub(super) fn operation_spares_members(&self, operation: usize) -> bool {
        let step = self.operations.get(operation).map(|operation| &operation.step);
        !matches!(step, Some(Step::Apply(_, how) | Step::Revert(_, how)) if how.clear_unknown)
    }

    /// Returns the current values of an account as the answer to an update shows them.
    fn answered_values(&self, id: i64) -> Vec<(Field, Value)> {
        let values = self.service.accounts.get(&id).and_then(|account| account.now().values.as_deref());
        let shown = |values: &Values, field| self.service.answered_value(field, values.get(field)).clone();
        values.map_or_else(Vec::new, |it| Field::ALL.iter().map(|field| (*field, shown(it, *field))).collect())
    }
}

/// Returns the accounts of a page that have a value of a field.
fn listed_with(page: &[u8], field: Field) -> Vec<i64> {
    let page: Json = serde_json::from_slice(page).unwrap_or_default();
    let items = page["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    let has_value = |item: &&Json| item[field.wire()].as_str().is_some_and(|text| !text.is_empty());
    items.iter().filter(has_value).filter_map(|item| item["id"].as_i64()).collect()
}

fn read_body(body: &Map<String, Json>) -> Vec<Option<Value>> {
    let read = |field: &Field| {
        body.get(field.wire()).map(|value| match value {
            Json::String(text) => Value::Text(text.clone()),
            Json::Number(number) => Value::Integer(number.as_i64().unwrap_or_default()),
            _ => Value::Null,
        })
    };
    Field::ALL.iter().map(read).collect()
}
