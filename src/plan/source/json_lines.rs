//! Reads files with one JSON object per line.

use std::borrow::Cow;
use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::builder::{Builder, Given, Number};
use super::integers::Float;
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
        let given = match value {
            Member::Null => Given::Empty,
            Member::Text(text) => Given::Text(text),
            Member::Number(number) => Given::Number(*number, "number"),
            Member::Boolean => Given::Other("boolean"),
            Member::Array => Given::Other("array"),
            Member::Object => Given::Other("object"),
        };
        builder.push(column, given).map_err(|error| error.to_string())?;
    }
    builder.end_row();
    Ok(())
}

struct Object<'a>(Vec<(Cow<'a, str>, Member<'a>)>);

enum Member<'a> {
    Null,
    Text(Cow<'a, str>),
    Number(Number),
    Boolean,
    Array,
    Object,
}

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

impl<'de> Deserialize<'de> for Member<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MemberVisitor;
        impl<'de> Visitor<'de> for MemberVisitor {
            type Value = Member<'de>;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a value")
            }
            fn visit_unit<E: Error>(self) -> Result<Member<'de>, E> {
                Ok(Member::Null)
            }
            fn visit_bool<E: Error>(self, _: bool) -> Result<Member<'de>, E> {
                Ok(Member::Boolean)
            }
            fn visit_i64<E: Error>(self, number: i64) -> Result<Member<'de>, E> {
                Ok(Member::Number(Number::Integer(number)))
            }
            fn visit_u64<E: Error>(self, number: u64) -> Result<Member<'de>, E> {
                Ok(Member::Number(i64::try_from(number).map_or(Number::TooLarge, Number::Integer)))
            }
            fn visit_f64<E: Error>(self, number: f64) -> Result<Member<'de>, E> {
                Ok(match Given::float(number, Float::Double, "number") {
                    Given::Number(number, _) => Member::Number(number),
                    _ => Member::Null,
                })
            }
            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Member<'de>, E> {
                Ok(Member::Text(Cow::Borrowed(text)))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Member<'de>, E> {
                Ok(Member::Text(Cow::Owned(text.to_owned())))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Member<'de>, A::Error> {
                while values.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Member::Array)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Member<'de>, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Member::Object)
            }
        }
        deserializer.deserialize_any(MemberVisitor)
    }
}

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
