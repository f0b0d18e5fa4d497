//! The engine of a client: it waits for a call, or returns an awaitable. Each operation is written once and knows
//! neither.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use super::bridge::{Bridge, Promise, QueueLines, unless_it_ends_the_program};
use super::convert::ToPython;
use super::exit::StopsAtExit;
use super::guard::guarded;
use super::lane::Lane;
use super::once::name;
use super::{errors, events, exit};
use crate::client::Client;
use crate::error::Error;
use crate::lock::lock;
use crate::per_process::{PerProcess, Process};
use crate::sabotage::{self, Guard};

/// A lane that was not used for this long is closed.
const IDLE_LANE: Duration = Duration::from_secs(90);

/// The threads and connections of a client and of all clients that share them. It belongs to a process: a forked child
/// gets its own, and does not touch the parent's.
pub(super) struct Engine {
    template: Client,
    state: PerProcess<State>,
}

struct State {
    client: Client,
    lanes: Mutex<Vec<Lane>>,
    /// Counts the closes, so that a lane that was in use during a close is not kept.
    closings: AtomicU64,
    io: Mutex<Option<IoThread>>,
    attached: Mutex<Vec<Attached>>,
    spare: Mutex<Vec<Py<Bridge>>>,
}

/// An event loop that waits for something, or did in this step.
struct Attached {
    event_loop: Py<PyAny>,
    bridge: Py<Bridge>,
    pending: usize,
    /// The loop will call a [`Departure`].
    is_leaving: bool,
}

impl Engine {
    pub(super) fn new(template: Client) -> Arc<Self> {
        Arc::new(Self { template, state: PerProcess::new() })
    }

    /// The client that shares its state with all others of this engine and this process.
    pub(super) fn client(self: &Arc<Self>, py: Python<'_>, process: Process) -> PyResult<&Client> {
        Ok(&self.state(py, process)?.client)
    }

    fn state(self: &Arc<Self>, py: Python<'_>, process: Process) -> PyResult<&State> {
        if let Some(state) = self.state.get(process) {
            return Ok(state);
        }
        let engine: Weak<Self> = Arc::downgrade(self);
        exit::stop_at_exit(engine);
        let made = self.state.get_or_try_init(process, || State::new(&self.template));
        made.map_err(|error| errors::to_python(py, &error))
    }

