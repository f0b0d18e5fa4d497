//! Sockets: accepts connections, reads requests, and executes the faults.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, HeaderValue};
use http::request::Parts;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Sleep;

use super::SandboxOptions;
use super::answer::Answer;
use super::faults::{Applied, Fault};
use super::guard;
use super::routes::{self, Call, Resource};
use super::state::State;

use crate::lock::lock;

/// How far to read a body beyond the limit, so that the client reads the 413 instead of a broken pipe.
const DISCARDED: usize = 8 << 20;
/// How long to wait for the bytes before a cut to be sent.
const FLUSH: Duration = Duration::from_millis(5);
/// The longest wait for the connections to close.
pub(super) const FAREWELL: Duration = Duration::from_secs(1);
/// The wait after a failed accept, because the process has no file descriptor left.
const BREATH: Duration = Duration::from_millis(10);
/// The most open connections. Others wait until one of them ends.
const CONNECTIONS: usize = 2_048;

/// The state that the sandbox's thread and its owner share.
pub(super) struct Shared {
    pub(super) options: SandboxOptions,
    pub(super) state: Mutex<State>,
    pub(super) stop: Notify,
    /// Every connection holds a receiver, and ends at the first message.
    connections: Mutex<watch::Sender<()>>,
}

impl Shared {
    pub(super) fn new(options: SandboxOptions, state: State) -> Self {
        Self { options, state: Mutex::new(state), stop: Notify::new(), connections: Mutex::default() }
    }

    /// Returns the state. A panic of another holder leaves it consistent.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Tells every connection to end. The returned receiver closes after all connections have ended.
    pub(super) fn end_connections(&self) -> watch::Sender<()> {
        let mut connections = lock(&self.connections);
        let ending = std::mem::take(&mut *connections);
        ending.send_replace(());
        ending
    }

    fn connection(&self) -> watch::Receiver<()> {
        lock(&self.connections).subscribe()
    }
}

/// Accepts connections until it is told to stop.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = 0;
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            () = shared.stop.notified() => break,
            accepted = accept(&listener, &places) => accepted,
        };
        match accepted {
            Ok((stream, place)) => {
                connections += 1;
                let served = connection(stream, connections, Arc::clone(&shared), shared.connection());
                tokio::spawn(async move {
                    served.await;
                    drop(place);
                });
            }
            Err(_) => tokio::time::sleep(BREATH).await,
        }
    }
    unlisten(listener);
    let _ = tokio::time::timeout(FAREWELL, shared.end_connections().closed()).await;
}

/// Accepts a connection when there is room for one more.
async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> std::io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, place))
}

/// Closes the socket for all processes: otherwise a forked child's copy would keep the port open.
fn unlisten(listener: TcpListener) {
    let Ok(listener) = listener.into_std() else { return };
    #[cfg(unix)]
    let _ = std::net::TcpStream::from(std::os::fd::OwnedFd::from(listener)).shutdown(std::net::Shutdown::Both);
    #[cfg(not(unix))]
    drop(listener);
}

async fn connection(stream: TcpStream, number: u64, shared: Arc<Shared>, mut end: watch::Receiver<()>) {
    let reset = Arc::new(AtomicBool::new(false));
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request: http::Request<Incoming>| {
        Box::pin(exchange(request, number, Arc::clone(&shared), Arc::clone(&reset)))
    });
    let mut served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(shared.options.idle_timeout)
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        _ = std::future::poll_fn(|context| served.poll_without_shutdown(context)) => {}
        _ = end.changed() => {}
    }
    let stream = served.into_parts().io.into_inner();
    if reset.load(Ordering::Relaxed) {
        let _ = stream.set_zero_linger();
    } else if let Ok(stream) = stream.into_std() {
        let _ = stream.shutdown(std::net::Shutdown::Both);
    }
}

/// Why a connection ends without an answer: a fault, or the client has disconnected.
type NoAnswer = &'static str;
const NO_ANSWER: NoAnswer = "no answer";

async fn exchange(
    request: http::Request<Incoming>,
    connection: u64,
    shared: Arc<Shared>,
    reset: Arc<AtomicBool>,
) -> Result<http::Response<Outgoing>, NoAnswer> {
    let (parts, incoming) = request.into_parts();
    let refusal = guard::refusal(&parts);
    let is_kept = refusal.is_none() && routes::may_have_a_body(&shared.options, &parts);
    let reading = read(incoming, shared.options.max_body, is_kept);
    let body = tokio::time::timeout(shared.options.idle_timeout, reading).await.map_err(|_| NO_ANSWER)??;
    if let Some(refusal) = refusal {
        let mut state = shared.state();
        let number = state.arrive(connection, &parts, &[], shared.options.keep_requests);
        state.answered(number, refusal.status);
        return Ok(response(refusal, body.is_none(), None, &reset));
    }
    let (call, fault) = arrive(&shared, connection, parts, body);
    let number = call.number;
    let Some(fault) = fault else {
        let mut state = shared.state();
        let answer = routes::answer(&mut state, &shared.options, &call, true);
        state.answered(number, answer.status);
        return Ok(response(answer, call.body.is_none(), None, &reset));
    };
    let too_long = call.body.is_none();
    let answer = suffer(&fault, call, &shared).await;
    if fault.is_silent() {
        reset.store(fault.reset, Ordering::Relaxed);
        return Err(NO_ANSWER);
    }
    shared.state().answered(number, answer.status);
    Ok(response(answer, too_long, Some(&fault), &reset))
}

