//! Several processes with one ledger, on a virtual clock and a virtual disk, from a seed.
//!
//! Each process runs the real [`Replica`] and the real [`Windows`]. The simulation books, sends, cancels and answers
//! requests; kills processes between any two writes; restarts the machine; sets the time of day back; and makes the
//! service ask to wait. It tests two properties: no window of the service ever has more requests than the quota, and
//! after the faults end, the processes use the quota.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::bytes::Disk;
use super::clock::Reading;
use super::replica::Replica;
use crate::quota::{HOUR, MINUTE, Quota, Ticket, Windows};

const MILLISECOND: u64 = 1_000;
const SECOND: u64 = 1_000 * MILLISECOND;
/// The time during which faults occur.
const FAULTY: u64 = 3 * 3_600 * SECOND;
/// The length of a run. In its last hour, the processes must use the quota.
const END: u64 = 6 * 3_600 * SECOND;
/// The time of day at the start of a run.
const TODAY: u64 = 1_800_000_000 * SECOND;

/// The part that is intentionally broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Broken {
    Nothing,
    /// A process does not read the bookings of other processes.
    NotRead,
    /// A process does not write its bookings.
    NotWritten,
    /// The time of day is set forward, which no process can detect.
    ClockForward,
    /// A process does not record the answers to its requests.
    NothingSettled,
    /// A process does not return unused slots.
    NothingGivenBack,
}

/// Bytes in memory. A process may be killed during a write.
#[derive(Default)]
struct Memory {
    bytes: RefCell<Vec<u8>>,
    /// The number of writes until the process is killed.
    writes_left: Cell<Option<u32>>,
    is_deaf: Cell<bool>,
}

impl Disk for Memory {
    fn read_part(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let bytes = self.bytes.borrow();
        let from = usize::try_from(offset).unwrap().min(bytes.len());
        Ok(bytes[from..(from + length).min(bytes.len())].to_vec())
    }

    fn write_part(&self, offset: u64, part: &[u8]) -> io::Result<()> {
        if let Some(left) = self.writes_left.get() {
            if left == 0 {
                return Err(io::ErrorKind::Interrupted.into());
            }
            self.writes_left.set(Some(left - 1));
        }
        if self.is_deaf.get() {
            return Ok(());
        }
        let (from, mut bytes) = (usize::try_from(offset).unwrap(), self.bytes.borrow_mut());
        let length = bytes.len().max(from + part.len());
        bytes.resize(length, 0);
        bytes[from..from + part.len()].copy_from_slice(part);
        Ok(())
    }
}

/// The next action of a process. Moments are real ones, except that of the slot, which is on the quota's clock.
enum Doing {
    Book,
    /// `opens` is the moment at which the other processes expect the request.
    Send {
        slot: Duration,
        opens: u64,
        decided: u64,
    },
    Answer {
        ticket: Ticket,
        sent: u64,
        arrival: usize,
    },
}

struct Process {
    id: u32,
    windows: Windows,
    replica: Replica,
    doing: Doing,
    at: u64,
    /// The last request, if other processes know less about it: its index in `arrivals`, and the moment that they know.
    untold: Option<(usize, u64)>,
}

struct World {
    dice: Rng,
    broken: Broken,
    quota: Quota,
    now: u64,
    disk: Memory,
    processes: Vec<Process>,
    next_id: u32,
    /// Whether the clock counts from the boot, as on Linux; otherwise it is the time of day.
    counts_from_boot: bool,
    boot: u64,
    booted_at: u64,
    /// By how much the time of day is slow.
    behind: u64,
    arrivals: Vec<u64>,
    /// The moments when the service asked to wait, and until when.
    holds: Vec<(u64, u64)>,
    kills: u32,
}

/// The figures of a run, and its error.
#[derive(Debug)]
struct Story {
    sent: usize,
    kills: u32,
    wrong: Option<String>,
}

impl fmt::Display for Story {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} requests, {} kills: {:?}", self.sent, self.kills, self.wrong)
    }
}