    /// Runs an operation: waits for it, or, for an event loop, starts it and returns a [`Pending`].
    pub(super) fn run<'py, T, F>(
        self: &Arc<Self>,
        py: Python<'py>,
        (client, process): (&Client, Process),
        event_loop: Option<&Bound<'py, PyAny>>,
        operation: impl FnOnce(Client) -> F + Send,
    ) -> PyResult<Bound<'py, PyAny>>
    where
        T: ToPython,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        match event_loop {
            None => wait(py, self.state(py, process)?, client, operation)?.to_python(py),
            Some(event_loop) => Ok(self.start(self.state(py, process)?, client, event_loop, operation)?.into_any()),
        }
    }

    fn start<'py, T: ToPython, F: Future<Output = Result<T, Error>> + Send + 'static>(
        self: &Arc<Self>,
        state: &State,
        client: &Client,
        event_loop: &Bound<'py, PyAny>,
        operation: impl FnOnce(Client) -> F,
    ) -> PyResult<Bound<'py, Pending>> {
        let py = event_loop.py();
        let verbose = events::is_verbose(py)?;
        let (io, connections) = state.io(py)?;
        let future = event_loop.call_method0(name!(py, "create_future"))?;
        let bridge = state.attach(event_loop)?;
        let observer = Arc::new(QueueLines::new(&bridge.get().queue, verbose));
        let running = operation(client.over_connections_of(&connections, Arc::clone(&observer) as _));
        let number = bridge.get().expect(future.clone().unbind());
        let promise = Promise::new(observer, number);
        let call = io.spawn(async move { promise.keep(running.await) });
        bridge.get().started(number, call.abort_handle());
        let pending = Pending {
            future: future.unbind(),
            engine: Arc::clone(self),
            bridge: Mutex::new(Some(bridge.unbind())),
            number,
            process: Process::current(),
        };
        Bound::new(py, pending)
    }

    /// Stops threads and closes connections. A later call creates new ones; a call that is running in another thread
    /// keeps its own until it ends.
    pub(super) fn close(&self) {
        let Some(state) = self.state.get(Process::current()) else { return };
        state.closings.fetch_add(1, Ordering::SeqCst);
        let lanes = std::mem::take(&mut *lock(&state.lanes));
        let io = lock(&state.io).take();
        drop((lanes, io));
    }

    /// A call at a bridge has ended.
    fn release(self: &Arc<Self>, py: Python<'_>, bridge: &Py<Bridge>, process: Process) -> PyResult<()> {
        let Some(state) = self.state.get(process) else { return Ok(()) };
        let Some(event_loop) = state.ended(py, bridge) else { return Ok(()) };
        // A pump is a task, which needs the next step to end.
        if bridge.get().is_pumped() {
            return state.leave(py, bridge, &event_loop);
        }
        let engine = Arc::downgrade(self);
        let departure =
            Departure { engine, event_loop: event_loop.clone_ref(py), bridge: bridge.clone_ref(py), process };
        match event_loop.bind(py).call_method1(name!(py, "call_soon"), (departure,)) {
            Ok(_) => Ok(()),
            // A closed loop takes no more calls.
            Err(error) => state.leave(py, bridge, &event_loop).and(unless_it_ends_the_program(py, Err::<(), _>(error))),
        }
    }

    /// Releases what is kept for the next event loop, and for closed ones.
    pub(super) fn drop_spare_bridges(&self, py: Python<'_>) {
        let Some(state) = self.state.get(Process::current()) else { return };
        state.leave_idle_loops(py);
        let spare = std::mem::take(&mut *lock(&state.spare));
        drop(spare);
    }
}

impl StopsAtExit for Engine {
    fn stop(&self) {
        self.close();
    }
}

/// Runs an operation on this thread until it ends.
fn wait<T: ToPython, F: Future<Output = Result<T, Error>> + Send>(
    py: Python<'_>,
    state: &State,
    client: &Client,
    operation: impl FnOnce(Client) -> F + Send,
) -> PyResult<T> {
    let closings = state.closings.load(Ordering::SeqCst);
    let idle = lock(&state.lanes).pop();
    let mut lane = match idle {
        Some(lane) => lane,
        None => Lane::new(py, &state.client)?,
    };
    let outcome = lane.drive(py, client, operation)?;
    state.take_back(lane, closings);
    outcome.map_err(|error| errors::to_python(py, &error))
}

impl State {
    fn new(template: &Client) -> Result<Self, Error> {
        Ok(Self {
            client: template.anew()?,
            lanes: Mutex::default(),
            closings: AtomicU64::new(0),
            io: Mutex::default(),
            attached: Mutex::default(),
            spare: Mutex::default(),
        })
    }

    fn take_back(&self, lane: Lane, closings: u64) {
        let mut lanes = lock(&self.lanes);
        if self.closings.load(Ordering::SeqCst) != closings {
            return;
        }
        let oldest_is_idle = lanes.first().is_some_and(|oldest| oldest.idle() > IDLE_LANE);
        let oldest = oldest_is_idle.then(|| lanes.remove(0));
        lanes.push(lane);
        drop(lanes);
        drop(oldest);
    }

    /// Returns the I/O thread, started on first use, and its connections.
    fn io(&self, py: Python<'_>) -> PyResult<(Handle, Client)> {
        let mut io = lock(&self.io);
        if let Some(io) = &*io {
            return Ok((io.handle.clone(), io.connections.clone()));
        }
        match IoThread::start(&self.client) {
            Ok(started) => {
                let handles = (started.handle.clone(), started.connections.clone());
                *io = Some(started);
                Ok(handles)
            }
            Err(error) => {
                // To make an exception runs Python code, during which another thread may want the lock.
                drop(io);
                Err(error.into_python(py))
            }
        }
    }

