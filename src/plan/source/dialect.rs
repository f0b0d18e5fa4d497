//! The format of a file of separated values: encoding, delimiter, and the line that names the delimiter for Excel.

use super::names::shown;
use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, Read, Seek, SeekFrom};

use encoding_rs::{Encoding, UTF_8, UTF_16BE};

use super::Options;
use super::names::{Role, role_of};
use super::records::{RecordError, Records};
use crate::text::with_separators;

/// The possible delimiters.
const DELIMITERS: [u8; 4] = [b',', b';', b'\t', b'|'];

/// The result of reading the beginning of a file.
pub(super) struct Head {
    pub(super) delimiter: u8,
    /// The number of bytes before the first line of the table.
    pub(super) skipped: usize,
}

/// Returns the text of a file without its byte order mark. Reads a file in another encoding than UTF-8 as a whole.
pub(super) fn decoded(mut file: File, options: &Options) -> Result<Box<dyn BufRead>, RecordError> {
    let io = RecordError::Io;
    let mut mark = Vec::new();
    file.by_ref().take(3).read_to_end(&mut mark).map_err(io)?;
    let marked = Encoding::for_bom(&mark);
    let start = marked.map_or(0, |(_, length)| length as u64);
    file.seek(SeekFrom::Start(start)).map_err(io)?;
    let named = match &options.encoding {
        Some(label) => Some(encoding(label).map_err(|reason| RecordError::Line(0, format!("encoding= {reason}")))?),
        None => None,
    };
    // In Python, this name leaves the order of the bytes to the mark.
    let names_both = options.encoding.as_deref().is_some_and(|label| python_name(label) == "utf-16");
    let encoding = match (marked, named) {
        (Some((marked, _)), Some(named)) if marked != named && !(names_both && marked == UTF_16BE) => {
            let (marked, named) = (marked.name(), named.name());
            return Err(RecordError::Line(
                0,
                format!("the byte order mark of the file says {marked}, but encoding= says {named}"),
            ));
        }
        (Some((encoding, _)), _) | (None, Some(encoding)) => encoding,
        (None, None) => UTF_8,
    };
    if encoding == UTF_8 {
        return Ok(Box::new(BufReader::new(file)));
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(io)?;
    if encoding.is_ascii_compatible()
        && !bytes.is_ascii()
        && let Some((line, reason)) = contradiction(&bytes, encoding)
    {
        return Err(RecordError::Line(line, reason));
    }
    let text = encoding.decode_without_bom_handling_and_without_replacement(&bytes);
    let text = text.ok_or_else(|| RecordError::Line(0, format!("the file is not valid {}", encoding.name())))?;
    Ok(Box::new(Cursor::new(text.into_owned())))
}

/// Returns what shows that a file beyond ASCII does not have the encoding that was named, with the line, or 0 for the
/// whole file. Most sequences of bytes are valid in such an encoding, so letters of another one would become other
/// letters.
fn contradiction(bytes: &[u8], encoding: &'static Encoding) -> Option<(u64, String)> {
    let named = encoding.name().to_lowercase();
    // Text in such an encoding is hardly ever valid UTF-8.
    if std::str::from_utf8(bytes).is_ok() {
        return Some((0, format!("the file is valid UTF-8, but encoding= says {named}; remove encoding=")));
    }
    let beyond_ascii = || lines(bytes).filter(|(_, line)| !line.is_ascii());
    let of_utf8 = |is_valid: bool| {
        let numbers = beyond_ascii().filter(move |(_, line)| std::str::from_utf8(line).is_ok() == is_valid);
        numbers.map(|(number, _)| number)
    };
    if encoding.is_single_byte() && of_utf8(true).next().is_some() {
        let (valid, others) = (in_words(of_utf8(true)), in_words(of_utf8(false)));
        let reason = format!(
            "the file has two encodings: {valid} valid UTF-8, but {others} not; save each part as UTF-8 \
             before you join them, or correct these lines in an editor and save the file as UTF-8"
        );
        return Some((0, reason));
    }
    let is_decoded = |line: &[u8]| {
        // The web's decoders turn a byte that an encoding does not have into a control character of the same number.
        let is_undefined = |character: char| matches!(character, '\u{80}'..='\u{9f}');
        let text = encoding.decode_without_bom_handling_and_without_replacement(line);
        text.is_some_and(|text| !text.chars().any(is_undefined))
    };
    let (line, _) = beyond_ascii().find(|(_, line)| !is_decoded(line))?;
    let reason = format!(
        "has bytes that {named} does not have, so the file has another encoding; save it as UTF-8, as a file from \
         MS-DOS must be, or set the encoding that it has, such as encoding=\"macintosh\" for a file from an old Mac"
    );
    Some((line, reason))
}

/// Returns the lines of a file with their numbers, as an editor counts them.
fn lines(bytes: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    let (mut number, mut after_carriage_return) = (0, false);
    bytes.split_inclusive(|byte| matches!(byte, b'\r' | b'\n')).map(move |line| {
        number += u64::from(!(after_carriage_return && line == b"\n"));
        after_carriage_return = line.ends_with(b"\r");
        (number, line)
    })
}

/// Returns the subject and the verb of a sentence about lines: the first few, and how many there are.
fn in_words(mut lines: impl Iterator<Item = u64>) -> String {
    let first: Vec<String> = lines.by_ref().take(3).map(|line| line.to_string()).collect();
    match (first.as_slice(), lines.count()) {
        ([line], _) => format!("line {line} is"),
        ([before @ .., last], 0) => format!("lines {} and {last} are", before.join(", ")),
        (_, more) => format!("lines {} and {} more are", first.join(", "), with_separators(more)),
    }
}

fn python_name(name: &str) -> String {
    name.trim().replace('_', "-").to_ascii_lowercase()
}

fn encoding(name: &str) -> Result<&'static Encoding, String> {
    let name = python_name(name);
    let label = match name.as_str() {
        // Every ASCII file is one in UTF-8. As a label of the web, the name means windows-1252.
        "ascii" | "us-ascii" | "utf-8-sig" => "utf-8",
        "latin-1" => "latin1",
        "mac-roman" => "macintosh",
        other => other,
    };
    let known = Encoding::for_label_no_replacement(label.as_bytes());
    known.ok_or_else(|| UNKNOWN_ENCODING.to_owned())
}