fn run(seed: u64, broken: Broken) -> Story {
    let mut dice = Rng::with_seed(seed);
    let quota = Quota { per_minute: dice.u32(2..=12), per_hour: dice.u32(5..=120) };
    let count = dice.u32(2..=5);
    let mut world = World {
        broken,
        quota,
        now: 0,
        disk: Memory::default(),
        processes: Vec::new(),
        next_id: 1,
        counts_from_boot: dice.bool(),
        boot: 1,
        booted_at: 0,
        behind: 0,
        arrivals: Vec::new(),
        holds: Vec::new(),
        kills: 0,
        dice,
    };
    for _ in 0..count {
        world.start(0);
    }
    if world.dice.u8(..) < 64 {
        world.fill_area();
    }
    let wrong = world.play().or_else(|| world.judged());
    Story { sent: world.arrivals.len(), kills: world.kills, wrong }
}

impl World {
    fn start(&mut self, at: u64) {
        let mut windows = Windows::default();
        windows.keep_edits(true);
        let (id, replica) = (self.next_id, Replica::new(1.0));
        self.next_id += 1;
        self.processes.push(Process { id, windows, replica, doing: Doing::Book, at, untold: None });
    }

    fn reading(&self) -> Reading {
        let time_of_day = TODAY + self.now - self.behind.min(TODAY);
        if self.counts_from_boot {
            Reading { boot: self.boot, since_boot: self.now - self.booted_at, time_of_day: Some(time_of_day) }
        } else {
            Reading { boot: 0, since_boot: time_of_day, time_of_day: Some(time_of_day) }
        }
    }

    /// Fills an area of the ledger almost completely, so that the records that count must move to the other one.
    fn fill_area(&mut self) {
        let (quota, reading) = (self.quota, self.reading());
        let Some(first) = self.processes.first_mut() else { return };
        let Process { windows, replica, id, .. } = first;
        let _ = replica.step(&self.disk, windows, reading, *id, |windows, now| {
            for _ in 0..4_000 {
                let (moment, _) = windows.reserve(quota, now, Duration::MAX).unwrap();
                windows.release(moment);
            }
        });
    }

    fn is_faulty(&self) -> bool {
        self.now < FAULTY
    }

    /// Returns whether a fault with this probability, in a thousand, occurs. Never after the faults have ended.
    fn strikes(&mut self, in_a_thousand: u32) -> bool {
        self.is_faulty() && self.dice.u32(0..1_000) < in_a_thousand
    }

    fn play(&mut self) -> Option<String> {
        while self.now < END {
            let next = (0..self.processes.len()).min_by_key(|index| self.processes[*index].at)?;
            self.now = self.now.max(self.processes[next].at);
            if self.strikes(2) {
                self.reboot();
            } else if !self.counts_from_boot && self.strikes(3) {
                self.behind += self.dice.u64(1..=2 * 86_400) * SECOND;
            } else if self.strikes(15) {
                self.kill(next);
            } else if let Some(wrong) = self.act(next) {
                return Some(wrong);
            }
        }
        None
    }

    fn reboot(&mut self) {
        self.kills += u32::try_from(self.processes.len()).unwrap();
        let count = self.processes.len();
        (0..count).for_each(|index| self.die(index));
        self.processes.clear();
        self.now += self.dice.u64(10..=1_200) * SECOND;
        (self.boot, self.booted_at) = (self.boot + 1, self.now);
        match self.broken {
            // The clock's battery is empty.
            Broken::ClockForward => self.behind = 0,
            _ if self.dice.bool() => self.behind += self.dice.u64(0..=86_400 * 400) * SECOND,
            _ => {}
        }
        for _ in 0..count {
            let at = self.now + self.dice.u64(1..=30) * SECOND;
            self.start(at);
        }
    }

    /// Kills a process. What only it knew is lost, and another process replaces it.
    fn kill(&mut self, index: usize) {
        self.kills += 1;
        self.die(index);
        self.processes.swap_remove(index);
        let at = self.now + self.dice.u64(0..=60) * SECOND;
        self.start(at);
    }

