//! Bounds on what one input may take.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use std::{fs, process};

/// An input of less than a megabyte may take so much time of the processor, without optimization.
const LONGEST: Duration = Duration::from_secs(4);
/// It may take so long with waits for others.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// It may take so much more memory than before, in KiB. A row of a plan may have 64 MiB.
const MOST_MEMORY: u64 = 300 * 1_024;
/// What has not ended by then never ends.
const ENDLESS: Duration = Duration::from_secs(90);

pub(crate) struct Meter {
    began: Instant,
    time: Duration,
    memory: u64,
}

impl Meter {
    pub(crate) fn start() -> Self {
        // The peak begins again.
        let _ = fs::write("/proc/self/clear_refs", "5");
        Self { began: Instant::now(), time: processor(), memory: peak() }
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        let (time, memory) = (processor().saturating_sub(self.time), peak().saturating_sub(self.memory));
        let waited = self.began.elapsed();
        if time > LONGEST || waited > LONGEST_WAIT {
            return Err(format!("it took {time:?} of the processor and {waited:?} in all"));
        }
        if memory > MOST_MEMORY { Err(format!("it took {} MiB", memory / 1_024)) } else { Ok(()) }
    }
}

/// The time that this process has had of the processor; nothing where that cannot be read.
fn processor() -> Duration {
    let Ok(stat) = fs::read_to_string("/proc/self/stat") else { return Duration::ZERO };
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok()).unwrap_or_default();
    Duration::from_millis(10 * (ticks(11) + ticks(12)))
}

/// The most memory since the peak was reset, in KiB; nothing where that cannot be read.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

/// Ends the process when an input never ends.
pub(crate) struct Watch {
    seed: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    pub(crate) fn start() -> Self {
        let (seed, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (current, ends) = (Arc::clone(&seed), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            let (mut last, mut since) = (0, Instant::now());
            while !ends.load(Ordering::Relaxed) {
                let now = current.load(Ordering::Relaxed);
                if now != last {
                    (last, since) = (now, Instant::now());
                }
                if since.elapsed() > ENDLESS {
                    eprintln!("finding: seed {now}: it does not end");
                    process::abort();
                }
                thread::park_timeout(Duration::from_secs(1));
            }
        });
        Self { seed, stop, thread: Some(thread) }
    }

    pub(crate) fn begins(&self, seed: u64) {
        self.seed.store(seed, Ordering::Relaxed);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}
