//! What can go wrong, with everything a caller needs to act on it. The words for it are in `messages`.

mod messages;

use std::borrow::Cow;
use std::error::Error as StdError;
use std::io;
use std::time::Duration;

use crate::account::FieldError;
use crate::problem::Problem;

/// An operation of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// `PUT /v3/contact-accounts/{id}`
    Update,
    /// `GET`, then `PUT /v3/contact-accounts/{id}`
    Patch,
    /// `GET /v3/contact-accounts/{id}`
    Get,
    /// `GET /v3/contact-accounts`
    List,
}

impl Operation {
    const fn writes(self) -> bool {
        matches!(self, Self::Update | Self::Patch)
    }
}

/// Which operation on which account: the subject of every message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Call {
    /// The operation.
    pub operation: Operation,
    /// The account, where there is one.
    pub id: Option<i64>,
}

/// Every error of this crate.
///
/// # Examples
/// ```no_run
/// # async fn example(client: replyio::Client) -> Result<(), replyio::Error> {
/// use replyio::{Error, ErrorKind, Failure};
///
/// match client.get(4711).await {
///     Ok(account) => println!("{}", account.name),
///     Err(error) if error.kind() == ErrorKind::NotFound => println!("there is no account 4711"),
///     Err(Error::Call(error)) => match &error.failure {
///         Failure::Api(answer) => println!("{} {:?}", answer.status, answer.problem.code),
///         failure => println!("{failure} after {} attempts", error.attempts),
///     },
///     Err(error) => return Err(error),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub enum Error {
    /// A setting cannot be used.
    Configuration(String),
    /// The id or the fields are not what the contract allows. Nothing was sent.
    Validation {
        /// What was asked for.
        call: Call,
        /// Every fault.
        errors: Vec<FieldError>,
    },
    /// The operating system has no thread, file descriptor or memory for what a call needs. Nothing was sent.
    Exhausted(io::Error),
    /// The call failed.
    Call(Box<CallError>),
}

/// A call that failed.
#[derive(Debug)]
pub struct CallError {
    /// What was asked for.
    pub call: Call,
    /// How many requests were sent, or tried to be.
    pub attempts: u32,
    /// From the call to the error.
    pub elapsed: Duration,
    /// Whether an update was sent, in any attempt, and no answer tells whether it was applied.
    pub may_have_been_applied: bool,
    /// What ended it.
    pub failure: Failure,
}

/// What ends an attempt, or a call.
#[derive(Debug)]
pub enum Failure {
    /// No answer came.
    Transport(TransportFault),
    /// The attempt or the whole call ran out of time.
    Deadline {
        /// The limit that was reached.
        limit: Duration,
        /// Whether it was the limit of the whole call.
        whole_call: bool,
        /// What ended the attempt before.
        last: Option<String>,
    },
    /// An answer that the contract does not have.
    Unexpected(Unexpected),
    /// The list changed while it was read, so that the pages do not show all of it. Nothing is wrong with the answers.
    Unsettled {
        /// How the pages show it. Never a value.
        reason: String,
    },
    /// An error that the service answered.
    Api(Box<ApiFailure>),
    /// The quota opens too late for the deadline. Nothing was sent.
    Quota {
        /// Until it opens.
        retry_after: Duration,
        /// What holds it closed.
        reason: WaitReason,
    },
    /// Another change of the same account by this process lasted until the deadline. Nothing was sent since.
    Turn {
        /// How long the whole call may take.
        limit: Duration,
    },
    /// The quota's [`Acquire`](crate::Acquire) failed. Nothing was sent since.
    Acquire {
        /// What it failed with, in one line.
        reason: String,
        /// The error itself.
        source: Option<Box<dyn StdError + Send + Sync>>,
    },
    /// The quota's [`Acquire`](crate::Acquire) granted nothing until the deadline. Nothing was sent since.
    AcquireDeadline {
        /// How long the whole call may take.
        limit: Duration,
    },
    /// A fault of this crate.
    Internal(String),
}

/// What a failed attempt says about the update that it carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// It was not sent.
    NotSent,
    /// An answer says that it was not applied.
    Refused,
    /// It was sent, and no answer tells whether it was applied.
    Unknown,
}

impl Delivery {
    /// What a status other than the expected answer says.
    const fn of_status(status: u16) -> Self {
        match status {
            // A gateway sends these when it stops waiting.
            408 | 499 => Self::Unknown,
            // These redirects ask for the same request at another address.
            301 | 302 | 307 | 308 | 400..=498 => Self::Refused,
            _ => Self::Unknown,
        }
    }
}