    /// Replaces the arrival of the last request by the moment that the other processes know: they cannot count more.
    fn die(&mut self, index: usize) {
        if let Some((arrival, known)) = self.processes[index].untold {
            self.arrivals[arrival] = known;
        }
    }

    /// Runs an operation of a process in step with the others. Returns `None` if the process was killed during it.
    fn in_step<T>(&mut self, index: usize, decide: impl FnOnce(&mut Windows, Duration) -> T) -> Option<T> {
        let dies = self.strikes(10);
        self.disk.writes_left.set(dies.then(|| self.dice.u32(0..=1)));
        self.disk.is_deaf.set(self.broken == Broken::NotWritten);
        let own = Memory::default();
        let disk = if self.broken == Broken::NotRead { &own } else { &self.disk };
        let reading = self.reading();
        let Process { windows, replica, id, .. } = &mut self.processes[index];
        let (decided, stepped) = replica.step(disk, windows, reading, *id, decide);
        self.disk.writes_left.set(None);
        if stepped.is_err() || dies {
            self.kill(index);
            return None;
        }
        self.processes[index].untold = None;
        Some(decided)
    }

    /// The same, with what the process knows.
    fn out_of_step<T>(&mut self, index: usize, decide: impl FnOnce(&mut Windows, Duration) -> T) -> T {
        let reading = self.reading();
        let Process { windows, replica, .. } = &mut self.processes[index];
        let now = replica.tick(reading);
        decide(windows, now)
    }

    /// Does what `identity` does: within a millisecond, a process does not read the bookings of the others.
    fn decide<T>(&mut self, index: usize, decided: u64, decide: impl FnOnce(&mut Windows, Duration) -> T) -> Option<T> {
        if self.now - decided <= MILLISECOND {
            Some(self.out_of_step(index, decide))
        } else {
            self.in_step(index, decide)
        }
    }

    /// Runs the next action of a process. Returns its error.
    fn act(&mut self, index: usize) -> Option<String> {
        let (quota, now) = (self.quota, self.now);
        let keeps_slots = self.broken == Broken::NothingGivenBack;
        let is_cancelled = self.strikes(50) || (keeps_slots && self.dice.bool());
        match self.processes[index].doing {
            Doing::Book => {
                let (slot, wait) = self.in_step(index, |windows, time| {
                    let (slot, _) = windows.reserve(quota, time, Duration::MAX).unwrap();
                    (slot, slot.saturating_sub(time))
                })?;
                if wait > 3 * HOUR {
                    return Some(format!("a request waits {wait:?}"));
                }
                let process = &mut self.processes[index];
                process.at = now + micros(wait);
                process.doing = Doing::Send { slot, opens: process.at, decided: now };
                if wait.is_zero() {
                    process.at += self.dice.u64(0..=2 * MILLISECOND);
                }
            }
            Doing::Send { slot, .. } if is_cancelled => {
                self.in_step(index, |windows, _| {
                    if !keeps_slots {
                        windows.release(slot);
                    }
                })?;
                self.rest(index);
            }
            Doing::Send { slot, opens, decided } => {
                let sent = self.decide(index, decided, |windows, time| {
                    windows.send(quota, slot, time).map_err(|(later, _)| (later, later.saturating_sub(time)))
                })?;
                match sent {
                    Ok(ticket) => {
                        if let Some((from, until)) =
                            self.holds.iter().find(|(from, until)| *from + MILLISECOND < now && now < *until)
                        {
                            return Some(format!("sent at {now} in a hold from {from} to {until}"));
                        }
                        // The request arrives even if the process is killed. Then the others know only its booking.
                        let known = if now - decided <= MILLISECOND { opens } else { now };
                        let answered = now + self.dice.u64(100..=2 * SECOND);
                        let process = &mut self.processes[index];
                        process.doing = Doing::Answer { ticket, sent: now, arrival: self.arrivals.len() };
                        process.at = answered;
                        process.untold = Some((self.arrivals.len(), known));
                        self.arrivals.push(known);
                    }
                    Err((later, wait)) => {
                        let process = &mut self.processes[index];
                        process.at = now + micros(wait).max(1);
                        process.doing = Doing::Send { slot: later, opens: process.at, decided: now };
                    }
                }
            }
            Doing::Answer { ticket, sent, arrival } => {
                if self.broken == Broken::NothingSettled {
                } else if self.strikes(5) {
                    let wait = self.dice.u64(1..=600) * SECOND;
                    self.in_step(index, |windows, time| {
                        windows.settle(ticket, time);
                        windows.hold(time, Duration::from_micros(wait));
                    })?;
                    self.holds.push((now, now + wait));
                } else {
                    self.decide(index, sent, |windows, time| windows.settle(ticket, time))?;
                }
                // The service counted the request at any moment in between.
                self.arrivals[arrival] = self.dice.u64(sent..=now);
                self.rest(index);
            }
        }
        None
    }

