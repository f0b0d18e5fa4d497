//! Reads the service's quota from the headers of an answer. Pure.

use std::time::Duration;

use jiff::tz::Offset;

use crate::timestamp;

/// A longer time until a window opens is a mistake.
const LONGEST_RESET: u64 = 1_000_000;
/// A larger number is not a time until the reset, but the time of day of the reset in seconds since 1970.
const TIME_OF_DAY: u64 = 1_000_000_000;
/// The most windows to read from an answer.
const MOST_WINDOWS: usize = 8;

/// One window of the service's quota.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ServiceWindow {
    /// Its length.
    pub length: Option<Duration>,
    /// How many requests it allows.
    pub limit: Option<u32>,
    /// How many of them are left.
    pub remaining: u32,
    /// The time until all are available again.
    pub reset: Option<Duration>,
}

/// Returns the windows that an answer reports. `header` returns the text of a header by its name in lower case,
/// `time_of_day` is the time since 1970.
pub(crate) fn read<'a>(
    header: impl Fn(&'static str) -> Option<&'a str>,
    time_of_day: impl Fn() -> Duration,
) -> Vec<ServiceWindow> {
    let reset = |number: u64| {
        let seconds = if number < TIME_OF_DAY { number } else { number.saturating_sub(time_of_day().as_secs()) };
        (seconds <= LONGEST_RESET).then(|| Duration::from_secs(seconds))
    };
    if let Some(text) = header("ratelimit") {
        return structured(text, header("ratelimit-policy").unwrap_or_default(), reset);
    }
    let families = [
        ["ratelimit-remaining", "ratelimit-limit", "ratelimit-reset"],
        ["x-rate-limit-remaining", "x-rate-limit-limit", "x-rate-limit-reset"],
        ["x-ratelimit-remaining", "x-ratelimit-limit", "x-ratelimit-reset"],
    ];
    let windows = families.into_iter().filter_map(|[remaining, limit, ends]| {
        let limit = header(limit);
        let length = limit.and_then(|limit| parameter(limit, "w").or_else(|| period(limit))).map(Duration::from_secs);
        let ends = header(ends).and_then(|ends| whole(ends).and_then(reset).or_else(|| until(ends, time_of_day())));
        Some(ServiceWindow {
            remaining: count(header(remaining)?)?,
            length,
            limit: limit.filter(|limit| period(limit).is_none()).and_then(count),
            reset: ends.map(|ends| length.map_or(ends, |length| ends.min(length))),
        })
    });
    windows.collect()
}

/// Parses the windows of `RateLimit`, either each as an item (`"minute";r=40;t=12`) or one as members (`remaining=40,
/// reset=12`).
fn structured(text: &str, policy: &str, reset: impl Fn(u64) -> Option<Duration>) -> Vec<ServiceWindow> {
    let name = |item: &str| item.split(';').next().unwrap_or_default().trim().to_owned();
    if let Some(remaining) = member(text, "remaining") {
        return vec![ServiceWindow {
            length: parameter(policy, "w").map(Duration::from_secs),
            limit: member(text, "limit").and_then(|limit| u32::try_from(limit).ok()),
            remaining: u32::try_from(remaining).unwrap_or(u32::MAX),
            reset: member(text, "reset").and_then(reset),
        }];
    }
    let windows = text.split(',').take(MOST_WINDOWS).filter_map(|item| {
        let policy = policy.split(',').take(MOST_WINDOWS).find(|policy| name(policy) == name(item)).unwrap_or_default();
        Some(ServiceWindow {
            length: parameter(policy, "w").map(Duration::from_secs),
            limit: parameter(policy, "q").and_then(|limit| u32::try_from(limit).ok()),
            remaining: u32::try_from(parameter(item, "r")?).unwrap_or(u32::MAX),
            reset: parameter(item, "t").and_then(&reset),
        })
    });
    windows.collect()
}

/// Returns the number of a list member, such as `reset` in `limit=100, reset=5`.
fn member(text: &str, name: &str) -> Option<u64> {
    text.split(',').find_map(|member| number(member.trim().strip_prefix(name)?.trim_start().strip_prefix('=')?))
}

/// Returns the number of an item parameter, such as `t` in `"minute";r=40;t=12`.
fn parameter(item: &str, name: &str) -> Option<u64> {
    item.split(';').skip(1).find_map(|one| number(one.trim().strip_prefix(name)?.strip_prefix('=')?))
}

/// Returns the number at the beginning of a text.
fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    text.get(..digits)?.parse().ok()
}

/// Returns the number that a text is, and not that with which a date begins.
fn whole(text: &str) -> Option<u64> {
    let digits = text.trim().split(';').next().unwrap_or_default().trim();
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| number(digits))?
}

