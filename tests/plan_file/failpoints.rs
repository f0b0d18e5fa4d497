//! The process dies at every place of a job, one after the other: when a statement of SQLite's has ended, and before a
//! write, a sync, a truncation or a removal. What the file says then is compared with a log of what was asked for and
//! what was answered; and the job is gone on with.
#![allow(unsafe_code, reason = "SQLite says that a statement has ended to C functions only")]

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{c_char, c_int, c_uint, c_void};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::{ptr, thread};

use replyio::plan::Status;
use replyio::plan::file::{FileError, FileErrorKind, PlanFile, Record, Run};
use rusqlite::auto_extension::register_auto_extension;
use rusqlite::ffi;

use super::disk::Disk;
use super::{CHILD, Folder, NOW, beside, block_on, build, child_path, finish, finished, mark_sent, planned};

/// At which place the child dies.
const PLACE: &str = "REPLYIO_PLAN_FILE_DIES_AT";
const ROWS: u64 = 15;
const LANES: usize = 3;
/// What a test that fails ends with; what dies ends with a signal, or another code.
const PANICKED: i32 = 101;
/// Those that the job itself leaves in flight when it closes the file.
const LEFT: usize = 1;

// The places

static IS_ARMED: AtomicBool = AtomicBool::new(false);
static FATAL: AtomicU64 = AtomicU64::new(0);
static PASSED: AtomicU64 = AtomicU64::new(0);
static STATEMENTS: AtomicU64 = AtomicU64::new(0);

/// From now on this process dies at a place.
fn arm(place: u64) {
    FATAL.store(place, Ordering::SeqCst);
    IS_ARMED.store(true, Ordering::SeqCst);
    // SAFETY: `opened` opens and closes nothing.
    unsafe { register_auto_extension(opened) }.unwrap();
}

/// A place where this process may have to die. Nothing is flushed or put in order, as with `kill -9`.
pub(crate) fn pass() {
    if IS_ARMED.load(Ordering::SeqCst) && PASSED.fetch_add(1, Ordering::SeqCst) + 1 == FATAL.load(Ordering::SeqCst) {
        std::process::abort();
    }
}

unsafe extern "C" fn opened(
    connection: *mut ffi::sqlite3,
    _: *mut *mut c_char,
    _: *const ffi::sqlite3_api_routines,
) -> c_int {
    // SAFETY: SQLite gives the connection that it has just opened; the callback needs no context.
    unsafe { ffi::sqlite3_trace_v2(connection, ffi::SQLITE_TRACE_PROFILE, Some(ended), ptr::null_mut()) }
}

unsafe extern "C" fn ended(_: c_uint, _: *mut c_void, _: *mut c_void, _: *mut c_void) -> c_int {
    STATEMENTS.fetch_add(1, Ordering::SeqCst);
    pass();
    0
}

// The job

/// What is written down before something is asked for, and after it was answered.
struct Log(File);

impl Log {
    fn note(&self, line: &str) {
        (&self.0).write_all(format!("{line}\n").as_bytes()).unwrap();
    }
}

/// What becomes of a row that was sent.
#[derive(Clone, Copy)]
enum End {
    Finished(Status),
    TakenBack,
    Left,
}

/// Plans, applies a part, opens it again, applies the rest, tries what failed again, and takes all of it back.
fn job(folder: &Path, log: &Arc<Log>) -> Result<(), FileError> {
    let (plan, reverse) = (folder.join("plan.replyio"), folder.join("reverse.replyio"));
    let file = build(&plan, ROWS)?;
    log.note("plan sealed");
    send(&file.start_run()?, "plan", log, |row| match row % 7 {
        _ if row > ROWS / 2 => None,
        0 => Some(End::Finished(Status::Failed)),
        1 => Some(End::TakenBack),
        2 => Some(End::Left),
        _ => Some(End::Finished(Status::Changed)),
    })?;
    let file = PlanFile::open(&plan)?;
    let run = file.start_run()?;
    run.recent_requests(NOW + 1_000)?;
    send(&run, "plan", log, |row| Some(End::Finished(if row == 11 { Status::Conflict } else { Status::Changed })))?;
    send_also(&run, "plan", log, &[Status::Failed, Status::Conflict], |_| Some(End::Finished(Status::Changed)))?;
    let reversed = file.revert_as(&reverse, &file.state()?, None)?;
    log.note("reverse sealed");
    drop(run);
    send(&reversed.start_run()?, "reverse", log, |_| Some(End::Finished(Status::Changed)))
}

