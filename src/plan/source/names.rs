//! Finds the role of each column by its name, and reports every problem at once.

mod hints;

pub(super) use self::hints::plain;
use self::hints::{expected, meant};
use super::integers::is_invisible;
use super::{LONGEST_NAME, Options, TITLE};
use crate::account::{Field, FieldError, Kind, MEMBERS, nearest};
use crate::plan::{MatchOn, Mode};
use crate::text::{one_line, plain_line};

/// The read-only columns of a listing. A table that has all of them is a listing of this package.
const READ_ONLY: [&str; 7] = [
    "linked_prospects_count",
    "created_date",
    "last_activity_date",
    "stage_id",
    "stage_name",
    "stage_color_id",
    "email_provider",
];

const NO_FIELD: &str = "is not a field of a contact account";
const RENAME: &str = "rename or remove one of them in the table, because ignore= would ignore both";
const UNKNOWN: &str = "is not a field of a contact account; to leave it out, list it in ignore=";
/// The most unknown columns for which a message suggests a field.
const MOST_HINTS: usize = 100;

/// The role of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Nothing.
    Ignored,
    /// The key by which rows find their accounts.
    Key,
    /// A field to change.
    Field(Field),
}

impl Role {
    /// Returns the kind of its cells.
    pub(super) fn kind(self, match_on: MatchOn) -> Kind {
        match self {
            Self::Field(field) => field.kind(),
            Self::Key if match_on == MatchOn::Id => Kind::Integer,
            Self::Key | Self::Ignored => Kind::Text,
        }
    }
}

/// Why a column has no role.
#[derive(PartialEq)]
pub(super) enum Unfit {
    /// The service sets the field.
    ReadOnly,
    /// The column is the id, but rows are matched by another key.
    Id,
    /// No field has this name, or the name that the column maps to.
    Unknown,
}

/// The columns, and the problems with their names.
#[derive(Debug)]
pub(super) struct Names {
    pub(super) roles: Vec<(String, Role)>,
    pub(super) faults: Vec<FieldError>,
    /// The column that may have the ids of Reply.io, if none is named `id`.
    ids: Option<String>,
    /// The number of columns, without an index that has no name.
    pub(super) count: usize,
}

impl Names {
    pub(super) fn of(names: &[&str], options: &Options) -> Self {
        let ids = ids_among(names, options);
        let roles = Vec::with_capacity(names.len());
        let count = names.iter().filter(|name| !is_index(name)).count();
        let mut found = Self { roles, faults: Vec::new(), ids: ids.map(quoted), count };
        let is_listing = READ_ONLY.iter().all(|column| names.iter().any(|name| name == column));
        let mut taken: Vec<(Role, &str)> = Vec::new();
        let mut others = Others::of(names, options);
        for name in names {
            let role = match role_of(name, options) {
                Ok(Role::Ignored) => Ok(Role::Ignored),
                Ok(role) => match taken.iter().find(|(other, _)| *other == role) {
                    Some((_, other)) if other == name => Err(format!("is given twice; {RENAME}")),
                    Some((_, other)) => {
                        Err(format!("is given twice, as {} and as {}; {RENAME}", quoted(other), quoted(name)))
                    }
                    None => {
                        taken.push((role, name));
                        Ok(role)
                    }
                },
                Err(Unfit::ReadOnly) if is_listing => Ok(Role::Ignored),
                Err(Unfit::ReadOnly) => Err("cannot be updated: the service sets it; list it in ignore=".to_owned()),
                Err(Unfit::Id) => {
                    let key = options.match_on.as_str();
                    Err(format!("is not used with match_on={key:?}; if that is intended, list it in ignore="))
                }
                Err(Unfit::Unknown) if ids == Some(name) => {
                    Err(format!("{NO_FIELD}; if it {}; otherwise list it in ignore=", has_ids(&quoted(name))))
                }
                // A suggestion takes long to find, and no one reads that many messages.
                Err(Unfit::Unknown) if found.faults.len() >= MOST_HINTS => Err(UNKNOWN.to_owned()),
                Err(Unfit::Unknown) => Err(unknown(name, renamed(name, options), &mut others)),
            };
            let role = role.unwrap_or_else(|message| {
                found.faults.push(FieldError::new(shown(name), message));
                Role::Ignored
            });
            found.roles.push((shown(name), role));
        }
        found.check_renamed(names, options);
        found.faults.extend(ignored_along(names, options));
        if options.mode == Mode::Replace && !names.is_empty() {
            found.check_left_out(names, options);
        }
        found
    }