/// Returns the time until a date. Some services send the end of the window in this form.
fn until(date: &str, time_of_day: Duration) -> Option<Duration> {
    let moment = Offset::UTC.to_timestamp(timestamp::parse(date.trim())?).ok()?;
    let seconds = u64::try_from(moment.as_second()).ok()?.saturating_sub(time_of_day.as_secs());
    (seconds <= LONGEST_RESET).then(|| Duration::from_secs(seconds))
}

/// Returns the seconds of a period such as `1m`. Some services send it in place of the limit.
fn period(text: &str) -> Option<u64> {
    let text = text.trim();
    let seconds = match text.as_bytes().last()? {
        b's' => 1,
        b'm' => 60,
        b'h' => 3_600,
        b'd' => 86_400,
        _ => return None,
    };
    whole(text.get(..text.len() - 1)?)?.checked_mul(seconds)
}

fn count(text: &str) -> Option<u32> {
    number(text).and_then(|count| u32::try_from(count).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_764_370_000;

    fn windows(headers: &[(&str, &'static str)]) -> Vec<ServiceWindow> {
        let header = |name: &'static str| headers.iter().find(|(other, _)| *other == name).map(|(_, value)| *value);
        read(header, || Duration::from_secs(NOW))
    }

    fn window(length: Option<u64>, limit: Option<u32>, remaining: u32, reset: Option<u64>) -> ServiceWindow {
        let seconds = |count: Option<u64>| count.map(Duration::from_secs);
        ServiceWindow { length: seconds(length), limit, remaining, reset: seconds(reset) }
    }

    #[test]
    fn a_date_is_not_read_as_seconds_nor_a_period_as_a_limit() {
        let headers = [
            ("x-rate-limit-remaining", "0"),
            ("x-rate-limit-limit", "1m"),
            ("x-rate-limit-reset", "2025-11-28T22:46:52.0000000Z"),
        ];
        let window = ServiceWindow {
            remaining: 0,
            length: Some(Duration::from_secs(60)),
            limit: None,
            reset: Some(Duration::from_secs(12)),
        };
        assert_eq!(windows(&headers), [window]);
        let headers =
            |reset| [("x-rate-limit-remaining", "0"), ("x-rate-limit-limit", "100"), ("x-rate-limit-reset", reset)];
        for (reset, expected) in [("12", Some(12)), ("1764370012", Some(12)), ("2026-11-29", None), ("12 s", None)] {
            let found = windows(&headers(reset));
            assert_eq!((found[0].limit, found[0].reset), (Some(100), expected.map(Duration::from_secs)), "{reset}");
        }
    }

    #[test]
    fn every_form_is_read() {
        let expected = [window(None, Some(100), 40, Some(12))];
        for prefix in ["x-rate-limit", "x-ratelimit", "ratelimit"] {
            let (limit, remaining) = (format!("{prefix}-limit"), format!("{prefix}-remaining"));
            let reset = format!("{prefix}-reset");
            for value in ["12", "1764370012"] {
                let headers = [(&*limit, "100"), (&*remaining, "40"), (&*reset, value)];
                assert_eq!(windows(&headers), expected, "{prefix}");
            }
        }
        let both = [
            ("ratelimit", r#""minute";r=40;t=12, "hour";r=39;t=900"#),
            ("ratelimit-policy", r#""minute";q=100;w=60, "hour";q=3000;w=3600"#),
        ];
        let expected = [window(Some(60), Some(100), 40, Some(12)), window(Some(3600), Some(3000), 39, Some(900))];
        assert_eq!(windows(&both), expected);
        let older = [("ratelimit", "limit=100, remaining=40, reset=12"), ("ratelimit-policy", "100;w=60")];
        assert_eq!(windows(&older), [window(Some(60), Some(100), 40, Some(12))]);
        let with_length = [("ratelimit-limit", "100, 100;w=60"), ("ratelimit-remaining", "40")];
        assert_eq!(windows(&with_length), [window(Some(60), Some(100), 40, None)]);
    }

    #[test]
    fn what_cannot_be_read_says_nothing() {
        assert_eq!(windows(&[]), []);
        for text in ["", "many", "-1", "99999999999999999999", r#""minute";q=1"#, ",,;;=", "remaining=, limit"] {
            assert_eq!(windows(&[("x-rate-limit-remaining", text)]), [], "{text}");
            assert_eq!(windows(&[("ratelimit", text)]), [], "{text}");
        }
        let absurd = [("x-rate-limit-remaining", "0"), ("x-rate-limit-reset", "9999999"), ("x-rate-limit-limit", "x")];
        assert_eq!(windows(&absurd), [window(None, None, 0, None)]);
    }
}