/// Sends the rows that are open, several at once.
fn send(run: &Run, name: &'static str, log: &Arc<Log>, end: impl Fn(u64) -> Option<End>) -> Result<(), FileError> {
    send_also(run, name, log, &[], end)
}

/// The same, with rows that have one of the statuses.
fn send_also(
    run: &Run,
    name: &'static str,
    log: &Arc<Log>,
    also: &[Status],
    end: impl Fn(u64) -> Option<End>,
) -> Result<(), FileError> {
    let open = run.file().open_rows(also)?;
    let wanted: Vec<(u64, End)> = open.iter().filter_map(|row| Some((row.row, end(row.row)?))).collect();
    block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for lane in 0..LANES {
            let (run, log) = (run.clone(), Arc::clone(log));
            let mine: Vec<(u64, End)> = wanted.iter().copied().skip(lane).step_by(LANES).collect();
            tasks.spawn(async move {
                for (row, end) in mine {
                    send_one(&run, name, &log, row, end).await?;
                }
                Ok(())
            });
        }
        tasks.join_all().await.into_iter().collect()
    })
}

async fn send_one(run: &Run, name: &str, log: &Log, row: u64, end: End) -> Result<(), FileError> {
    log.note(&format!("{name} mark {row}"));
    run.store(mark_sent(row, NOW + row.cast_signed())).await?;
    log.note(&format!("{name} done {row}"));
    match end {
        End::Finished(status) => {
            log.note(&format!("{name} {} {row}", status.as_str()));
            let error = (status != Status::Changed).then(|| "refused ".repeat(40));
            run.store(finish(row, finished(status, error))).await?;
        }
        End::TakenBack => {
            log.note(&format!("{name} pending {row}"));
            run.store(Record::NotSent { row, before: Vec::new() }).await?;
        }
        End::Left => return Ok(()),
    }
    log.note(&format!("{name} done {row}"));
    Ok(())
}

// The judge

/// A status, and how often the row was sent again.
type State = (Status, u64);

/// What a file may say, after what was asked for and answered.
#[derive(Default)]
struct Allowed {
    is_sealed: bool,
    /// The states of each row; two of them where something was asked for and not answered.
    rows: BTreeMap<u64, BTreeSet<State>>,
    /// What they will be when it is answered.
    next: BTreeMap<u64, BTreeSet<State>>,
    /// The rows that are asked to be marked, and how many marks were asked for, and made.
    marking: BTreeSet<u64>,
    asked: u64,
    marked: u64,
}

impl Allowed {
    fn after(log: &str, name: &str, rows: impl Iterator<Item = (u64, Status)>) -> Self {
        let mut allowed =
            Self { rows: rows.map(|(row, status)| (row, [(status, 0)].into())).collect(), ..Self::default() };
        for line in log.lines() {
            if let Some(what) = line.strip_prefix(name) {
                allowed.take(what.trim_start());
            }
        }
        allowed
    }

    fn take(&mut self, what: &str) {
        let (what, row) = what.split_once(' ').unwrap_or((what, "0"));
        let row = row.parse().unwrap();
        match what {
            "sealed" => self.is_sealed = true,
            "mark" => {
                self.asked += 1;
                self.marking.insert(row);
                self.ask(row, |(status, repeated)| (Status::Unknown, repeated + u64::from(status == Status::Unknown)));
            }
            "done" => {
                let next = self.next.remove(&row).unwrap();
                self.rows.insert(row, next);
                self.marked += u64::from(self.marking.remove(&row));
            }
            status => {
                let status = Status::from_name(status).unwrap();
                self.ask(row, |(_, repeated)| (status, repeated));
            }
        }
    }

