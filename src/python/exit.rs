//! Handles the exit of the interpreter during calls.
//!
//! When a thread asks a finalizing interpreter for its lock, Python ends the thread immediately, through frames that
//! must not be unwound. Any thread in the binding may ask for the lock: to return from a wait, and in any Python code
//! below it, such as a log handler. So the binding counts its threads, the exit waits until there are none, and a
//! daemon thread that enters or returns after that is parked.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, Weak};
use std::thread;
use std::time::{Duration, Instant};

use pyo3::prelude::*;

use crate::lock::lock;
use crate::per_process::{PerProcess, Process};

/// How long the exit waits for other threads to leave. They check every 50 ms.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long the exit waits for the jobs that it stops to finish their requests in flight.
const GRACE: Duration = Duration::from_millis(1500);

static EXITING: AtomicBool = AtomicBool::new(false);
/// The number of threads that have entered and not left.
static INSIDE: AtomicUsize = AtomicUsize::new(0);
static RUNNING: PerProcess<Mutex<Vec<Weak<dyn StopsAtExit>>>> = PerProcess::new();

thread_local! {
    static EXITS_HERE: Cell<bool> = const { Cell::new(false) };
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// A background task, which must not run after the interpreter is gone.
pub(super) trait StopsAtExit: Send + Sync {
    /// Ends it, or requests its end. Does not wait, and never asks for the interpreter.
    fn stop(&self);

    /// Returns whether it has ended.
    fn has_ended(&self) -> bool {
        true
    }
}

/// A thread is in the binding until this is dropped.
pub(super) struct Inside(());

impl Inside {
    /// Enters. Never returns if the interpreter is exiting on another thread.
    pub(super) fn enter(py: Python<'_>) -> Self {
        INSIDE.fetch_add(1, Ordering::SeqCst);
        DEPTH.set(DEPTH.get() + 1);
        if must_park() {
            py.detach(park_if_exiting);
        }
        Self(())
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get().saturating_sub(1));
        INSIDE.fetch_sub(1, Ordering::SeqCst);
    }
}

fn must_park() -> bool {
    EXITING.load(Ordering::SeqCst) && !EXITS_HERE.get()
}

/// Never returns if the interpreter is exiting on another thread. For a thread that is inside and detached, before it
/// returns.
pub(super) fn park_if_exiting() {
    if must_park() {
        INSIDE.fetch_sub(DEPTH.get(), Ordering::SeqCst);
        loop {
            thread::park();
        }
    }
}

/// Runs a function with the interpreter released. This is the only way to release it.
pub(super) fn detached<T: Send>(py: Python<'_>, work: impl FnOnce() -> T + Send) -> T {
    let _inside = Inside::enter(py);
    py.detach(|| {
        let result = work();
        park_if_exiting();
        result
    })
}

/// Registers a task to stop when the interpreter exits.
pub(super) fn stop_at_exit(what: Weak<dyn StopsAtExit>) {
    let mut running = lock(RUNNING.get_or_init(Mutex::default));
    running.retain(|known| known.strong_count() > 0);
    running.push(what);
}

/// Stops all tasks, and waits until they have ended and no other thread is inside. Called at the exit of the
/// interpreter.
pub(super) fn stop(py: Python<'_>) {
    EXITING.store(true, Ordering::SeqCst);
    EXITS_HERE.set(true);
    let running = RUNNING.get(Process::current()).map(|running| {
        let mut running = lock(running);
        std::mem::take(&mut *running)
    });
    let running: Vec<_> = running.into_iter().flatten().filter_map(|known| known.upgrade()).collect();
    for each in &running {
        each.stop();
    }
    let begun = Instant::now();
    let waits = || {
        (INSIDE.load(Ordering::SeqCst) > DEPTH.get() && begun.elapsed() < PATIENCE)
            || (running.iter().any(|each| !each.has_ended()) && begun.elapsed() < GRACE)
    };
    // On Python 3.11 and older, another thread may finalize a subinterpreter. If that thread releases the interpreter,
    // it may never get it back, so it does so only to wait.
    if waits() {
        py.detach(|| {
            while waits() {
                thread::sleep(Duration::from_millis(1));
            }
        });
    }
}

/// Resets the count in a forked child, which has one thread.
pub(super) fn forked() {
    INSIDE.store(DEPTH.get(), Ordering::SeqCst);
}
