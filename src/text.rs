//! Makes foreign text safe to show.
//!
//! Texts from the service, a table, a plan file, a file name or the environment are foreign. Shown unchanged, such a
//! text could control a terminal (ESC, and U+009B with the same meaning), reorder neighboring text (bidirectional
//! overrides) or hide content that looks empty (zero-width characters, tags). Every such text goes through
//! [`safe_text`] before people see it, in Rust and in Python. Data for programs does not: it stays exact.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Joins letters of some scripts, and emoji.
const JOINERS: [char; 2] = ['\u{200c}', '\u{200d}'];
/// Selects the form of an emoji.
const EMOJI_FORMS: [char; 2] = ['\u{fe0e}', '\u{fe0f}'];

/// Makes foreign text safe for people: one line, at most `limit` characters (then `…`). Escapes characters that do not
/// print and are not plain white space as Python does in a literal: `\n`, `\x1b`, `\u202e`, `\U000e0041`. Replaces
/// every kind of space by a space.
///
/// Returns safe text unchanged, so calling it twice changes nothing.
pub(crate) fn safe_text(text: &str, limit: usize) -> Cow<'_, str> {
    one_line(text, limit, false)
}

/// [`safe_text`] for a value, of which people must see every character: escapes every space that is not a plain one,
/// doubles each backslash, and puts a text that begins or ends with white space in quotes, as in `"Oslo "`. So two
/// different values of the same characters never look the same.
#[cfg(any(feature = "python", test))]
pub(crate) fn exact_text(text: &str, limit: usize) -> Cow<'_, str> {
    let line = one_line(text, limit, true);
    // Otherwise, a text with these quotes would look the same.
    let has_quotes = text.len() > 1 && text.starts_with('"') && text.ends_with('"');
    if has_quotes || text.starts_with(' ') || text.ends_with(' ') { Cow::Owned(format!("\"{line}\"")) } else { line }
}

/// Returns bytes in hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Returns a text on one line. If it is exact, every space other than a plain one and every backslash is escaped, as in
/// a literal; otherwise every space becomes a plain one, and a backslash stays as it is.
pub(crate) fn one_line(text: &str, limit: usize, is_exact: bool) -> Cow<'_, str> {
    let shown = match text.char_indices().nth(limit) {
        Some((end, _)) => text.get(..end).unwrap_or_default(),
        None => text,
    };
    let whole = shown.len() == text.len();
    if whole && shown.bytes().all(|byte| matches!(byte, b' '..=b'~') && !(is_exact && byte == b'\\')) {
        return Cow::Borrowed(text);
    }
    let mut line = String::with_capacity(shown.len() + 8);
    let mut before = None;
    let mut characters = shown.chars().peekable();
    while let Some(character) = characters.next() {
        if is_exact && character == '\\' {
            line.push_str("\\\\");
        } else if is_visible(character) || joins(before, character, characters.peek().copied()) {
            line.push(character);
        } else if is_space(character) && !is_exact {
            line.push(' ');
        } else {
            escape(&mut line, character);
        }
        before = Some(character);
    }
    if !whole {
        line.push('…');
    }
    Cow::Owned(line)
}

/// [`safe_text`] without leading and trailing white space.
pub(crate) fn plain_line(text: &str, limit: usize) -> String {
    safe_text(text.trim(), limit).into_owned()
}

/// Returns whether a text shows nothing: it has only white space and characters for which fonts show nothing.
pub(crate) fn is_blank(text: &str) -> bool {
    text.chars().all(|character| character.is_whitespace() || is_ignorable(character))
}

/// Returns whether a text begins and ends with a visible ASCII character, as nearly every text does.
#[cfg(feature = "plan")]
pub(crate) fn has_plain_ends(text: &str) -> bool {
    let ends = text.as_bytes().first().zip(text.as_bytes().last());
    ends.is_some_and(|(first, last)| first.is_ascii_graphic() && last.is_ascii_graphic())
}

/// Returns whether a text begins or ends with white space or with a character for which fonts show nothing.
#[cfg(feature = "plan")]
pub(crate) fn has_hidden_ends(text: &str) -> bool {
    if has_plain_ends(text) {
        return false;
    }
    let is_hidden = |character: char| character.is_whitespace() || !is_visible(character);
    let mut last = text.chars().rev();
    text.starts_with(is_hidden) || last.next().is_some_and(|end| is_hidden(end) && !joins(last.next(), end, None))
}

/// Returns whether a character is visible, or changes only the look of the previous one.
fn is_visible(character: char) -> bool {
    match character {
        ' '..='~' => true,
        _ => !is_ignorable(character) && is_printable(character),
    }
}

