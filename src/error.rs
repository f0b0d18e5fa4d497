//! The errors, with everything that a caller needs to handle them. `messages` has their texts.

mod messages;

use std::borrow::Cow;
use std::error::Error as StdError;
use std::io;
use std::time::Duration;

#[cfg(feature = "plan")]
pub(crate) use self::messages::internal_error;
pub(crate) use self::messages::process_named;
use crate::account::FieldError;
use crate::problem::Problem;

/// The reason of an answer that names another URL.
pub(crate) const REDIRECT: &str = "a redirect, which would send the key to another address";

/// The beginning of the service's codes of problems with an account.
const CODES: &str = "contactAccount.";

/// An operation of the API.
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

/// An operation on an account: the subject of every message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Call {
    /// The operation.
    pub operation: Operation,
    /// The account, if there is one.
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
    /// The API contract does not allow the id or the fields. Nothing was sent.
    Validation {
        /// The call.
        call: Call,
        /// Every problem.
        errors: Vec<FieldError>,
    },
    /// The operating system has no thread, file descriptor or memory for the call. Nothing was sent.
    Exhausted(io::Error),
    /// The call failed.
    Call(Box<CallError>),
}

/// A call that failed.
#[derive(Debug)]
pub struct CallError {
    /// The call.
    pub call: Call,
    /// The number of attempts.
    pub attempts: u32,
    /// The time from the call to the error.
    pub elapsed: Duration,
    /// Whether any attempt sent an update and no answer confirmed it.
    pub may_have_been_applied: bool,
    /// The failure that ended the call.
    pub failure: Failure,
}

/// The failure that ends an attempt or a call.
#[derive(Debug)]
pub enum Failure {
    /// No answer arrived.
    Transport(TransportFault),
    /// The attempt or the whole call timed out.
    Deadline {
        /// The timeout.
        limit: Duration,
        /// Whether it is the timeout of the whole call.
        whole_call: bool,
        /// The failure of the previous attempt.
        last: Option<String>,
    },
    /// The answer does not match the API contract.
    Unexpected(Unexpected),
    /// The list changed while it was read, so that the pages do not show all of it. Nothing is wrong with the answers.
    Unsettled {
        /// How the pages show it. Never a value.
        reason: String,
    },
    /// The service returned an error.
    Api(Box<ApiFailure>),
    /// The quota opens after the deadline. Nothing was sent.
    Quota {
        /// The time until it opens.
        retry_after: Duration,
        /// Why it is closed.
        reason: WaitReason,
    },
    /// The update would have left too long after each read of its account. It was not sent.
    Apart {
        /// The time from the last read to the update.
        wait: Duration,
        /// Why it was so long.
        reason: WaitReason,
    },
    /// Another update of the same account by this machine lasted until the deadline. Nothing was sent after that.
    Turn {
        /// The timeout of the whole call.
        limit: Duration,
        /// The process that sent it; `None` for this one, 0 if it cannot be named.
        process: Option<u32>,
    },
    /// The [`Acquire`](crate::Acquire) of the quota failed. Nothing was sent after that.
    Acquire {
        /// The reason, in one line.
        reason: String,
        /// The error itself.
        source: Option<Box<dyn StdError + Send + Sync>>,
    },
    /// The [`Acquire`](crate::Acquire) of the quota granted no request before the deadline. Nothing was sent after
    /// that.
    AcquireDeadline {
        /// The timeout of the whole call.
        limit: Duration,
    },
    /// An internal error of this crate.
    Internal(String),
}

/// What a failed attempt says about its update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// It was not sent.
    NotSent,
    /// The service says that it was not applied.
    Refused,
    /// It was sent, and no answer of the service tells whether it was applied.
    Unknown,
}

