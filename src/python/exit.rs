//! Leaving the interpreter while calls are running.
//!
//! A thread that asks a finalizing interpreter for its lock is ended on the spot, through frames that must not be unwound.
//! So a daemon thread that is inside a call when the interpreter exits is parked before it asks.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3::types::PyCFunction;

use super::runtime::Engine;
use crate::per_process::{PerProcess, Process};
use crate::sabotage::{self, Guard};

/// How long the exit waits for calls in other threads to notice it. They look every 50 ms.
const PATIENCE: Duration = Duration::from_secs(1);

static EXITING: AtomicBool = AtomicBool::new(false);
static BUSY: AtomicUsize = AtomicUsize::new(0);
static ENGINES: PerProcess<Mutex<Vec<Weak<Engine>>>> = PerProcess::new();

thread_local! {
    static EXITS_HERE: Cell<bool> = const { Cell::new(false) };
}

/// Counts a thread that is detached from the interpreter and will come back. Dropped when it is back.
pub(super) struct Away(());

impl Away {
    pub(super) fn new() -> Self {
        BUSY.fetch_add(1, Ordering::SeqCst);
        Self(())
    }

    /// Never returns when the interpreter is exiting on another thread. To be called detached, before coming back.
    #[expect(clippy::unused_self, reason = "only a thread that is away, and so counted as busy, may park")]
    pub(super) fn park_if_exiting(&self) {
        if EXITING.load(Ordering::SeqCst) && !EXITS_HERE.get() {
            BUSY.fetch_sub(1, Ordering::SeqCst);
            loop {
                thread::park();
            }
        }
    }
}

impl Drop for Away {
    fn drop(&mut self) {
        BUSY.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Has an engine stopped when the interpreter exits.
pub(super) fn stop_at_exit(py: Python<'_>, engine: &Arc<Engine>) -> PyResult<()> {
    static REGISTERED: AtomicBool = AtomicBool::new(false);
    let mut engines = ENGINES.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    engines.retain(|engine| engine.strong_count() > 0);
    engines.push(Arc::downgrade(engine));
    drop(engines);
    if !REGISTERED.swap(true, Ordering::SeqCst) && !sabotage::is_off(Guard::Exit) {
        let hook = PyCFunction::new_closure(py, Some(c"stop_replyio"), None, |arguments, _| stop(arguments.py()))?;
        py.import("atexit")?.call_method1("register", (hook,))?;
    }
    Ok(())
}

fn stop(py: Python<'_>) {
    EXITING.store(true, Ordering::SeqCst);
    EXITS_HERE.set(true);
    let engines = ENGINES.get(Process::current()).map(|engines| {
        let mut engines = engines.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *engines)
    });
    py.detach(|| {
        for engine in engines.into_iter().flatten().filter_map(|engine| engine.upgrade()) {
            engine.close();
        }
        let given_up = Instant::now() + PATIENCE;
        while BUSY.load(Ordering::SeqCst) > 0 && Instant::now() < given_up {
            thread::sleep(Duration::from_millis(1));
        }
    });
}
