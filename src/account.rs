//! The contact account: one table of its fields, and the types that macros generate from it.
//!
//! [`MEMBERS`] is the only place that lists the fields. The structs, the enum [`Field`] and the request and response
//! types are generated from the same rows. Tests compare the Python names, the sandbox and the documentation with it.

mod read_only;
mod size;
mod table;

use serde::Serialize;
use serde_json::{Map, Value};

pub use self::read_only::{ContactAccountStage, DateTime};
pub use self::size::CompanySize;
#[cfg(any(feature = "python", all(test, feature = "plan")))]
pub(crate) use self::table::place_of;
pub use self::table::{AccountFields, ContactAccount, Field, MEMBERS};
use crate::text::is_blank;

/// What an update does with one field. The JSON body distinguishes these three cases.
///
/// # Examples
/// ```
/// use replyio::{AccountFields, Presence};
///
/// let fields = AccountFields {
///     name: Presence::Value("Acme".into()),
///     phone: Presence::Null,
///     city: Presence::Absent,
///     ..AccountFields::default()
/// };
/// assert_eq!(serde_json::to_string(&fields)?, r#"{"name":"Acme","phone":null}"#);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub enum Presence<T> {
    /// The body does not contain the field. An update replaces the account in full, so the service clears an optional
    /// field that is missing.
    #[default]
    Absent,
    /// The body contains `null`.
    Null,
    /// The body contains this value.
    Value(T),
}

impl<T> Presence<T> {
    /// Returns whether the body does not contain the field.
    pub const fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }

    /// Returns the value, if there is one.
    pub const fn value(&self) -> Option<&T> {
        match self {
            Self::Value(value) => Some(value),
            Self::Absent | Self::Null => None,
        }
    }
}

impl<T> From<Option<T>> for Presence<T> {
    /// `None` is [`Presence::Null`].
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Self::Value)
    }
}

/// The type of a member, as the API contract defines it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A string.
    Text,
    /// One of the ten company sizes.
    CompanySize,
    /// An integer.
    Integer,
    /// A date and time.
    DateTime,
    /// The stage, an object.
    Stage,
}

impl Kind {
    /// Returns the type in words, for error messages.
    pub const fn expected(self) -> &'static str {
        match self {
            Self::Text | Self::CompanySize => "a string",
            Self::Integer => "an integer",
            Self::DateTime => "a date and time",
            Self::Stage => "a stage object with an integer id and a name",
        }
    }
}

/// One row of the table of fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// The name in Rust and Python, in `snake_case`.
    pub name: &'static str,
    /// The JSON name.
    pub wire: &'static str,
    /// Its type.
    pub kind: Kind,
    /// Whether an update can include it.
    pub writable: bool,
    /// Whether the API contract promises that every answer has a value for it. Other members may be `null` or missing.
    pub always_answered: bool,
    /// The description in the API contract.
    pub doc: &'static str,
}

/// What an account calls its stage on the wire.
pub(crate) const STAGE: &str = "stage";

impl Member {
    /// Returns whether an update may send `null` for it.
    pub const fn nullable(&self) -> bool {
        self.writable && !self.always_answered
    }

    /// Returns whether an account with an invalid value for it is unreadable. This is true for the writable members,
    /// which an update includes, and for the id. [`ContactAccount::extra`] keeps an invalid value of any other member.
    pub fn is_needed(&self) -> bool {
        self.writable || self.wire == "id"
    }
}

/// Returns the first member whose name is that of a field in another letter case or with other separators, such as
/// `linkedinUrl` or `linked_in_url`, if the account lacks the field itself. An update would clear the value.
pub(crate) fn respelled(members: &Map<String, Value>, has: impl Fn(Field) -> bool) -> Option<(&str, Field)> {
    members.keys().find_map(|name| {
        let field = Field::ALL.iter().copied().find(|field| letters(name).eq(letters(field.wire())))?;
        (!has(field)).then_some((name.as_str(), field))
    })
}

fn letters(name: &str) -> impl Iterator<Item = u8> {
    name.bytes().filter(|byte| !matches!(byte, b'_' | b'-')).map(|byte| byte.to_ascii_lowercase())
}

/// A set of fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FieldSet(u32);

impl FieldSet {
    /// Returns the set of all fields.
    pub const ALL: Self = Self((1 << Field::ALL.len()) - 1);

    /// Returns whether the set contains a field.
    pub const fn contains(self, field: Field) -> bool {
        self.0 & (1 << field as u32) != 0
    }

    /// Returns the set as a number, for a plan file. A new field must get the last bit, or the file a new format.
    #[cfg(feature = "plan")]
    pub(crate) const fn bits(self) -> u32 {
        self.0
    }

    /// Returns the set of such a number.
    #[cfg(feature = "plan")]
    pub(crate) const fn from_bits(bits: u32) -> Self {
        Self(bits & Self::ALL.0)
    }

