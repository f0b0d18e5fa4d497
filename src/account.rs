//! The contact account: one table of its fields, and the types made from it.
//!
//! [`MEMBERS`] is the only place where a field is written down. The structs, the enum [`Field`], what is sent and what
//! is read are generated from the same rows; the Python names, the sandbox and the documentation are held to it by
//! tests.

use std::fmt;

use jiff::tz::Offset;
use jiff::{Timestamp, civil};
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Map, Value};

use crate::timestamp;

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
    /// Whether every answer has it, with a value. Other members may be `null` or missing.
    pub always_answered: bool,
    /// What the contract's page says of it.
    pub doc: &'static str,
}

impl Member {
    /// Whether `null` may be sent for it.
    pub const fn nullable(&self) -> bool {
        self.writable && !self.always_answered
    }
}

/// Makes everything that must agree about the fields from one table.
macro_rules! contact_account {
    (
        writable {
            $( $(#[$mark:ident])? $variant:ident $member:ident $wire:literal $kind:ident($type:ty) $answered:ident $doc:literal; )+
        }
        read_only {
            $( $ro_member:ident $ro_wire:literal $ro_kind:ident($ro_type:ty) $ro_answered:ident $ro_doc:literal; )+
        }
    ) => {
        /// Every member of a contact account that the contract knows, the writable ones first, in the page's order.
        pub const MEMBERS: &[Member] = &[
            $( Member { name: stringify!($member), wire: $wire, kind: Kind::$kind, writable: true,
                        always_answered: contact_account!(@is_always $answered), doc: $doc }, )+
            $( Member { name: stringify!($ro_member), wire: $ro_wire, kind: Kind::$ro_kind, writable: false,
                        always_answered: contact_account!(@is_always $ro_answered), doc: $ro_doc }, )+
        ];

        /// A field that an update may carry.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Field {
            $( #[doc = $doc] $variant, )+
        }

        impl Field {
            /// All of them, in the page's order.
            pub const ALL: &'static [Self] = &[ $( Self::$variant, )+ ];

            /// The name in Rust and Python, such as `linked_in_url`.
            pub const fn name(self) -> &'static str {
                match self { $( Self::$variant => stringify!($member), )+ }
            }

            /// The name on the wire, such as `linkedInUrl`.
            pub const fn wire(self) -> &'static str {
                match self { $( Self::$variant => $wire, )+ }
            }

            /// Its type.
            pub const fn kind(self) -> Kind {
                match self { $( Self::$variant => Kind::$kind, )+ }
            }

            /// Whether `null` may be sent for it.
            pub const fn nullable(self) -> bool {
                match self { $( Self::$variant => !contact_account!(@is_always $answered), )+ }
            }

            /// The field of a name, in either spelling.
            pub fn from_name(name: &str) -> Option<Self> {
                match name {
                    $( stringify!($member) => Some(Self::$variant), )+
                    _ => Self::from_wire(name),
                }
            }

            /// The field of a name on the wire.
            pub fn from_wire(name: &str) -> Option<Self> {
                match name { $( $wire => Some(Self::$variant), )+ _ => None }
            }
        }

        /// What one update says: the body of `PUT /v3/contact-accounts/{id}`, field by field.
        ///
        /// # Examples
        /// ```
        /// use replyio::{AccountFields, Presence};
        ///
        /// let fields = AccountFields { name: Presence::Value("Acme".into()), city: Presence::Null, ..Default::default() };
        /// assert_eq!(serde_json::to_string(&fields)?, r#"{"name":"Acme","city":null}"#);
        /// # Ok::<(), serde_json::Error>(())
        /// ```
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub struct AccountFields {
            $( #[doc = $doc] pub $member: Presence<$type>, )+
        }

        impl AccountFields {
            /// What is said about a field, its value as text or number.
            pub fn get(&self, field: Field) -> Presence<FieldValue<'_>> {
                match field {
                    $( Field::$variant => match &self.$member {
                        Presence::Absent => Presence::Absent,
                        Presence::Null => Presence::Null,
                        Presence::Value(value) => Presence::Value(FieldValue::from(value)),
                    }, )+
                }
            }

            /// Takes over what another update says about a field.
            pub fn copy_from(&mut self, other: &Self, field: Field) {
                match field { $( Field::$variant => self.$member = other.$member.clone(), )+ }
            }

            /// Says a value of a field, or `null`.
            ///
            /// # Errors
            /// A field of text takes no number, and the owner no text.
            pub fn set(&mut self, field: Field, value: Option<FieldValue<'_>>) -> Result<(), WrongKind> {
                match field {
                    $( Field::$variant => {
                        self.$member = value.map(FieldValue::try_into).transpose()?.into();
                    } )+
                }
                Ok(())
            }

            /// Leaves a field out.
            pub fn remove(&mut self, field: Field) {
                match field { $( Field::$variant => self.$member = Presence::Absent, )+ }
            }
        }

        impl Serialize for AccountFields {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut map = serializer.serialize_map(None)?;
                $( match &self.$member {
                    Presence::Absent => {}
                    Presence::Null => map.serialize_entry($wire, &())?,
                    Presence::Value(value) => map.serialize_entry($wire, value)?,
                } )+
                map.end()
            }
        }

        /// A contact account as the service answers it: a company or organization.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct ContactAccount {
            $( #[doc = $doc] pub $member: contact_account!(@slot $answered $type), )+
            $( #[doc = $ro_doc] pub $ro_member: contact_account!(@slot $ro_answered $ro_type), )+
            /// Members that the contract does not know, as they came.
            pub extra: Map<String, Value>,
        }

        impl ContactAccount {
            /// The update that would write this account as it is: every writable field that has a value.
            pub fn fields(&self) -> AccountFields {
                AccountFields { $( $member: contact_account!(@present $answered self.$member), )+ }
            }

            /// The values of all members, in the order of [`MEMBERS`].
            pub fn members(&self) -> [MemberValue<'_>; MEMBERS.len()] {
                [
                    $( contact_account!(@member $answered self.$member), )+
                    $( contact_account!(@member $ro_answered self.$ro_member), )+
                ]
            }

            /// The value of a writable field, where it has one.
            pub fn value(&self, field: Field) -> Option<FieldValue<'_>> {
                match field { $( Field::$variant => contact_account!(@value $answered self.$member), )+ }
            }
        }

        impl Serialize for ContactAccount {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut map = serializer.serialize_map(None)?;
                $( map.serialize_entry($wire, &self.$member)?; )+
                $( map.serialize_entry($ro_wire, &self.$ro_member)?; )+
                for (name, value) in &self.extra {
                    map.serialize_entry(name, value)?;
                }
                map.end()
            }
        }

        #[allow(non_camel_case_types, reason = "the variants are the members' own names")]
        enum Key { $( $member, )+ $( $ro_member, )+ Unknown(String) }

        impl<'de> Deserialize<'de> for Key {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct KeyVisitor;
                impl Visitor<'_> for KeyVisitor {
                    type Value = Key;
                    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                        formatter.write_str("a member's name")
                    }
                    fn visit_str<E: de::Error>(self, name: &str) -> Result<Key, E> {
                        Ok(match name {
                            $( $wire => Key::$member, )+
                            $( $ro_wire => Key::$ro_member, )+
                            _ => Key::Unknown(name.to_owned()),
                        })
                    }
                }
                deserializer.deserialize_str(KeyVisitor)
            }
        }

        impl<'de> Deserialize<'de> for ContactAccount {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct AccountVisitor;
                impl<'de> Visitor<'de> for AccountVisitor {
                    type Value = ContactAccount;
                    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                        formatter.write_str("a contact account")
                    }
                    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ContactAccount, A::Error> {
                        $( let mut $member: Option<$type> = None; )+
                        $( let mut $ro_member: Option<$ro_type> = None; )+
                        let mut extra = Map::new();
                        while let Some(key) = map.next_key()? {
                            match key {
                                $( Key::$member => $member = map.next_value()?, )+
                                $( Key::$ro_member => $ro_member = map.next_value()?, )+
                                Key::Unknown(name) => { extra.insert(name, map.next_value()?); }
                            }
                        }
                        Ok(ContactAccount {
                            $( $member: contact_account!(@take $answered $member $wire), )+
                            $( $ro_member: contact_account!(@take $ro_answered $ro_member $ro_wire), )+
                            extra,
                        })
                    }
                }
                deserializer.deserialize_map(AccountVisitor)
            }
        }
    };

    (@is_always always) => { true };
    (@is_always optional) => { false };
    (@slot always $type:ty) => { $type };
    (@slot optional $type:ty) => { Option<$type> };
    (@take always $member:ident $wire:literal) => { $member.ok_or_else(|| de::Error::missing_field($wire))? };
    (@take optional $member:ident $wire:literal) => { $member };
    (@value always $self:ident.$member:ident) => { Some(FieldValue::from(&$self.$member)) };
    (@value optional $self:ident.$member:ident) => { $self.$member.as_ref().map(FieldValue::from) };
    (@member always $self:ident.$member:ident) => { MemberValue::from(&$self.$member) };
    (@member optional $self:ident.$member:ident) => {
        $self.$member.as_ref().map_or(MemberValue::Nothing, MemberValue::from)
    };
    (@present always $self:ident.$member:ident) => { Presence::Value($self.$member.clone()) };
    (@present optional $self:ident.$member:ident) => {
        $self.$member.clone().map_or(Presence::Absent, Presence::Value)
    };
}

