//! The texts of the errors: what failed, for which account, after how many attempts and how long, what the other side
//! answered, and what to do.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use super::{
    ApiFailure, Call, CallError, Error, ErrorKind, Failure, KeyOrigin, Operation, REDIRECT, TransportKind, Unexpected,
    WaitReason,
};
use crate::text::listed;

const NOT_ABOUT_THE_ACCOUNT: &str = "this does not look like an answer from Reply.io about an account; check \
     base_url, which ends in /v3, and the network";
/// The name that messages use for the function that grants requests.
const ACQUIRE: &str = "Quota(acquire=...)";
const FREE_DESCRIPTORS: &str =
    "close files and connections, or raise the limits of this process (ulimit -n, ulimit -u)";
const NOT_THE_SERVICE: &str = "this looks like a page from a proxy or a login form, not like an answer from Reply.io; \
    check base_url and the network";

/// Returns the text of an error that replyio itself has caused.
pub(crate) fn internal_error(what: &str) -> String {
    format!("internal error in replyio ({what}); please report it")
}

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
            Self::PerMinute(limit) => write!(formatter, "quota: {limit} per minute"),
            Self::PerHour(limit) => write!(formatter, "quota: {limit} per hour"),
            Self::RetryAfter => formatter.write_str("Retry-After of the service"),
            Self::ServiceLimit => formatter.write_str("limit reported by the service"),
            Self::BackOff => formatter.write_str("pause before the next attempt"),
            Self::Turn => formatter.write_str("other updates of the account"),
            Self::Acquire => formatter.write_str(ACQUIRE),
        }
    }
}

impl Failure {
    /// Returns what the caller can do about it.
    fn hint(&self, call: Call) -> Option<Cow<'static, str>> {
        let hint = match self {
            Self::Transport(fault) => match fault.kind {
                TransportKind::Connect => "check the network, base_url and, behind a company proxy, HTTPS_PROXY",
                TransportKind::Exhausted => FREE_DESCRIPTORS,
                TransportKind::OutOfDate => {
                    "check this machine's clock; if it is right, the server's operator must replace the certificate"
                }
                TransportKind::Certificate => {
                    "a company proxy may intercept the connection; set ca_file or SSL_CERT_FILE to its certificate \
                    authority"
                }
                TransportKind::Tls => "check base_url and its port, and whether another server answers there",
                TransportKind::Proxy | TransportKind::ProxyPassword => {
                    "check proxy or HTTPS_PROXY, including the user name and password"
                }
                TransportKind::Dropped | TransportKind::Broken => return None,
            },
            Self::Deadline { whole_call: true, .. } | Self::Turn { .. } | Self::AcquireDeadline { .. } => {
                "allow the call more time with timeout="
            }
            Self::Deadline { .. } => "allow each attempt more time with attempt_timeout=",
            Self::Unexpected(Unexpected { status: Some(300..=399), reason, .. }) if reason == REDIRECT => {
                "replyio never follows redirects; set base_url to the final URL"
            }
            Self::Unexpected(Unexpected { status: Some(413), .. }) => {
                "the fields are too long for the service or for a proxy in front of it"
            }
            Self::Unexpected(unexpected) if unexpected.is_html() => NOT_THE_SERVICE,
            Self::Unexpected(_) => {
                "check base_url; if Reply.io sent this answer, look for a newer version of replyio, or report it"
            }
            Self::Unsettled { .. } => "try again when fewer accounts are created and deleted",
            Self::Internal(_) | Self::Acquire { .. } => return None,
            Self::Apart { .. } => {
                "change the account with plan_contact_account_updates(): a plan may send an update up to two minutes \
                after it has read the account"
            }
            Self::Quota { .. } => "call again after that, or allow the call more time with timeout=",
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
                    KeyOrigin::Argument => "passed as api_key=",
                    KeyOrigin::Environment => "in REPLY_API_KEY",
                };
                let others = if self.problem.summary().is_some() { "; also check act_as= and team_id=" } else { "" };
                let hint = format!("check the key {place}, which may be wrong, incomplete or revoked{others}");
                return Some(Cow::Owned(hint));
            }
            ErrorKind::PermissionDenied if call.operation.writes() => {
                "the key needs the scope contacts:write, and access to this account"
            }
            ErrorKind::PermissionDenied => "the key needs the scope contacts:read, and access to the data",
            ErrorKind::NotFound if self.problem.code.is_none() && self.is_problem => {
                "the URL may be wrong; check base_url, which ends in /v3"
            }
            ErrorKind::NotFound if self.problem.code.as_deref() != Some("contactAccount.notFound") => {
                NOT_ABOUT_THE_ACCOUNT
            }
            ErrorKind::NotFound => "list_contact_accounts() shows the accounts of this key",
            ErrorKind::Conflict => "get_contact_account() shows the current account",
            ErrorKind::RateLimit => match self.retry_after {
                Some(wait) => {
                    return Some(Cow::Owned(format!("the quota allows the next request in {}", rounded_up(wait))));
                }
                None => {
                    "all programs of a user together may send 100 requests per minute and 3,000 per hour; try again \
                    later"
                }
            },
            ErrorKind::Server => "the service, or a proxy in front of it, is failing; try again later",
            _ => return None,
        };
        Some(Cow::Borrowed(hint))
    }
}

