//! Finds the field that a name of another program means.

use crate::account::Field;
use crate::plan::source::LONGEST_NAME;
use crate::plan::source::integers::is_invisible;

/// The names that other programs use for a field, as they are compared.
const HINTS: [(Field, &[&str]); 13] = [
    (Field::Name, &["company", "companyname", "account", "accountname", "organization", "organizationname"]),
    (
        Field::DomainName,
        &[
            "website",
            "websiteurl",
            "companywebsite",
            "companydomain",
            "companydomainname",
            "accountwebsite",
            "domain",
            "url",
            "webpage",
        ],
    ),
    (Field::Description, &["desc", "shortdescription", "companydescription", "accountdescription"]),
    (
        Field::CompanySize,
        &["employees", "employeecount", "numberofemployees", "noofemployees", "companyheadcount", "headcount", "size"],
    ),
    (
        Field::LinkedInUrl,
        &[
            "linkedin",
            "companylinkedinurl",
            "linkedincompanyurl",
            "linkedincompanypage",
            "linkedincompanypageurl",
            "linkedincompanyprofile",
        ],
    ),
    (Field::TwitterUrl, &["twitter", "twitterhandle", "companytwitterurl"]),
    (Field::Phone, &["phonenumber", "companyphone", "companyphonenumber", "telephone"]),
    (Field::City, &["billingcity", "companycity", "town"]),
    (Field::State, &["billingstate", "billingstateprovince", "companystate", "stateregion", "region", "province"]),
    (Field::Country, &["billingcountry", "companycountry", "countryregion"]),
    (Field::LogoUrl, &["logo", "companylogo", "companylogourl"]),
    (Field::Email, &["emailaddress", "companyemail", "companyemailaddress"]),
    (Field::OwnerUserId, &["owner", "ownerid", "accountowner", "companyowner"]),
];

/// Returns what is compared of a name. A name that is too long for a field has nothing to compare.
///
/// A sign behind a letter can change what a column is about: `Email?` is a question, `City %` a share.
pub(in crate::plan::source) fn plain(name: &str) -> String {
    if name.len() > LONGEST_NAME {
        return String::new();
    }
    let compared = name.chars().filter(|character| !separates(*character));
    compared.skip_while(|character| !character.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// Returns whether a character in a name only separates, encloses or decorates words.
fn separates(character: char) -> bool {
    character.is_whitespace()
        || is_invisible(character)
        || "_-./\\:;,*|()[]{}\"'`´·−".contains(character)
        // Dashes and quotes.
        || matches!(character, '\u{2010}'..='\u{201f}')
}

/// Returns the field for a name that other programs use.
pub(super) fn meant(name: &str) -> Option<Field> {
    let wanted = plain(name);
    HINTS.iter().find(|(_, words)| words.contains(&wanted.as_str())).map(|(field, _)| *field)
}

/// What the values of a field must be where other programs have something else in a column of that name.
pub(super) fn expected(field: Field) -> &'static str {
    match field {
        Field::CompanySize => " (a range such as 51-200, not a number of employees)",
        Field::OwnerUserId => " (the id of a Reply.io user, not a name)",
        _ => "",
    }
}
