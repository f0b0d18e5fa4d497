//! The company sizes: the form that updates send, and the forms that answers have.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};

use super::nearest;
use crate::text::is_blank;

/// Generates the enum of company sizes and its two spellings from one list.
macro_rules! company_sizes {
    ($( $variant:ident $text:literal; )+) => {
        /// Company size range.
        #[derive(Debug, Clone, PartialEq, Eq, Hash)]
        pub enum CompanySize {
            $( #[doc = concat!("`", $text, "`")] $variant, )+
            /// A value that the API contract does not list, as the service returned it.
            Unknown(Box<str>),
        }

        impl CompanySize {
            /// The ten sizes that the API contract lists, in its order, in the form that updates send.
            pub const DOCUMENTED: &'static [&'static str] = &[ $( $text, )+ ];

            /// Returns the form that updates send.
            pub fn as_str(&self) -> &str {
                match self { $( Self::$variant => $text, )+ Self::Unknown(text) => text }
            }

            /// Parses a size that the caller wrote: exactly one of the ten, otherwise [`CompanySize::Unknown`].
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

            /// Parses a size that the service returned, in any letter case.
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
    /// What to do with a date in place of a size.
    pub(crate) const FROM_A_DATE: &str = "a spreadsheet may have made this date from a range such as 2-10; format the \
        column as text, and enter the ranges again";

    /// Returns whether it is a blank text, which the service may show for no size, and which an update cannot have.
    pub(crate) fn is_blank(&self) -> bool {
        matches!(self, Self::Unknown(text) if is_blank(text))
    }

    /// Returns the message for a size that is not one of the ten.
    pub(crate) fn refusal(text: &str) -> String {
        let mut options = Self::DOCUMENTED.iter().copied();
        let numbers = Numbers::of(text);
        let hint = if numbers == Numbers::default() {
            nearest(text, options.filter(|option| Numbers::of(option) == numbers)).map(did_you_mean)
        } else if let Some(same) = options.find(|option| Numbers::of(option) == numbers) {
            Some(did_you_mean(same))
        } else if is_date(text) {
            Some(Self::FROM_A_DATE.to_owned())
        } else {
            let of_number = "replace the number of employees with the range that contains it";
            Some(if is_number(text) { of_number } else { "use one of these ranges" }.to_owned())
        };
        let hint = hint.map(|hint| format!("; {hint}")).unwrap_or_default();
        format!("must be one of {}{hint}", Self::DOCUMENTED.join(", "))
    }
}

fn did_you_mean(option: &str) -> String {
    format!("did you mean {option}?")
}

/// The numbers in a size, however they are written: `1,001 – 5,000 employees` has those of `1001-5000`. A hint by
/// spelling would take `500-1000` for `5001-10000`.
#[derive(Debug, Default, PartialEq, Eq)]
struct Numbers {
    found: Vec<u64>,
    has_plus: bool,
}

impl Numbers {
    fn of(text: &str) -> Self {
        let (mut found, mut rest) = (Vec::new(), text);
        while let Some(start) = rest.find(|character: char| character.is_ascii_digit()) {
            let (number, after) = leading_number(rest.get(start..).unwrap_or_default());
            found.push(number);
            rest = after;
        }
        Self { found, has_plus: text.contains('+') }
    }
}

/// Returns the number at the start of a text, with or without separators of thousands, and the rest of the text.
fn leading_number(text: &str) -> (u64, &str) {
    let end = |text: &str| text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (first, mut rest) = text.split_at(end(text));
    let mut digits = first.to_owned();
    while first.len() <= 3
        && let Some(group) = rest.strip_prefix([',', '.', '\'', '\u{2019}', ' ', '\u{a0}', '\u{202f}'])
        && end(group) == 3
    {
        let (group, after) = group.split_at(3);
        digits.push_str(group);
        rest = after;
    }
    (digits.parse().unwrap_or(u64::MAX), rest)
}

/// How the names of months begin in the languages of most spreadsheets.
const MONTHS: &[&str] = &[
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec", "mär", "mai", "okt", "dez",
    "fév", "avr", "jui", "aoû", "déc", "ene", "abr", "ago", "dic", "fev", "out", "gen", "mag", "giu", "lug", "set",
    "ott", "mei", "maj", "des", "mrt",
];

fn first_three(text: &str) -> String {
    text.to_lowercase().chars().take(3).collect()
}

/// Returns whether a text is a date of a spreadsheet, such as `2026-02-10 00:00:00`, `10/02/2026`, `10.02.2026`,
/// `10-Feb` or `Nov-50`.
fn is_date(text: &str) -> bool {
    let day = text.trim().split([' ', 'T']).next().unwrap_or_default();
    let parts: Vec<&str> = day.split(['-', '/', '.']).collect();
    let is_number = |part: &&str| matches!(part.len(), 1 | 2 | 4) && part.bytes().all(|byte| byte.is_ascii_digit());
    let is_month =
        |part: &&str| (3..=4).contains(&part.chars().count()) && MONTHS.contains(&first_three(part).as_str());
    match parts.as_slice() {
        [year, month, day] => [year, month, day].into_iter().all(is_number),
        [one, other] => (is_number(one) && is_month(other)) || (is_month(one) && is_number(other)),
        _ => false,
    }
}

/// Returns whether a text is a number, with the separators of a spreadsheet or without.
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

#[cfg(test)]
mod tests {
    use super::CompanySize;

    #[test]
    fn a_hint_names_a_size_only_if_the_numbers_are_the_same() {
        let same = [
            ("51\u{2013}200", "51-200"),
            ("51 - 200", "51-200"),
            ("51 to 200", "51-200"),
            ("1,001-5,000", "1001-5000"),
            ("1.001 bis 5.000 Mitarbeiter", "1001-5000"),
            ("1 001\u{a0}\u{2013}\u{a0}5 000", "1001-5000"),
            ("11-50 employees", "11-50"),
            ("10,001 +", "10001+"),
            ("self-employed", "SelfEmployed"),
            ("Self Employed", "SelfEmployed"),
            ("empty", "Empty"),
        ];
        for (text, right) in same {
            let refusal = CompanySize::refusal(text);
            assert!(refusal.ends_with(&format!("; did you mean {right}?")), "{text}: {refusal}");
        }
        let others = [
            "10-100", "500-1000", "100-500", "100-250", "50-100", "20-100", "5-10", "1-10", "1-50", "1000+", "5000+",
            "51-201", "50+", "0-1",
        ];
        for text in others {
            let refusal = CompanySize::refusal(text);
            assert!(refusal.ends_with("10001+; use one of these ranges"), "{text}: {refusal}");
        }
        for text in ["10001", "51"] {
            let refusal = CompanySize::refusal(text);
            assert!(refusal.ends_with(" with the range that contains it"), "{text}: {refusal}");
        }
        assert!(CompanySize::refusal("enormous").ends_with("10001+"));
    }

    #[test]
    fn a_date_is_told_from_a_size_and_from_a_number() {
        for text in [
            "2026-02-10",
            "2026-02-10 00:00:00",
            "2026-02-10T00:00:00",
            "2/10/2026",
            "10.02.26",
            "10-Feb",
            "Nov-50",
            "févr-10",
        ] {
            assert!(CompanySize::refusal(text).ends_with(CompanySize::FROM_A_DATE), "{text}");
        }
        for text in
            ["11-50 ", "50-200", "1.000.000", "120", "2-10 staff", "10-people", "50-plus", "51.ppl", "a-b-c", ""]
        {
            assert!(!CompanySize::refusal(text).contains(CompanySize::FROM_A_DATE), "{text}");
        }
    }
}
