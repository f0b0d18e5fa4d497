//! Plan files that somebody changed on purpose: as rows, as schema and as bytes, with checksums that are right again.
//!
//! Each input is made from a number, so that `REPLYIO_FUZZ_SEED=<number>` runs it again. `REPLYIO_FUZZ_SECONDS` says
//! how long to go on; `make check` gives it a minute.
#![allow(
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test that fails says so by panicking"
)]

mod judge;
mod limits;
mod mutants;
mod plans;
mod reseal;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};
use std::{env, fs};

use fastrand::Rng;
use tempfile::TempDir;

/// How long the test runs unless `REPLYIO_FUZZ_SECONDS` says so.
const SECONDS: u64 = 5;
/// After so many findings nothing new is learned.
const MOST: usize = 20;

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|number| number.parse().unwrap())
}

#[test]
fn a_plan_that_somebody_changed_takes_bounded_time_and_memory_and_applies_nothing_that_it_does_not_show() {
    // Nothing here depends on a disk, and without one there are four times as many inputs.
    let memory = Path::new("/dev/shm");
    let place = if memory.is_dir() { memory.to_owned() } else { env::temp_dir() };
    let temporary = TempDir::with_prefix_in("replyio-plan-fuzz-", place.canonicalize().unwrap()).unwrap();
    let folder = temporary.path().to_owned();
    let plans = plans::make(&folder);
    for plan in &plans {
        let outcome = attempt(&folder, plan, 0);
        assert!(outcome.as_ref().is_ok_and(|kind| kind == "opened"), "an unchanged plan: {outcome:?}");
    }
    let watch = limits::Watch::start();
    let began = Instant::now();
    let enough = Duration::from_secs(number("REPLYIO_FUZZ_SECONDS").unwrap_or(SECONDS));
    let only = number("REPLYIO_FUZZ_SEED");
    let (mut outcomes, mut findings) = (BTreeMap::<String, u64>::new(), Vec::new());
    let mut seed = only.or_else(|| number("REPLYIO_FUZZ_FROM")).unwrap_or(1);
    loop {
        watch.begins(seed);
        let mut chance = Rng::with_seed(seed);
        let plan = mutants::mutant(&mut chance, &plans, &folder);
        match attempt(&folder, &plan, seed) {
            Ok(kind) => *outcomes.entry(kind).or_default() += 1,
            Err(finding) => {
                println!("finding: seed {seed}: {finding}");
                findings.push(seed);
            }
        }
        if only.is_some() || findings.len() >= MOST || began.elapsed() >= enough {
            break;
        }
        seed += 1;
    }
    drop(watch);
    let tried: u64 = outcomes.values().sum();
    println!("plan files: {tried} inputs in {:.0} s: {outcomes:?}", began.elapsed().as_secs_f64());
    if only.is_some() {
        let _ = temporary.keep();
    }
    assert!(findings.is_empty(), "seeds with a finding: {findings:?}");
    let opened = outcomes.get("opened").copied().unwrap_or_default();
    assert!(only.is_some() || (opened > tried / 100 && opened < tried / 2), "the mutants test nothing: {outcomes:?}");
}

/// What became of one input; the finding, where a property does not hold.
fn attempt(folder: &Path, plan: &plans::Plan, seed: u64) -> Result<String, String> {
    let place = folder.join(format!("{seed}"));
    fs::create_dir(&place).unwrap();
    let path = place.join("plan.replyplan");
    plan.put(&path);
    let meter = limits::Meter::start();
    let judged = catch_unwind(AssertUnwindSafe(|| judge::judge(&path)));
    let measured = meter.check();
    if number("REPLYIO_FUZZ_SEED").is_none() || seed == 0 {
        fs::remove_dir_all(&place).unwrap();
    }
    let kind = judged.map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default()
    })?;
    measured.map(|()| kind)
}
