//! The command line: seeds in, a verdict out.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::event::Record;
use super::play::{Played, play};
use super::shrink::shrink;
use super::stage::{Violation, set_stage};
use super::story::Story;
use super::world::World;

/// A seed that takes longer in real time does not end.
const LONGEST: Duration = Duration::from_secs(120);
/// The most failing seeds to report.
const TOLD: usize = 20;

/// Runs seeds and reports broken promises. `--from 1 --seeds 20000` runs many, `--seed 4711` replays one.
pub fn main(arguments: impl Iterator<Item = String>) -> ExitCode {
    let arguments: Vec<String> = arguments.collect();
    let number = |name: &str| {
        let position = arguments.iter().position(|argument| argument == name)?;
        arguments.get(position + 1)?.parse::<u64>().ok()
    };
    let is_given = |name: &str| arguments.iter().any(|argument| argument == name);
    let (from, seeds) = (number("--from").unwrap_or(1), number("--seeds").unwrap_or(1_000));
    match number("--seed") {
        Some(seed) => replay(seed, !is_given("--whole")),
        None if is_given("--hashes") => {
            (from..from + seeds).for_each(|seed| println!("{seed} {:016x}", play_seed(seed).record.hash()));
            ExitCode::SUCCESS
        }
        None if is_given("--controls") => controls(seeds),
        None => match number("--step") {
            Some(step) => work(from, from + seeds, step, is_given("--first")),
            None => share(from, seeds),
        },
    }
}

/// The result of a seed: the promises that it breaks, and a hash of all its events.
pub fn run_seed(seed: u64) -> (Vec<String>, u64) {
    let played = play_seed(seed);
    let violations =
        played.violations.iter().map(|violation| format!("promise {}: {}", violation.promise, violation.text));
    (violations.collect(), played.record.hash())
}

/// Distributes seeds over one process per processor, because the core stores some values once per process.
fn share(from: u64, seeds: u64) -> ExitCode {
    let began = Instant::now();
    let workers = thread::available_parallelism().map_or(1, |count| count.get() as u64).min(seeds.max(1));
    let program = std::env::current_exe().expect("the path of this program");
    let start = |worker: u64| {
        let (first, left) = (from + worker, seeds.saturating_sub(worker));
        let arguments = [("--from", first), ("--seeds", left), ("--step", workers)];
        let arguments = arguments.iter().flat_map(|(name, value)| [(*name).to_owned(), value.to_string()]);
        Command::new(&program).args(arguments).stdout(Stdio::piped()).spawn().expect("this program starts again")
    };
    let mut processes: Vec<_> = (0..workers).map(start).collect();
    let mut failed: Vec<(u64, String)> = Vec::new();
    let mut is_well = true;
    thread::scope(|scope| {
        let readers = processes.iter_mut().map(|process| {
            let lines = BufReader::new(process.stdout.take().expect("its output is read")).lines();
            scope.spawn(move || {
                let lines = lines.map_while(Result::ok);
                lines
                    .filter_map(|line| {
                        line.split_once(' ').and_then(|(seed, text)| Some((seed.parse().ok()?, text.to_owned())))
                    })
                    .collect()
            })
        });
        let readers: Vec<thread::ScopedJoinHandle<'_, Vec<(u64, String)>>> = readers.collect();
        for reader in readers {
            failed.extend(reader.join().expect("a reader"));
        }
    });
    for process in &mut processes {
        is_well &= process.wait().is_ok_and(|status| status.success());
    }
    failed.sort();
    for (seed, text) in failed.iter().take(TOLD) {
        println!("seed {seed}: {text}");
    }
    if let Some((seed, _)) = failed.first() {
        let _ = replay(*seed, true);
    }
    let rate = seeds as f64 / began.elapsed().as_secs_f64();
    println!("{seeds} seeds, {} violations, {rate:.0} a second", failed.len());
    if !is_well {
        println!("a process ended before it had run all its seeds");
    }
    if failed.is_empty() && is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Faults that were once in the product, by their line in the issue "No row wrong", with the guard against each. The
/// last one was found later.
const CONTROLS: [(&str, &str); 15] = [
    ("b", "completeitems"),
    ("c", "unknownmembers"),
    ("d", "onecell"),
    ("g", "turns"),
    ("h", "unknown"),
    ("i", "answers"),
    ("j", "storedotherwise"),
    ("k", "onerun"),
    ("l", "ownvalues"),
    ("m", "wronganswers"),
    ("n", "serviceword"),
    ("o", "progress"),
    ("p", "retryafter"),
    ("w", "revertparent"),
    ("+", "sleep"),
];

/// Disables one guard after the other, and reports which seed detects that. Fails if none does.
fn controls(seeds: u64) -> ExitCode {
    let program = std::env::current_exe().expect("the path of this program");
    let next = AtomicU64::new(0);
    let is_missed = AtomicBool::new(false);
    let try_all = || {
        while let Some((line, guard)) = CONTROLS.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
            let arguments = ["--from", "1", "--seeds", &seeds.to_string(), "--step", "1", "--first"];
            let run = Command::new(&program).args(arguments).env("REPLYIO_WITHOUT", guard).output();
            let output = run.expect("this program starts again").stdout;
            let found = String::from_utf8_lossy(&output).lines().next().map(str::to_owned);
            is_missed.fetch_or(found.is_none(), Ordering::Relaxed);
            println!(
                "{line} {guard}: {}",
                found.map_or_else(|| "not found".to_owned(), |found| format!("seed {found}"))
            );
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, std::num::NonZero::get) {
            scope.spawn(try_all);
        }
    });
    if is_missed.into_inner() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Runs every n-th seed, and prints one line for each that fails; stops at the first one if that is enough.