/// Where on the way to an answer the transport failed.
#[derive(Debug)]
pub struct TransportFault {
    /// The step.
    pub kind: TransportKind,
    /// Whether a connection was made, so that the request may have arrived.
    pub sent: bool,
    /// What happened, in words of ours.
    pub detail: Cow<'static, str>,
    /// The error below, for those who print sources.
    pub source: Option<Box<dyn StdError + Send + Sync>>,
}

/// The steps at which a transport fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TransportKind {
    /// The name did not resolve, or no connection could be made.
    Connect,
    /// No connection could be made, because this process has no file descriptor left.
    Exhausted,
    /// The server's certificate is out of date, or this machine's clock is.
    OutOfDate,
    /// The server's certificate is from somebody that nobody here trusts.
    Certificate,
    /// The handshake was refused, or the certificate is for another host, or the server refused the connection later.
    Tls,
    /// The proxy did not pass the connection on.
    Proxy,
    /// The proxy asked for a user and a password.
    ProxyPassword,
    /// The connection broke before the answer began, as one does that was closed while it was idle.
    Dropped,
    /// The connection broke inside the answer.
    Broken,
}

impl TransportKind {
    const fn is_tls(self) -> bool {
        matches!(self, Self::OutOfDate | Self::Certificate | Self::Tls)
    }
}

/// An answer that the contract does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unexpected {
    /// The HTTP status, where there was one.
    pub status: Option<u16>,
    /// What is unexpected about it. Never a value.
    pub reason: String,
    /// The beginning of the body, escaped.
    pub excerpt: Option<String>,
}

/// An error that the service answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiFailure {
    /// The HTTP status.
    pub status: u16,
    /// The body, read as problem details.
    pub problem: Problem,
    /// The service's own name for the request.
    pub request_id: Option<String>,
    /// How long the service asks to wait before the next attempt: at most thirty days, which stands for anything longer.
    pub retry_after: Option<Duration>,
    /// Whether a 401 asked for the bearer scheme.
    pub bearer_challenge: bool,
    /// Whether the body is problem details by its type, as the service's own errors are.
    pub is_problem: bool,
    /// Whether the body is a page for people, as what stands between writes it and the service does not.
    pub is_page: bool,
    /// Where the key came from that was refused.
    pub refused_key: Option<KeyOrigin>,
}

/// Where an API key came from: what to look at when it is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum KeyOrigin {
    /// It was given to the client.
    #[default]
    Argument,
    /// It was read from the environment.
    Environment,
}

/// Why a call waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WaitReason {
    /// The window of a minute is full.
    PerMinute(u32),
    /// The window of an hour is full.
    PerHour(u32),
    /// The service asked for it with Retry-After.
    RetryAfter,
    /// The pause before the next attempt.
    BackOff,
    /// The quota's [`Acquire`](crate::Acquire) has not granted the request yet. Nobody knows how long that takes.
    Acquire,
}

/// The kinds of error, one for each exception class of the Python package.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// A setting cannot be used.
    Configuration,
    /// Refused before any request.
    Validation,
    /// No answer came.
    Transport,
    /// The certificate or the handshake was refused.
    Tls,
    /// Out of time.
    DeadlineExceeded,
    /// An answer that the contract does not have.
    UnexpectedResponse,
    /// Another 4xx that the service explains itself.
    Api,
    /// 400, 422
    BadRequest,
    /// 401
    Authentication,
    /// 403
    PermissionDenied,
    /// 404
    NotFound,
    /// 409, 412
    Conflict,
    /// 429
    RateLimit,
    /// 5xx
    Server,
    /// A fault of this crate.
    Internal,
}

impl ErrorKind {
    /// All of them.
    pub const ALL: &'static [Self] = &[
        Self::Configuration,
        Self::Validation,
        Self::Transport,
        Self::Tls,
        Self::DeadlineExceeded,
        Self::UnexpectedResponse,
        Self::Api,
        Self::BadRequest,
        Self::Authentication,
        Self::PermissionDenied,
        Self::NotFound,
        Self::Conflict,
        Self::RateLimit,
        Self::Server,
        Self::Internal,
    ];

    /// The kind of a status that is not 200.
    pub const fn of_status(status: u16) -> Self {
        match status {
            400 | 422 => Self::BadRequest,
            401 => Self::Authentication,
            403 => Self::PermissionDenied,
            404 => Self::NotFound,
            409 | 412 => Self::Conflict,
            429 => Self::RateLimit,
            500..=599 => Self::Server,
            402..=499 => Self::Api,
            _ => Self::UnexpectedResponse,
        }
    }
}

