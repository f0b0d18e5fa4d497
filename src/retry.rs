//! Decides whether and when to retry. Pure: the caller passes the time and the random number.

use std::time::{Duration, SystemTime};

const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(20);
/// The longest Retry-After. No call lasts longer, and a caller who waits for it can calculate with the number.
pub(crate) const LONGEST_HINT: Duration = Duration::from_secs(30 * 86_400);

/// The facts about a failed attempt.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attempt {
    /// The number of the attempt, from 1.
    pub number: u32,
    /// The most attempts.
    pub allowed: u32,
    /// Whether the failure may be temporary.
    pub retryable: bool,
    /// Whether the connection broke before any answer, as an idle connection does that the service closed.
    pub dropped: bool,
    /// When the service asked to retry.
    pub hint: Option<Duration>,
    /// The time left for the call.
    pub time_left: Duration,
}

/// Returns how long to wait before the next attempt, or `None` to report the failure. The wait is
/// random, from zero to a limit that doubles from half a second to twenty seconds. If the service asks for a longer
/// wait, that one counts. A wait that exceeds the time left is not begun. A first attempt whose connection was dropped
/// says nothing about the service, so the second one follows immediately.
///
/// `random` is in `0.0..1.0`. A wait that the service asks for costs nothing of the budget.
pub(crate) fn decide(attempt: Attempt, budget: &mut Budget, random: f64) -> Option<Duration> {
    if !attempt.retryable || attempt.number >= attempt.allowed {
        return None;
    }
    let doublings = attempt.number.saturating_sub(1).min(16);
    let longest = FIRST_PAUSE.saturating_mul(1 << doublings).min(LONGEST_PAUSE);
    let jitter = match attempt {
        Attempt { dropped: true, number: 1, .. } => Duration::ZERO,
        _ => longest.mul_f64(random.clamp(0.0, 1.0)),
    };
    let wait = attempt.hint.map_or(jitter, |hint| hint.max(jitter));
    if wait >= attempt.time_left || (attempt.hint.is_none() && !budget.spend()) {
        return None;
    }
    Some(wait)
}

/// Limits the retries of one client over all its calls, so that an unavailable service does not get four times the
/// requests.
#[derive(Debug)]
pub(crate) struct Budget {
    retries: f64,
    filled_at: Duration,
}

impl Budget {
    const CAPACITY: f64 = 100.0;
    const PER_SECOND: f64 = 1.0;

    /// A full budget: a hundred retries, and one more every second.
    pub(crate) const fn new() -> Self {
        Self { retries: Self::CAPACITY, filled_at: Duration::ZERO }
    }

    /// Sets the time, measured from any fixed moment.
    pub(crate) fn refill(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.filled_at).as_secs_f64();
        self.retries = passed.mul_add(Self::PER_SECOND, self.retries).min(Self::CAPACITY);
        self.filled_at = self.filled_at.max(now);
    }

    fn spend(&mut self) -> bool {
        let enough = self.retries >= 1.0;
        if enough {
            self.retries -= 1.0;
        }
        enough
    }
}

/// Parses a Retry-After: seconds, or a date in any of the three HTTP forms, relative to the answer's own `Date` if it
/// has one, so that a wrong local clock does not matter. A date in the past is zero, and either form is at most
/// [`LONGEST_HINT`]; returns `None` for other texts.
pub(crate) fn retry_after(value: &str, answer_date: Option<&str>, clock: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(value.parse().map_or(LONGEST_HINT, Duration::from_secs).min(LONGEST_HINT));
    }
    let moment = httpdate::parse_http_date(value).ok()?;
    let now = answer_date.and_then(|date| httpdate::parse_http_date(date.trim()).ok()).unwrap_or(clock);
    Some(moment.duration_since(now).unwrap_or_default().min(LONGEST_HINT))
}

#[cfg(test)]
mod tests {
    use super::{Attempt, Budget, Duration, LONGEST_HINT, SystemTime, decide, retry_after};

    const FAILED: Attempt = Attempt {
        number: 1,
        allowed: 4,
        retryable: true,
        dropped: false,
        hint: None,
        time_left: Duration::from_secs(120),
    };

    fn decided(attempt: Attempt, random: f64) -> Option<Duration> {
        decide(attempt, &mut Budget::new(), random)
    }

