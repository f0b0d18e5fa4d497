//! Members that the service sets: read tolerantly, and never sent.

use jiff::Timestamp;
use serde::de::{DeserializeOwned, Error, Unexpected};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::timestamp;

/// The stage of an account. It cannot be sent.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContactAccountStage {
    /// Unique identifier of the stage.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// The number of its colour.
    pub color_id: Option<i64>,
    /// Members that the contract does not know, as they came.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// A point in time from an answer. Read from every form in the contract; an answer without an offset is UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DateTime(pub Timestamp);

impl Serialize for DateTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for DateTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let unreadable = || D::Error::invalid_value(Unexpected::Other("text"), &"a date and time");
        timestamp::parse(&text).map(Self).ok_or_else(unreadable)
    }
}

/// Reads a member that no update needs. A value that is not of its type goes to `extra`, under the name on the wire: it
/// must not make the whole account unreadable.
pub(super) fn tolerantly<T: DeserializeOwned>(
    value: Option<Value>,
    wire: &str,
    extra: &mut Map<String, Value>,
) -> Option<T> {
    let value = value.filter(|value| !value.is_null())?;
    let read = T::deserialize(&value).ok();
    if read.is_none() {
        extra.insert(wire.to_owned(), value);
    }
    read
}