impl Failure {
    /// Its kind.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Transport(TransportFault { kind, .. }) if kind.is_tls() => ErrorKind::Tls,
            Self::Transport(_) => ErrorKind::Transport,
            Self::Deadline { .. } | Self::Turn { .. } | Self::AcquireDeadline { .. } => ErrorKind::DeadlineExceeded,
            Self::Unexpected(_) | Self::Unsettled { .. } => ErrorKind::UnexpectedResponse,
            Self::Api(answer) => ErrorKind::of_status(answer.status),
            Self::Quota { .. } | Self::Acquire { .. } => ErrorKind::RateLimit,
            Self::Internal(_) => ErrorKind::Internal,
        }
    }

    /// Whether another attempt may succeed. The update is idempotent, so one that may have been applied is repeated too.
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Transport(fault) => !fault.kind.is_tls() && !matches!(fault.kind, TransportKind::ProxyPassword),
            Self::Deadline { whole_call, .. } => !*whole_call,
            Self::Api(answer) => matches!(answer.status, 408 | 429 | 500 | 502 | 503 | 504 | 520..=599),
            Self::Unexpected(_)
            | Self::Unsettled { .. }
            | Self::Quota { .. }
            | Self::Turn { .. }
            | Self::Acquire { .. }
            | Self::AcquireDeadline { .. }
            | Self::Internal(_) => false,
        }
    }

    /// Whether this is the service's own statement about the account, and not the answer of something in front of it, nor
    /// one about the key or the route. Only such an answer settles what becomes of an account.
    pub fn is_about_the_account(&self) -> bool {
        let Self::Api(answer) = self else { return false };
        let code = answer.problem.code.as_deref().unwrap_or_default();
        match answer.status {
            404 => code == "contactAccount.notFound",
            403 => code.starts_with("contactAccount."),
            400 | 409 | 412 | 413 | 422 => answer.is_problem || code.starts_with("contactAccount."),
            _ => false,
        }
    }

    /// Whether the connection broke before any answer. An idle one that the service has closed does, and a new one will not.
    pub(crate) const fn is_dropped_connection(&self) -> bool {
        matches!(self, Self::Transport(TransportFault { kind: TransportKind::Dropped, .. }))
    }

    /// How long to wait before the next attempt, as the service or the quota has it: at most thirty days, which stands for
    /// anything longer.
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Api(answer) => answer.retry_after,
            Self::Quota { retry_after, .. } => Some(*retry_after),
            _ => None,
        }
    }

    /// How long the service asks everybody to wait. It may come with any answer that another attempt may better.
    pub(crate) fn asked_to_wait(&self) -> Option<Duration> {
        match self {
            Self::Api(answer) if self.is_retryable() => answer.retry_after,
            _ => None,
        }
    }

    /// What this says about the update that the attempt carried. What is not known for certain is [`Delivery::Unknown`].
    pub(crate) fn delivery(&self) -> Delivery {
        match self {
            Self::Quota { .. }
            | Self::Turn { .. }
            | Self::Acquire { .. }
            | Self::AcquireDeadline { .. }
            | Self::Unsettled { .. }
            | Self::Internal(_) => Delivery::NotSent,
            Self::Transport(fault) if !fault.sent => Delivery::NotSent,
            Self::Transport(_) | Self::Deadline { .. } => Delivery::Unknown,
            Self::Api(answer) => Delivery::of_status(answer.status),
            Self::Unexpected(unexpected) => unexpected.status.map_or(Delivery::Unknown, Delivery::of_status),
        }
    }

    /// Whether the service may have done what was asked, although it did not say so.
    pub(crate) fn may_have_been_applied(&self) -> bool {
        self.delivery() == Delivery::Unknown
    }
}

impl Unexpected {
    fn is_html(&self) -> bool {
        self.excerpt.as_deref().is_some_and(|excerpt| excerpt.trim_start().starts_with('<'))
    }
}

impl Error {
    /// Its kind.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Configuration(_) => ErrorKind::Configuration,
            Self::Exhausted(_) => ErrorKind::Transport,
            Self::Validation { .. } => ErrorKind::Validation,
            Self::Call(error) => error.failure.kind(),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Call(error) => error.source(),
            Self::Exhausted(error) => Some(error),
            Self::Configuration(_) | Self::Validation { .. } => None,
        }
    }
}

impl StdError for CallError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.failure {
            Failure::Transport(TransportFault { source, .. }) | Failure::Acquire { source, .. } => {
                source.as_ref().map(|source| &**source as &(dyn StdError + 'static))
            }
            _ => None,
        }
    }
}
