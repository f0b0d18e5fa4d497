//! What the errors say: what failed, on which account, how often and how long, what the other side said, and what to do.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use super::{
    ApiFailure, Call, CallError, Error, ErrorKind, Failure, KeyOrigin, Operation, TransportKind, Unexpected, WaitReason,
};
use crate::text::listed;

const NOT_ABOUT_THE_ACCOUNT: &str = "this does not look like Reply.io's own answer about an account: check base_url, \
    which ends in /v3, and the network";
/// How messages name what the quota asks before each request.
const ACQUIRE: &str = "Quota(acquire=...)";
const FREE_DESCRIPTORS: &str =
    "close files and connections, or raise the limits of this process (ulimit -n, ulimit -u)";
const NOT_THE_SERVICE: &str =
    "this looks like a proxy's or a login page, not like Reply.io; check base_url and the network";

impl fmt::Display for Call {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = match self.operation {
            Operation::Update => "update",
            Operation::Patch => "patch",
            Operation::Get => "get",
            Operation::List => return formatter.write_str("list of accounts"),
        };
        match self.id {
            Some(id) => write!(formatter, "{verb} of account {id}"),
            None => write!(formatter, "{verb} of an account"),
        }
    }
}

impl fmt::Display for KeyOrigin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Argument => "api_key",
            Self::Environment => "REPLY_API_KEY",
        })
    }
}

impl fmt::Display for WaitReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PerMinute(limit) => write!(formatter, "the quota: {limit} requests a minute"),
            Self::PerHour(limit) => write!(formatter, "the quota: {limit} requests an hour"),
            Self::RetryAfter => formatter.write_str("the service's Retry-After"),
            Self::BackOff => formatter.write_str("the next attempt"),
            Self::Acquire => formatter.write_str(ACQUIRE),
        }
    }
}

impl Failure {
    /// What the caller can do about it.
    fn hint(&self, call: Call) -> Option<Cow<'static, str>> {
        let hint = match self {
            Self::Transport(fault) => match fault.kind {
                TransportKind::Connect => "check the network, base_url and, behind a company proxy, HTTPS_PROXY",
                TransportKind::Exhausted => FREE_DESCRIPTORS,
                TransportKind::OutOfDate => "check this machine's clock; if it is right, the server's owner has to act",
                TransportKind::Certificate => {
                    "a company's proxy may be in between; give its certificate authority as ca_file or SSL_CERT_FILE"
                }
                TransportKind::Tls => "check base_url and its port, and whether something else answers in its place",
                TransportKind::Proxy | TransportKind::ProxyPassword => {
                    "check proxy or HTTPS_PROXY, user and password included"
                }
                TransportKind::Dropped | TransportKind::Broken => return None,
            },
            Self::Deadline { whole_call: true, .. } | Self::Turn { .. } | Self::AcquireDeadline { .. } => {
                "give the call more time with timeout="
            }
            Self::Deadline { .. } => "give each attempt more time with attempt_timeout=",
            Self::Unexpected(Unexpected { status: Some(300..=399), .. }) => {
                "redirects are never followed; give the final address as base_url"
            }
            Self::Unexpected(Unexpected { status: Some(413), .. }) => {
                "the fields are too long for the service or for what stands between"
            }
            Self::Unexpected(unexpected) if unexpected.is_html() => NOT_THE_SERVICE,
            Self::Unexpected(_) => "check base_url; if it was Reply.io that answered, please report it",
            Self::Unsettled { .. } => "try again when fewer accounts are created and deleted",
            Self::Internal(_) | Self::Acquire { .. } => return None,
            Self::Quota { .. } => "call again then, or give the call more time with timeout=",
            Self::Api(answer) => return answer.hint(call),
        };
        Some(Cow::Borrowed(hint))
    }
}

impl ApiFailure {
    fn hint(&self, call: Call) -> Option<Cow<'static, str>> {
        if self.is_page && matches!(self.status, 400 | 401 | 403 | 409 | 412 | 422) {
            return Some(Cow::Borrowed(NOT_THE_SERVICE));
        }
        let hint = match ErrorKind::of_status(self.status) {
            ErrorKind::Authentication => {
                let place = match self.refused_key.unwrap_or_default() {
                    KeyOrigin::Argument => "given as api_key=",
                    KeyOrigin::Environment => "in REPLY_API_KEY",
                };
                let others = if self.problem.summary().is_some() { ", and act_as= and team_id=" } else { "" };
                return Some(Cow::Owned(format!("check the key {place}: wrong, cut short or revoked{others}")));
            }
            ErrorKind::PermissionDenied if call.operation.writes() => {
                "the key needs the scope contacts:write, and a right to this account"
            }
            ErrorKind::PermissionDenied => "the key needs the scope contacts:read, and a right to what is read",
            ErrorKind::NotFound if self.problem.code.is_none() && self.is_problem => {
                "the address may be wrong: check base_url, which ends in /v3"
            }
            ErrorKind::NotFound if self.problem.code.as_deref() != Some("contactAccount.notFound") => {
                NOT_ABOUT_THE_ACCOUNT
            }
            ErrorKind::NotFound => "list_contact_accounts() shows the accounts of this key",
            ErrorKind::Conflict => "get_contact_account() shows what the account is now",
            ErrorKind::RateLimit => match self.retry_after {
                Some(wait) => return Some(Cow::Owned(format!("the quota opens again in {}", rounded_up(wait)))),
                None => {
                    "100 requests a minute and 3,000 an hour are allowed for all programs of a user; try again later"
                }
            },
            ErrorKind::Server => "the service is failing, or one in front of it; try again later",
            _ => return None,
        };
        Some(Cow::Borrowed(hint))
    }
}

