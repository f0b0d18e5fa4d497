//! Finds the field that a name of another program means.

use crate::account::Field;
use crate::plan::source::LONGEST_NAME;

/// The names that other programs use for a field, in letters and digits only.
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

/// Returns the letters and digits of a name, which are compared. A name that is too long for a field has none.
pub(super) fn plain(name: &str) -> String {
    if name.len() > LONGEST_NAME {
        return String::new();
    }
    name.chars().filter(|character| character.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// Returns the field of some that a name resembles: one begins with the other, as `Email Address` and `Time Zone`, or
/// it is misspelled.
pub(super) fn resembled(name: &str, is_one: impl Fn(Field) -> bool) -> Option<Field> {
    const ALMOST_EQUAL: f64 = 0.95;
    let wanted = plain(name);
    let wanted = wanted.strip_prefix("company").unwrap_or(&wanted);
    let begins =
        |name: &str| wanted.starts_with(name) || (name.starts_with(wanted) && 4 * wanted.len() >= 3 * name.len());
    Field::ALL.iter().copied().filter(|field| is_one(*field)).find(|field| {
        let field = plain(field.name());
        // Other programs leave these endings out.
        let short = field.strip_suffix("url").or_else(|| field.strip_suffix("id")).unwrap_or(&field);
        begins(&field) || begins(short) || strsim::jaro_winkler(wanted, &field) >= ALMOST_EQUAL
    })
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