    /// Adds a field. Returns whether it is new.
    pub const fn insert(&mut self, field: Field) -> bool {
        let is_new = !self.contains(field);
        self.0 |= 1 << field as u32;
        is_new
    }
}

impl FromIterator<Field> for FieldSet {
    fn from_iter<I: IntoIterator<Item = Field>>(fields: I) -> Self {
        let mut set = Self::default();
        for field in fields {
            set.insert(field);
        }
        set
    }
}

/// The plain value of any field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FieldValue<'a> {
    /// Text, or a company size in the form that updates send.
    Text(&'a str),
    /// The id of a user.
    Integer(i64),
}

/// The value of any member of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum MemberValue<'a> {
    /// The answer has no readable value for the member.
    Nothing,
    /// Text.
    Text(&'a str),
    /// A company size.
    CompanySize(&'a CompanySize),
    /// A number.
    Integer(i64),
    /// A date and time.
    DateTime(DateTime),
    /// The stage.
    Stage(&'a ContactAccountStage),
}

/// Creates values from references to their storage.
macro_rules! values {
    ($of:ident: $( $type:ty, $value:ident => $made:expr; )+) => {
        $(
            impl<'a> From<&'a $type> for $of<'a> {
                fn from($value: &'a $type) -> Self {
                    $made
                }
            }
        )+
    };
}

values! {
    FieldValue:
    String, value => Self::Text(value);
    CompanySize, value => Self::Text(value.as_str());
    i64, value => Self::Integer(*value);
}

values! {
    MemberValue:
    String, value => Self::Text(value);
    CompanySize, value => Self::CompanySize(value);
    i64, value => Self::Integer(*value);
    DateTime, value => Self::DateTime(*value);
    ContactAccountStage, value => Self::Stage(value);
}

/// The type of a value does not match its field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrongKind;

impl TryFrom<FieldValue<'_>> for String {
    type Error = WrongKind;
    fn try_from(value: FieldValue<'_>) -> Result<Self, WrongKind> {
        if let FieldValue::Text(text) = value { Ok(text.to_owned()) } else { Err(WrongKind) }
    }
}

impl TryFrom<FieldValue<'_>> for CompanySize {
    type Error = WrongKind;
    fn try_from(value: FieldValue<'_>) -> Result<Self, WrongKind> {
        if let FieldValue::Text(text) = value { Ok(Self::exactly(text)) } else { Err(WrongKind) }
    }
}

impl TryFrom<FieldValue<'_>> for i64 {
    type Error = WrongKind;
    fn try_from(value: FieldValue<'_>) -> Result<Self, WrongKind> {
        if let FieldValue::Integer(number) = value { Ok(number) } else { Err(WrongKind) }
    }
}

/// A problem with one field, found before any request.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FieldError {
    /// The name of the field as the caller wrote it, or `id`.
    pub field: String,
    /// What is wrong and what is expected. Never contains the value.
    pub message: String,
}

impl FieldError {
    /// Creates a problem with a field.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

impl AccountFields {
    /// Returns every problem with these fields that the API contract rules out. It does not check for a missing name,
    /// because that depends on the operation.
    pub fn faults(&self) -> Vec<FieldError> {
        let mut faults = Vec::new();
        match &self.name {
            Presence::Value(name) if is_blank(name) => {
                faults.push(FieldError::new("name", "must not be blank"));
            }
            Presence::Null => faults.push(FieldError::new("name", "must not be null: every account has a name")),
            Presence::Absent | Presence::Value(_) => {}
        }
        if let Presence::Value(CompanySize::Unknown(text)) = &self.company_size {
            faults.push(FieldError::new("company_size", CompanySize::refusal(text)));
        }
        match self.owner_user_id {
            Presence::Value(id) if id < 1 => {
                faults.push(FieldError::new("owner_user_id", "must be a positive integer"));
            }
            Presence::Null => {
                faults.push(FieldError::new("owner_user_id", "must not be null: leave it out instead"));
            }
            Presence::Absent | Presence::Value(_) => {}
        }
        faults
    }
}

/// Checks the id of an account: it must be positive.
///
/// # Errors
/// Returns the problem if the id is invalid.
pub(crate) fn check_id(id: i64) -> Result<i64, FieldError> {
    if id > 0 { Ok(id) } else { Err(FieldError::new("id", "must be a positive integer")) }
}

/// Returns the candidate that a misspelled name probably means.
///
/// # Examples
/// ```
/// use replyio::{Field, nearest};
///
/// let names = Field::ALL.iter().map(|field| field.name());
/// assert_eq!(nearest("linkdinUrl", names), Some("linked_in_url"));
/// ```
pub fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |text: &str| text.to_lowercase().replace(['_', '-', ' '], "");
    let wanted = plain(name);
    candidates
        .map(|candidate| (strsim::jaro_winkler(&wanted, &plain(candidate)), candidate))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .map(|(_, candidate)| candidate)
}