    /// A renamed column must exist: its name may be misspelled, and its values would be lost. One column must not have
    /// two fields: its values would go to one of them.
    fn check_renamed(&mut self, names: &[&str], options: &Options) {
        for (index, (from, to)) in options.columns.iter().enumerate() {
            let is_other = |(other, field): &&(String, String)| same(other, from) && field != to;
            if let Some((other, _)) = options.columns.iter().take(index).find(is_other) {
                let message = format!(
                    "and {} in columns= differ only in case, spaces or punctuation, so they are the same column; keep \
                     one of them",
                    quoted(other)
                );
                self.faults.push(FieldError::new(shown(from), message));
            }
            if !names.is_empty() && !names.iter().any(|name| same(from, name)) {
                self.faults.push(FieldError::new(shown(from), "is in columns=, but not in the table"));
            }
            if options.ignore.iter().any(|ignored| same(ignored, from)) {
                self.faults.push(FieldError::new(shown(from), "is in both columns= and ignore="));
            }
        }
    }

    /// A user who ignores a column expects that its field does not change. Mode "replace" clears a field without a
    /// column.
    fn check_left_out(&mut self, names: &[&str], options: &Options) {
        let clears = |field: Field| {
            let has = |(_, role): &(String, Role)| *role == Role::Field(field);
            field.nullable() && field.name() != options.match_on.as_str() && !self.roles.iter().any(has)
        };
        let ignored =
            options.ignore.iter().filter_map(|name| Some((name.as_str(), field(name).filter(|f| clears(*f))?)));
        let mut left_out: Vec<FieldError> = ignored
            .map(|(name, _)| {
                let message = "is a field that mode \"replace\" clears when it has no column, so ignore= cannot keep \
                    its value; keep its column, or use mode \"patch\"";
                FieldError::new(shown(name), message)
            })
            .collect();
        if options.ignore_unknown && Field::ALL.iter().any(|field| clears(*field)) {
            let is_left_out = |name: &&&str| {
                role_of(name, options) == Ok(Role::Ignored) && !is_index(name) && !is_unnamed(name) && !is_set(name)
            };
            let mut others = Others::of(names, options);
            for (number, name) in names.iter().filter(is_left_out).enumerate() {
                let advice = if number < MOST_HINTS { advice(name, &mut others) } else { None };
                let advice =
                    advice.unwrap_or_else(|| "; map it to its field with columns=, or list it in ignore=".to_owned());
                let message = format!(
                    "{NO_FIELD}, but may contain the values of a field; mode \"replace\" clears each field without a \
                     column, so ignore= must name every column to leave out, instead of \"unknown\"{advice}"
                );
                left_out.push(FieldError::new(shown(name), message));
            }
        }
        self.faults.extend(left_out);
    }

    /// Adds the missing required columns. An empty table lacks none.
    pub(super) fn require(&mut self, rows: usize, options: &Options) {
        if rows == 0 && self.roles.is_empty() {
            return;
        }
        let key = options.match_on.as_str();
        let has = |wanted: Role| self.roles.iter().any(|(_, role)| *role == wanted);
        let mut missing = Vec::new();
        if !has(Role::Key) {
            missing.push(FieldError::new(key, self.no_key(options)));
        }
        if options.mode == Mode::Replace && options.match_on != MatchOn::Name && !has(Role::Field(Field::Name)) {
            missing.push(FieldError::new("name", "is missing: mode \"replace\" sends accounts in full, name included"));
        }
        missing.extend(self.without_field(options));
        // A message has only the first faults, and without these columns there is no table.
        self.faults.splice(..0, missing);
    }

    /// Returns what is wrong with a table of whose columns none is a field, because `ignore="unknown"` left them out: a
    /// header may be misspelled, and the plan would say that each account has its values already.
    fn without_field(&self, options: &Options) -> Option<FieldError> {
        let has_field = self.roles.iter().any(|(_, role)| matches!(role, Role::Field(_)));
        let is_left_out = |name: &str| {
            let is_named = options.ignore.iter().any(|ignored| same(ignored, name));
            !is_named && !is_index(name) && !is_unnamed(name) && !is_set(name)
        };
        let ignored = self.roles.iter().filter(|(name, role)| *role == Role::Ignored && is_left_out(name));
        let names: Vec<String> = ignored.map(|(name, _)| quoted(name)).take(MOST_HINTS).collect();
        (options.ignore_unknown && !has_field && !names.is_empty()).then(|| {
            let names = names.join(", ");
            let message = "\"unknown\" leaves no field to write, because no column is one";
            FieldError::new("ignore", format!("{message} ({names}); map one to its field with columns="))
        })
    }