/// Checks the name of an encoding.
///
/// # Errors
/// Returns what is expected, if there is no such encoding.
pub fn check_encoding(name: &str) -> Result<(), String> {
    encoding(name).map(drop)
}

/// Detects the delimiter of a file. Returns an error if there are two possibilities.
pub(super) fn of_head(head: &[u8], is_tsv: bool, options: &Options) -> Result<Head, String> {
    let (said, skipped) = sep_line(head).map_or((None, 0), |(delimiter, length)| (Some(delimiter), length));
    let head = head.get(skipped..).unwrap_or_default();
    let given = options.delimiter;
    let delimiter = match (given, said) {
        (Some(given), Some(said)) if given != said => {
            let (given, said) = (delimiter_in_words(given), delimiter_in_words(said));
            return Err(format!("says that the separator is {said}, but delimiter= is {given}"));
        }
        (Some(delimiter), _) | (None, Some(delimiter)) => delimiter,
        (None, None) if is_tsv => b'\t',
        (None, None) => recognized(head, options)?,
    };
    Ok(Head { delimiter, skipped })
}

/// Parses the first line of files for Excel: `sep=;`.
fn sep_line(head: &[u8]) -> Option<(u8, usize)> {
    let end = head.iter().position(|byte| matches!(byte, b'\r' | b'\n'))?;
    let line = head.get(..end)?;
    let line = line.strip_prefix(b"\"").and_then(|line| line.strip_suffix(b"\"")).unwrap_or(line);
    let delimiter = match line {
        [s, e, p, b'=', delimiter] if [*s, *e, *p].eq_ignore_ascii_case(b"sep") => *delimiter,
        _ => return None,
    };
    let line_end = if head.get(end..)?.starts_with(b"\r\n") { 2 } else { 1 };
    Some((delimiter, end + line_end))
}