impl Failure {
    /// Returns the details after the first words.
    fn detail(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Deadline { last, .. } => {
                last.as_deref().map(|last| format!("the previous attempt failed: {last}").into())
            }
            Self::Unexpected(unexpected) => Some(Cow::Borrowed(&unexpected.reason)),
            Self::Api(answer) => {
                let said = answer.problem.summary();
                said.filter(|said| !said.eq_ignore_ascii_case(reason(answer.status).unwrap_or_default()))
                    .map(Cow::Owned)
            }
            Self::Turn { process, .. } => {
                let process = process_named(*process);
                Some(format!("it waited for another update of this account by {process}").into())
            }
            Self::AcquireDeadline { .. } => Some(format!("it waited for {ACQUIRE}").into()),
            Self::Unsettled { reason } | Self::Acquire { reason, .. } => Some(Cow::Borrowed(reason)),
            Self::Transport(_) | Self::Quota { .. } | Self::Apart { .. } | Self::Internal(_) => None,
        }
    }
}

impl fmt::Display for Failure {
    /// Writes the first words: what failed, without the answer of the other side.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Transport(fault) => formatter.write_str(&fault.detail),
            Self::Deadline { limit, whole_call, .. } => {
                let what = if *whole_call { "the call" } else { "an attempt" };
                write!(formatter, "{what} took longer than its timeout of {} s", limit.as_secs_f64())
            }
            Self::Turn { limit, .. } | Self::AcquireDeadline { limit } => {
                write!(formatter, "the call took longer than its timeout of {} s", limit.as_secs_f64())
            }
            Self::Acquire { .. } => write!(formatter, "{ACQUIRE} did not grant a request"),
            Self::Unexpected(unexpected) => match unexpected.status {
                Some(status) => write!(formatter, "unexpected response with status {status}"),
                None => formatter.write_str("unexpected response"),
            },
            Self::Unsettled { .. } => formatter.write_str("the list changes faster than replyio can read it"),
            Self::Api(answer) => {
                write!(formatter, "{}", answer.status)?;
                if let Some(reason) = reason(answer.status) {
                    write!(formatter, " {reason}")?;
                }
                answer.problem.code.as_ref().map_or(Ok(()), |code| write!(formatter, " ({code})"))
            }
            Self::Quota { retry_after, reason } => {
                write!(
                    formatter,
                    "the next request is allowed in {} ({reason}), too late for this call's timeout",
                    rounded_up(*retry_after)
                )
            }
            Self::Apart { wait, reason } => {
                write!(
                    formatter,
                    "the quota allowed the update only {} after each read of its account ({reason}), and the account \
                    may have changed by then",
                    rounded_up(*wait)
                )
            }
            Self::Internal(what) => formatter.write_str(&internal_error(what)),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Configuration(message) => formatter.write_str(message),
            Self::Validation { call, errors } => {
                write!(formatter, "{call} refused before any request:")?;
                formatter.write_str(&listed(errors, |error| format!("{} {}", error.field, error.message)))
            }
            Self::Exhausted(error) => write!(
                formatter,
                "no request was sent: the operating system refused a resource that the call needs ({error}); hint: \
                {FREE_DESCRIPTORS}"
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

/// Returns the reason phrase of a status.
/// Names a process that changes an account: `None` is this one, 0 one that cannot be named.
pub(crate) fn process_named(process: Option<u32>) -> String {
    match process {
        None => "this process".to_owned(),
        Some(0) => "another process".to_owned(),
        Some(process) => format!("process {process}"),
    }
}

fn reason(status: u16) -> Option<&'static str> {
    http::StatusCode::from_u16(status).ok().and_then(|code| code.canonical_reason())
}

/// Formats a time to wait: seconds, or minutes, hours or days for longer times, rounded up.
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

/// Formats an elapsed time: milliseconds for short times, then seconds.
fn in_words(time: Duration) -> String {
    if time < Duration::from_millis(1) {
        "under 1 ms".to_owned()
    } else if time < Duration::from_millis(100) {
        format!("{} ms", time.as_millis())
    } else {
        format!("{:.1} s", time.as_secs_f64())
    }
}
