//! asyncio: results of the I/O thread, resolved on the event loop's own thread.
//!
//! The I/O thread puts results into a queue and writes one byte to a socket that the loop watches. It never touches
//! Python, so an exiting interpreter cannot block it.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use pyo3::exceptions::{PyException, PyNotImplementedError};
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};
use tokio::task::AbortHandle;

use super::convert::ToPython;
use super::errors;
use super::events::Line;
use super::guard::{caught, guarded, last_panic};
use super::once::name;
use crate::client::{Event, Observer};
use crate::error::Error;
use crate::lock::lock;
use crate::sabotage;

#[cfg(unix)]
pub(super) type Socket = std::os::unix::net::UnixStream;
#[cfg(windows)]
pub(super) type Socket = std::net::TcpStream;

/// Converts the result of a call to Python, on the loop's thread.
type Completion = Box<dyn FnOnce(Python<'_>) -> PyResult<Py<PyAny>> + Send>;

/// A result from the I/O thread.
enum Message {
    Result(u64, Completion),
    Line(Line),
}

/// The queue from the I/O thread to one event loop.
pub(super) struct Queue {
    messages: Mutex<Vec<Message>>,
    wake: Socket,
}

impl Queue {
    fn push(&self, message: Message) {
        let mut messages = lock(&self.messages);
        let was_empty = messages.is_empty();
        messages.push(message);
        drop(messages);
        if was_empty {
            // A full socket means that the loop is already awake.
            let _ = (&self.wake).write(&[1]);
        }
    }
}

/// Puts a result into the queue; if dropped before, the reason for the missing result.
pub(super) struct Promise {
    observer: Arc<QueueLines>,
    number: u64,
    kept: bool,
}

impl Promise {
    pub(super) fn new(observer: Arc<QueueLines>, number: u64) -> Self {
        Self { observer, number, kept: false }
    }

    fn push(&self, convert: Completion) {
        self.observer.queue.push(Message::Result(self.number, convert));
    }

    pub(super) fn keep<T: ToPython>(mut self, outcome: Result<T, Error>) {
        self.kept = true;
        let convert = move |py: Python<'_>| match outcome {
            Ok(value) => value.to_python(py).map(Bound::unbind),
            Err(error) => Err(errors::to_python(py, &error)),
        };
        self.push(Box::new(convert));
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        if !self.kept {
            let panic = std::thread::panicking().then(last_panic);
            let may_have_been_applied = self.observer.is_unconfirmed.load(Ordering::Relaxed);
            let convert = move |py: Python<'_>| {
                let closed = || errors::closed(py, may_have_been_applied);
                Err(panic.map_or_else(closed, |panic| errors::internal(py, &panic)))
            };
            self.push(Box::new(convert));
        }
    }
}

/// The observer of a call that an event loop waits for.
pub(super) struct QueueLines {
    queue: Arc<Queue>,
    verbose: bool,
    /// Whether an update of the call may have been applied without a confirming answer.
    is_unconfirmed: AtomicBool,
}

impl QueueLines {
    pub(super) fn new(queue: &Arc<Queue>, verbose: bool) -> Self {
        Self { queue: Arc::clone(queue), verbose, is_unconfirmed: AtomicBool::new(false) }
    }
}

impl Observer for QueueLines {
    fn observe(&self, event: Event<'_>) {
        if let Event::Unconfirmed { may_have_been_applied } = event {
            self.is_unconfirmed.store(may_have_been_applied, Ordering::Relaxed);
        } else if let Some(line) = Line::of(&event, self.verbose) {
            self.queue.push(Message::Line(line));
        }
    }
}

/// A future, and its call.
struct Waiting {
    future: Py<PyAny>,
    call: Option<AbortHandle>,
}

/// The receiving end of a queue: the callable that the event loop calls when the queue contains something.
#[pyclass(frozen, module = "replyio._replyio")]
pub(super) struct Bridge {
    pub(super) queue: Arc<Queue>,
    signal: Socket,
    waiting: Mutex<HashMap<u64, Waiting>>,
    next_number: AtomicU64,
    pump: Mutex<Option<Py<PyAny>>>,
}

#[pymethods]
impl Bridge {
    /// Resolves the futures whose results have arrived.
    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        guarded(py, "bridge", || self.resolve(py))
    }

    /// A future knows its task and everything that it waits for: these reference cycles end here.
    #[expect(clippy::needless_pass_by_value, reason = "pyo3 passes it by value")]
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Ok(pump) = self.pump.try_lock() {
            visit.call(&*pump)?;
        }
        let Ok(waiting) = self.waiting.try_lock() else { return Ok(()) };
        waiting.values().try_for_each(|waiting| visit.call(&waiting.future))
    }
}

impl Bridge {
    fn resolve(&self, py: Python<'_>) -> PyResult<()> {
        let mut bytes = [0_u8; 256];
        while matches!((&self.signal).read(&mut bytes), Ok(count) if count == bytes.len()) {}
        let messages = std::mem::take(&mut *lock(&self.queue.messages));
        // An exception from one of them must not keep the others from their results.
        let mut raised = Ok(());
        for message in messages {
            match message {
                Message::Result(number, convert) => {
                    let Some(Waiting { future, .. }) = lock(&self.waiting).remove(&number) else { continue };
                    let future = future.bind(py);
                    let converted = caught(|| {
                        sabotage::place("convert");
                        convert(py)
                    });
                    let resolved = match converted.unwrap_or_else(|what| Err(errors::internal(py, &what))) {
                        Ok(value) => future.call_method1(name!(py, "set_result"), (value,)),
                        Err(error) => future.call_method1(name!(py, "set_exception"), (error,)),
                    };
                    // A future that was just canceled refuses a result, and so does one of a closed loop; their tasks
                    // already know.
                    raised = raised.and(unless_it_ends_the_program(py, resolved));
                }
                Message::Line(line) => raised = raised.and(line.log(py)),
            }
        }
        raised
    }

