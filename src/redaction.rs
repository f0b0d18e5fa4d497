//! Finds a secret in a text of the other side, in any spelling.
//!
//! The text is decoded in layers: each layer removes the escapes of one kind (URLs, HTML, JSON) from the previous one.
//! Every layer is searched. A match is replaced at its position in the original text.

use std::collections::HashSet;
use std::ops::Range;

/// The replacement of the secret.
const REPLACEMENT: &str = "[key]";
/// The most levels of escaping. The time is linear in the text: there are at most 40 layers.
const MOST_LAYERS: u8 = 3;
/// A shorter secret is searched only as it is: in other letter cases, or with a space for a `+`, it may be an ordinary
/// word.
const SHORTEST_FOLDED: usize = 8;
/// A longer text is truncated. Messages show much less, and a truncated body is longer than what is kept.
const LONGEST_TEXT: usize = 60 << 10;
/// The longest usual spelling of one character, such as `\u002B` and `&amp;#43;`.
const LONGEST_CHARACTER: usize = 8;
/// The base64 or hexadecimal digits of a few characters may occur in any text.
const SHORTEST_ENCODED: usize = 8;
/// The longest escape: `&DiacriticalGrave;`, or a number with zeros before it.
const LONGEST_ESCAPE: usize = 24;

/// Removes a secret of visible ASCII from a text.
///
/// Finds the secret as it is, any eight or more consecutive characters of it, and the whole secret in base64 and in
/// hexadecimal, in upper and lower case, with spaces for `+`, and each of these with any of its characters escaped up
/// to three times for URLs, HTML and JSON (or JavaScript).
pub(crate) fn redacted(text: &str, secret: &str) -> String {
    let cut = up_to(text, LONGEST_TEXT);
    // The truncation may have left the beginning of the secret.
    let left = if cut.len() < text.len() { secret.len() * LONGEST_CHARACTER } else { 0 };
    let end = up_to(cut, cut.len().saturating_sub(left)).len();
    let text = cut;
    let mut found = Vec::new();
    search(&Layer::whole(text), &Wanted::of(secret), MOST_LAYERS, &mut found);
    found.sort_unstable_by_key(|range: &Range<usize>| range.start);
    let mut redacted = String::with_capacity(text.len());
    let mut done = 0;
    for range in found {
        // Two layers may have found the same match.
        if (done..end).contains(&range.start) {
            redacted.push_str(text.get(done..range.start).unwrap_or_default());
            redacted.push_str(REPLACEMENT);
        }
        done = done.max(range.end);
    }
    redacted.push_str(text.get(done..end).unwrap_or_default());
    redacted
}

/// Returns the first bytes of a text: this number, or a few less at a character boundary.
fn up_to(text: &str, length: usize) -> &str {
    (0..=length.min(text.len())).rev().find_map(|end| text.get(..end)).unwrap_or_default()
}

fn search(layer: &Layer, wanted: &Wanted, deeper: u8, found: &mut Vec<Range<usize>>) {
    wanted.search(layer, found);
    if deeper == 0 {
        return;
    }
    for escape in [address_escape, html_escape, script_escape] {
        if let Some(decoded) = layer.decoded(escape) {
            search(&decoded, wanted, deeper - 1, found);
        }
    }
}

/// The forms to search for.
struct Wanted {
    folds: bool,
    /// Eight consecutive characters of the secret, from each position.
    parts: HashSet<Vec<u8>>,
    /// The secret, and its hexadecimal digits.
    plain: Vec<String>,
    /// What its base64 contains.
    base64: Vec<String>,
}

impl Wanted {
    fn of(secret: &str) -> Self {
        let folds = secret.len() >= SHORTEST_FOLDED;
        let mut plain = vec![secret.to_owned()];
        let mut base64 = base64_cores(secret.as_bytes());
        if folds {
            plain.push(secret.bytes().flat_map(|byte| [byte >> 4, byte & 15]).filter_map(hex_digit).collect());
            plain.iter_mut().chain(&mut base64).for_each(|wanted| wanted.make_ascii_lowercase());
        }
        let parts = secret.to_ascii_lowercase().as_bytes().windows(SHORTEST_FOLDED).map(<[u8]>::to_vec).collect();
        Self { folds, parts, plain, base64 }
    }

