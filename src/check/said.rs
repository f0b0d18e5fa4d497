//! Describes failures without any text of an answer. Pure.

use crate::client::Client;
use crate::error::{ApiFailure, Error, Failure, TransportKind, WaitReason, process_named};

/// The longest name or code to show.
const LONGEST: usize = 60;

/// What helps if the check cannot update an account because of the account.
pub(super) const ANOTHER_ACCOUNT: &str =
    "In Reply.io, create an account that has only a name and a stage, and run the check with its id.";

pub(super) fn failure_of(error: &Error) -> Option<&Failure> {
    if let Error::Call(call) = error { Some(&call.failure) } else { None }
}

/// Returns what kept the next request back, if the quota or the service did not allow it before the deadline.
pub(super) fn closed_quota(error: &Error) -> Option<WaitReason> {
    if let Some(Failure::Quota { reason, .. }) = failure_of(error) { Some(*reason) } else { None }
}

/// Returns what helps if the check sent no update because of an error.
pub(super) fn what_helps(error: &Error) -> &'static str {
    match failure_of(error) {
        Some(Failure::Quota { reason: WaitReason::PerMinute(_) | WaitReason::PerHour(_), .. }) => {
            "Run the check again when the quota has room for ten requests, or allow it more time with timeout=."
        }
        Some(Failure::Quota { .. }) => {
            "The service asks for pauses between requests. Run the check again when no other program sends requests as \
            this user. If the report is the same then, the service always asks for pauses, and the check cannot update \
            an account of this service."
        }
        Some(failure) if failure.is_about_the_account() => ANOTHER_ACCOUNT,
        _ => "Run the check again when this cause is gone.",
    }
}

/// Describes the failure of a request. The service's own text may contain values, so the description has only its
/// status and its code.
pub(super) fn failure(failure: &Failure, client: &Client) -> String {
    match failure {
        Failure::Api(answer) => match answer.problem.code.as_deref().filter(|code| is_plain(code, client)) {
            Some(code) => format!("the service answered {} ({code})", answer.status),
            None => format!("the service answered {}{}", answer.status, explained(answer)),
        },
        // The reason names a member and a type, never a value.
        Failure::Unexpected(unexpected) => match unexpected.status {
            Some(status) => {
                format!("this version cannot read the answer with status {status}: {}", unexpected.reason)
            }
            None => format!("this version cannot read the answer: {}", unexpected.reason),
        },
        Failure::Transport(fault) => transport(fault.kind).to_owned(),
        Failure::Deadline { whole_call: true, .. } => "no answer arrived within the timeout of the call".to_owned(),
        Failure::Deadline { .. } => "no answer arrived within the timeout of an attempt".to_owned(),
        Failure::Quota { .. } => "the quota allows no request within the timeout of the call".to_owned(),
        Failure::Apart { .. } => "the quota allows no update soon after a read of the account".to_owned(),
        Failure::Turn { process, .. } => {
            format!("another update of the account, by {}, did not finish in time", process_named(*process))
        }
        Failure::Acquire { .. } => "Quota(acquire=...) failed".to_owned(),
        Failure::AcquireDeadline { .. } => {
            "Quota(acquire=...) granted no request within the timeout of the call".to_owned()
        }
        Failure::Unsettled { reason } | Failure::Internal(reason) => reason.clone(),
    }
}

fn explained(answer: &ApiFailure) -> &'static str {
    match answer.status {
        _ if answer.is_page => ", with a web page such as a proxy or a gateway sends",
        403 if answer.is_problem => {
            ": the key lacks the scope contacts:read or contacts:write, or access to the account"
        }
        _ => "",
    }
}

const fn transport(kind: TransportKind) -> &'static str {
    match kind {
        TransportKind::Connect => "could not connect",
        TransportKind::Exhausted => "this process has no file descriptor left for a connection",
        TransportKind::OutOfDate => "the certificate is out of date, or the clock of this machine is wrong",
        TransportKind::Certificate => "the certificate is from an issuer that this machine does not trust",
        TransportKind::Tls => "the TLS handshake failed",
        TransportKind::Proxy => "the proxy did not open the connection",
        TransportKind::ProxyPassword => "the proxy requires a valid user name and password",
        TransportKind::Dropped => "the connection closed before an answer arrived",
        TransportKind::Broken => "the connection closed in the middle of the answer",
    }
}

/// Returns whether a name is safe to show: only letters, dots, dashes and underscores, and no part of the key.
pub(super) fn is_plain(name: &str, client: &Client) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphabetic() || matches!(byte, b'.' | b'_' | b'-');
    !name.is_empty() && name.len() <= LONGEST && name.bytes().all(fits) && client.without_key(name) == name
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::error::{Call, CallError, Operation};

    #[test]
    fn what_helps_fits_what_kept_the_update_back() {
        let error = |failure| {
            let call = Call { operation: Operation::Patch, id: Some(7) };
            let (attempts, elapsed) = (2, Duration::ZERO);
            Error::Call(Box::new(CallError { call, attempts, elapsed, may_have_been_applied: false, failure }))
        };
        let closed = |reason| error(Failure::Quota { retry_after: Duration::from_secs(9), reason });
        assert!(what_helps(&closed(WaitReason::PerMinute(4))).contains("timeout="));
        assert!(what_helps(&closed(WaitReason::RetryAfter)).contains("no other program sends requests"));
        assert_eq!(closed_quota(&closed(WaitReason::PerHour(4))), Some(WaitReason::PerHour(4)));
        let other = error(Failure::Internal("looks were too old".to_owned()));
        assert_eq!((what_helps(&other), closed_quota(&other)), ("Run the check again when this cause is gone.", None));
    }
}
