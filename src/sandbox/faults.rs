//! Scripted faults: which request is affected, how often, and how.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};

/// A deliberate fault of the sandbox. The first matching fault in the list affects a request.
///
/// ```
/// use replyio::sandbox::{Applied, Fault, Response};
///
/// let lost_answer =
///     Fault { id: Some(4711), times: Some(1), reset: true, applied: Applied::Before, ..Fault::default() };
/// let overload = Fault { request: Some(3), response: Some(Response::status(503)?), ..Fault::default() };
/// # Ok::<(), replyio::sandbox::SandboxError>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Fault {
    /// Affects only the request with this number; the first one is 1. Default: any.
    pub request: Option<u64>,
    /// Affects only requests for this account. Default: any.
    pub id: Option<i64>,
    /// Affects only this method. Default: any.
    pub method: Option<Method>,
    /// The number of requests that it affects. Default: all that match.
    pub times: Option<u32>,
    /// Waits this long first. Default: no wait.
    pub delay: Duration,
    /// Sends this answer instead of the normal one.
    pub response: Option<Response>,
    /// Resets the connection (TCP RST): without an answer, or after the `cut`.
    pub reset: bool,
    /// Closes the connection (FIN) without an answer.
    pub close: bool,
    /// Ends the connection after this number of bytes of the body, although Content-Length announced all of them.
    pub cut: Option<usize>,
    /// Whether the request takes effect.
    pub applied: Applied,
}

/// Whether a request that a fault affects still takes effect.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Applied {
    /// Before the delay if the normal answer is sent, whole or cut; not at all if there is another one or none.
    #[default]
    Auto,
    /// Immediately, before the delay.
    Before,
    /// After the delay, even if the client has disconnected by then.
    Late,
    /// Not at all.
    Never,
}

/// The answer of a fault.
#[derive(Debug, Clone, Default)]
pub struct Response {
    /// The status, 200 to 999.
    pub status: StatusCode,
    /// The headers, including Content-Type.
    pub headers: HeaderMap,
    /// The body. Default: the problem details of the status; none for 401.
    pub body: Option<Bytes>,
}

impl Response {
    /// Returns the answer of a status, with its default body.
    ///
    /// # Errors
    /// Returns an error if the status is below 200 or above 999.
    pub fn status(status: u16) -> Result<Self, super::SandboxError> {
        match StatusCode::from_u16(status) {
            Ok(status) if !status.is_informational() => Ok(Self { status, ..Self::default() }),
            _ => Err(super::SandboxError::Option { name: "status", reason: "must be 200 to 999".to_owned() }),
        }
    }
}

impl Fault {
    fn fits(&self, number: u64, method: &Method, id: Option<i64>) -> bool {
        self.request.is_none_or(|request| request == number)
            && self.method.as_ref().is_none_or(|wanted| wanted == method)
            && self.id.is_none_or(|wanted| id == Some(wanted))
    }

    /// Returns whether no part of an answer is sent.
    pub(super) fn is_silent(&self) -> bool {
        self.close || (self.reset && self.cut.is_none())
    }

    /// Returns whether the normal answer is sent, whole or cut.
    pub(super) fn answers_truly(&self) -> bool {
        self.response.is_none() && !self.is_silent()
    }

    /// Returns when the request takes effect, with `Auto` resolved.
    pub(super) fn applied(&self) -> Applied {
        match self.applied {
            Applied::Auto if self.answers_truly() => Applied::Before,
            Applied::Auto => Applied::Never,
            chosen => chosen,
        }
    }
}

/// The remaining faults.
#[derive(Debug, Default)]
pub(super) struct Script(pub(super) Vec<Fault>);

impl Script {
    /// Returns the fault that affects a request, and counts it down.
    pub(super) fn hit(&mut self, number: u64, method: &Method, id: Option<i64>) -> Option<Fault> {
        let fault = self
            .0
            .iter_mut()
            .find(|fault| fault.times.is_none_or(|times| times > 0) && fault.fits(number, method, id))?;
        if let Some(times) = &mut fault.times {
            *times -= 1;
        }
        Some(fault.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_hits_only_what_it_names_and_only_so_often() {
        let fault = Fault { id: Some(1), method: Some(Method::PUT), times: Some(2), ..Fault::default() };
        let mut script = Script(vec![fault]);
        assert!(script.hit(1, &Method::GET, Some(1)).is_none());
        assert!(script.hit(2, &Method::PUT, Some(2)).is_none());
        assert!(script.hit(3, &Method::PUT, None).is_none());
        assert!(script.hit(4, &Method::PUT, Some(1)).is_some());
        assert!(script.hit(5, &Method::PUT, Some(1)).is_some());
        assert!(script.hit(6, &Method::PUT, Some(1)).is_none());
    }

    #[test]
    fn the_first_fault_that_fits_wins() {
        let third = Fault { request: Some(3), close: true, ..Fault::default() };
        let every = Fault { reset: true, ..Fault::default() };
        let mut script = Script(vec![third, every]);
        let hits: Vec<bool> =
            (1..=4).filter_map(|number| script.hit(number, &Method::GET, None)).map(|fault| fault.close).collect();
        assert_eq!(hits, [false, false, true, false]);
    }

    #[test]
    fn a_write_is_applied_where_its_true_answer_is_sent() {
        let applied = |fault: Fault| fault.applied();
        assert_eq!(applied(Fault { delay: Duration::from_secs(1), ..Fault::default() }), Applied::Before);
        assert_eq!(applied(Fault { cut: Some(3), ..Fault::default() }), Applied::Before);
        assert_eq!(applied(Fault { cut: Some(3), reset: true, ..Fault::default() }), Applied::Before);
        assert_eq!(applied(Fault { reset: true, ..Fault::default() }), Applied::Never);
        assert_eq!(applied(Fault { close: true, ..Fault::default() }), Applied::Never);
        assert_eq!(applied(Fault { response: Some(Response::default()), ..Fault::default() }), Applied::Never);
        assert_eq!(applied(Fault { close: true, applied: Applied::Before, ..Fault::default() }), Applied::Before);
    }

    #[test]
    fn a_status_below_200_is_no_answer() {
        assert!(Response::status(199).is_err());
        assert!(Response::status(1000).is_err());
        assert!(Response::status(520).is_ok());
    }
}