    fn ask(&mut self, row: u64, change: impl Fn(State) -> State) {
        let states = self.rows.get_mut(&row).unwrap();
        let next: BTreeSet<State> = states.iter().copied().map(change).collect();
        states.extend(&next);
        self.next.insert(row, next);
    }
}

/// What of the promises is not there, of a file that nobody has open; then goes on with it to its end. `None` for a
/// file that was never promised, and is not there as a plan.
fn look(path: &Path, allowed: &Allowed) -> Result<Option<PlanFile>, String> {
    let file = match PlanFile::open(path) {
        Ok(file) => file,
        Err(error) if allowed.is_sealed => return Err(format!("a sealed plan was refused: {error}")),
        Err(error) => {
            let kind = error.kind();
            let says_so = matches!(kind, FileErrorKind::Missing | FileErrorKind::HalfWritten(_));
            return if says_so { Ok(None) } else { Err(format!("of a half-written plan is said: {error}")) };
        }
    };
    let mut rows = Vec::new();
    file.for_each_row(|row| rows.push(row))
        .and_then(|()| file.for_each_change(drop))
        .map_err(|error| error.to_string())?;
    if rows.len() != allowed.rows.len() {
        return Err(format!("{} of {} rows", rows.len(), allowed.rows.len()));
    }
    for row in &rows {
        let state = (row.status, row.repeated);
        if !allowed.rows.get(&row.row).is_some_and(|states| states.contains(&state)) {
            return Err(format!("row {} is {state:?}, not {:?}", row.row, allowed.rows.get(&row.row)));
        }
    }
    let run = file.start_run().map_err(|error| error.to_string())?;
    let requests = run.recent_requests(NOW + 1_000).map_err(|error| error.to_string())?.len() as u64;
    if !(allowed.marked..=allowed.asked).contains(&requests) {
        return Err(format!("{requests} requests, of {} to {}", allowed.marked, allowed.asked));
    }
    let open = file.open_rows(&[]).map_err(|error| error.to_string())?;
    let in_flight: Vec<u64> = open.iter().filter(|row| row.was_sent).map(|row| row.row).collect();
    if in_flight.len() > LANES + LEFT {
        return Err(format!("{} rows are in flight", in_flight.len()));
    }
    let nowhere =
        Arc::new(Log(OpenOptions::new().append(true).create(true).open(path.with_extension("rest")).unwrap()));
    send(&run, "rest", &nowhere, |_| Some(End::Finished(Status::Changed))).map_err(|error| error.to_string())?;
    let mut after = Vec::new();
    file.for_each_row(|row| after.push(row)).map_err(|error| error.to_string())?;
    for (before, after) in rows.iter().zip(&after) {
        let again = before.repeated + u64::from(in_flight.contains(&before.row));
        let is_open = open.iter().any(|row| row.row == before.row);
        if after.repeated != again || after.status != (if is_open { Status::Changed } else { before.status }) {
            return Err(format!("gone on with, row {} is {:?}, {}", after.row, after.status, after.repeated));
        }
    }
    Ok(Some(file))
}

/// The verdict on what a dead process has left.
fn judge(folder: &Path) -> Result<(), String> {
    let log = fs::read_to_string(folder.join("log")).unwrap_or_default();
    let (plan, reverse) = (folder.join("plan.replyio"), folder.join("reverse.replyio"));
    let as_planned = || (0..ROWS).map(|row| (row, planned(row).status));
    let allowed = Allowed::after(&log, "plan", as_planned());
    let again = |error: FileError| format!("planned again: {error}");
    let Some(file) = look(&plan, &allowed)? else {
        // As the message says: it is removed, and planned again.
        let _ = fs::remove_file(&plan);
        let file = build(&plan, ROWS).map_err(again)?;
        drop(file);
        return look(&plan, &Allowed::after("sealed", "", as_planned())).map(drop);
    };
    let mut changed = Vec::new();
    let mut take = || {
        file.revert_rows(|row| {
            changed.push((row.row, Status::Pending));
            Ok(())
        })
    };
    take().map_err(|error| error.to_string())?;
    let allowed = Allowed::after(&log, "reverse", changed.iter().copied());
    if look(&reverse, &allowed)?.is_none() {
        let _ = fs::remove_file(&reverse);
        let file = file.state().and_then(|state| file.revert_as(&reverse, &state, None)).map_err(again)?;
        drop(file);
        look(&reverse, &Allowed::after("sealed", "", changed.into_iter()))?;
    }
    Ok(())
}

