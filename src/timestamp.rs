//! Parses the known date forms of the service.

use jiff::civil;
use jiff::tz::Offset;
use jiff::{SignedDuration, Timestamp};

/// A [`Timestamp`] has a precision of nanoseconds; further digits are truncated.
const FRACTION_DIGITS: usize = 9;

/// Parses an ISO 8601 date and time with any number of fraction digits, with `Z`, with a numeric offset or with none,
/// which is UTC. Returns it in UTC. Returns `None` for other texts, and outside the years 1 to 9999 (the years of
/// Python).
///
/// A [`Timestamp`] ends a day before the end of the year 9999, so that no offset can exceed the year. .NET uses the
/// last moment of that year for "never": such a date is parsed ten days earlier and moved back. An offset that moves it
/// beyond the year leaves the last moment.
pub(crate) fn parse(text: &str) -> Option<civil::DateTime> {
    if let Some(moment) = parse_usual_form(text) {
        return Some(moment);
    }
    let exact = |text: &str| {
        let timestamp = text.parse::<Timestamp>().ok().or_else(|| parse_other_forms(text))?;
        Some(Offset::UTC.to_datetime(timestamp))
    };
    let moment = exact(text).or_else(|| Some(exact(&earlier(text)?)?.saturating_add(EARLIER)))?;
    (1..=9999).contains(&moment.year()).then_some(moment)
}

/// Parses the form that the service uses, such as `2026-09-08T12:08:22.58+00:00`, in a quarter of the time: a list has
/// two dates for each account. Returns `None` for anything else.
fn parse_usual_form(text: &str) -> Option<civil::DateTime> {
    let (seconds, rest) = text.as_bytes().split_at_checked("2026-09-08T12:08:22".len())?;
    let &[y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2, b'T', h1, h2, b':', n1, n2, b':', s1, s2] = seconds else {
        return None;
    };
    let number = |digits: &[u8]| {
        digits
            .iter()
            .try_fold(0_i32, |number, digit| digit.is_ascii_digit().then(|| number * 10 + i32::from(digit - b'0')))
    };
    let part = |first, second| number(&[first, second]).and_then(|number| i8::try_from(number).ok());
    let year = number(&[y1, y2, y3, y4]).and_then(|year| i16::try_from(year).ok()).filter(|year| *year > 0)?;
    let rest = rest.strip_suffix(b"Z").or_else(|| rest.strip_suffix(b"+00:00"))?;
    let nanosecond = match rest {
        [] => 0,
        [b'.', digits @ ..] if (1..=FRACTION_DIGITS).contains(&digits.len()) => {
            let missing = u32::try_from(FRACTION_DIGITS - digits.len()).ok()?;
            number(digits)? * 10_i32.pow(missing)
        }
        _ => return None,
    };
    let second = part(s1, s2)?;
    civil::DateTime::new(year, part(m1, m2)?, part(d1, d2)?, part(h1, h2)?, part(n1, n2)?, second, nanosecond).ok()
}

/// How much earlier the date is that [`earlier`] returns.
const EARLIER: SignedDuration = SignedDuration::from_hours(10 * 24);

/// Returns the same text ten days earlier, if it is on one of the last two possible days.
fn earlier(text: &str) -> Option<String> {
    let rest = text.strip_prefix("9999-12-3")?;
    rest.starts_with(['0', '1']).then(|| format!("9999-12-2{rest}"))
}

/// Parses what is not a complete timestamp: too many digits, or no offset.
fn parse_other_forms(text: &str) -> Option<Timestamp> {
    let shortened;
    let text = match long_fraction(text) {
        Some((keep, resume)) => {
            shortened = [text.get(..keep)?, text.get(resume..)?].concat();
            shortened.as_str()
        }
        None => text,
    };
    if !text.contains(['T', 't', ' ']) {
        return None;
    }
    let without_offset = || Offset::UTC.to_timestamp(text.parse::<civil::DateTime>().ok()?).ok();
    text.parse::<Timestamp>().ok().or_else(without_offset)
}

/// Returns where the digits to truncate begin and end, if there are too many.
fn long_fraction(text: &str) -> Option<(usize, usize)> {
    let start = text.find(['.', ','])? + 1;
    let digits = text.get(start..)?.bytes().take_while(u8::is_ascii_digit).count();
    (digits > FRACTION_DIGITS).then_some((start + FRACTION_DIGITS, start + digits))
}

