//! The contact account: one table of its fields, and the types made from it.
//!
//! [`MEMBERS`] is the only place where a field is written down. The structs, the enum [`Field`], what is sent and what
//! is read are generated from the same rows; the Python names, the sandbox and the documentation are held to it by
//! tests.

mod read_only;
mod size;
mod table;

pub use self::read_only::{ContactAccountStage, DateTime};
pub use self::size::CompanySize;
pub use self::table::{AccountFields, ContactAccount, Field, MEMBERS};

/// What an update says about one field. The three are different things on the wire.
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
    /// Not in the body. The update replaces the account in full, so the service clears an optional field left out.
    #[default]
    Absent,
    /// Sent as `null`.
    Null,
    /// Sent as this value.
    Value(T),
}

impl<T> Presence<T> {
    /// Whether the field is left out of the body.
    pub const fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }

    /// The value, where there is one.
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

/// The type of a member, as the contract's page gives it.
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
    /// The type in words, as an error names it.
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
    /// The name in Rust and Python, `snake_case`.
    pub name: &'static str,
    /// The name on the wire.
    pub wire: &'static str,
    /// Its type.
    pub kind: Kind,
    /// Whether an update may carry it.
    pub writable: bool,
    /// Whether the contract promises that every answer has it, with a value. Other members may be `null` or missing.
    pub always_answered: bool,
    /// What the contract's page says of it.
    pub doc: &'static str,
}

/// What an account calls its stage on the wire.
pub(crate) const STAGE: &str = "stage";

impl Member {
    /// Whether `null` may be sent for it.
    pub const fn nullable(&self) -> bool {
        self.writable && !self.always_answered
    }

    /// Whether an account that has a wrong value of it cannot be read. An update carries the writable members, and the
    /// id says whose they are; a wrong value of any other member is kept in [`ContactAccount::extra`].
    pub fn is_needed(&self) -> bool {
        self.writable || self.wire == "id"
    }
}

/// A set of fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FieldSet(u32);

impl FieldSet {
    /// All fields.
    pub const ALL: Self = Self((1 << Field::ALL.len()) - 1);

    /// Whether a field is in the set.
    pub const fn contains(self, field: Field) -> bool {
        self.0 & (1 << field as u32) != 0
    }

    /// Adds a field, and tells whether it is new.
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

/// A field's value in its plain form, whatever the field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FieldValue<'a> {
    /// Text, or a company size in the form that is sent.
    Text(&'a str),
    /// The id of a user.
    Integer(i64),
}

impl<'a> From<&'a String> for FieldValue<'a> {
    fn from(value: &'a String) -> Self {
        Self::Text(value)
    }
}

impl<'a> From<&'a CompanySize> for FieldValue<'a> {
    fn from(value: &'a CompanySize) -> Self {
        Self::Text(value.as_str())
    }
}

impl From<&i64> for FieldValue<'_> {
    fn from(value: &i64) -> Self {
        Self::Integer(*value)
    }
}

/// The value of a member of an account, whatever its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberValue<'a> {
    /// The member has no readable value, or the answer did not have it.
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

/// Makes a member's value from a reference to what holds it.
macro_rules! member_values {
    ($( $type:ty, $value:ident => $made:expr; )+) => {
        $(
            impl<'a> From<&'a $type> for MemberValue<'a> {
                fn from($value: &'a $type) -> Self {
                    $made
                }
            }
        )+
    };
}

member_values! {
    String, value => Self::Text(value);
    CompanySize, value => Self::CompanySize(value);
    i64, value => Self::Integer(*value);
    DateTime, value => Self::DateTime(*value);
    ContactAccountStage, value => Self::Stage(value);
}

/// A value is not of its field's kind.
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

/// One fault of one field, found before any request.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FieldError {
    /// The field as the caller named it, or `id`.
    pub field: String,
    /// What is wrong with it and what is expected. Never the value.
    pub message: String,
}

impl FieldError {
    /// A fault of a field.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

impl AccountFields {
    /// Every fault of these fields: what the contract's page rules out, and nothing else. Whether the name must be
    /// there depends on the operation, so that is asked elsewhere.
    pub fn faults(&self) -> Vec<FieldError> {
        let mut faults = Vec::new();
        match &self.name {
            Presence::Value(name) if name.trim().is_empty() => {
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

/// Where an account may be named: `id` must be positive.
///
/// # Errors
/// The fault, for an id that no account can have.
pub(crate) fn check_id(id: i64) -> Result<i64, FieldError> {
    if id > 0 { Ok(id) } else { Err(FieldError::new("id", "must be a positive integer")) }
}

/// The candidate that a misspelt name was probably meant to be.
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
