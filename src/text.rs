//! Foreign text, made fit for a message.

use std::fmt::Write as _;

/// So many faults are in a message; how many more there are follows.
const FAULTS_SHOWN: usize = 10;

/// Several faults in one line.
pub(crate) fn listed<T>(faults: &[T], shown: impl Fn(&T) -> String) -> String {
    let first: Vec<String> = faults.iter().take(FAULTS_SHOWN).map(shown).collect();
    let mut line = first.join("; ");
    match faults.len().saturating_sub(FAULTS_SHOWN) {
        0 => {}
        more => {
            let _ = write!(line, "; and {} more", with_separators(more));
        }
    }
    line
}

/// A number as people read it: `10,000`.
pub(crate) fn with_separators(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Foreign text for a message: one line, at most `limit` characters, what cannot be printed escaped.
pub(crate) fn plain_line(text: &str, limit: usize) -> String {
    let mut line = String::new();
    for (count, character) in text.trim().chars().enumerate() {
        if count == limit {
            line.push('…');
            break;
        }
        if character.is_control()
            || matches!(character, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        {
            let _ = write!(line, "{}", character.escape_default());
        } else {
            line.push(character);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_numbers_are_written_with_separators() {
        assert_eq!(
            [0, 999, 1000, 10_000, 1_234_567].map(with_separators),
            ["0", "999", "1,000", "10,000", "1,234,567"]
        );
    }

    #[test]
    fn a_message_has_a_handful_of_faults_and_the_number_of_the_rest() {
        let faults: Vec<usize> = (0..1_012).collect();
        assert_eq!(listed(&faults[..2], ToString::to_string), "0; 1");
        assert_eq!(listed(&faults, ToString::to_string), "0; 1; 2; 3; 4; 5; 6; 7; 8; 9; and 1,002 more");
    }
}