// The trial

/// Runs the job in a process that dies at a place, and judges what it has left. Gives how many statements it took where
/// it came to its end.
fn die_at(place: u64, damage: impl Fn(&Path)) -> (Option<u64>, Result<(), String>) {
    let folder = Folder::new();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "failpoints::a_process_that_dies_at_any_place_breaks_no_promise", "--nocapture"]);
    let done = command.env(CHILD, folder.plan()).env(PLACE, place.to_string()).output().unwrap();
    let told = String::from_utf8_lossy(&done.stdout);
    let statements = told.lines().find_map(|line| line.strip_prefix("statements ")?.parse().ok());
    if done.status.code() == Some(PANICKED) && statements.is_none() {
        return (None, Err(format!("it failed: {told}{}", String::from_utf8_lossy(&done.stderr))));
    }
    damage(folder.path());
    // So that nobody waits for the true disk.
    let disk = Disk::watch(folder.path(), &Arc::default());
    let verdict = judge(folder.path());
    disk.forget();
    (statements, verdict)
}

#[test]
fn a_process_that_dies_at_any_place_breaks_no_promise() {
    if let Some(plan) = child_path() {
        let folder = plan.parent().unwrap();
        let _disk = Disk::watch(folder, &Arc::default());
        let log = OpenOptions::new().append(true).create(true).open(folder.join("log")).unwrap();
        arm(std::env::var(PLACE).unwrap().parse().unwrap());
        job(folder, &Arc::new(Log(log))).unwrap();
        println!("\nstatements {}", STATEMENTS.load(Ordering::SeqCst));
        return;
    }
    let (next, short, ended) = (AtomicU64::new(1), Mutex::new(Vec::new()), Mutex::new(None));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while ended.lock().unwrap().is_none() {
                    let place = next.fetch_add(1, Ordering::SeqCst);
                    let (statements, verdict) = die_at(place, |_| ());
                    short.lock().unwrap().extend(verdict.err().map(|what| format!("place {place}: {what}")));
                    if let Some(statements) = statements {
                        ended.lock().unwrap().get_or_insert((place, statements));
                    }
                }
            });
        }
    });
    let (short, (places, statements)) = (short.into_inner().unwrap(), ended.into_inner().unwrap().unwrap());
    println!(
        "reliability: dying at a place tried {} short {} {statements} after a statement, the others at writes, \
              syncs, truncations and removals",
        places - 1,
        short.len()
    );
    assert!(short.is_empty(), "{} of {places}: {:#?}", short.len(), &short[..short.len().min(5)]);
    assert!(statements > 300 && places > statements + 200);
}

/// The control: where what SQLite has not yet moved into the file is taken away, the judge must see that outcomes are
/// lost.
#[test]
fn the_judge_sees_that_acknowledged_outcomes_are_gone() {
    let (mut tried, mut short) = (0, 0);
    for place in (1..).step_by(20) {
        let was_there = AtomicBool::new(false);
        let lose = |folder: &Path| {
            let log = beside(&folder.join("plan.replyio"), "-wal");
            was_there.store(fs::remove_file(log).is_ok(), Ordering::SeqCst);
        };
        let (statements, verdict) = die_at(place, lose);
        if statements.is_some() {
            break;
        }
        tried += u64::from(was_there.load(Ordering::SeqCst));
        short += u64::from(verdict.is_err());
    }
    println!("reliability: dying at a place, and what was committed lost tried {tried} short {short}");
    assert!(short > 5);
}
