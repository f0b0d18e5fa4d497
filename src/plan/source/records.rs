//! Reads records of separated values strictly, as RFC 4180 defines them.
//!
//! A lenient reader guesses where a stray quote ends, and the guess can turn four rows into two.

use std::io::{self, BufRead};

use super::{LONGEST_RECORD, MOST_COLUMNS};

const QUOTE: u8 = b'"';
const DOUBLE_IT: &str = "write each quote inside a quoted field twice (\"\")";

/// Why there is no next record.
#[derive(Debug)]
pub(super) enum RecordError {
    Io(io::Error),
    /// The problem of this line.
    Line(u64, String),
}

/// The position of the reader in a field.
#[derive(Clone, Copy)]
enum State {
    /// Before its first byte.
    Start,
    /// In a field without quotes.
    Bare,
    /// In quotes that opened in this line.
    Quoted(u64),
    /// After the closing quote.
    Closed(u64),
}

/// Reads records one by one. Counts lines as an editor does: CRLF, LF and a lone CR are one line break each.
#[derive(Debug)]
pub(super) struct Records<R> {
    source: R,
    delimiter: u8,
    /// The line of the next byte, from 1.
    line: u64,
    /// The line in which the record begins.
    record_line: u64,
    after_carriage_return: bool,
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl<R: BufRead> Records<R> {
    /// Creates a reader for a source whose first byte is in `line`.
    pub(super) fn new(source: R, delimiter: u8, line: u64) -> Self {
        let (bytes, ends) = (Vec::new(), Vec::new());
        Self { source, delimiter, line, record_line: line, after_carriage_return: false, bytes, ends }
    }

    /// Returns the line in which the record begins, from 1.
    pub(super) fn record_line(&self) -> u64 {
        self.record_line
    }

    /// Returns the number of fields of the record.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Returns the fields of the record, without their quotes.
    pub(super) fn fields(&self) -> impl Iterator<Item = &[u8]> {
        let mut start = 0;
        self.ends.iter().map(move |end| self.bytes.get(std::mem::replace(&mut start, *end)..*end).unwrap_or_default())
    }

    /// Reads the next record; returns `false` at the end.
    pub(super) fn advance(&mut self) -> Result<bool, RecordError> {
        self.bytes.clear();
        self.ends.clear();
        let mut state = State::Start;
        let mut begun = false;
        loop {
            let chunk = match self.source.fill_buf() {
                Ok(chunk) => chunk,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(RecordError::Io(error)),
            };
            let Some(&byte) = chunk.first() else {
                return match state {
                    State::Quoted(line) => {
                        Err(RecordError::Line(line, "opens a quote that is never closed".to_owned()))
                    }
                    _ if begun => {
                        self.ends.push(self.bytes.len());
                        Ok(true)
                    }
                    _ => Ok(false),
                };
            };
            let is_second_half = std::mem::take(&mut self.after_carriage_return) && byte == b'\n';
            if is_second_half && !matches!(state, State::Quoted(_)) {
                self.source.consume(1);
                continue;
            }
            if !begun {
                begun = true;
                self.record_line = self.line;
            }
            let delimiter = self.delimiter;
            let plain = match state {
                State::Quoted(_) => chunk.iter().position(|byte| matches!(*byte, QUOTE | b'\r' | b'\n')),
                State::Closed(_) => Some(0),
                State::Start | State::Bare => {
                    chunk.iter().position(|byte| *byte == delimiter || matches!(*byte, QUOTE | b'\r' | b'\n'))
                }
            }
            .unwrap_or(chunk.len());
            if plain > 0 {
                self.bytes.extend_from_slice(chunk.get(..plain).unwrap_or_default());
                self.source.consume(plain);
                if matches!(state, State::Start) {
                    state = State::Bare;
                }
                self.check_length(state)?;
                continue;
            }
            self.source.consume(1);
            let ends_line = matches!(byte, b'\r' | b'\n');
            if ends_line {
                self.after_carriage_return = byte == b'\r';
                self.line += u64::from(!is_second_half);
            }
            state = match state {
                State::Quoted(line) if byte == QUOTE => State::Closed(line),
                State::Quoted(line) => {
                    self.bytes.push(byte);
                    State::Quoted(line)
                }
                State::Closed(line) if byte == QUOTE => {
                    self.bytes.push(QUOTE);
                    State::Quoted(line)
                }
                _ if ends_line => {
                    self.ends.push(self.bytes.len());
                    return Ok(true);
                }
                _ if byte == delimiter => {
                    self.ends.push(self.bytes.len());
                    if self.ends.len() >= MOST_COLUMNS {
                        return Err(RecordError::Line(
                            self.record_line,
                            format!("has more than {MOST_COLUMNS} fields"),
                        ));
                    }
                    State::Start
                }
                State::Start => State::Quoted(self.line),
                State::Bare => return Err(self.stray_quote()),
                State::Closed(line) => return Err(self.text_behind_quote(line)),
            };
            self.check_length(state)?;
        }
    }

    fn check_length(&self, state: State) -> Result<(), RecordError> {
        if self.bytes.len() <= LONGEST_RECORD {
            return Ok(());
        }
        let most = LONGEST_RECORD / 1024 / 1024;
        Err(match state {
            State::Quoted(line) => {
                RecordError::Line(line, format!("opens a quote that is not closed within {most} MiB"))
            }
            _ => RecordError::Line(self.record_line, format!("is longer than {most} MiB")),
        })
    }

    fn stray_quote(&self) -> RecordError {
        let field = self.bytes.get(self.ends.last().copied().unwrap_or_default()..).unwrap_or_default();
        let reason = if field.trim_ascii().is_empty() {
            "has white space before a quote; remove the white space".to_owned()
        } else {
            format!("has a quote inside an unquoted field; put the whole field in quotes and {DOUBLE_IT}")
        };
        RecordError::Line(self.line, reason)
    }

    fn text_behind_quote(&self, opened: u64) -> RecordError {
        let whose = if opened == self.line { String::new() } else { format!(" that was opened in line {opened}") };
        RecordError::Line(self.line, format!("has text after the closing quote of a field{whose}; {DOUBLE_IT}"))
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    type Record = (u64, Vec<String>);
    type Refusal = (u64, String);

    /// Returns the records with the lines in which they begin, read in chunks of this size.
    fn read(text: &str, delimiter: u8, chunk: usize) -> Result<Vec<Record>, Refusal> {
        let mut records = Records::new(BufReader::with_capacity(chunk, text.as_bytes()), delimiter, 1);
        let mut found: Vec<Record> = Vec::new();
        loop {
            match records.advance() {
                Ok(true) => {
                    let fields = records.fields().map(|field| String::from_utf8_lossy(field).into_owned());
                    found.push((records.record_line(), fields.collect()));
                    assert_eq!(found.last().unwrap().1.len(), records.len());
                }
                Ok(false) => return Ok(found),
                Err(RecordError::Line(line, reason)) => return Err((line, reason)),
                Err(RecordError::Io(error)) => panic!("{error}"),
            }
        }
    }

    fn all(text: &str) -> Result<Vec<Record>, Refusal> {
        let whole = read(text, b',', 8192);
        for chunk in 1..4 {
            assert_eq!(read(text, b',', chunk), whole, "in chunks of {chunk}");
        }
        whole
    }

    fn record(line: u64, fields: &[&str]) -> Record {
        (line, fields.iter().map(|field| (*field).to_owned()).collect())
    }

    #[test]
    fn quotes_delimiters_and_line_ends_in_quotes_belong_to_the_field() {
        let text = "id,city\n1,\"say \"\"hi\"\"\"\n2,\"a,b\r\nc\rd\ne\"\n3,\n4,\"\"\n\"5\",x";
        assert_eq!(
            all(text).unwrap(),
            [
                record(1, &["id", "city"]),
                record(2, &["1", "say \"hi\""]),
                record(3, &["2", "a,b\r\nc\rd\ne"]),
                record(7, &["3", ""]),
                record(8, &["4", ""]),
                record(9, &["5", "x"]),
            ]
        );
    }

    #[test]
    fn every_kind_of_line_end_counts_once() {
        for end in ["\n", "\r\n", "\r"] {
            let text = ["a,b", "1,2", "", "3,4", ""].join(end);
            let expected = [record(1, &["a", "b"]), record(2, &["1", "2"]), record(3, &[""]), record(4, &["3", "4"])];
            assert_eq!(all(&text).unwrap(), expected, "{end:?}");
            let stray = format!("a{end}{end}\"x{end}y\"{end}b\"");
            assert_eq!(all(&stray).unwrap_err().0, 5, "{end:?}");
        }
    }

    #[test]
    fn a_quote_where_none_may_be_is_refused_with_its_line() {
        let bare = "has a quote inside an unquoted field; put the whole field in quotes and write each quote inside a \
            quoted field twice (\"\")";
        let behind = "has text after the closing quote of a field; write each quote inside a quoted field twice (\"\")";
        let opened = |line: u64| behind.replace("a field;", &format!("a field that was opened in line {line};"));
        for (text, line, reason) in [
            ("a\n1\"\n", 2, bare.to_owned()),
            ("a\n\"x\" y\n", 2, behind.to_owned()),
            ("a\n\"x\" ,y\n", 2, behind.to_owned()),
            ("a\n\"x\ny\nz\"w\n", 4, opened(2)),
            ("a\r\n\"the \\\"best\\\" firm\"\r\n", 2, behind.to_owned()),
            ("a,b\n1, \"Oslo\"\n", 2, "has white space before a quote; remove the white space".to_owned()),
            ("a\n1\n\"x\n\n", 3, "opens a quote that is never closed".to_owned()),
            ("a\n\"\"\"\n", 2, "opens a quote that is never closed".to_owned()),
        ] {
            assert_eq!(all(text), Err((line, reason)), "{text:?}");
        }
    }

    #[test]
    fn a_line_as_a_reader_of_its_own_would_write_it_ends_no_file() {
        let text = "id\n1\n\x1e end of the file \x1e\n2\n";
        assert_eq!(all(text).unwrap().len(), 4);
    }

    #[test]
    fn a_record_without_end_is_refused() {
        for text in ["x,\n", "\n", "\"\""] {
            let open = format!("a\n\"{}\"", text.repeat(LONGEST_RECORD + 1));
            let refused = (2, "opens a quote that is not closed within 16 MiB".to_owned());
            assert_eq!(read(&open, b',', 8192), Err(refused), "{text:?}");
        }
        let long = format!("a\n{}", "x".repeat(LONGEST_RECORD + 1));
        assert_eq!(read(&long, b',', 8192), Err((2, "is longer than 16 MiB".to_owned())));
        let wide = ",".repeat(MOST_COLUMNS);
        assert_eq!(read(&wide, b',', 8192), Err((1, "has more than 16384 fields".to_owned())));
        assert_eq!(read(&wide[1..], b',', 8192).unwrap()[0].1.len(), MOST_COLUMNS);
    }

    proptest::proptest! {
        #[test]
        fn any_fields_come_back_as_they_were_quoted(
            rows in proptest::collection::vec(proptest::collection::vec("[a\",;\r\n é]{0,5}", 2..4), 1..5),
            end in proptest::sample::select(vec!["\n", "\r\n", "\r"]),
            chunk in 1_usize..9,
        ) {
            let quoted = |field: &String| format!("\"{}\"", field.replace('"', "\"\""));
            let lines = rows.iter().map(|row| row.iter().map(quoted).collect::<Vec<_>>().join(","));
            let text = lines.map(|line| line + end).collect::<String>();
            let found = read(&text, b',', chunk).unwrap();
            assert_eq!(found.into_iter().map(|(_, fields)| fields).collect::<Vec<_>>(), rows);
        }

        #[test]
        fn any_text_is_read_the_same_in_chunks_of_any_size(text in "[a\",\r\n]{0,40}", chunk in 1_usize..9) {
            assert_eq!(read(&text, b',', chunk), read(&text, b',', 8192));
            let lines = text.replace("\r\n", "\n").replace('\r', "\n").matches('\n').count() as u64 + 1;
            match read(&text, b',', 8192) {
                Ok(found) => assert!(found.iter().all(|(line, _)| (1..=lines).contains(line))),
                Err((line, _)) => assert!((1..=lines).contains(&line)),
            }
        }
    }
}