    /// Returns the bridge of an event loop. Only a loop's own thread attaches it, so no other thread can interfere.
    fn attach<'py>(&self, event_loop: &Bound<'py, PyAny>) -> PyResult<Bound<'py, Bridge>> {
        let py = event_loop.py();
        for attached in &mut *lock(&self.attached) {
            if attached.event_loop.is(event_loop) {
                attached.pending += 1;
                return Ok(attached.bridge.bind(py).clone());
            }
        }
        self.leave_idle_loops(py);
        let spare = lock(&self.spare).pop();
        let bridge = match spare {
            Some(bridge) => bridge.into_bound(py),
            None => Bound::new(py, Bridge::new(py)?)?,
        };
        Bridge::attach(&bridge, event_loop)?;
        let event_loop = event_loop.clone().unbind();
        lock(&self.attached).push(Attached {
            event_loop,
            bridge: bridge.clone().unbind(),
            pending: 1,
            is_leaving: false,
        });
        Ok(bridge)
    }

    /// Drops calls that wait on closed loops: they will never be resolved, and they hold connections. Leaves loops
    /// without calls whose next step may never come.
    fn leave_idle_loops(&self, py: Python<'_>) {
        let candidates: Vec<_> = lock(&self.attached)
            .iter()
            .map(|attached| (attached.event_loop.clone_ref(py), attached.bridge.clone_ref(py), attached.pending))
            .collect();
        let is = |event_loop: &Py<PyAny>, name| {
            let answer = event_loop.bind(py).call_method0(name);
            answer.and_then(|answer| answer.is_truthy()).unwrap_or_default()
        };
        for (event_loop, bridge, pending) in candidates {
            if is(&event_loop, name!(py, "is_closed")) {
                let mut attached = lock(&self.attached);
                let is_meant = |attached: &Attached| attached.bridge.is(&bridge) && attached.event_loop.is(&event_loop);
                let left = attached.iter().position(is_meant).map(|index| attached.swap_remove(index));
                drop(attached);
                if left.is_some() {
                    bridge.get().abandon(py);
                }
            } else if pending == 0
                && (!is(&event_loop, name!(py, "is_running")) || is_running_here(event_loop.bind(py)))
            {
                let _ = self.leave(py, &bridge, &event_loop);
            }
        }
    }

    /// Counts a call as ended. Returns the loop if it was the last one, once until the loop is left.
    fn ended(&self, py: Python<'_>, bridge: &Py<Bridge>) -> Option<Py<PyAny>> {
        let mut attached = lock(&self.attached);
        let entry = attached.iter_mut().find(|attached| attached.bridge.is(bridge))?;
        entry.pending -= 1;
        if entry.pending > 0 || entry.is_leaving {
            return None;
        }
        entry.is_leaving = true;
        Some(entry.event_loop.clone_ref(py))
    }

    /// Detaches from a loop without waiting calls. The bridge may serve another loop by now.
    fn leave(&self, py: Python<'_>, bridge: &Py<Bridge>, event_loop: &Py<PyAny>) -> PyResult<()> {
        let mut attached = lock(&self.attached);
        let is_meant = |attached: &Attached| attached.bridge.is(bridge) && attached.event_loop.is(event_loop);
        let Some(index) = attached.iter().position(is_meant) else { return Ok(()) };
        let Some(entry) = attached.get_mut(index) else { return Ok(()) };
        entry.is_leaving = false;
        if entry.pending > 0 {
            return Ok(());
        }
        let Attached { event_loop, bridge, .. } = attached.swap_remove(index);
        drop(attached);
        // Windows binds a socket to the first loop that receives from it. After a close nothing is kept.
        let is_kept = !bridge.get().is_pumped() && lock(&self.io).is_some();
        let left = bridge.get().leave(event_loop.bind(py));
        if is_kept {
            lock(&self.spare).push(bridge);
        }
        left
    }
}

