//! The command line: seeds in, a verdict out.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use super::play::{Played, play};
use super::story::Story;
use super::world::World;

/// Runs seeds and tells whether a promise was broken. `--from 1 --seeds 20000` runs many, `--seed 4711` replays one.
pub fn main(arguments: impl Iterator<Item = String>) -> ExitCode {
    let arguments: Vec<String> = arguments.collect();
    let number = |name: &str| {
        let position = arguments.iter().position(|argument| argument == name)?;
        arguments.get(position + 1)?.parse::<u64>().ok()
    };
    if let Some(seed) = number("--seed") {
        return replay(seed);
    }
    let (from, seeds) = (number("--from").unwrap_or(1), number("--seeds").unwrap_or(1_000));
    let began = Instant::now();
    let mut failed = 0;
    for seed in from..from + seeds {
        let played = play_seed(seed);
        if let Some(first) = played.violations.first() {
            failed += 1;
            if failed <= 20 {
                println!("seed {seed}: promise {}: {}", first.promise, first.text);
            }
        }
    }
    let rate = seeds as f64 / began.elapsed().as_secs_f64();
    println!("{seeds} seeds, {failed} violations, {rate:.0} a second");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn folder(seed: u64) -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    let base = if memory.is_dir() { memory } else { std::env::temp_dir() };
    base.join(format!("replyio-simulation-{}", std::process::id())).join(seed.to_string())
}

fn play_seed(seed: u64) -> Played {
    let world = World::draw(seed);
    let story = Story::draw(seed, &world);
    play(seed, &world, &story, &folder(seed))
}

fn replay(seed: u64) -> ExitCode {
    let world = World::draw(seed);
    let story = Story::draw(seed, &world);
    println!("{world:#?}");
    for (number, lane) in story.lanes.iter().enumerate() {
        for (job, sheet) in lane.sheets.iter().enumerate() {
            println!("lane {number}, job {job}: {sheet}");
        }
    }
    let played = play_seed(seed);
    println!("{}", played.record);
    for violation in &played.violations {
        println!("promise {}: {}", violation.promise, violation.text);
    }
    println!("hash {:016x}", played.record.hash());
    if played.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