/// Returns the delimiter with which the first line contains the key column; or the only possible one.
fn recognized(head: &[u8], options: &Options) -> Result<u8, String> {
    let (mut there, mut fit) = (Vec::new(), Vec::new());
    for delimiter in DELIMITERS {
        let mut records = Records::new(Cursor::new(head), delimiter, 1);
        let found = loop {
            match records.advance() {
                Ok(true) if records.fields().all(|field| field.trim_ascii().is_empty()) => {}
                found => break matches!(found, Ok(true)),
            }
        };
        if found && records.len() > 1 {
            there.push(delimiter);
            let is_key = |name: &str| matches!(role_of(name, options), Ok(Role::Key));
            if records.fields().any(|name| std::str::from_utf8(name).is_ok_and(is_key)) {
                fit.push(delimiter);
            }
        }
    }
    match (fit.as_slice(), there.as_slice()) {
        ([delimiter], _) | ([], [delimiter]) => Ok(*delimiter),
        ([], []) => Ok(b','),
        _ => {
            let found: Vec<_> = there.into_iter().map(delimiter_in_words).collect();
            Err(format!("may be separated by {}; choose one with delimiter=", found.join(" or by ")))
        }
    }
}

/// What is wrong with the name of an encoding.
const UNKNOWN_ENCODING: &str = "must be the name of an encoding that replyio can read, such as utf-8, utf-16le or \
    windows-1252; save a file in another one, such as cp850 or cp437 of MS-DOS, as UTF-8";

/// What is wrong with bytes that are not valid UTF-8. Many encodings fit the same bytes, so it does not choose one.
pub(super) const NOT_UTF8: &str = "is not valid UTF-8; save the file as UTF-8, or set its encoding: \
    encoding=\"windows-1252\" if it comes from Western Europe, \"windows-1250\" from Central Europe, \
    \"windows-1251\" for Cyrillic, \"macintosh\" from an old Mac; a file from MS-DOS must be saved as UTF-8";

/// What is wrong with column names that have NUL characters: every other byte of ASCII in UTF-16 is one.
pub(super) const HAS_NULS: &str = "contains NUL characters; if the file is UTF-16, set encoding=\"utf-16le\" or \
    encoding=\"utf-16be\", otherwise save it as UTF-8";