/// Where the transport failed.
#[derive(Debug)]
pub struct TransportFault {
    /// The step.
    pub kind: TransportKind,
    /// Whether a connection existed, so that the request may have arrived.
    pub sent: bool,
    /// The description of the failure.
    pub detail: Cow<'static, str>,
    /// The underlying error.
    pub source: Option<Box<dyn StdError + Send + Sync>>,
}

/// The steps at which a transport fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TransportKind {
    /// The name did not resolve, or the connection failed.
    Connect,
    /// The connection failed because this process has no file descriptor left.
    Exhausted,
    /// The server's certificate is out of date, or this machine's clock is.
    OutOfDate,
    /// This machine does not trust the issuer of the server's certificate.
    Certificate,
    /// The handshake failed, the certificate is for another host, or the server closed the connection later.
    Tls,
    /// The proxy did not open the connection.
    Proxy,
    /// The proxy requires a user name and a password.
    ProxyPassword,
    /// The connection broke before the answer began, for example because the server closed an idle connection.
    Dropped,
    /// The connection broke in the middle of the answer.
    Broken,
}

impl TransportKind {
    const fn is_tls(self) -> bool {
        matches!(self, Self::OutOfDate | Self::Certificate | Self::Tls)
    }
}

/// An answer that does not match the API contract.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unexpected {
    /// The HTTP status, if there is one.
    pub status: Option<u16>,
    /// What is unexpected. Never contains a value.
    pub reason: String,
    /// The beginning of the body, escaped.
    pub excerpt: Option<String>,
}

/// An error that the service returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiFailure {
    /// The HTTP status.
    pub status: u16,
    /// The body, parsed as problem details.
    pub problem: Problem,
    /// The request id that the service assigned.
    pub request_id: Option<String>,
    /// How long the service asks to wait before a retry. At most thirty days, which stands for any longer time.
    pub retry_after: Option<Duration>,
    /// Whether a 401 asked for the bearer scheme.
    pub bearer_challenge: bool,
    /// Whether the content type is problem details, as in the service's own errors.
    pub is_problem: bool,
    /// Whether the body is a web page, which proxies send and the service does not.
    pub is_page: bool,
    /// Where the refused key came from.
    pub refused_key: Option<KeyOrigin>,
}

/// Where an API key came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum KeyOrigin {
    /// The caller passed it to the client.
    #[default]
    Argument,
    /// The client read it from the environment.
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
    /// A rate-limit header of the service reported that no request is left.
    ServiceLimit,
    /// The pause before the next attempt.
    BackOff,
    /// Others change the account of a row again and again.
    Turn,
    /// The quota's [`Acquire`](crate::Acquire) has not granted the request yet. Nobody knows how long that takes.
    Acquire,
}

enumerated! {
    /// The kinds of error, one for each exception class of the Python package.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub enum ErrorKind {
        /// A setting cannot be used.
        Configuration,
        /// Refused before any request.
        Validation,
        /// No answer arrived.
        Transport,
        /// The certificate or the handshake failed.
        Tls,
        /// Timeout.
        DeadlineExceeded,
        /// The answer does not match the API contract.
        UnexpectedResponse,
        /// Another 4xx that the service explains.
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
        /// An internal error of this crate.
        Internal,
    }
}

