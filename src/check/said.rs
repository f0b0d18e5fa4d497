//! Describes failures without any text of an answer. Pure.

use crate::client::Client;
use crate::error::{ApiFailure, Failure, TransportKind};

/// The longest name or code to show.
const LONGEST: usize = 60;

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
        Failure::Turn { .. } => "another update of the account by this process did not finish in time".to_owned(),
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
        TransportKind::ProxyPassword => "the proxy requires a user name and a password",
        TransportKind::Dropped => "the connection closed before an answer arrived",
        TransportKind::Broken => "the connection closed in the middle of the answer",
    }
}

/// Returns whether a name is safe to show: only letters, dots, dashes and underscores, and no part of the key.
pub(super) fn is_plain(name: &str, client: &Client) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphabetic() || matches!(byte, b'.' | b'_' | b'-');
    !name.is_empty() && name.len() <= LONGEST && name.bytes().all(fits) && client.without_key(name) == name
}