/// Returns whether the standard library prints it unescaped after a letter: it is not a control or format character, a
/// separator, private or unassigned.
fn is_printable(character: char) -> bool {
    let mut bytes = [0; 5];
    bytes[0] = b'a';
    let length = 1 + character.encode_utf8(bytes.split_at_mut(1).1).len();
    let text = bytes.get(..length).and_then(|bytes| str::from_utf8(bytes).ok()).unwrap_or_default();
    text.escape_debug().nth(1) == Some(character)
}

/// The characters that Unicode calls default ignorable: fonts show nothing for them (DerivedCoreProperties.txt).
fn is_ignorable(character: char) -> bool {
    matches!(
        character,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fff8}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}'
    )
}

/// The spaces of Unicode within a line: category Zs.
fn is_space(character: char) -> bool {
    matches!(character, '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}')
}

/// Returns whether a joiner or an emoji form is where scripts and emoji need it: between two characters beyond ASCII,
/// or after one. Between Latin letters it could only hide.
fn joins(before: Option<char>, character: char, after: Option<char>) -> bool {
    let beyond = |other: Option<char>| other.is_some_and(|other| !other.is_ascii() && is_visible(other));
    // A joiner may follow an emoji form, as in the rainbow flag.
    let before_joiner = beyond(before) || before.is_some_and(|other| EMOJI_FORMS.contains(&other));
    (JOINERS.contains(&character) && before_joiner && beyond(after))
        || (EMOJI_FORMS.contains(&character) && (beyond(before) || is_keycap(before, after)))
}

/// Returns whether an emoji form is between a digit and its keycap.
fn is_keycap(before: Option<char>, after: Option<char>) -> bool {
    matches!(before, Some('0'..='9' | '#' | '*')) && after == Some('\u{20e3}')
}

fn escape(line: &mut String, character: char) {
    let _ = match (character, u32::from(character)) {
        ('\n', _) => line.write_str("\\n"),
        ('\r', _) => line.write_str("\\r"),
        ('\t', _) => line.write_str("\\t"),
        (_, code @ ..=0xff) => write!(line, "\\x{code:02x}"),
        (_, code @ ..=0xffff) => write!(line, "\\u{code:04x}"),
        (_, code) => write!(line, "\\U{code:08x}"),
    };
}

/// The most problems in a message, followed by the number of the others.
const FAULTS_SHOWN: usize = 10;

/// Formats problems so that they follow a colon: one in the same line, several in a line each.
pub(crate) fn listed<T>(faults: &[T], shown: impl Fn(&T) -> String) -> String {
    if let [fault] = faults {
        return format!(" {}", shown(fault));
    }
    let mut lines = String::new();
    for fault in faults.iter().take(FAULTS_SHOWN) {
        let _ = write!(lines, "\n  {}", shown(fault));
    }
    match faults.len().saturating_sub(FAULTS_SHOWN) {
        0 => {}
        more => {
            let _ = write!(lines, "\n  and {} more", with_separators(more));
        }
    }
    lines
}