contact_account! {
    writable {
        Name name "name" Text(String) always "Contact account name";
        Description description "description" Text(String) optional "Optional description";
        DomainName domain_name "domainName" Text(String) optional "Primary domain name";
        DomainSecondary domain_secondary "domainSecondary" Text(String) optional "Secondary domain name";
        Industry industry "industry" Text(String) optional "Industry of the company";
        CompanySize company_size "companySize" CompanySize(CompanySize) optional "Company size range";
        Country country "country" Text(String) optional "Country of the company";
        State state "state" Text(String) optional "State or province";
        City city "city" Text(String) optional "City";
        TimeZoneId time_zone_id "timeZoneId" Text(String) optional "Time zone identifier";
        LinkedInUrl linked_in_url "linkedInUrl" Text(String) optional "LinkedIn profile URL";
        Phone phone "phone" Text(String) optional "Phone number";
        TwitterUrl twitter_url "twitterUrl" Text(String) optional "Twitter profile URL";
        LogoUrl logo_url "logoUrl" Text(String) optional "Company logo URL";
        Email email "email" Text(String) optional "Contact email address";
        OwnerUserId owner_user_id "ownerUserId" Integer(i64) always "ID of the user who owns this contact account";
    }
    read_only {
        id "id" Integer(i64) always "Unique identifier of the contact account";
        linked_prospects_count "linkedProspectsCount" Integer(i64) always "Number of contacts linked to this account";
        created_date "createdDate" DateTime(DateTime) always "Date when the account was created";
        last_activity_date "lastActivityDate" DateTime(DateTime) always "Date of the last activity on this account";
        stage "stage" Stage(ContactAccountStage) optional "Current stage of the contact account";
        email_provider "emailProvider" Text(String) optional "E-mail provider of the account's domain";
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
    /// The member is null, or the answer did not have it.
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

/// Makes the enum of company sizes and its two spellings from one list.
macro_rules! company_sizes {
    ($( $variant:ident $text:literal; )+) => {
        /// Company size range.
        #[derive(Debug, Clone, PartialEq, Eq, Hash)]
        pub enum CompanySize {
            $( #[doc = concat!("`", $text, "`")] $variant, )+
            /// A value that the contract does not know, as the service answered it.
            Unknown(Box<str>),
        }

        impl CompanySize {
            /// The ten that the contract's page lists, in its order, as they are sent.
            pub const DOCUMENTED: &'static [&'static str] = &[ $( $text, )+ ];

            /// The form that is sent.
            pub fn as_str(&self) -> &str {
                match self { $( Self::$variant => $text, )+ Self::Unknown(text) => text }
            }

            /// Reads a size as the caller writes it: exactly one of the ten, or [`CompanySize::Unknown`].
            ///
            /// # Examples
            /// ```
            /// use replyio::CompanySize;
            ///
            /// assert_eq!(CompanySize::exactly("51-200"), CompanySize::From51To200);
            /// assert_eq!(CompanySize::exactly("51-20"), CompanySize::Unknown("51-20".into()));
            /// ```
            pub fn exactly(text: &str) -> Self {
                match text { $( $text => Self::$variant, )+ _ => Self::Unknown(text.into()) }
            }

            /// Reads a size as the service answers it, in any casing.
            pub fn tolerantly(text: &str) -> Self {
                match Self::exactly(text) {
                    Self::Unknown(_) => {}
                    known => return known,
                }
                $( if text.eq_ignore_ascii_case($text) { return Self::$variant; } )+
                Self::Unknown(text.into())
            }
        }
    };
}

company_sizes! {
    Empty "Empty";
    SelfEmployed "SelfEmployed";
    From2To10 "2-10";
    From11To50 "11-50";
    From51To200 "51-200";
    From201To500 "201-500";
    From501To1000 "501-1000";
    From1001To5000 "1001-5000";
    From5001To10000 "5001-10000";
    From10001 "10001+";
}

impl CompanySize {
    /// What is wrong with a size that is none of the ten.
    pub(crate) fn refusal(text: &str) -> String {
        let options = Self::DOCUMENTED.join(", ");
        match nearest(text, Self::DOCUMENTED.iter().copied()) {
            Some(right) => format!("must be one of {options}; did you mean {right}?"),
            None => format!("must be one of {options}"),
        }
    }
}

impl Serialize for CompanySize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for CompanySize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SizeVisitor;
        impl Visitor<'_> for SizeVisitor {
            type Value = CompanySize;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a company size")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<CompanySize, E> {
                Ok(CompanySize::tolerantly(text))
            }
        }
        deserializer.deserialize_str(SizeVisitor)
    }
}

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

/// A point in time from an answer, in UTC. Read from every form in the contract; an answer without an offset is UTC.
///
/// It is no [`Timestamp`], which ends a day before the last date that an answer can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DateTime(pub civil::DateTime);

impl DateTime {
    /// Microseconds since 1970. Finer parts are cut.
    pub fn as_microsecond(self) -> i64 {
        let since = self.0.duration_since(civil::DateTime::constant(1970, 1, 1, 0, 0, 0, 0));
        // The years that jiff knows fit by far.
        i64::try_from(since.as_nanos().div_euclid(1000)).unwrap_or(i64::MAX)
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
        struct DateTimeVisitor;
        impl Visitor<'_> for DateTimeVisitor {
            type Value = DateTime;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a date and time")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<DateTime, E> {
                timestamp::parse(text).map(DateTime).ok_or_else(|| E::custom("not a date and time"))
            }
        }
        deserializer.deserialize_str(DateTimeVisitor)
    }
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