    fn wait(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn the_pause_doubles_from_half_a_second_to_twenty() {
        let longest = |number| decided(Attempt { number, allowed: 100, ..FAILED }, 1.0);
        let expected = [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 20.0, 20.0];
        assert_eq!((1..=8).map(longest).collect::<Vec<_>>(), expected.map(|pause| Some(wait(pause))));
        assert_eq!(longest(99), Some(wait(20.0)));
    }

    #[test]
    fn the_jitter_is_full() {
        assert_eq!(decided(FAILED, 0.0), Some(wait(0.0)));
        assert_eq!(decided(FAILED, 0.5), Some(wait(0.25)));
    }

    #[test]
    fn a_dropped_connection_is_replaced_at_once_and_only_once() {
        let dropped = Attempt { dropped: true, ..FAILED };
        assert_eq!(decided(dropped, 1.0), Some(wait(0.0)));
        assert_eq!(decided(Attempt { number: 2, ..dropped }, 1.0), Some(wait(1.0)));
        assert_eq!(decided(Attempt { allowed: 1, ..dropped }, 1.0), None);
    }

    #[test]
    fn the_last_attempt_is_the_last() {
        assert_eq!(decided(Attempt { number: 4, ..FAILED }, 0.5), None);
        assert_eq!(decided(Attempt { allowed: 1, ..FAILED }, 0.5), None);
    }

    #[test]
    fn what_cannot_pass_is_not_repeated() {
        assert_eq!(decided(Attempt { retryable: false, ..FAILED }, 0.5), None);
    }

    #[test]
    fn a_hint_is_honored_in_full() {
        let hint = Some(Duration::from_secs(59));
        assert_eq!(decided(Attempt { hint, ..FAILED }, 0.5), Some(wait(59.0)));
        assert_eq!(decided(Attempt { hint: Some(Duration::ZERO), ..FAILED }, 0.5), Some(wait(0.25)));
    }

    #[test]
    fn a_wait_past_the_deadline_is_not_begun() {
        let hint = Some(Duration::from_secs(3600));
        assert_eq!(decided(Attempt { hint, ..FAILED }, 0.5), None);
        assert_eq!(decided(Attempt { time_left: Duration::from_millis(100), ..FAILED }, 0.5), None);
    }

    #[test]
    fn a_spent_budget_stops_retries_until_time_refills_it() {
        let mut budget = Budget::new();
        let waits = (0..150).filter(|_| decide(FAILED, &mut budget, 0.5).is_some()).count();
        assert_eq!(waits, 100);
        budget.refill(Duration::from_secs(10));
        let waits = (0..150).filter(|_| decide(FAILED, &mut budget, 0.5).is_some()).count();
        assert_eq!(waits, 10);
    }

    #[test]
    fn a_hint_is_free() {
        let mut budget = Budget::new();
        let hinted = Attempt { hint: Some(Duration::from_secs(1)), ..FAILED };
        assert!((0..1_000).all(|_| decide(hinted, &mut budget, 0.5) == Some(wait(1.0))));
    }

    #[test]
    fn retry_after_is_read_in_every_form() {
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        let clock = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let read = |value| retry_after(value, None, clock).map(|wait| wait.as_secs());
        assert_eq!(read("0"), Some(0));
        assert_eq!(read(" 3600 "), Some(3600));
        assert_eq!(read("Sun, 06 Nov 1994 08:50:37 GMT"), Some(60));
        assert_eq!(read("Sunday, 06-Nov-94 08:50:37 GMT"), Some(60));
        assert_eq!(read("Sun Nov  6 08:50:37 1994"), Some(60));
        assert_eq!(read("Sun, 06 Nov 1994 08:00:00 GMT"), Some(0));
        for unreadable in ["", "soon", "-5", "1.5", "0x10", "1 2"] {
            assert_eq!(read(unreadable), None, "{unreadable}");
        }
        let elsewhere = clock + Duration::from_secs(86_400);
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:50:37 GMT", Some(date), elsewhere), Some(Duration::from_secs(60)));
    }

    #[test]
    fn an_absurd_retry_after_is_cut_alike_in_every_form() {
        let clock = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        for absurd in [
            "2592001",
            "4294967296",
            "99999999999999999999999",
            "Fri, 31 Dec 9999 23:59:59 GMT",
            "Fri Dec 31 23:59:59 9999",
        ] {
            assert_eq!(retry_after(absurd, None, clock), Some(LONGEST_HINT), "{absurd}");
            let date = "Thu, 01 Jan 1970 00:00:00 GMT";
            assert_eq!(retry_after(absurd, Some(date), clock), Some(LONGEST_HINT), "{absurd}");
        }
    }
}
