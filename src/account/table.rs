//! The table of members, and the macros that generate code from it.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Map, Value};

use super::read_only::tolerantly;
use super::{
    CompanySize, ContactAccountStage, DateTime, FieldSet, FieldValue, Kind, Member, MemberValue, Presence, STAGE,
    WrongKind, respelled,
};

/// Generates everything that must agree about the fields from one table.
macro_rules! contact_account {
    (
        writable {
            $(
                $(#[$mark:ident])?
                $variant:ident $member:ident $wire:literal $kind:ident($type:ty) $answered:ident $doc:literal;
            )+
        }
        read_only {
            $( $ro_member:ident $ro_wire:literal $ro_kind:ident($ro_type:ty) $ro_answered:ident $ro_doc:literal; )+
        }
    ) => {
        /// Every member of a contact account in the API contract: the writable members first, in the order of the
        /// contract.
        pub const MEMBERS: &[Member] = &[
            $( Member { name: stringify!($member), wire: $wire, kind: Kind::$kind, writable: true,
                        always_answered: contact_account!(@is_always $answered), doc: $doc }, )+
            $( Member { name: stringify!($ro_member), wire: $ro_wire, kind: Kind::$ro_kind, writable: false,
                        always_answered: contact_account!(@is_always $ro_answered), doc: $ro_doc }, )+
        ];

        /// A field that an update can include.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Field {
            $( #[doc = $doc] $variant, )+
        }

        impl Field {
            /// All fields, in the order of the API contract.
            pub const ALL: &'static [Self] = &[ $( Self::$variant, )+ ];

            /// Returns the name in Rust and Python, such as `linked_in_url`.
            pub const fn name(self) -> &'static str {
                match self { $( Self::$variant => stringify!($member), )+ }
            }

            /// Returns the JSON name, such as `linkedInUrl`.
            pub const fn wire(self) -> &'static str {
                match self { $( Self::$variant => $wire, )+ }
            }

            /// Returns the type.
            pub const fn kind(self) -> Kind {
                match self { $( Self::$variant => Kind::$kind, )+ }
            }

            /// Returns whether an update may send `null` for it.
            pub const fn nullable(self) -> bool {
                match self { $( Self::$variant => !contact_account!(@is_always $answered), )+ }
            }

            /// Returns the field with a name, in either spelling.
            pub fn from_name(name: &str) -> Option<Self> {
                match name {
                    $( stringify!($member) => Some(Self::$variant), )+
                    _ => Self::from_wire(name),
                }
            }

            /// Returns the field with a JSON name.
            pub fn from_wire(name: &str) -> Option<Self> {
                match name { $( $wire => Some(Self::$variant), )+ _ => None }
            }
        }

        /// The body of `PUT /v3/contact-accounts/{id}`, field by field.
        ///
        /// # Examples
        /// ```
        /// use replyio::{AccountFields, Presence};
        ///
        /// let name = Presence::Value("Acme".into());
        /// let fields = AccountFields { name, city: Presence::Null, ..Default::default() };
        /// assert_eq!(serde_json::to_string(&fields)?, r#"{"name":"Acme","city":null}"#);
        /// # Ok::<(), serde_json::Error>(())
        /// ```
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub struct AccountFields {
            $( #[doc = $doc] pub $member: Presence<$type>, )+
        }

        impl AccountFields {
            /// Returns what the update does with a field, with its value as text or number.
            pub fn get(&self, field: Field) -> Presence<FieldValue<'_>> {
                match field {
                    $( Field::$variant => match &self.$member {
                        Presence::Absent => Presence::Absent,
                        Presence::Null => Presence::Null,
                        Presence::Value(value) => Presence::Value(FieldValue::from(value)),
                    }, )+
                }
            }

            /// Copies what another update does with a field.
            pub fn copy_from(&mut self, other: &Self, field: Field) {
                match field { $( Field::$variant => self.$member = other.$member.clone(), )+ }
            }

            /// Sets a field to a value, or to `null`.
            ///
            /// # Errors
            /// Returns [`WrongKind`] for a number in a text field, or a text as the owner.
            pub fn set(&mut self, field: Field, value: Option<FieldValue<'_>>) -> Result<(), WrongKind> {
                match field {
                    $( Field::$variant => {
                        self.$member = value.map(FieldValue::try_into).transpose()?.into();
                    } )+
                }
                Ok(())
            }

            /// Removes a field from the update.
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

        /// A contact account, as the service returns it: a company or organization.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct ContactAccount {
            $( #[doc = $doc] pub $member: contact_account!(@slot $answered $type), )+
            $( #[doc = $ro_doc] pub $ro_member: contact_account!(@slot $ro_answered $ro_type), )+
            /// Members that the API contract does not list, with their original values. Also contains the value of a
            /// read-only member that has another type than the member, under its JSON name; the member is then `None`.
            pub extra: Map<String, Value>,
            /// The writable members that the answer contains, including `null`; see [`ContactAccount::has`].
            pub answered: FieldSet,
            /// Whether the answer had `stage`, `null` or not. An update may clear it and cannot carry it.
            pub answered_stage: bool,
        }

        impl ContactAccount {
            /// Returns the update that changes nothing: every writable field that has a value.
            pub fn fields(&self) -> AccountFields {
                AccountFields { $( $member: contact_account!(@present $answered self.$member), )+ }
            }

            /// Returns whether the value of a field is known. A list item may lack a field of the account, so no update
            /// may be built on such an item. In the answer to `GET`, a missing field is empty.
            pub fn has(&self, field: Field) -> bool {
                self.answered.contains(field) || self.value(field).is_some()
            }

            /// Returns whether the value of every field is known.
            pub fn is_complete(&self) -> bool {
                self.answered == FieldSet::ALL || Field::ALL.iter().all(|field| self.has(*field))
            }

            /// Returns the number of bytes of text in the writable fields.
            pub fn text_bytes(&self) -> usize {
                let bytes = |field: &Field| match self.value(*field) {
                    Some(FieldValue::Text(text)) => text.len(),
                    Some(FieldValue::Integer(_)) | None => 0,
                };
                Field::ALL.iter().map(bytes).sum()
            }

            /// Returns the values of all members, in the order of [`MEMBERS`].
            pub fn members(&self) -> [MemberValue<'_>; MEMBERS.len()] {
                [
                    $( contact_account!(@member $answered self.$member), )+
                    $( contact_account!(@member $ro_answered self.$ro_member), )+
                ]
            }

            /// Returns the value of a writable field, if it has one.
            pub fn value(&self, field: Field) -> Option<FieldValue<'_>> {
                match field { $( Field::$variant => contact_account!(@value $answered self.$member), )+ }
            }
        }

        /// Serializes the members that the answer contains.
        impl Serialize for ContactAccount {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut map = serializer.serialize_map(None)?;
                $( if self.has(Field::$variant) { map.serialize_entry($wire, &self.$member)?; } )+
                let had = |wire| wire != STAGE || self.answered_stage || self.stage.is_some();
                $( if had($ro_wire) && !self.extra.contains_key($ro_wire) {
                    map.serialize_entry($ro_wire, &self.$ro_member)?;
                } )+
                for (name, value) in &self.extra {
                    map.serialize_entry(name, value)?;
                }
                map.end()
            }
        }

        /// Returns the place of the member with a JSON name in [`MEMBERS`].
        #[cfg(any(feature = "python", all(test, feature = "plan")))]
        pub(crate) fn place_of(wire: &str) -> Option<usize> {
            #[allow(non_camel_case_types, reason = "the variants are the members' own names")]
            enum Place { $( $member, )+ $( $ro_member, )+ }
            Some(match wire {
                $( $wire => Place::$member, )+
                $( $ro_wire => Place::$ro_member, )+
                _ => return None,
            } as usize)
        }

        #[allow(non_camel_case_types, reason = "the variants are the members' own names")]
        #[derive(Deserialize)]
        #[serde(field_identifier)]
        enum Key {
            $( #[serde(rename = $wire)] $member, )+
            $( #[serde(rename = $ro_wire)] $ro_member, )+
            Unknown(String),
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
                        $( let mut $ro_member: contact_account!(@read $ro_answered $ro_type) = None; )+
                        let mut extra = Map::new();
                        let mut answered = FieldSet::default();
                        while let Some(key) = map.next_key()? {
                            match key {
                                $( Key::$member => {
                                    // The two values may differ, and an update cannot know which one to keep.
                                    if !answered.insert(Field::$variant) {
                                        return Err(de::Error::duplicate_field($wire));
                                    }
                                    $member = map.next_value()?;
                                } )+
                                $( Key::$ro_member => {
                                    if $ro_member.replace(map.next_value()?).is_some() {
                                        return Err(de::Error::duplicate_field($ro_wire));
                                    }
                                } )+
                                Key::Unknown(name) => {
                                    if extra.insert(name, map.next_value()?).is_some() {
                                        return Err(de::Error::custom("an unknown member twice"));
                                    }
                                }
                            }
                        }
                        if respelled(&extra, |field| answered.contains(field)).is_some() {
                            return Err(de::Error::custom("a field in another spelling"));
                        }
                        let answered_stage = $( ($ro_wire == STAGE && $ro_member.is_some()) )||+;
                        let mut account = ContactAccount {
                            $( $member: contact_account!(@take $answered $member $wire), )+
                            $( $ro_member: contact_account!(@take_read_only $ro_answered $ro_member $ro_wire extra), )+
                            extra,
                            answered,
                            answered_stage,
                        };
                        account.company_size.take_if(|size| size.is_blank());
                        Ok(account)
                    }
                }
                deserializer.deserialize_map(AccountVisitor)
            }
        }
    };

    (@is_always optional) => { false };
    (@is_always $answered:ident) => { true };
    (@slot always $type:ty) => { $type };
    (@slot id $type:ty) => { $type };
    (@slot $answered:ident $type:ty) => { Option<$type> };
    (@read id $type:ty) => { Option<$type> };
    (@read $answered:ident $type:ty) => { Option<Value> };
    (@take always $member:ident $wire:literal) => { $member.ok_or_else(|| de::Error::missing_field($wire))? };
    (@take optional $member:ident $wire:literal) => { $member };
    (@take_read_only id $member:ident $wire:literal $extra:ident) => {
        $member.ok_or_else(|| de::Error::missing_field($wire))?
    };
    (@take_read_only $answered:ident $member:ident $wire:literal $extra:ident) => {
        tolerantly($member, $wire, &mut $extra)
    };
    (@value always $self:ident.$member:ident) => { Some(FieldValue::from(&$self.$member)) };
    (@value optional $self:ident.$member:ident) => { $self.$member.as_ref().map(FieldValue::from) };
    (@member always $self:ident.$member:ident) => { MemberValue::from(&$self.$member) };
    (@member id $self:ident.$member:ident) => { MemberValue::from(&$self.$member) };
    (@member $answered:ident $self:ident.$member:ident) => {
        $self.$member.as_ref().map_or(MemberValue::Nothing, MemberValue::from)
    };
    (@present always $self:ident.$member:ident) => { Presence::Value($self.$member.clone()) };
    (@present optional $self:ident.$member:ident) => {
        $self.$member.clone().map_or(Presence::Absent, Presence::Value)
    };
}

// `always`: an account without it is unreadable. `promised`: the API contract says that it is always present, but no
// code here depends on it.
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
        id "id" Integer(i64) id "Unique identifier of the contact account";
        linked_prospects_count "linkedProspectsCount" Integer(i64) promised "Number of contacts linked to this account";
        created_date "createdDate" DateTime(DateTime) promised "Date when the account was created";
        last_activity_date "lastActivityDate" DateTime(DateTime) promised "Date of the last activity on this account";
        stage "stage" Stage(ContactAccountStage) optional "Current stage of the contact account";
        email_provider "emailProvider" Text(String) optional "E-mail provider of the account's domain";
    }
}
