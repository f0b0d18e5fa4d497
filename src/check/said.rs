//! What failed, in words that hold nothing of an answer's text. Pure.

use crate::client::Client;
use crate::error::{ApiFailure, Failure, TransportKind};

/// The longest name or code that is shown.
const LONGEST: usize = 60;

/// What a request failed with. The service's own text may hold values, so that only its status and its code are said.
pub(super) fn failure(failure: &Failure, client: &Client) -> String {
    match failure {
        Failure::Api(answer) => match answer.problem.code.as_deref().filter(|code| is_plain(code, client)) {
            Some(code) => format!("the service answered {} ({code})", answer.status),
            None => format!("the service answered {}{}", answer.status, explained(answer)),
        },
        // The reason names a member and a type, and never a value.
        Failure::Unexpected(unexpected) => match unexpected.status {
            Some(status) => {
                format!("the answer with status {status} is not what this version reads: {}", unexpected.reason)
            }
            None => format!("the answer is not what this version reads: {}", unexpected.reason),
        },
        Failure::Transport(fault) => transport(fault.kind).to_owned(),
        Failure::Deadline { whole_call: true, .. } => {
            "there was no answer within the time limit of the call".to_owned()
        }
        Failure::Deadline { .. } => "there was no answer within the time limit of an attempt".to_owned(),
        Failure::Quota { .. } => "the rate limit leaves no time for it within the time limit of the call".to_owned(),
        Failure::Turn { .. } => "another change of the account by this process did not end in time".to_owned(),
        Failure::Acquire { .. } => "Quota(acquire=...) failed".to_owned(),
        Failure::AcquireDeadline { .. } => {
            "Quota(acquire=...) granted no request within the time limit of the call".to_owned()
        }
        Failure::Unsettled { reason } | Failure::Internal(reason) => reason.clone(),
    }
}

fn explained(answer: &ApiFailure) -> &'static str {
    match answer.status {
        _ if answer.is_page => ", with a page for people, as a proxy or a gateway writes it",
        403 if answer.is_problem => {
            ": the key lacks the scope contacts:read or contacts:write, or the right to the account"
        }
        _ => "",
    }
}

const fn transport(kind: TransportKind) -> &'static str {
    match kind {
        TransportKind::Connect => "no connection could be made",
        TransportKind::Exhausted => "this process has no file descriptor left for a connection",
        TransportKind::OutOfDate => "the certificate is out of date, or the clock of this machine is wrong",
        TransportKind::Certificate => "the certificate is from an issuer that this machine does not trust",
        TransportKind::Tls => "the TLS handshake failed",
        TransportKind::Proxy => "the proxy did not open the connection",
        TransportKind::ProxyPassword => "the proxy asks for a user and a password",
        TransportKind::Dropped => "the connection was closed before an answer",
        TransportKind::Broken => "the connection was closed inside the answer",
    }
}

/// Whether a name can be shown: letters, dots, dashes and underscores alone, as in a name that a programmer chose, and no
/// part of the key.
pub(super) fn is_plain(name: &str, client: &Client) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphabetic() || matches!(byte, b'.' | b'_' | b'-');
    !name.is_empty() && name.len() <= LONGEST && name.bytes().all(fits) && client.without_key(name) == name
}