    pub(super) fn new(py: Python<'_>) -> PyResult<Self> {
        let (signal, wake) = socket_pair().map_err(|error| errors::exhausted(py, error))?;
        Ok(Self {
            queue: Arc::new(Queue { messages: Mutex::default(), wake }),
            signal,
            waiting: Mutex::default(),
            next_number: AtomicU64::new(0),
            pump: Mutex::default(),
        })
    }

    /// Makes an event loop call this bridge whenever something arrives.
    pub(super) fn attach(bridge: &Bound<'_, Self>, event_loop: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = bridge.py();
        match event_loop.call_method1(name!(py, "add_reader"), (bridge.get().descriptor(), bridge)) {
            Ok(_) => Ok(()),
            Err(error) if error.is_instance_of::<PyNotImplementedError>(py) => {
                let pump = py.import("replyio._pump")?.getattr("Pump")?;
                let socket = bridge.get().python_socket(py)?;
                *lock(&bridge.get().pump) = Some(pump.call1((event_loop, socket, bridge))?.unbind());
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Reverts [`attach`](Self::attach). A closed loop has already done so itself.
    pub(super) fn leave(&self, event_loop: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = event_loop.py();
        let pump = lock(&self.pump).take();
        let left = match pump {
            Some(task) => task.bind(py).call_method0(name!(py, "cancel")),
            None => event_loop.call_method1(name!(py, "remove_reader"), (self.descriptor(),)),
        };
        unless_it_ends_the_program(py, left)
    }

    /// Whether a task calls this bridge, since its loop cannot watch a descriptor.
    pub(super) fn is_pumped(&self) -> bool {
        lock(&self.pump).is_some()
    }

    /// Stores a future under a number.
    pub(super) fn expect(&self, future: Py<PyAny>) -> u64 {
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        lock(&self.waiting).insert(number, Waiting { future, call: None });
        number
    }

    /// Stores the call of a future. Results arrive only on this thread, so the call is not finished yet.
    pub(super) fn started(&self, number: u64, call: AbortHandle) {
        if let Some(waiting) = lock(&self.waiting).get_mut(&number) {
            waiting.call = Some(call);
        }
    }

    /// Forgets a future, and cancels its call if that is still running.
    pub(super) fn forget(&self, number: u64) {
        let waiting = lock(&self.waiting).remove(&number);
        if let Some(call) = waiting.and_then(|waiting| waiting.call) {
            call.abort();
        }
    }

    /// Forgets all futures and cancels their calls. This may end their tasks, which may call back here.
    pub(super) fn abandon(&self, py: Python<'_>) {
        let pump = lock(&self.pump).take();
        let _ = pump.map(|pump| pump.bind(py).call_method0(name!(py, "close")));
        let all = std::mem::take(&mut *lock(&self.waiting));
        for call in all.values().filter_map(|waiting| waiting.call.as_ref()) {
            call.abort();
        }
    }

    #[cfg(unix)]
    fn descriptor(&self) -> i32 {
        std::os::fd::AsRawFd::as_raw_fd(&self.signal)
    }

    #[cfg(windows)]
    fn descriptor(&self) -> u64 {
        std::os::windows::io::AsRawSocket::as_raw_socket(&self.signal)
    }

    /// Returns a Python socket object over the same socket, for loops that cannot watch a descriptor.
    fn python_socket<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let signal = self.signal.try_clone().map_err(|error| errors::exhausted(py, error))?;
        let descriptor = into_descriptor(signal);
        let socket = py.import("replyio._pump")?.getattr("adopt")?.call1((descriptor,))?;
        Ok(socket)
    }
}

/// Returns a socket as Python adopts it.
#[cfg(unix)]
pub(super) fn into_descriptor(socket: Socket) -> i32 {
    std::os::fd::IntoRawFd::into_raw_fd(socket)
}

/// Returns a socket as Python adopts it.
#[cfg(windows)]
pub(super) fn into_descriptor(socket: Socket) -> u64 {
    std::os::windows::io::IntoRawSocket::into_raw_socket(socket)
}

/// Returns two ends, neither of which blocks.
pub(super) fn socket_pair() -> std::io::Result<(Socket, Socket)> {
    let (signal, wake) = connected_pair()?;
    signal.set_nonblocking(true)?;
    wake.set_nonblocking(true)?;
    Ok((signal, wake))
}

/// Ignores what a closed loop or a canceled future raises, but not `KeyboardInterrupt` and the like.
pub(super) fn unless_it_ends_the_program<T>(py: Python<'_>, outcome: PyResult<T>) -> PyResult<()> {
    match outcome {
        Err(error) if !error.is_instance_of::<PyException>(py) => Err(error),
        _ => Ok(()),
    }
}

#[cfg(unix)]
fn connected_pair() -> std::io::Result<(Socket, Socket)> {
    Socket::pair()
}

#[cfg(windows)]
fn connected_pair() -> std::io::Result<(Socket, Socket)> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
    let wake = Socket::connect(listener.local_addr()?)?;
    let (signal, from) = listener.accept()?;
    wake.set_nodelay(true)?;
    if from == wake.local_addr()? { Ok((signal, wake)) } else { Err(std::io::ErrorKind::ConnectionAborted.into()) }
}
