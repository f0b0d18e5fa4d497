//! The company sizes, in the form that is sent and in the forms that are answered.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};

use super::nearest;

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
    /// The message for a size that is not one of the ten.
    pub(crate) fn refusal(text: &str) -> String {
        let options = Self::DOCUMENTED.join(", ");
        if is_number(text) {
            return format!(
                "must be one of {options}; replace the number of employees with the range that contains it"
            );
        }
        match nearest(text, Self::DOCUMENTED.iter().copied()) {
            Some(right) => format!("must be one of {options}; did you mean {right}?"),
            None => format!("must be one of {options}"),
        }
    }
}

/// Whether a text is a number, with the separators of a spreadsheet or without.
fn is_number(text: &str) -> bool {
    let text = text.trim();
    let is_part =
        |character: char| character.is_ascii_digit() || matches!(character, '.' | ',' | ' ' | '\u{a0}' | '\'');
    text.starts_with(|first: char| first.is_ascii_digit()) && text.chars().all(is_part)
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
