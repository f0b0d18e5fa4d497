//! Foreign text, made fit for a message.

use std::fmt::Write as _;

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
