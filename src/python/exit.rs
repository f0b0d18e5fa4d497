//! Leaving the interpreter while calls are running.
//!
//! A thread that asks a finalizing interpreter for its lock is ended on the spot, through frames that must not be unwound.
//! Whatever of this module a thread is in may ask for it: to come back from a wait, and in any line of Python below, such
//! as a handler of the log. So every thread in here is counted, the exit waits until there is none, and a daemon thread
//! that comes, or comes back, after that is parked.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict};

use super::runtime::Engine;
use crate::per_process::{PerProcess, Process};
use crate::sabotage::{self, Guard};

/// How long the exit waits for other threads to leave, or to notice it. They look every 50 ms.
const PATIENCE: Duration = Duration::from_secs(1);

static EXITING: AtomicBool = AtomicBool::new(false);
/// How many times threads have entered and not left.
static INSIDE: AtomicUsize = AtomicUsize::new(0);
static ENGINES: PerProcess<Mutex<Vec<Weak<Engine>>>> = PerProcess::new();

thread_local! {
    static EXITS_HERE: Cell<bool> = const { Cell::new(false) };
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// A thread is in this module until this is dropped.
pub(super) struct Inside(());

impl Inside {
    /// Enters. Never returns when the interpreter is exiting on another thread.
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

/// Never returns when the interpreter is exiting on another thread. For a thread that is inside and detached, before it
/// comes back.
pub(super) fn park_if_exiting() {
    if must_park() {
        INSIDE.fetch_sub(DEPTH.get(), Ordering::SeqCst);
        loop {
            thread::park();
        }
    }
}

/// Does something with the interpreter released.
pub(super) fn detached<T: Send>(py: Python<'_>, work: impl FnOnce() -> T + Send) -> T {
    let _inside = Inside::enter(py);
    py.detach(|| {
        let result = work();
        park_if_exiting();
        result
    })
}

/// Has [`stop`] called when the interpreter exits, and the count begin anew in a forked child, which has one thread. To be
/// called when the module is loaded: what is registered first is called last, so that handlers which use a client find it
/// as it always was.
pub(super) fn watch(py: Python<'_>) -> PyResult<()> {
    if sabotage::is_off(Guard::Exit) {
        return Ok(());
    }
    let hook = PyCFunction::new_closure(py, Some(c"stop_replyio"), None, |arguments, _| stop(arguments.py()))?;
    py.import("atexit")?.call_method1("register", (hook,))?;
    if cfg!(unix) {
        let hook = PyCFunction::new_closure(py, Some(c"forked_replyio"), None, |_, _| {
            INSIDE.store(DEPTH.get(), Ordering::SeqCst);
        })?;
        let keywords = PyDict::new(py);
        keywords.set_item("after_in_child", hook)?;
        py.import("posix")?.call_method("register_at_fork", (), Some(&keywords))?;
    }
    Ok(())
}

/// Has an engine stopped when the interpreter exits.
pub(super) fn stop_at_exit(engine: &Arc<Engine>) {
    let mut engines = ENGINES.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    engines.retain(|engine| engine.strong_count() > 0);
    engines.push(Arc::downgrade(engine));
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
        while INSIDE.load(Ordering::SeqCst) > DEPTH.get() && Instant::now() < given_up {
            thread::sleep(Duration::from_millis(1));
        }
    });
}