fn arrive(shared: &Shared, connection: u64, parts: Parts, body: Option<Vec<u8>>) -> (Call, Option<Fault>) {
    let mut state = shared.state();
    let number = state.arrive(connection, &parts, body.as_deref().unwrap_or_default(), shared.options.keep_requests);
    let id = Resource::of(parts.uri.path()).id();
    let fault = state.script.hit(number, &parts.method, id);
    (Call { number, parts, body }, fault)
}

/// Waits and applies the request as the fault says, and returns the fault's answer or the normal one.
async fn suffer(fault: &Fault, call: Call, shared: &Arc<Shared>) -> Answer {
    let act = |shared: &Shared, call: &Call, apply| routes::answer(&mut shared.state(), &shared.options, call, apply);
    let delay = tokio::time::sleep(fault.delay);
    let answer = match fault.applied() {
        Applied::Late => {
            let shared = Arc::clone(shared);
            // In its own task: this one ends when the client disconnects.
            let late = tokio::spawn(async move {
                delay.await;
                act(&shared, &call, true)
            });
            late.await.unwrap_or_default()
        }
        // The request did not reach the service, so it does not use its quota.
        Applied::Never if !fault.answers_truly() => {
            delay.await;
            Answer::default()
        }
        applied => {
            let answer = act(shared, &call, applied != Applied::Never);
            delay.await;
            answer
        }
    };
    fault.response.as_ref().map_or(answer, Answer::scripted)
}

/// Reads a body: returns `None` if it exceeds the limit, and an empty one if it is not kept.
async fn read(mut incoming: Incoming, bound: usize, is_kept: bool) -> Result<Option<Vec<u8>>, NoAnswer> {
    let mut body = Vec::new();
    let mut length = 0;
    while let Some(frame) = incoming.frame().await {
        let frame = frame.map_err(|_| NO_ANSWER)?;
        let Some(data) = frame.data_ref() else { continue };
        length += data.len();
        if length <= bound && is_kept {
            body.extend_from_slice(data);
        } else if length > bound + DISCARDED {
            break;
        }
    }
    Ok((length <= bound).then_some(body))
}

fn response(answer: Answer, close: bool, fault: Option<&Fault>, reset: &Arc<AtomicBool>) -> http::Response<Outgoing> {
    let mut response = http::Response::new(Outgoing::Whole(Some(answer.body).filter(|body| !body.is_empty())));
    *response.status_mut() = answer.status;
    for (name, value) in answer.headers {
        response.headers_mut().append(name, value);
    }
    if close {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if let Some((fault, cut)) = fault.and_then(|fault| Some((fault, fault.cut?))) {
        let Outgoing::Whole(body) = response.body_mut() else { return response };
        let whole = body.take().unwrap_or_default();
        let reset = fault.reset.then(|| Arc::clone(reset));
        *response.body_mut() = Outgoing::Cut { begun: Some(whole.slice(..cut.min(whole.len()))), flush: None, reset };
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(whole.len().max(cut + 1)));
    }
    response
}

/// A body on its way out.
enum Outgoing {
    Whole(Option<Bytes>),
    /// The beginning of a body, then the end of the connection.
    Cut {
        begun: Option<Bytes>,
        flush: Option<Pin<Box<Sleep>>>,
        reset: Option<Arc<AtomicBool>>,
    },
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = NoAnswer;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, NoAnswer>>> {
        match self.get_mut() {
            Self::Whole(body) => Poll::Ready(body.take().map(|body| Ok(Frame::data(body)))),
            Self::Cut { begun, flush, reset } => {
                if let Some(begun) = begun.take().filter(|begun| !begun.is_empty()) {
                    return Poll::Ready(Some(Ok(Frame::data(begun))));
                }
                let flush = flush.get_or_insert_with(|| Box::pin(tokio::time::sleep(FLUSH)));
                std::task::ready!(flush.as_mut().poll(context));
                if let Some(reset) = reset {
                    reset.store(true, Ordering::Relaxed);
                }
                Poll::Ready(Some(Err(NO_ANSWER)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => SizeHint::with_exact(body.as_ref().map_or(0, |body| body.len() as u64)),
            Self::Cut { .. } => SizeHint::default(),
        }
    }
}