    /// Returns what is wrong with a table without a key, and what to do.
    fn no_key(&self, options: &Options) -> String {
        let key = options.match_on.as_str();
        let is_other = |field: Field| {
            let is_field = |(name, role): &(String, Role)| *role == Role::Field(field) || meant(name) == Some(field);
            options.match_on == MatchOn::Id && self.roles.iter().any(is_field)
        };
        let other = [Field::DomainName, Field::Name].into_iter().find(|field| is_other(*field)).map(Field::name);
        let by_it = format!("is missing: rows find their accounts by it (match_on={key:?})");
        match (&self.ids, other) {
            (Some(ids), None) => format!("{by_it}; if {ids} {}", has_ids(ids)),
            (Some(ids), Some(other)) => {
                format!("{by_it}; if {ids} {}; otherwise match_on={other:?} finds them without ids", has_ids(ids))
            }
            (None, Some(other)) => format!("{by_it}; match_on={other:?} finds them without ids"),
            (None, None) if self.has_no_header() => {
                format!("is missing, and no column is a field of a contact account{TITLE}")
            }
            (None, None) => by_it,
        }
    }

    /// Returns whether no column is named as one of a table would be.
    fn has_no_header(&self) -> bool {
        self.roles.iter().all(|(name, role)| *role == Role::Ignored && meant(name).is_none() && !is_read_only(name))
    }
}

/// Returns the column that may have the ids of Reply.io, if none is named `id`. An `Account ID` may be that of another
/// program, so it is one only if nothing else finds the accounts.
fn ids_among<'a>(names: &[&'a str], options: &Options) -> Option<&'a str> {
    const OF_ANY_PROGRAM: [&str; 3] = ["accountid", "contactaccountid", "companyid"];
    let is_named_so = |name: &str| OF_ANY_PROGRAM.contains(&name);
    if options.match_on != MatchOn::Id || names.iter().any(|name| role_of(name, options) == Ok(Role::Key)) {
        return None;
    }
    let all = Options { ignore_unknown: false, ..options.clone() };
    let mut unknown =
        names.iter().filter(|name| role_of(name, &all) == Err(Unfit::Unknown) && renamed(name, &all).is_none());
    let is_of_reply = |name: &&&str| {
        let name = plain(name);
        let rest = name.strip_prefix("reply").map(|rest| rest.strip_prefix("io").unwrap_or(rest));
        rest.is_some_and(|rest| rest == "id" || is_named_so(rest))
    };
    let finds = |name: &&str| {
        let field = field(renamed(name, &all).unwrap_or(name)).or_else(|| meant(name));
        matches!(field, Some(Field::DomainName | Field::Name))
    };
    let of_reply = unknown.clone().find(is_of_reply);
    let found = of_reply.or_else(|| unknown.find(|name| is_named_so(&plain(name))));
    found.filter(|_| of_reply.is_some() || !names.iter().any(finds)).copied()
}

/// What to do with a column that has the ids.
fn has_ids(name: &str) -> String {
    format!("has the ids of Reply.io, set columns={{{name}: \"id\"}}")
}

/// Returns the faults of columns that `ignore=` would ignore although it names another one: a user who ignores one of
/// two columns for a field expects that the other one is used.
fn ignored_along(names: &[&str], options: &Options) -> Vec<FieldError> {
    let is_listed = |name: &str| options.ignore.iter().any(|ignored| ignored == name);
    let is_used = |name: &str| field(name).is_some() || plain(name) == "id";
    let used = names.iter().filter(|name| is_used(name) && !is_listed(name));
    let fault = |name: &&str| {
        let other = names.iter().find(|other| is_listed(other) && same(other, name))?;
        let message = format!(
            "would be ignored too, because its name differs from {} only in case, spaces or punctuation; rename one of \
            them, or list both in ignore=",
            quoted(other)
        );
        Some(FieldError::new(shown(name), message))
    };
    used.filter_map(fault).collect()
}

/// Returns the role of a column, based only on its name.
pub(super) fn role_of(name: &str, options: &Options) -> Result<Role, Unfit> {
    let renamed = renamed(name, options);
    if renamed.is_none() && (is_index(name) || options.ignore.iter().any(|ignored| same(ignored, name))) {
        return Ok(Role::Ignored);
    }
    let key = options.match_on.as_str();
    let is_id = plain(renamed.unwrap_or(name)) == "id";
    match field(renamed.unwrap_or(name)) {
        Some(field) if field.name() == key => Ok(Role::Key),
        Some(field) => Ok(Role::Field(field)),
        None if is_id && key == "id" => Ok(Role::Key),
        None if options.ignore_unknown && renamed.is_none() => Ok(Role::Ignored),
        None if is_read_only(name) => Err(Unfit::ReadOnly),
        None if is_id => Err(Unfit::Id),
        None => Err(Unfit::Unknown),
    }
}

/// Returns the name that the caller maps a column to.
fn renamed<'a>(name: &str, options: &'a Options) -> Option<&'a str> {
    options.columns.iter().find(|(from, _)| same(from, name)).map(|(_, to)| to.as_str())
}