/// Returns the name of a delimiter.
fn delimiter_in_words(delimiter: u8) -> String {
    match delimiter {
        b'\t' => "tab".to_owned(),
        b',' => "comma".to_owned(),
        b';' => "semicolon".to_owned(),
        b'|' => "bar".to_owned(),
        other => shown(&char::from(other).to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delimiter(head: &str) -> Result<char, String> {
        of_head(head.as_bytes(), false, &Options::default()).map(|head| char::from(head.delimiter))
    }

    #[test]
    fn the_delimiter_is_the_one_that_separates_the_names() {
        for (head, expected) in [
            ("id,city\n1,a;b;c\n", ','),
            ("id;city\r\n1;a,b\r\n", ';'),
            ("id\tcity\n", '\t'),
            ("id|city\n", '|'),
            ("\n\nid;\"a,b\"\n", ';'),
            ("id,Industry | Sector\n", ','),
            ("Industry, Sector;id\n", ';'),
            ("id\n1\n", ','),
            ("nothing;known\n", ';'),
            ("", ','),
        ] {
            assert_eq!(delimiter(head), Ok(expected), "{head:?}");
        }
    }

    #[test]
    fn what_can_be_separated_in_two_ways_is_for_the_caller() {
        let said = "may be separated by comma or by semicolon; choose one with delimiter=".to_owned();
        assert_eq!(delimiter("id,x;id\n"), Err(said.clone()));
        assert_eq!(delimiter("Company,a;b\n"), Err(said));
        let options = Options { delimiter: Some(b';'), ..Options::default() };
        assert_eq!(of_head(b"id,x;id\n", false, &options).unwrap().delimiter, b';');
    }

    #[test]
    fn a_line_for_excel_says_the_delimiter() {
        for (head, skipped) in [("sep=;\r\nid;a,b\n", 7), ("SEP=;\nid", 6), ("\"sep=;\"\rid", 8)] {
            let found = of_head(head.as_bytes(), false, &Options::default()).unwrap();
            assert_eq!((found.delimiter, found.skipped), (b';', skipped), "{head:?}");
        }
        let options = Options { delimiter: Some(b'\t'), ..Options::default() };
        assert_eq!(
            of_head(b"sep=;\nid", false, &options).err().unwrap(),
            "says that the separator is semicolon, but delimiter= is tab"
        );
    }

    #[test]
    fn an_encoding_may_be_named_as_python_names_it() {
        for (name, expected) in [
            ("cp1252", "windows-1252"),
            ("utf_8", "utf-8"),
            ("Latin-1", "windows-1252"),
            ("latin_1", "windows-1252"),
            ("US_ASCII", "utf-8"),
            ("utf-8-sig", "utf-8"),
            ("mac_roman", "macintosh"),
        ] {
            let found = encoding(name).map(|found| found.name().to_lowercase());
            assert_eq!(found, Ok(expected.to_owned()), "{name}");
        }
        assert!(encoding("no such").is_err());
        assert!(encoding("cp850").unwrap_err().contains("such as cp850 or cp437 of MS-DOS, as UTF-8"));
    }

    fn refused(bytes: &[u8], encoding: &str) -> Option<(u64, String)> {
        contradiction(bytes, Encoding::for_label(encoding.as_bytes()).unwrap())
    }

    #[test]
    fn a_byte_that_the_encoding_does_not_have_is_refused_with_its_line() {
        for (bytes, encoding) in [
            // ü of MS-DOS, ç and è of an old Mac, Š of windows-1252.
            (b"id\r\n1;M\x81nchen\r\n", "windows-1252"),
            (b"id\r\n1;M\x81nchen\r\n", "windows-1250"),
            (b"id\r\n1;Besan\x8don", "windows-1252"),
            (b"id\n1;Gen\x8fve", "windows-1252"),
            (b"id\r1;M\x98nchen", "windows-1251"),
            (b"id\n1;\xaaoslo", "windows-1253"),
            (b"id\n1;\x8akoda", "iso-8859-2"),
            (b"id\n1;\x81 \xfcn", "shift_jis"),
        ] as [(&[u8], &str); 8]
        {
            let (line, reason) = refused(bytes, encoding).unwrap();
            assert_eq!(line, 2, "{encoding}: {reason}");
            assert!(reason.starts_with(&format!("has bytes that {encoding} does not have")), "{reason}");
        }
        for (bytes, encoding) in [
            (b"id\r\n1;M\xfcnchen \x80 \x85\r\n", "windows-1252"),
            (b"id\r\n1;Besan\x8don\r\n2;\x81", "macintosh"),
            (b"id\n1;\xd0\xee\xf1\xf1\xe8\xff", "windows-1251"),
            (b"id\n1;\x8c\xe1\xe8\xa8\xef", "ibm866"),
            (b"id\n1;\x93\x8c\x8b\x9e", "shift_jis"),
        ] as [(&[u8], &str); 5]
        {
            assert_eq!(refused(bytes, encoding), None, "{encoding}");
        }
    }

    #[test]
    fn a_file_in_two_encodings_is_refused_with_its_lines() {
        let told = |bytes: &[u8]| refused(bytes, "windows-1252").unwrap();
        let (line, reason) = told(b"id;city\r\n1;M\xc3\xbcnchen\r\n2;Besan\xc3\xa7on\r\n3;Malm\xf6\r\n");
        assert_eq!(line, 0);
        assert!(reason.contains("lines 2 and 3 are valid UTF-8, but line 4 is not;"), "{reason}");
        let (_, reason) = told(b"id\r1;\xc3\x81\r\r2;Malm\xf6\n3;\xf6");
        assert!(reason.contains("line 2 is valid UTF-8, but lines 4 and 5 are not;"), "{reason}");
        let many = [b"id\n\xc3\xbc\n".as_slice(), &b"\xf6\n".repeat(1_239)].concat();
        let (_, reason) = told(&many);
        assert!(reason.contains("line 2 is valid UTF-8, but lines 3, 4, 5 and 1,236 more are not;"), "{reason}");
        // Two bytes of such an encoding are often valid UTF-8 by chance.
        assert_eq!(refused(b"id\n1;\x93\x8c\n2;\xc2\xb1", "shift_jis"), None);
        let (line, reason) = told(b"id\n1;M\xc3\xbcnchen\n");
        assert_eq!(
            (line, reason.as_str()),
            (0, "the file is valid UTF-8, but encoding= says windows-1252; remove encoding=")
        );
    }

    #[test]
    fn lines_are_counted_as_records_count_them() {
        for end in ["\n", "\r\n", "\r"] {
            let text = ["a", "", "b", "c"].join(end);
            let found: Vec<_> = lines(text.as_bytes())
                .filter(|(_, line)| line.iter().any(u8::is_ascii_alphabetic))
                .map(|(n, _)| n)
                .collect();
            assert_eq!(found, [1, 3, 4], "{end:?}");
        }
    }
}