/// Returns whether an event loop runs in this thread.
fn is_running_here(event_loop: &Bound<'_, PyAny>) -> bool {
    let running = event_loop.py().import("asyncio").and_then(|asyncio| asyncio.call_method0("_get_running_loop"));
    running.is_ok_and(|running| running.is(event_loop))
}

/// Detaches from an event loop in its next step, unless a call was started until then.
///
/// A call that is awaited after another one starts in the step in which that one ends. Watching the socket again for
/// each of them takes longer than anything else that the loop does for them.
#[pyclass(frozen, module = "replyio._replyio")]
struct Departure {
    engine: Weak<Engine>,
    event_loop: Py<PyAny>,
    bridge: Py<Bridge>,
    process: Process,
}

#[pymethods]
impl Departure {
    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        guarded(py, "departure", || {
            // The loop of a forked child calls what its parent left there.
            if Process::current() != self.process {
                return Ok(());
            }
            match self.engine.upgrade() {
                Some(engine) => engine
                    .state
                    .get(self.process)
                    .map_or(Ok(()), |state| state.leave(py, &self.bridge, &self.event_loop)),
                None => self.bridge.get().leave(self.event_loop.bind(py)),
            }
        })
    }

    #[expect(clippy::needless_pass_by_value, reason = "pyo3 passes it by value")]
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event_loop)?;
        visit.call(&self.bridge)
    }
}

/// The thread that runs the calls of all event loops.
struct IoThread {
    handle: Handle,
    connections: Client,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Why there is no I/O thread.
enum NotStarted {
    Exhausted(std::io::Error),
    Client(Error),
}

impl NotStarted {
    fn into_python(self, py: Python<'_>) -> PyErr {
        match self {
            Self::Exhausted(error) => errors::exhausted(py, error),
            Self::Client(error) => errors::to_python(py, &error),
        }
    }
}

impl IoThread {
    fn start(client: &Client) -> Result<Self, NotStarted> {
        let refused = NotStarted::Exhausted;
        let connections = client.with_own_connections().map_err(NotStarted::Client)?;
        let runtime = Builder::new_current_thread().enable_io().enable_time().build().map_err(refused)?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let run = move || {
            let _ = runtime.block_on(stopped);
            runtime.shutdown_background();
        };
        let thread = thread::Builder::new().name("replyio-io".to_owned()).spawn(run).map_err(refused)?;
        Ok(Self { handle, connections, stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for IoThread {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It never waits for the interpreter, so this ends immediately.
            let _ = thread.join();
        }
    }
}

/// A call that an event loop waits for.
#[pyclass(frozen, module = "replyio._replyio")]
pub(super) struct Pending {
    /// The future of the result.
    #[pyo3(get)]
    future: Py<PyAny>,
    engine: Arc<Engine>,
    /// Set until it ends. An exception keeps its frames, and they keep this object, which must not keep the sockets of
    /// a bridge.
    bridge: Mutex<Option<Py<Bridge>>>,
    number: u64,
    process: Process,
}

#[pymethods]
impl Pending {
    /// Ends it: cancels a running call and closes its connection.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        guarded(py, "close_pending", || {
            // The call of a parent, whose locks may be held forever, does not belong to a forked child.
            let process = Process::current();
            if process != self.process || sabotage::is_off(Guard::Cancellation) {
                return Ok(());
            }
            let Some(bridge) = lock(&self.bridge).take() else { return Ok(()) };
            bridge.get().forget(self.number);
            self.engine.release(py, &bridge, process)
        })
    }

    #[expect(clippy::needless_pass_by_value, reason = "pyo3 passes it by value")]
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.future)?;
        // The garbage collector must not wait; an object that is being taken at this moment is dropped anyway.
        self.bridge.try_lock().map_or(Ok(()), |bridge| visit.call(&*bridge))
    }
}