#[cfg(test)]
mod tests {
    use super::{Offset, Timestamp, civil, parse, parse_usual_form};

    fn shown(text: &str) -> Option<String> {
        parse(text).map(|moment| format!("{moment}Z"))
    }

    #[test]
    fn every_form_in_the_contract_is_read() {
        for (text, expected) in [
            ("2023-11-07T05:31:56Z", "2023-11-07T05:31:56Z"),
            ("2026-09-08T12:08:22.58+00:00", "2026-09-08T12:08:22.58Z"),
            ("2026-09-08T12:08:22.58", "2026-09-08T12:08:22.58Z"),
            ("2026-09-08T14:08:22+02:00", "2026-09-08T12:08:22Z"),
            ("2026-09-08T12:08:22.1234567Z", "2026-09-08T12:08:22.1234567Z"),
            ("2026-09-08T12:08:22.123456789012345Z", "2026-09-08T12:08:22.123456789Z"),
            ("0001-01-01T00:00:00", "0001-01-01T00:00:00Z"),
        ] {
            assert_eq!(shown(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn the_usual_form_is_read_as_any_other() {
        let days = [
            "0001-01-01",
            "0000-01-01",
            "1969-12-31",
            "2024-02-29",
            "2023-02-29",
            "2026-13-01",
            "9999-12-31",
            "2x26-01-01",
        ];
        let times = ["00:00:00", "23:59:59", "23:59:60", "24:00:00", "12:08:2", "12:60:00", "-2:00:00"];
        let fractions = ["", ".", ".5", ".58", ".000000001", ".999999999", ".9999999999", ".5x", ",5"];
        let mut count = 0;
        for (day, time) in days.iter().flat_map(|day| times.iter().map(move |time| (day, time))) {
            for (fraction, offset) in
                fractions.iter().flat_map(|each| ["Z", "+00:00", "", "z", "+02:00"].map(|offset| (each, offset)))
            {
                let text = format!("{day}T{time}{fraction}{offset}");
                if let Some(moment) = parse_usual_form(&text) {
                    count += 1;
                    let expected = text.parse::<Timestamp>().ok().map(|moment| Offset::UTC.to_datetime(moment));
                    let is_beyond = expected.is_none() && text.starts_with("9999-12-31");
                    assert!(expected == Some(moment) || is_beyond, "{text}: {moment}, {expected:?}");
                }
            }
        }
        assert_eq!(count, 4 * 2 * 5 * 2, "{count} texts have the usual form");
    }

    #[test]
    fn the_last_days_of_the_year_9999_are_read_exactly() {
        for (text, expected) in [
            ("9999-12-31T23:59:59.9999999", "9999-12-31T23:59:59.9999999Z"),
            ("9999-12-31T23:59:59.9999999Z", "9999-12-31T23:59:59.9999999Z"),
            ("9999-12-31T23:59:59.9999999+00:00", "9999-12-31T23:59:59.9999999Z"),
            ("9999-12-31T00:00:00Z", "9999-12-31T00:00:00Z"),
            ("9999-12-31t00:00:00z", "9999-12-31T00:00:00Z"),
            ("9999-12-31T10:00:00+14:00", "9999-12-30T20:00:00Z"),
            ("9999-12-31T10:00:00-02:00", "9999-12-31T12:00:00Z"),
            ("9999-12-30T22:00:01Z", "9999-12-30T22:00:01Z"),
            ("9999-12-30T22:00:00Z", "9999-12-30T22:00:00Z"),
            ("9999-12-29T23:59:59Z", "9999-12-29T23:59:59Z"),
        ] {
            assert_eq!(shown(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn an_offset_that_leads_beyond_the_year_9999_gives_its_last_moment() {
        assert_eq!(parse("9999-12-31T23:59:59.9999999999999-14:00"), Some(civil::DateTime::MAX));
    }

    #[test]
    fn anything_else_is_not_a_date() {
        for text in ["", "yesterday", "2023-13-07T05:31:56Z", "2023-11-07", "1699335116", "0000-01-01T00:00:00Z"] {
            assert_eq!(shown(text), None, "{text}");
        }
        for text in ["9999-12-32T00:00:00Z", "9999-12-3", "9999-12-31", "9999-12-31Tx", "10000-01-01T00:00:00Z"] {
            assert_eq!(shown(text), None, "{text}");
        }
    }
}