impl ErrorKind {
    /// Returns the kind of a status other than 200.
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
    /// Returns the kind.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Transport(TransportFault { kind, .. }) if kind.is_tls() => ErrorKind::Tls,
            Self::Transport(_) => ErrorKind::Transport,
            Self::Deadline { .. } | Self::Turn { .. } | Self::AcquireDeadline { .. } => ErrorKind::DeadlineExceeded,
            Self::Unexpected(_) | Self::Unsettled { .. } => ErrorKind::UnexpectedResponse,
            Self::Api(answer) => ErrorKind::of_status(answer.status),
            Self::Quota { .. } | Self::Apart { .. } | Self::Acquire { .. } => ErrorKind::RateLimit,
            Self::Internal(_) => ErrorKind::Internal,
        }
    }

    /// Returns whether a retry may succeed. The update is idempotent, so the client also retries one that may have been
    /// applied.
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Transport(fault) => !fault.kind.is_tls() && !matches!(fault.kind, TransportKind::ProxyPassword),
            Self::Deadline { whole_call, .. } => !*whole_call,
            Self::Api(answer) => matches!(answer.status, 408 | 429 | 500 | 502 | 503 | 504 | 520..=599),
            Self::Unexpected(_)
            | Self::Unsettled { .. }
            | Self::Quota { .. }
            | Self::Apart { .. }
            | Self::Turn { .. }
            | Self::Acquire { .. }
            | Self::AcquireDeadline { .. }
            | Self::Internal(_) => false,
        }
    }

    /// Returns whether this is the service's own answer about the account, not an answer of a proxy, nor one about the
    /// key or the route. Only such an answer decides the outcome of an account.
    pub fn is_about_the_account(&self) -> bool {
        let Self::Api(answer) = self else { return false };
        let code = answer.problem.code.as_deref().unwrap_or_default();
        match answer.status {
            404 => code == "contactAccount.notFound",
            403 => code.starts_with(CODES),
            400 | 409 | 412 | 413 | 422 => answer.is_problem || code.starts_with(CODES),
            _ => false,
        }
    }

    /// Returns whether the connection broke before any answer, as an idle connection does that the service closed. A
    /// new connection will not.
    pub(crate) const fn is_dropped_connection(&self) -> bool {
        matches!(self, Self::Transport(TransportFault { kind: TransportKind::Dropped, .. }))
    }

    /// Returns how long to wait before a retry, according to the service or the quota. At most thirty days, which
    /// stands for any longer time.
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Api(answer) => answer.retry_after,
            Self::Quota { retry_after, .. } => Some(*retry_after),
            _ => None,
        }
    }

    /// Returns how long the service asks all requests to wait. Any retryable answer may contain this.
    pub(crate) fn asked_to_wait(&self) -> Option<Duration> {
        match self {
            Self::Api(answer) if self.is_retryable() => answer.retry_after,
            _ => None,
        }
    }

    /// Returns what this failure says about the update of the attempt. Anything uncertain is [`Delivery::Unknown`].
    pub(crate) fn delivery(&self) -> Delivery {
        match self {
            Self::Quota { .. }
            | Self::Apart { .. }
            | Self::Turn { .. }
            | Self::Acquire { .. }
            | Self::AcquireDeadline { .. }
            | Self::Unsettled { .. }
            | Self::Internal(_) => Delivery::NotSent,
            Self::Transport(fault) if !fault.sent => Delivery::NotSent,
            Self::Api(answer) if answer.is_refusal() => Delivery::Refused,
            // A proxy may have replaced the answer to an update that the service applied.
            Self::Transport(_) | Self::Deadline { .. } | Self::Api(_) | Self::Unexpected(_) => Delivery::Unknown,
        }
    }

    /// Returns whether the service may have applied the request without confirming it.
    pub(crate) fn may_have_been_applied(&self) -> bool {
        self.delivery() == Delivery::Unknown
    }
}

impl ApiFailure {
    /// Returns whether the service itself refuses the request. A proxy can send the same status, even after the service
    /// has executed the request.
    fn is_refusal(&self) -> bool {
        let code = self.problem.code.as_deref();
        let is_from_service = self.is_problem || code.is_some_and(|code| code.starts_with(CODES));
        match self.status {
            // The service sends these without a body.
            401 | 429 => !self.is_page,
            // A gateway sends this if it stops waiting.
            408 => false,
            403 | 404 => is_from_service && code.is_some(),
            400..=499 => is_from_service,
            _ => false,
        }
    }
}

impl Unexpected {
    fn is_html(&self) -> bool {
        self.excerpt.as_deref().is_some_and(|excerpt| excerpt.trim_start().starts_with('<'))
    }
}

impl Error {
    /// Returns the kind.
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
