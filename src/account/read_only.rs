//! Members that the service sets: read leniently, and never sent.

use std::fmt;

#[cfg(any(feature = "python", all(test, feature = "plan")))]
use jiff::SignedDuration;
use jiff::tz::Offset;
use jiff::{Timestamp, civil};
use serde::de::{DeserializeOwned, Error, Unexpected};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::timestamp;

/// The stage of an account. Updates cannot send it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContactAccountStage {
    /// Unique identifier of the stage.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// The number of its color.
    pub color_id: Option<i64>,
    /// Members that the API contract does not list, with their original values.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// A point in time from an answer, in UTC. Accepts every form in the API contract; a time without an offset is UTC.
///
/// It is not a [`Timestamp`], because that type ends a day before the last date that an answer can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DateTime(pub civil::DateTime);

impl DateTime {
    const EPOCH: civil::DateTime = civil::DateTime::constant(1970, 1, 1, 0, 0, 0, 0);

    /// Microseconds since 1970, truncated.
    pub fn as_microsecond(self) -> i64 {
        let since = self.0.duration_since(Self::EPOCH);
        // All years that jiff knows fit.
        i64::try_from(since.as_nanos().div_euclid(1000)).unwrap_or(i64::MAX)
    }

    /// Converts a number of microseconds since the beginning of 1970.
    #[cfg(any(feature = "python", all(test, feature = "plan")))]
    pub(crate) fn of_microsecond(microsecond: i64) -> Self {
        Self(Self::EPOCH.saturating_add(SignedDuration::from_micros(microsecond)))
    }
}

impl From<Timestamp> for DateTime {
    fn from(timestamp: Timestamp) -> Self {
        Self(Offset::UTC.to_datetime(timestamp))
    }
}

impl fmt::Display for DateTime {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}Z", self.0)
    }
}

impl Serialize for DateTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DateTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let unreadable = || D::Error::invalid_value(Unexpected::Other("text"), &"a date and time");
        timestamp::parse(&text).map(Self).ok_or_else(unreadable)
    }
}

/// Reads a member that no update needs. Puts a value of another type into `extra`, under its JSON name, so that it does
/// not make the whole account unreadable.
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
