//! The events of a seed, in the form that people read and that two runs compare.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use super::service::{Asked, Effect};
use super::world::Fault;

/// An event.
#[derive(Debug, Clone)]
pub(super) enum Event {
    Started { lane: usize, step: String },
    Ended { lane: usize, result: String },
    Sent { number: usize, lane: usize, asked: Asked, fault: Option<Fault> },
    Arrived { number: usize, status: u16, effect: Effect },
    Delivered { number: usize, is_answer: bool },
    Died { process: usize },
    DiskFailed { process: usize },
    Row { lane: usize, text: String },
    Other(String),
    Violated(u8, String),
}

impl fmt::Display for Event {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started { lane, step } => write!(formatter, "lane {lane}: {step}"),
            Self::Ended { lane, result } => write!(formatter, "lane {lane}: ends: {result}"),
            Self::Sent { number, lane, asked, fault } => {
                write!(formatter, "lane {lane}: request {number}: ")?;
                match asked {
                    Asked::Get(id) => write!(formatter, "GET {id}")?,
                    Asked::List { top, skip } => write!(formatter, "list top={top} skip={skip}")?,
                    Asked::Put(id, body) => write!(formatter, "PUT {id} {}", serde_json::Value::from(body.clone()))?,
                    Asked::Other => write!(formatter, "?")?,
                }
                fault.map_or(Ok(()), |fault| write!(formatter, "  [{fault:?}]"))
            }
            Self::Arrived { number, status, effect } => {
                write!(formatter, "        request {number}: the service answers {status}")?;
                match effect {
                    Effect::None => Ok(()),
                    effect => write!(formatter, " ({effect:?})"),
                }
            }
            Self::Delivered { number, is_answer: true } => {
                write!(formatter, "        request {number}: the client gets the answer")
            }
            Self::Delivered { number, is_answer: false } => {
                write!(formatter, "        request {number}: the client gets no answer")
            }
            Self::Died { process } => write!(formatter, "process {process} is killed"),
            Self::DiskFailed { process } => write!(formatter, "process {process}: the disk fails"),
            Self::Row { lane, text } => write!(formatter, "lane {lane}:   {text}"),
            Self::Other(text) => write!(formatter, "{text}"),
            Self::Violated(promise, text) => write!(formatter, "VIOLATION of promise {promise}: {text}"),
        }
    }
}

/// All events, in order.
#[derive(Debug, Default)]
pub(super) struct Record(Vec<(Duration, Event)>);

impl Record {
    pub(super) fn push(&mut self, at: Duration, event: Event) {
        self.0.push((at, event));
    }

    /// Returns a hash of everything that happened.
    pub(super) fn hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for (at, event) in &self.0 {
            at.hash(&mut hasher);
            format!("{event}").hash(&mut hasher);
        }
        hasher.finish()
    }
}

impl fmt::Display for Record {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, event) in &self.0 {
            let (seconds, milliseconds) = (at.as_secs(), at.subsec_millis());
            writeln!(formatter, "{seconds:>7}.{milliseconds:03}  {event}")?;
        }
        Ok(())
    }
}