    fn search(&self, layer: &Layer, found: &mut Vec<Range<usize>>) {
        let lower = if self.folds { layer.text.to_ascii_lowercase() } else { layer.text.clone() };
        // A form writes a space as a `+`, so a reader converts a `+` to a space.
        let spaced = if self.folds { lower.replace(' ', "+") } else { lower.clone() };
        let standard = lower.replace([' ', '-'], "+").replace('_', "/");
        let all = [(&self.plain, &lower), (&self.plain, &spaced), (&self.base64, &standard)];
        for (wanted, text) in all.into_iter().flat_map(|(wanted, text)| wanted.iter().map(move |one| (one, text))) {
            found.extend(text.match_indices(wanted).map(|(start, _)| layer.place(start..start + wanted.len())));
        }
        let mut runs: Vec<Range<usize>> = Vec::new();
        for (start, part) in lower.as_bytes().windows(SHORTEST_FOLDED).enumerate() {
            match runs.last_mut() {
                _ if !self.parts.contains(part) => {}
                Some(run) if start < run.end => run.end = start + part.len(),
                _ => runs.push(start..start + part.len()),
            }
        }
        found.extend(runs.into_iter().map(|run| layer.place(run)));
    }
}

fn hex_digit(value: u8) -> Option<char> {
    char::from_digit(value.into(), 16)
}

/// Returns what the base64 of any text with these bytes contains, for each of the three alignments.
fn base64_cores(bytes: &[u8]) -> Vec<String> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    (0..3_usize)
        .filter_map(|skip| bytes.get(skip..))
        .map(|aligned| {
            aligned
                .chunks_exact(3)
                .flat_map(|chunk| {
                    let group = chunk.iter().fold(0_u32, |group, byte| group << 8 | u32::from(*byte));
                    [18, 12, 6, 0]
                        .map(|shift| ALPHABET.get((group >> shift & 63) as usize).copied().unwrap_or_default())
                })
                .map(char::from)
                .collect::<String>()
        })
        .filter(|core| core.len() >= SHORTEST_ENCODED)
        .collect()
}

/// A text, with the position of each of its bytes in the original text.
struct Layer {
    text: String,
    /// One more than the bytes of the text: the last one is the end.
    places: Vec<usize>,
}

/// Returns the visible character of an escape at the beginning of a text, and its length.
type Escape = fn(&str) -> Option<(char, usize)>;

impl Layer {
    fn whole(text: &str) -> Self {
        Self { text: text.to_owned(), places: (0..=text.len()).collect() }
    }

    fn place(&self, range: Range<usize>) -> Range<usize> {
        let place = |at: usize| self.places.get(at).copied().unwrap_or_default();
        place(range.start)..place(range.end)
    }

    /// Returns the text without the escapes of one kind; `None` if it has none.
    fn decoded(&self, escape: Escape) -> Option<Self> {
        let mut decoded =
            Self { text: String::with_capacity(self.text.len()), places: Vec::with_capacity(self.places.len()) };
        let mut at = 0;
        while let Some(rest) = self.text.get(at..)
            && let Some(first) = rest.chars().next()
        {
            let (character, length) = escape(rest).unwrap_or((first, first.len_utf8()));
            decoded.text.push(character);
            decoded.places.extend((at..).take(character.len_utf8()).filter_map(|at| self.places.get(at)));
            at += length;
        }
        decoded.places.extend(self.places.last());
        (decoded.text.len() < self.text.len()).then_some(decoded)
    }
}

/// `%2B`, `%u002B`
fn address_escape(text: &str) -> Option<(char, usize)> {
    let rest = text.strip_prefix('%')?;
    match rest.strip_prefix(['u', 'U']) {
        Some(digits) => fixed(digits, 4, 2),
        None => fixed(rest, 2, 1),
    }
}

/// `\u002B`, `\u{2B}`, `\x2B`, `\/`
fn script_escape(text: &str) -> Option<(char, usize)> {
    let rest = text.strip_prefix('\\')?;
    let escape = if let Some(digits) = rest.strip_prefix("u{") {
        number(digits, 16)
            .filter(|(_, length)| digits.get(*length..).is_some_and(|end| end.starts_with('}')))
            .and_then(|(code, length)| visible(code, 3 + length + 1))
    } else if let Some(digits) = rest.strip_prefix(['u', 'U']) {
        fixed(digits, 4, 2)
    } else if let Some(digits) = rest.strip_prefix(['x', 'X']) {
        fixed(digits, 2, 2)
    } else {
        None
    };
    escape.or_else(|| visible(rest.chars().next().map(u32::from)?, 2))
}