/// Returns the field with a name.
fn field(name: &str) -> Option<Field> {
    Field::from_name(name).or_else(|| {
        let name = plain(name);
        Field::ALL.iter().find(|field| plain(field.name()) == name).copied()
    })
}

/// Returns whether two names refer to the same column.
fn same(left: &str, right: &str) -> bool {
    left == right || {
        let left = plain(left);
        !left.is_empty() && left == plain(right)
    }
}

/// The name that pandas and pyarrow give to an unnamed index.
fn is_index(name: &str) -> bool {
    let level = name.strip_prefix("__index_level_").and_then(|rest| rest.strip_suffix("__"));
    level.is_some_and(|level| !level.is_empty() && level.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The name of a column that has none: pandas gives one to it, in a file or in the cells of a sheet.
fn is_unnamed(name: &str) -> bool {
    name.trim().is_empty()
        || matches!(name, "nan" | "None")
        || name.strip_prefix("Unnamed: ").is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Returns whether the service sets a member with this name.
fn is_set(name: &str) -> bool {
    is_read_only(name) || plain(name) == "id"
}

fn is_read_only(name: &str) -> bool {
    let name = plain(name);
    let members = MEMBERS.iter().filter(|member| !member.writable && member.name != "id").map(|member| member.name);
    members.chain(READ_ONLY).any(|member| plain(member) == name)
}

/// The columns that are fields, and those that a message has suggested for one: a user who follows two suggestions for
/// the same field would only get the next error.
struct Others<'a>(Vec<(Field, &'a str)>);

impl<'a> Others<'a> {
    fn of(names: &[&'a str], options: &Options) -> Self {
        let key = match options.match_on {
            MatchOn::Id => None,
            MatchOn::DomainName => Some(Field::DomainName),
            MatchOn::Name => Some(Field::Name),
        };
        let field = |name: &str| match role_of(name, options) {
            Ok(Role::Field(field)) => Some(field),
            Ok(Role::Key) => key,
            _ => None,
        };
        Self(names.iter().filter_map(|name| Some((field(name)?, *name))).collect())
    }

    /// The column that has a field already; otherwise `name` has it from now on.
    fn taken(&mut self, field: Field, name: &'a str) -> Option<&'a str> {
        let other = self.0.iter().find(|(other, _)| *other == field).map(|(_, name)| *name);
        if other.is_none() {
            self.0.push((field, name));
        }
        other
    }
}

fn unknown<'a>(name: &'a str, renamed: Option<&str>, others: &mut Others<'a>) -> String {
    if let Some(to) = renamed {
        return format!("maps to {}, which {NO_FIELD}", quoted(to));
    }
    if name.trim().is_empty() {
        return "has no name; to leave it out, list it in ignore=".to_owned();
    }
    if is_unnamed(name) {
        return "is how pandas names a column without a header, often the index of a DataFrame; to leave it out, list \
            it in ignore="
            .to_owned();
    }
    advice(name, others).map_or_else(|| UNKNOWN.to_owned(), |advice| format!("{NO_FIELD}{advice}"))
}

/// Returns what to do with a column whose name resembles a field.
fn advice<'a>(name: &'a str, others: &mut Others<'a>) -> Option<String> {
    if let Some(field) = meant(name) {
        if let Some(other) = others.taken(field, name) {
            let (field, other) = (field.name(), quoted(other));
            let name = quoted(name);
            return Some(format!("; the table also has {other} for {field}, so list {name} in ignore="));
        }
        let (field, name, expected) = (field.name(), quoted(name), expected(field));
        return Some(format!(
            "; if it is the {field}{expected}, set columns={{{name}: \"{field}\"}}; otherwise list it in ignore="
        ));
    }
    let wanted = plain(name);
    // Not `id`: a word as short as `Index` resembles it, and its numbers would be ids of other accounts.
    let names = Field::ALL.iter().map(|field| field.name());
    // The word "company" alone makes a name look like company_size.
    let rest = wanted.strip_prefix("company").filter(|rest| nearest(rest, ["size"].into_iter()).is_none());
    let has_name = !wanted.is_empty() && !wanted.starts_with("unnamed");
    let right = nearest(&wanted, names).filter(|right| has_name && (rest.is_none() || *right != "company_size"));
    right.map(|right| format!("; did you mean {right}? Otherwise, list it in ignore="))
}

/// Returns a name in quotes, as a Python literal of one line.
fn quoted(name: &str) -> String {
    let cut: String = name.chars().take(LONGEST_NAME).collect();
    let more = if cut.len() < name.len() { "…" } else { "" };
    format!("\"{}{more}\"", one_line(&cut, usize::MAX, true).replace('"', "\\\""))
}

/// Returns a name for a one-line message, in quotes if people would not see all of it.
pub(super) fn shown(name: &str) -> String {
    let is_odd = name.trim() != name || name.is_empty() || name.chars().take(LONGEST_NAME).any(is_invisible);
    if is_odd { quoted(name) } else { plain_line(name, LONGEST_NAME) }
}

/// Returns what [`shown`] returned, in quotes.
pub(super) fn in_quotes(shown: &str) -> String {
    if shown.starts_with('"') { shown.to_owned() } else { quoted(shown) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roles(names: &[&str], options: &Options) -> Vec<Role> {
        let found = Names::of(names, options);
        assert_eq!(found.faults, []);
        found.roles.into_iter().map(|(_, role)| role).collect()
    }

    fn fault(name: &str, options: &Options) -> String {
        let found = Names::of(&[name], options).faults;
        assert_eq!(found.len(), 1, "{name}: {found:?}");
        format!("{} {}", found[0].field, found[0].message)
    }

    fn renaming(from: &str, to: &str) -> Options {
        Options { columns: vec![(from.to_owned(), to.to_owned())], ..Options::default() }
    }

    #[test]
    fn names_are_compared_without_case_spaces_and_separators() {
        for name in ["linked_in_url", "linkedInUrl", "LinkedIn URL", "LINKED_IN_URL", " linkedin url ", "Linked-In Url"]
        {
            assert_eq!(roles(&[name], &Options::default()), [Role::Field(Field::LinkedInUrl)], "{name}");
        }
        for name in ["id", "ID", "Id", " id "] {
            assert_eq!(roles(&[name], &Options::default()), [Role::Key], "{name}");
        }
        let ignore = Options { ignore: vec!["Some Notes".to_owned()], ..Options::default() };
        assert_eq!(roles(&["some_notes"], &ignore), [Role::Ignored]);
    }

    #[test]
    fn a_column_that_pandas_named_is_explained() {
        assert!(fault("Unnamed: 0", &Options::default()).contains("the index of a DataFrame"));
        assert!(!fault("Unnamed: city", &Options::default()).contains("pandas"));
    }

    #[test]
    fn two_columns_for_one_field_are_an_error() {
        let found = Names::of(&["City", "city ", "CITY"], &Options::default()).faults;
        let messages: Vec<_> = found.iter().map(|fault| fault.message.as_str()).collect();
        assert_eq!(
            messages,
            ["\"city \"", "\"CITY\""].map(|other| format!(
                "is given twice, as \"City\" and as {other}; rename or remove one of them in the table, because \
                 ignore= would ignore both"
            ))
        );
        let both = Options { columns: vec![("Website".to_owned(), "domain_name".to_owned())], ..Options::default() };
        assert_eq!(Names::of(&["Website", "Domain Name"], &both).faults.len(), 1);
    }

    #[test]
    fn a_column_is_read_as_the_field_that_the_caller_names() {
        assert_eq!(roles(&["Website"], &renaming("Website", "domain_name")), [Role::Field(Field::DomainName)]);
        assert_eq!(roles(&["Account ID"], &renaming("account id", "id")), [Role::Key]);
        // The caller's mapping has precedence over the name.
        assert_eq!(roles(&["city"], &renaming("city", "state")), [Role::Field(Field::State)]);
        assert_eq!(
            fault("Website", &renaming("Website", "domain")),
            "Website maps to \"domain\", which is not a field of a contact account"
        );
        let missing = Names::of(&["id"], &renaming("Web site", "domain_name")).faults;
        assert_eq!(missing[0].message, "is in columns=, but not in the table");
        let two = Options {
            columns: [("E-Mail", "email"), ("Email", "description"), ("e mail", "email")]
                .map(|(from, to)| (from.to_owned(), to.to_owned()))
                .to_vec(),
            ..Options::default()
        };
        let faults: Vec<String> = Names::of(&["Email"], &two)
            .faults
            .into_iter()
            .map(|fault| format!("{} {}", fault.field, fault.message))
            .collect();
        assert_eq!(
            faults,
            [
                "Email and \"E-Mail\" in columns= differ only in case, spaces or punctuation, so they are the same \
                 column; keep one of them",
                "e mail and \"Email\" in columns= differ only in case, spaces or punctuation, so they are the same \
                 column; keep one of them"
            ]
        );
        let both = Options { ignore: vec!["website".to_owned()], ..renaming("Website", "domain_name") };
        assert_eq!(Names::of(&["Website"], &both).faults[0].message, "is in both columns= and ignore=");
    }

    #[test]
    fn ignoring_what_is_unknown_leaves_at_least_one_field() {
        let options = Options { ignore_unknown: true, ..Options::default() };
        let faults = |names: &[&str], options: &Options| {
            let mut found = Names::of(names, options);
            found.require(1, options);
            found.faults
        };
        let expected = "\"unknown\" leaves no field to write, because no column is one (\"Town\", \"Area\"); map one \
            to its field with columns=";
        assert_eq!(faults(&["id", "Town", "Area"], &options), [FieldError::new("ignore", expected)]);
        assert_eq!(faults(&["id", "city", "Area"], &options), []);
        // Nothing was left out without a word.
        assert_eq!(faults(&["id", "Unnamed: 0", "stage"], &options), []);
        assert_eq!(faults(&["id", "Area"], &Options { ignore: vec!["area".to_owned()], ..options }), []);
    }

    #[test]
    fn a_name_by_the_place_of_a_column_resembles_no_field() {
        assert!(fault("citty", &Options::default()).contains("did you mean city?"));
        assert!(!fault("unnamed 2", &Options::default()).contains("did you mean"));
    }

    #[test]
    fn ignoring_what_is_unknown_keeps_the_fields() {
        let options = Options { ignore_unknown: true, ..Options::default() };
        let ignored = ["Record ID", "notes", "", "Created By", "Created Date", "Last Activity Date", "stage_name"];
        for name in ignored {
            assert_eq!(roles(&["id", "City", name], &options), [Role::Key, Role::Field(Field::City), Role::Ignored]);
        }
    }

    #[test]
    fn replacing_refuses_to_ignore_a_field_that_it_would_clear() {
        let replace = |ignore: &[&str]| Options {
            mode: Mode::Replace,
            ignore: ignore.iter().map(ToString::to_string).collect(),
            ..Options::default()
        };
        // A DataFrame is passed without the ignored columns.
        for names in [&["id", "name", "phone"][..], &["id", "name"]] {
            for ignored in ["phone", "Phone", "PHONE "] {
                let faults = Names::of(names, &replace(&[ignored])).faults;
                assert_eq!(faults.len(), 1, "{ignored}: {faults:?}");
                assert!(faults[0].message.starts_with("is a field that mode \"replace\" clears"), "{faults:?}");
            }
        }
        for harmless in ["notes", "created_date", "owner_user_id", "ownerUserId"] {
            assert_eq!(Names::of(&["id", "name"], &replace(&[harmless])).faults, [], "{harmless}");
        }
        for mode in [Mode::Patch, Mode::Fill] {
            assert_eq!(Names::of(&["id", "phone"], &Options { mode, ..replace(&["phone"]) }).faults, []);
        }
        let renamed = Options { columns: vec![("Tel".to_owned(), "phone".to_owned())], ..replace(&["phone"]) };
        assert_eq!(Names::of(&["id", "name", "phone", "Tel"], &renamed).faults, [], "another column has the phone");
    }

    #[test]
    fn replacing_ignores_no_unknown_column_while_it_would_clear_a_field() {
        let replace = Options { mode: Mode::Replace, ignore_unknown: true, ..Options::default() };
        let refused = |names: &[&str], options: &Options| -> Vec<String> {
            Names::of(names, options)
                .faults
                .into_iter()
                .map(|fault| format!("{} {}", fault.field, fault.message))
                .collect()
        };
        // No list of words has the columns of every program, in every language.
        for name in ["Telefon", "properties.phone", "HQ City", "Ort", "Notes", "Status", "電話", "Email?"] {
            let told = refused(&["id", "name", name], &replace);
            assert_eq!(told.len(), 1, "{name}: {told:?}");
            let expected = format!(
                "{name} is not a field of a contact account, but may contain the values of a field; mode \"replace\""
            );
            assert!(told[0].starts_with(&expected), "{told:?}");
            assert_eq!(refused(&["id", "name", name], &Options { mode: Mode::Patch, ..replace.clone() }), [""; 0]);
        }
        let told = refused(&["id", "name", "Phone Number", "Notes", "Telephone"], &replace);
        assert!(told[0].ends_with(
            "; if it is the phone, set columns={\"Phone Number\": \"phone\"}; otherwise list it in ignore="
        ));
        assert!(told[1].ends_with("instead of \"unknown\"; map it to its field with columns=, or list it in ignore="));
        let ending = "; the table also has \"Phone Number\" for phone, so list \"Telephone\" in ignore=";
        assert!(told[2].ends_with(ending), "{told:?}");
        let columns = vec![("Phone Number".to_owned(), "phone".to_owned())];
        let ignore = vec!["Notes".to_owned(), "Telephone".to_owned()];
        let followed = Options { columns, ignore, ignore_unknown: false, ..replace.clone() };
        assert_eq!(
            refused(&["id", "name", "Phone Number", "Notes", "Telephone"], &followed),
            [""; 0],
            "the hints work"
        );
        // These have no values of a field.
        let harmless = [
            "id",
            "name",
            "",
            " ",
            "nan",
            "Unnamed: 3",
            "__index_level_0__",
            "Created Date",
            "stage_name",
            "email_provider",
        ];
        assert_eq!(refused(&harmless, &replace), [""; 0]);
        let by_name = Options { match_on: MatchOn::Name, ..replace.clone() };
        assert_eq!(refused(&["id", "name"], &by_name), [""; 0]);
        // Nothing is cleared.
        let clearable = Field::ALL.iter().filter(|field| field.nullable()).map(|field| field.name());
        let mut all: Vec<&str> = clearable.chain(["id", "name", "Notes", "Telefon"]).collect();
        assert_eq!(refused(&all, &replace), [""; 0]);
        all.retain(|name| *name != "phone");
        assert_eq!(refused(&all, &replace).len(), 2);
    }

    #[test]
    fn a_sign_behind_a_letter_makes_another_name() {
        for name in ["Email?", "City %", "City%", "Phone+", "Country=", "State ✓", "City ≠", "Phone #", "id?"] {
            let told = fault(name, &Options::default());
            assert!(told.contains("is not a field of a contact account"), "{told}");
        }
        assert!(fault("Email?", &Options::default()).contains("; did you mean email? Otherwise"));
        for name in [
            "Email *",
            "(email)",
            "[Email]:",
            "`email`",
            "“Email”",
            "e‑mail",
            "# Email",
            "+Email",
            "=\"email\"",
            "E-Mail.",
        ] {
            assert_eq!(roles(&[name], &Options::default()), [Role::Field(Field::Email)], "{name}");
        }
        let ignore = Options { ignore: vec!["Email?".to_owned()], ..Options::default() };
        assert_eq!(roles(&["email ?", "Email"], &ignore), [Role::Ignored, Role::Field(Field::Email)]);
        let both = Options { columns: vec![("City %".to_owned(), "state".to_owned())], ..Options::default() };
        assert_eq!(roles(&["City %", "City"], &both), [Role::Field(Field::State), Role::Field(Field::City)]);
    }

    #[test]
    fn the_column_to_ignore_is_named_if_another_one_has_the_field() {
        let told = Names::of(&["id", "city", "Town"], &Options::default()).faults;
        assert_eq!(told.len(), 1);
        let expected =
            "is not a field of a contact account; the table also has \"city\" for city, so list \"Town\" in ignore=";
        assert_eq!((told[0].field.as_str(), told[0].message.as_str()), ("Town", expected));
    }

    #[test]
    fn no_column_is_suggested_to_have_the_ids_because_its_name_is_short() {
        for name in ["Index", "idx", "iid", "ids", "i", "uid"] {
            assert!(!fault(name, &Options::default()).contains("did you mean id"), "{name}");
        }
    }

    #[test]
    fn hints_know_the_words_of_other_programs() {
        for (name, field) in [
            ("Company Name", "name"),
            ("Company", "name"),
            ("Website", "domain_name"),
            ("# Employees", "company_size"),
            ("Number of Employees", "company_size"),
            ("Company Linkedin Url", "linked_in_url"),
            ("Phone Number", "phone"),
            ("Billing State/Province", "state"),
        ] {
            let found = fault(name, &Options::default());
            assert!(found.contains(&format!("set columns={{\"{name}\": \"{field}\"}}")), "{found}");
            assert_eq!(Names::of(&[name], &renaming(name, field)).faults, [], "the hint works");
        }
        for name in ["Company Name for Emails", "Company Street", "Company Postal Code", "Company Address"] {
            let found = fault(name, &Options::default());
            assert!(!found.contains("company_size"), "{found}");
        }
        assert!(fault("company_sice", &Options::default()).contains("did you mean company_size?"));
    }

    #[test]
    fn hints_that_are_all_followed_lead_to_a_table() {
        for names in [
            &["Website", "Company Domain Name", "Company name", "Account Name"][..],
            &["Company Domain Name", "Website URL", "Domain Name"],
            &["Company Name", "Website", "name", "Employees", "Number of Employees", "Account Owner"],
        ] {
            let mut options = Options { match_on: MatchOn::DomainName, ..Options::default() };
            for fault in Names::of(names, &options).faults {
                match fault.message.split_once("set columns={\"") {
                    Some((_, pair)) => {
                        let (from, to) = pair.split_once("\": \"").unwrap();
                        options.columns.push((from.to_owned(), to.split_once('"').unwrap().0.to_owned()));
                    }
                    None => options.ignore.push(fault.field.clone()),
                }
            }
            let mut found = Names::of(names, &options);
            found.require(1, &options);
            assert_eq!(found.faults, [], "{names:?}");
        }
    }

    #[test]
    fn a_table_without_ids_is_told_what_else_finds_accounts() {
        let missing = |names: &[&str]| {
            let mut found = Names::of(names, &Options::default());
            found.require(1, &Options::default());
            found.faults.swap_remove(0).message
        };
        assert!(missing(&["Website", "Company"]).ends_with("; match_on=\"domain_name\" finds them without ids"));
        assert!(missing(&["Company", "city"]).ends_with("; match_on=\"name\" finds them without ids"));
        assert!(missing(&["city"]).ends_with("(match_on=\"id\")"));
    }

    #[test]
    fn a_column_that_may_have_the_ids_is_named() {
        for (name, literal) in [
            ("Reply ID", "Reply ID"),
            ("reply_id", "reply_id"),
            ("Reply.io Account Id", "Reply.io Account Id"),
            ("Account Id", "Account Id"),
            (" Account ID\u{a0}", " Account ID\\xa0"),
            ("Reply \"ID\"", "Reply \\\"ID\\\""),
        ] {
            let hint = format!("has the ids of Reply.io, set columns={{\"{literal}\": \"id\"}}");
            for options in [Options::default(), Options { ignore_unknown: true, ..Options::default() }] {
                let mut found = Names::of(&["Record ID", "Owner ID", name, "city"], &options);
                found.require(1, &options);
                let told = found.faults.iter().filter(|fault| fault.message.contains(&hint)).count();
                assert_eq!(told, 2 - usize::from(options.ignore_unknown), "{name}: {:?}", found.faults);
                assert!(found.faults[0].message.contains(&hint));
            }
            let mut found = Names::of(&[name, "city"], &renaming(name, "id"));
            found.require(1, &Options::default());
            assert_eq!(found.faults, [], "the hint works");
        }
        let told = |names: &[&str], options: &Options| {
            let mut found = Names::of(names, options);
            found.require(1, options);
            found.faults.iter().any(|fault| fault.message.contains("the ids of Reply.io"))
        };
        assert!(!told(&["id", "Reply ID"], &Options::default()));
        for other in [
            "Record ID",
            "HubSpot ID",
            "Owner ID",
            "Paid",
            "Madrid",
            "Company",
            "Reply Madrid",
            "replypaid",
            "reply_guid",
        ] {
            assert!(!told(&[other, "city"], &Options::default()), "{other}");
        }
        assert!(!told(&["Reply ID"], &Options { match_on: MatchOn::Name, ..Options::default() }));
        assert!(!told(&["Reply ID"], &Options { ignore: vec!["Reply ID".to_owned()], ..Options::default() }));
        let both = Names::of(&["Account ID", "Reply ID"], &Options::default());
        assert_eq!(both.ids.as_deref(), Some("\"Reply ID\""));
        assert!(told(&["Reply ID", "Company"], &Options::default()));
        // A CRM has ids of its own.
        assert!(!told(&["Account ID", "Company"], &Options::default()));
    }

    #[test]
    fn a_title_above_the_header_is_suspected_where_no_column_is_a_field() {
        let is_suspected = |names: &[&str], options: &Options| {
            let mut found = Names::of(names, options);
            found.require(1, options);
            found.faults.first().is_some_and(|fault| fault.message.contains("if the first line is a title, remove it"))
        };
        let options = Options::default();
        let unknown = Options { ignore_unknown: true, ..Options::default() };
        for names in
            [&["Customers of 2026", "nan", "nan"][..], &["Customers of 2026", "", "Unnamed: 2"], &["1", "Acme"]]
        {
            assert!(is_suspected(names, &options), "{names:?}");
            assert!(is_suspected(names, &unknown), "{names:?}");
        }
        for names in [&["city", "nan"][..], &["Website"], &["created_date"], &["Reply ID"], &["id", "Notes"]] {
            assert!(!is_suspected(names, &options), "{names:?}");
        }
    }

    #[test]
    fn what_is_invisible_in_a_name_is_shown() {
        let found = fault("notes\u{200b}", &Options::default());
        assert!(found.starts_with("\"notes\\u200b\" is not a field"), "{found}");
        let found = fault("\" Company  Name \"", &Options::default());
        assert!(found.contains("set columns={\"\\\" Company  Name \\\"\": \"name\"}"), "{found}");
        let found = fault(" Company  Name ", &Options::default());
        assert!(found.contains("set columns={\" Company  Name \": \"name\"}"), "{found}");
        assert!(fault("", &Options::default()).starts_with("\"\" has no name"));
        let long = "linked_in_url".repeat(1_000_000);
        assert!(fault(&long, &Options::default()).len() < 300);
    }
}