impl Failure {
    /// What there is to say beyond the first words.
    fn detail(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Deadline { last, .. } => {
                last.as_deref().map(|last| format!("the attempt before ended with {last}").into())
            }
            Self::Unexpected(unexpected) => Some(Cow::Borrowed(&unexpected.reason)),
            Self::Unsettled { reason } => Some(Cow::Borrowed(reason)),
            Self::Api(answer) => {
                let said = answer.problem.summary();
                said.filter(|said| !said.eq_ignore_ascii_case(reason(answer.status).unwrap_or_default()))
                    .map(Cow::Owned)
            }
            Self::Turn { .. } => {
                Some(Cow::Borrowed("it waited for another change of this account by this process to end"))
            }
            Self::AcquireDeadline { .. } => Some(format!("it waited for {ACQUIRE}").into()),
            Self::Acquire { reason, .. } => Some(Cow::Borrowed(reason)),
            Self::Transport(_) | Self::Quota { .. } | Self::Internal(_) => None,
        }
    }
}

impl fmt::Display for Failure {
    /// The first words: what failed, without what the other side said about it.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Transport(fault) => formatter.write_str(&fault.detail),
            Self::Deadline { limit, whole_call, .. } => {
                let what = if *whole_call { "the call" } else { "an attempt" };
                write!(formatter, "{what} took longer than its {} s", limit.as_secs_f64())
            }
            Self::Turn { limit } | Self::AcquireDeadline { limit } => {
                write!(formatter, "the call took longer than its {} s", limit.as_secs_f64())
            }
            Self::Acquire { .. } => write!(formatter, "{ACQUIRE} did not grant a request"),
            Self::Unexpected(unexpected) => match unexpected.status {
                Some(status) => write!(formatter, "unexpected response with status {status}"),
                None => formatter.write_str("unexpected response"),
            },
            Self::Unsettled { .. } => formatter.write_str("the list changes faster than it can be read"),
            Self::Api(answer) => {
                write!(formatter, "{}", answer.status)?;
                if let Some(reason) = reason(answer.status) {
                    write!(formatter, " {reason}")?;
                }
                answer.problem.code.as_ref().map_or(Ok(()), |code| write!(formatter, " ({code})"))
            }
            Self::Quota { retry_after, reason } => {
                write!(formatter, "it would wait {} for {reason}, past its time-out", rounded_up(*retry_after))
            }
            Self::Internal(what) => write!(formatter, "a fault of replyio itself ({what}); please report it"),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Configuration(message) => formatter.write_str(message),
            Self::Validation { call, errors } => {
                write!(formatter, "{call} refused before any request: ")?;
                formatter.write_str(&listed(errors, |error| format!("{} {}", error.field, error.message)))
            }
            Self::Exhausted(error) => write!(
                formatter,
                "no request was sent: the operating system refused what a call needs ({error}); hint: {FREE_DESCRIPTORS}"
            ),
            Self::Call(error) => error.fmt(formatter),
        }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.attempts == 1 { "" } else { "s" };
        write!(formatter, "{} failed: {}", self.call, self.failure)?;
        if self.attempts == 0 {
            formatter.write_str("; nothing was sent")?;
        } else {
            write!(formatter, " after {} attempt{plural} in {}", self.attempts, in_words(self.elapsed))?;
        }
        if let Some(detail) = self.failure.detail() {
            write!(formatter, ": {}", detail.trim_end_matches('.'))?;
        }
        if self.may_have_been_applied {
            let all = "; it may have been applied; sending it again is safe";
            let earlier = "; an earlier attempt may have been applied";
            formatter.write_str(if self.failure.may_have_been_applied() { all } else { earlier })?;
        }
        self.failure.hint(self.call).map_or(Ok(()), |hint| write!(formatter, "; hint: {hint}"))
    }
}

/// What a status is called.
fn reason(status: u16) -> Option<&'static str> {
    http::StatusCode::from_u16(status).ok().and_then(|code| code.canonical_reason())
}

/// A time that is to pass: whole seconds, or minutes, hours or days where it is long, and never too short.
fn rounded_up(time: Duration) -> String {
    let seconds = time.as_secs() + u64::from(time.subsec_nanos() > 0);
    match seconds {
        0..=120 => format!("{seconds} s"),
        121..=7_200 => format!("{} min", seconds.div_ceil(60)),
        7_201..=172_800 => format!("{} h", seconds.div_ceil(3_600)),
        172_801..=2_591_999 => format!("{} days", seconds.div_ceil(86_400)),
        _ => "30 days or more".to_owned(),
    }
}

/// A time as people say it: whole milliseconds while it is short, then seconds.
fn in_words(time: Duration) -> String {
    if time < Duration::from_millis(1) {
        "under 1 ms".to_owned()
    } else if time < Duration::from_millis(100) {
        format!("{} ms", time.as_millis())
    } else {
        format!("{:.1} s", time.as_secs_f64())
    }
}