/// `&#43;`, `&#x2B;`, `&plus;`. A browser also accepts a number without its `;`.
fn html_escape(text: &str) -> Option<(char, usize)> {
    let rest = text.strip_prefix('&')?;
    let Some(reference) = rest.strip_prefix('#') else {
        let beginning = rest.bytes().take(LONGEST_ESCAPE).position(|byte| byte == b';')?;
        let name = rest.get(..beginning)?;
        let (_, character) = ENTITIES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name))?;
        return Some((*character, 1 + beginning + 1));
    };
    let (digits, radix, before) = match reference.strip_prefix(['x', 'X']) {
        Some(digits) => (digits, 16, 3),
        None => (reference, 10, 2),
    };
    let (code, length) = number(digits, radix)?;
    let end = usize::from(digits.get(length..).is_some_and(|end| end.starts_with(';')));
    visible(code, before + length + end)
}

/// The HTML names of visible ASCII characters. A text in upper case has its names in upper case.
const ENTITIES: [(&str, char); 40] = [
    ("amp", '&'),
    ("apos", '\''),
    ("ast", '*'),
    ("bsol", '\\'),
    ("colon", ':'),
    ("comma", ','),
    ("commat", '@'),
    ("DiacriticalGrave", '`'),
    ("dollar", '$'),
    ("equals", '='),
    ("excl", '!'),
    ("grave", '`'),
    ("gt", '>'),
    ("Hat", '^'),
    ("lbrace", '{'),
    ("lbrack", '['),
    ("lcub", '{'),
    ("lowbar", '_'),
    ("lpar", '('),
    ("lsqb", '['),
    ("lt", '<'),
    ("midast", '*'),
    ("num", '#'),
    ("percnt", '%'),
    ("period", '.'),
    ("plus", '+'),
    ("quest", '?'),
    ("quot", '"'),
    ("rbrace", '}'),
    ("rbrack", ']'),
    ("rcub", '}'),
    ("rpar", ')'),
    ("rsqb", ']'),
    ("semi", ';'),
    ("sol", '/'),
    ("UnderBar", '_'),
    ("verbar", '|'),
    ("vert", '|'),
    ("VerticalLine", '|'),
    ("nbsp", ' '),
];

/// Returns a hexadecimal number with exactly this number of digits, and the text before it.
fn fixed(text: &str, digits: usize, before: usize) -> Option<(char, usize)> {
    let digits = text.get(..digits)?;
    let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let code = u32::from_str_radix(digits, 16).ok().filter(|_| is_hex)?;
    visible(code, before + digits.len())
}

/// Returns the number at the beginning of a text, and its number of digits.
fn number(text: &str, radix: u32) -> Option<(u32, usize)> {
    let length = text.bytes().take(LONGEST_ESCAPE).take_while(|byte| char::from(*byte).is_digit(radix)).count();
    Some((u32::from_str_radix(text.get(..length)?, radix).ok()?, length))
}