fn work(from: u64, until: u64, step: u64, is_first_enough: bool) -> ExitCode {
    static CURRENT: AtomicU64 = AtomicU64::new(0);
    thread::spawn(|| {
        let mut before = 0;
        loop {
            thread::sleep(LONGEST);
            let now = CURRENT.load(Ordering::Relaxed);
            if now == before {
                println!("{now} it does not end within {LONGEST:?}");
                std::process::exit(1);
            }
            before = now;
        }
    });
    let mut seed = from;
    while seed < until {
        CURRENT.store(seed, Ordering::Relaxed);
        if let Some(first) = play_seed(seed).violations.first() {
            println!("{seed} promise {}: {}", first.promise, first.text.replace('\n', " "));
            if is_first_enough {
                break;
            }
        }
        seed += step;
    }
    ExitCode::SUCCESS
}

fn folder(seed: u64) -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    let base = if memory.is_dir() { memory } else { std::env::temp_dir() };
    base.join(format!("replyio-simulation-{}-{seed}", std::process::id()))
}

fn play_seed(seed: u64) -> Played {
    let world = World::draw(seed);
    let story = Story::draw(seed, &world);
    play_safely(seed, &world, &story)
}

/// A panic is a broken promise too.
fn play_safely(seed: u64, world: &World, story: &Story) -> Played {
    catch_unwind(AssertUnwindSafe(|| play(seed, world, story, &folder(seed)))).unwrap_or_else(|_| {
        let record = set_stage(None).map_or_else(Record::default, |stage| stage.record);
        let _ = std::fs::remove_dir_all(folder(seed));
        Played { violations: vec![Violation { promise: 0, text: "it panics".to_owned() }], record }
    })
}

/// Plays one seed and prints all events, shortened if it fails.
fn replay(seed: u64, is_shortened: bool) -> ExitCode {
    let (mut world, mut story) = (World::draw(seed), Story::draw(seed, &World::draw(seed)));
    let mut played = play_safely(seed, &world, &story);
    let hash = played.record.hash();
    if let Some(first) = played.violations.first().filter(|_| is_shortened) {
        let promise = first.promise;
        (world, story) = shrink(&world, &story, |world, story| {
            play_safely(seed, world, story).violations.iter().any(|violation| violation.promise == promise)
        });
        played = play_safely(seed, &world, &story);
    }
    let mut text = format!("seed {seed}, hash {hash:016x}\n{world}");
    for (number, lane) in story.lanes.iter().enumerate() {
        for (job, sheet) in lane.sheets.iter().enumerate() {
            let _ = write!(text, "lane {number}, job {job}: {sheet}");
        }
    }
    text += &played.record.to_string();
    // A closed pipe means that the reader has seen enough.
    let _ = std::io::stdout().write_all(text.as_bytes());
    if played.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