    fn rest(&mut self, index: usize) {
        let pause = if self.dice.bool() { 0 } else { self.dice.u64(0..=SECOND) };
        let process = &mut self.processes[index];
        (process.doing, process.at) = (Doing::Book, self.now + pause);
    }

    fn judged(&mut self) -> Option<String> {
        self.arrivals.sort_unstable();
        let Quota { per_minute, per_hour } = self.quota;
        for (limit, length, name) in [(per_minute, MINUTE, "minute"), (per_hour, HOUR, "hour")] {
            let (limit, length) = (limit as usize, micros(length));
            let over = self.arrivals.windows(limit + 1).find(|some| some[limit] - some[0] < length);
            if let Some([first, ..]) = over {
                return Some(format!("{} requests in the {name} from {first}, and {limit} are allowed", limit + 1));
            }
        }
        let last_hour = self.arrivals.iter().filter(|arrival| **arrival > END - micros(HOUR)).count();
        let possible = per_hour.min(per_minute * 60) as usize;
        let least = (possible * 85 / 100).saturating_sub(self.processes.len() + 1);
        (last_hour < least).then(|| format!("{last_hour} of {possible} requests in the last hour"))
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap()
}

/// Returns the number of seeds to try: `REPLYIO_LEDGER_SEEDS`, or a default.
fn seeds() -> u64 {
    std::env::var("REPLYIO_LEDGER_SEEDS").ok().and_then(|count| count.parse().ok()).unwrap_or(60)
}

#[test]
fn several_processes_never_exceed_the_quota_whatever_is_killed_booted_or_set_back_and_use_it_in_the_end() {
    let (began, count) = (Instant::now(), seeds());
    let (mut sent, mut kills) = (0, 0);
    for seed in 0..count {
        let story = run(seed, Broken::Nothing);
        assert!(story.wrong.is_none(), "seed {seed}: {story}");
        sent += story.sent;
        kills += story.kills;
    }
    #[expect(clippy::cast_precision_loss, reason = "a figure to look at")]
    let rate = count as f64 / began.elapsed().as_secs_f64();
    println!("{count} seeds, {rate:.0} a second, {sent} requests, {kills} processes killed");
    assert!(sent > 0 && kills > 0);
}

#[test]
fn every_fault_that_is_built_in_is_found() {
    let all =
        [Broken::NotRead, Broken::NotWritten, Broken::NothingSettled, Broken::NothingGivenBack, Broken::ClockForward];
    for broken in all {
        let found = (0..200).find_map(|seed| run(seed, broken).wrong.map(|wrong| (seed, wrong)));
        let (seed, wrong) = found.unwrap_or_else(|| panic!("{broken:?} was not found"));
        println!("{broken:?} is found by seed {seed}: {wrong}");
    }
}

#[test]
fn a_seed_tells_the_same_story_twice() {
    for seed in 0..5 {
        assert_eq!(run(seed, Broken::Nothing).to_string(), run(seed, Broken::Nothing).to_string());
    }
}