/// A secret has no other characters, so no other escape matters.
fn visible(code: u32, length: usize) -> Option<(char, usize)> {
    char::from_u32(code).filter(|character| matches!(character, ' '..='~')).map(|character| (character, length))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{LONGEST_TEXT, redacted};

    const KEY: &str = "canary+key/12345";

    #[test]
    fn an_echoed_key_is_found_in_every_spelling() {
        for echo in [
            "canary+key/12345",
            "CANARY+KEY/12345",
            "canary key/12345",
            "x=canary%2Bkey%2F12345&y",
            "x=canary%2bkey%2f12345&y",
            "x=canary%u002Bkey/12345",
            "x=canary%252Bkey%252F12345",
            "x=canary%25252Bkey%25252F12345",
            "%63anary%2Bkey/12345",
            "%2563%2561nary+key/12345",
            "canary&#x2B;key/12345",
            "canary&#43;key&#47;12345",
            "canary&#0043key&#x02f;12345",
            "canary&plus;key&sol;12345",
            "CANARY&#X2B;KEY&SOL;12345",
            "canary&nbsp;key/12345",
            "canary&amp;#43;key&amp;sol;12345",
            "canary\\u0026amp;#43;key/12345",
            r#"{"key": "canary+key\/12345"}"#,
            r#"{"key": "canary\u002bkey\/12345"}"#,
            r#"{"key": "canary\u{2b}key\\/12345"}"#,
            r#"{"key": "canary\\u002Bkey/12345"}"#,
            r"b'canary\x2bkey/12345'",
            "Y2FuYXJ5K2tleS8xMjM0NQ==",
            "QmVhcmVyIGNhbmFyeStrZXkvMTIzNDU=",
            "eGNhbmFyeStrZXkvMTIzNDU=",
            "Y2FuYXJ5K2tleS8xMjM0NQ%3D%3D",
            "63616e6172792b6b65792f3132333435",
            "0x63616E6172792B6B65792F3132333435",
        ] {
            let shown = redacted(echo, KEY);
            let lower = shown.to_lowercase();
            let left = ["canary", "key/", "hbmfye", "%63", "6172"].into_iter().find(|part| lower.contains(part));
            assert!(shown.contains("[key]") && left.is_none(), "{echo}: {shown}");
        }
        let url_safe = "???>>>???>>>";
        assert_eq!(redacted("Pz8_Pj4-Pz8_Pj4-", url_safe), "[key]");
        assert_eq!(redacted("Pz8/Pj4 Pz8/Pj4 ", url_safe), "[key]");
    }

    #[test]
    fn a_key_that_looks_like_an_escape_is_found() {
        let odd = "a%25\\b\\\\c-_d&amp;&#43;";
        assert_eq!(redacted(&format!("<{odd}>"), odd), "<[key]>");
        assert_eq!(redacted("<a%2525%5Cb%5C%5Cc-_d%26amp%3B%26%2343;>", odd), "<[key]>");
    }

    #[test]
    fn the_text_around_a_key_stays_as_it_came() {
        let text = "Grüße &amp; %20 \\n: canary%2Bkey%2F12345, canary+key/12345canary+key/12345 <ünï>";
        assert_eq!(redacted(text, KEY), "Grüße &amp; %20 \\n: [key], [key][key] <ünï>");
    }

    #[test]
    fn what_only_resembles_a_key_stays() {
        for harmless in ["nothing here", "", "canary", "100 % of \\u00 ünïcode %2 &# &; &#x;", "canary+"] {
            assert_eq!(redacted(harmless, KEY), harmless);
        }
        for (key, harmless) in [("Acme", "acme ACME 41636d65 QWNtZQ=="), ("a+b", "a b"), ("my-api-key", "my api key")] {
            assert_eq!(redacted(harmless, key), harmless);
        }
        assert_eq!(redacted("a short key: Acme", "Acme"), "a short key: [key]");
    }

    #[test]
    fn a_part_of_a_key_is_found_from_eight_characters_on() {
        for (text, shown) in [
            ("canary+key/1234", "[key]"),
            ("code=ary+key/12345.", "code=[key]."),
            ("CANARY%2BK!", "[key]!"),
            ("canary+k, key/12345", "[key], [key]"),
            ("canary+ key/123", "canary+ key/123"),
            ("abcdefghijklmnop", "abcdefghijklmnop"),
        ] {
            assert_eq!(redacted(text, KEY), shown);
        }
    }

    #[test]
    fn a_hostile_text_takes_no_longer_than_another() {
        let aaa = "a".repeat(4096);
        let almost = format!("{}b", "a".repeat(100));
        for (part, key) in [
            ("%25", KEY),
            ("&amp;", KEY),
            ("\\\\", KEY),
            ("%25&amp;\\", KEY),
            ("&#00000000000000000000000", KEY),
            ("canary+key/1234", KEY),
            ("a", aaa.as_str()),
            ("a", almost.as_str()),
            ("%61", almost.as_str()),
        ] {
            let text = part.repeat(2 * LONGEST_TEXT / part.len());
            let started = Instant::now();
            let shown = redacted(&text, key);
            assert!(shown.len() < LONGEST_TEXT);
            assert!(started.elapsed() < Duration::from_secs(20), "{part}: {:?}", started.elapsed());
        }
    }

    #[test]
    fn no_beginning_of_a_key_is_left_where_a_text_is_cut() {
        for before in (LONGEST_TEXT - 40..LONGEST_TEXT + 10).step_by(7) {
            let shown = redacted(&format!("{}{}", " ".repeat(before), "canary%2Bkey%2F12345"), KEY);
            assert!(!shown.contains("can"), "{before}");
        }
    }
}
