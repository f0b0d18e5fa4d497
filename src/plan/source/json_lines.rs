//! Reads files with one JSON object per line.

use std::borrow::Cow;
use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::builder::{Builder, CellError, Given, Number};
use super::integers::of_json;
use super::{LONGEST_RECORD, MOST_COLUMNS, Options, Table, TableError};
use crate::private_file::open_linked;

pub(super) fn read(path: &Path, options: &Options) -> Result<Table, TableError> {
    let io = |error| TableError::Io { path: path.to_owned(), error };
    let mut reader = BufReader::new(open_linked(path).map_err(io)?);
    let mut builder = Builder::new(options);
    let mut bytes = Vec::new();
    let mut line = 0;
    loop {
        bytes.clear();
        if reader.by_ref().take(LONGEST_RECORD as u64 + 1).read_until(b'\n', &mut bytes).map_err(io)? == 0 {
            break;
        }
        line += 1;
        let wrong = |reason: String| TableError::Read { path: path.to_owned(), line: Some(line), reason };
        if bytes.len() > LONGEST_RECORD {
            return Err(wrong(format!("is longer than {} MiB", LONGEST_RECORD / 1024 / 1024)));
        }
        let text =
            std::str::from_utf8(&bytes).map_err(|_| wrong("is not valid UTF-8; save the file as UTF-8".to_owned()))?;
        let text = if line == 1 { text.strip_prefix('\u{feff}').unwrap_or(text) } else { text };
        if !text.trim().is_empty() {
            add(&mut builder, text).map_err(wrong)?;
        }
    }
    builder.finish(Some(path))
}

fn add(builder: &mut Builder, text: &str) -> Result<(), String> {
    let object: Object<'_> = serde_json::from_str(text).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => "is not a JSON object".to_owned(),
        _ => format!("is not valid JSON, at column {}", error.column()),
    })?;
    if object.0.len() > MOST_COLUMNS {
        return Err(format!("has more than {MOST_COLUMNS} members"));
    }
    for (place, (name, value)) in object.0.iter().enumerate() {
        // Most objects have their members in the same order.
        let column = if builder.is_named(place, name) { Ok(place) } else { builder.column(name) };
        let column = column.map_err(|error| error.to_string())?;
        if builder.is_wanted(column) {
            push(builder, column, value.get()).map_err(|error| error.to_string())?;
        }
    }
    builder.end_row();
    Ok(())
}

/// Adds a cell. The value is valid JSON.
fn push(builder: &mut Builder, column: usize, value: &str) -> Result<(), CellError> {
    let given = match value.as_bytes().first() {
        Some(b'"') => {
            let text = serde_json::from_str(value).ok();
            return builder.push(column, text.as_ref().map_or(Given::HalfText, |Text(text)| Given::Text(text)));
        }
        Some(b'n') => Given::Empty,
        Some(b't' | b'f') => Given::Other("boolean"),
        Some(b'[') => Given::Other("array"),
        Some(b'{') => Given::Other("object"),
        _ => Given::Number(of_json(value).map_or_else(Number::Fault, Number::Integer), "number"),
    };
    builder.push(column, given)
}

/// The members of an object, with values that are not read yet: only the column decides how to read one.
struct Object<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor;
        impl<'de> Visitor<'de> for ObjectVisitor {
            type Value = Object<'de>;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(Text(name)) = map.next_key()? {
                    members.push((name, map.next_value()?));
                }
                Ok(Object(members))
            }
        }
        deserializer.deserialize_map(ObjectVisitor)
    }
}

/// Text that is borrowed if it contains no escapes.
#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_copied_only_if_it_has_escapes() {
        let object: Object<'_> = serde_json::from_str(r#"{"plain": 1, "with\u0020escape": 2}"#).unwrap();
        let names: Vec<_> =
            object.0.iter().map(|(name, _)| (name.as_ref(), matches!(name, Cow::Borrowed(_)))).collect();
        assert_eq!(names, [("plain", true), ("with escape", false)]);
    }
}
