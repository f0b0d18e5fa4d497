//! Passes requests to the model of the service and answers back, instead of a network.

use std::cell::Cell;
use std::future::pending;

use http::{HeaderMap, Method};
use serde_json::{Map, Value as Json};
use tokio::sync::oneshot;
use tokio::time::{Duration, Instant, sleep};

use super::service::{Asked, Reply};
use super::stage::{Way, stage};
use super::world::Fault;
use crate::error::{Failure, TransportFault, TransportKind};
use crate::transport::Request;

thread_local! {
    static NEXT_LINE: Cell<usize> = const { Cell::new(0) };
}

/// Sets the line of the clients that are created from now on.
pub(super) fn set_line(line: usize) {
    NEXT_LINE.set(line);
}

/// Returns the line of a new client.
pub(crate) fn line() -> usize {
    NEXT_LINE.get()
}

/// Returns whether a seed runs on this thread. If not, the network is the real one.
pub(crate) fn is_running() -> bool {
    super::stage::is_set()
}

/// An answer: a status, headers and a body.
pub(crate) type Raw = (u16, HeaderMap, Vec<u8>);

/// Sends a request once.
pub(crate) async fn exchange(line: usize, request: &Request, headers: &HeaderMap) -> Result<Raw, Failure> {
    let asked = read(request);
    let Some((number, way)) = stage(|stage| stage.send(line, &asked)) else { return pending().await };
    let _open = Open(number);
    let (answer, receiver) = oneshot::channel();
    tokio::spawn(carry(number, line, asked, headers.clone(), way, answer));
    match receiver.await {
        Ok(answer) if stage(|stage| stage.deliver(number, line, answer.is_ok())) => {
            answer.map(|reply| (reply.status, reply.headers, reply.body))
        }
        _ => pending().await,
    }
}

/// A request whose client waits for its answer.
struct Open(usize);

impl Drop for Open {
    fn drop(&mut self) {
        stage(|stage| stage.close(self.0));
    }
}

/// The way there and back. It continues if the client has given up or is dead.
async fn carry(
    number: usize,
    line: usize,
    asked: Asked,
    headers: HeaderMap,
    way: Way,
    answer: oneshot::Sender<Result<Reply, Failure>>,
) {
    sleep(way.there).await;
    match way.fault {
        Some(Fault::NoConnection) => {
            return drop(answer.send(Err(failure(TransportKind::Connect, "could not connect"))));
        }
        Some(Fault::RequestLost) => {
            return drop(answer.send(Err(failure(TransportKind::Dropped, "the connection broke"))));
        }
        Some(Fault::Silence) => return sleep(Duration::from_secs(86_400)).await,
        _ if way.is_withdrawn && answer.is_closed() => return,
        _ => {}
    }
    let mut reply = stage(|stage| stage.arrive(number, line, &asked, &headers, way));
    sleep(way.back).await;
    let answered = match way.fault {
        Some(Fault::AnswerLost) => Err(failure(TransportKind::Dropped, "the connection broke")),
        Some(Fault::AnswerCut) => Err(failure(TransportKind::Broken, "the connection broke")),
        Some(Fault::AnswerTruncated) => {
            reply.body.truncate(reply.body.len() / 2);
            Ok(reply)
        }
        _ => Ok(reply),
    };
    drop(answer.send(answered));
}

fn failure(kind: TransportKind, detail: &'static str) -> Failure {
    Failure::Transport(TransportFault {
        kind,
        sent: kind != TransportKind::Connect,
        detail: detail.into(),
        source: None,
    })
}

fn read(request: &Request) -> Asked {
    let body = request.body.as_ref().and_then(|body| serde_json::from_slice::<Map<String, Json>>(body).ok());
    let id = request.url.path().rsplit('/').next().and_then(|last| last.parse().ok());
    match (&request.method, id, body) {
        (&Method::GET, Some(id), None) => Asked::Get(id),
        (&Method::PUT, Some(id), Some(body)) => Asked::Put(id, body),
        (&Method::GET, None, None) => {
            let number = |name| {
                let value = request.url.query_pairs().find(|(key, _)| key == name);
                value.and_then(|(_, value)| value.parse().ok()).unwrap_or_default()
            };
            Asked::List { top: number("top"), skip: number("skip") }
        }
        _ => Asked::Other,
    }
}

/// Returns the time from the start of the seed to a moment.
pub(crate) fn since_start(moment: Instant) -> Duration {
    stage(|stage| stage.since_start(moment))
}

/// Returns the most accounts on a page, and how many of them may have moved.
pub(crate) fn page_and_slack() -> (u32, u64) {
    stage(|stage| stage.world.page_and_slack())
}

/// Returns how long the machine slept.
pub(crate) fn slept() -> Duration {
    stage(|stage| stage.slept())
}

/// Returns the time of day, in milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    const START: i64 = 1_800_000_000_000;
    START + i64::try_from(stage(|stage| stage.now()).as_millis()).unwrap_or_default()
}