/// Formats a number for people: `10,000`.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn safe(text: &str) -> String {
        safe_text(text, 1000).into_owned()
    }

    #[test]
    fn what_commands_a_terminal_is_escaped() {
        assert_eq!(safe("\u{1b}]0;owned\u{7}\u{1b}[2J"), "\\x1b]0;owned\\x07\\x1b[2J");
        assert_eq!(safe("\u{9b}31m\u{9d}0;\u{9c}\u{7f}\r\n\t\u{8}"), "\\x9b31m\\x9d0;\\x9c\\x7f\\r\\n\\t\\x08");
    }

    #[test]
    fn what_turns_or_hides_is_escaped() {
        for (text, expected) in [
            ("a\u{202e}gnp.exe", "a\\u202egnp.exe"),
            ("\u{2066}\u{2069}\u{200e}\u{61c}", "\\u2066\\u2069\\u200e\\u061c"),
            ("pay\u{200b}pal\u{200d}x\u{feff}", "pay\\u200bpal\\u200dx\\ufeff"),
            ("a\u{e0041}\u{e007f}", "a\\U000e0041\\U000e007f"),
            ("\u{2028}\u{2029}\u{ad}\u{e000}", "\\u2028\\u2029\\xad\\ue000"),
            ("\u{115f}\u{3164}\u{ffa0}\u{34f}", "\\u115f\\u3164\\uffa0\\u034f"),
            ("a\u{fe0f}b\u{e0100}\u{fe00}", "a\\ufe0fb\\U000e0100\\ufe00"),
            ("é\u{200d}\u{200d}é", "é\\u200d\\u200dé"),
            ("\u{200c}é\u{200c}", "\\u200cé\\u200c"),
        ] {
            assert_eq!(safe(text), expected);
        }
    }

    #[test]
    fn names_of_every_script_stay_as_they_are() {
        for text in [
            "Acme & Søn",
            "株式会社日立",
            "می\u{200c}خواهم",
            "क्\u{200d}ष",
            "👩\u{200d}💻 🏳\u{fe0f}\u{200d}🌈 ❤\u{fe0f} 1\u{fe0f}\u{20e3}",
            "e\u{301}",
            "שלום",
            "C:\\new\\table",
        ] {
            assert_eq!(safe(text), text);
        }
        assert_eq!(safe("日立\u{3000}製作所\u{a0}!"), "日立 製作所 !");
    }

    #[test]
    fn a_value_shows_every_space() {
        for (text, expected) in [
            ("Oslo ", "\"Oslo \""),
            ("  Oslo", "\"  Oslo\""),
            (" Oslo\u{a0}", "\" Oslo\\xa0\""),
            ("Oslo\u{a0}", "Oslo\\xa0"),
            ("Oslo\n", "Oslo\\n"),
            ("Oslo\u{200b}", "Oslo\\u200b"),
            ("10\u{202f}000", "10\\u202f000"),
            ("日立\u{3000}製作所", "日立\\u3000製作所"),
            ("\"Oslo \"", "\"\"Oslo \"\""),
            ("ООО \"Ромашка\"", "ООО \"Ромашка\""),
            ("Acme  AS", "Acme  AS"),
            ("", ""),
            ("\"", "\""),
            ("C:\\new", "C:\\\\new"),
            ("C:\new", "C:\\new"),
            ("AC\\DC ", "\"AC\\\\DC \""),
        ] {
            assert_eq!(exact_text(text, 1000), expected);
        }
        assert_eq!(exact_text("Oslo and Bergen ", 4), "\"Oslo…\"");
    }

    #[test]
    fn no_two_values_of_spaces_letters_and_backslashes_look_the_same() {
        let parts = ["a", " ", "\u{a0}", "\u{3000}", "\t", "\"", "\u{200b}", "é", "\\", "t", "xa0", "u200b"];
        let texts: Vec<String> = (0..parts.len().pow(4))
            .map(|number| (0..4).map(|place| parts[number / parts.len().pow(place) % parts.len()]).collect())
            .collect();
        let shown: std::collections::BTreeSet<_> = texts.iter().map(|text| exact_text(text, 1000)).collect();
        assert_eq!(shown.len(), texts.len());
    }

    #[test]
    #[cfg(feature = "plan")]
    fn ends_are_hidden_where_people_see_nothing() {
        for text in
            [" a", "a ", "a\u{a0}", "\u{3000}a", "a\n", "\ta", "a\u{200b}", "\u{feff}a", "é\u{200d}", "a\u{fe0f}"]
        {
            assert!(has_hidden_ends(text), "{text:?}");
        }
        for text in ["", "a", "a b", "a\u{a0}b", "❤\u{fe0f}", "1\u{fe0f}\u{20e3}", "e\u{301}", "株式会社"] {
            assert!(!has_hidden_ends(text), "{text:?}");
        }
    }

    #[test]
    fn long_text_is_cut_before_anything_else() {
        assert_eq!(safe_text("abcdef", 6), "abcdef");
        assert_eq!(safe_text("abcdefg", 6), "abcdef…");
        assert_eq!(safe_text("éé\u{1b}é", 3), "éé\\x1b…");
        assert_eq!(plain_line("  a\n b ", 9), "a\\n b");
    }

    #[test]
    fn of_all_characters_none_is_left_that_does_not_print_and_twice_is_once() {
        let all: String = ('\0'..=char::MAX).collect();
        let once = safe_text(&all, usize::MAX);
        assert_eq!(safe_text(&once, usize::MAX), once);
        assert!(once.chars().all(is_visible));
        for character in '\0'..=char::MAX {
            let shown = safe(&character.to_string());
            assert!(shown == character.to_string() || shown == " " || shown.starts_with('\\'), "{character:?}");
        }
    }

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
        assert_eq!(listed(&faults[..1], ToString::to_string), " 0");
        assert_eq!(listed(&faults[..2], ToString::to_string), "\n  0\n  1");
        let all = listed(&faults, ToString::to_string);
        assert_eq!(all.replace("\n  ", "; "), "; 0; 1; 2; 3; 4; 5; 6; 7; 8; 9; and 1,002 more");
    }
}
