//! What the columns of a table are, by their names, with every fault at once.

use super::{LONGEST_NAME, Options};
use crate::account::{Field, FieldError, Kind, MEMBERS, nearest};
use crate::plan::{MatchOn, Mode};
use crate::text::plain_line;

/// What a column is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Nothing.
    Ignored,
    /// The rows find their accounts by it.
    Key,
    /// A field to change.
    Field(Field),
}

impl Role {
    /// The kind of its cells.
    pub(super) fn kind(self, match_on: MatchOn) -> Kind {
        match self {
            Self::Field(field) => field.kind(),
            Self::Key if match_on == MatchOn::Id => Kind::Integer,
            Self::Key | Self::Ignored => Kind::Text,
        }
    }
}

/// The columns, and what is wrong with their names.
#[derive(Debug)]
pub(super) struct Names {
    pub(super) roles: Vec<(String, Role)>,
    pub(super) faults: Vec<FieldError>,
    ignored: usize,
}

impl Names {
    /// The number of columns that are not ignored.
    pub(super) fn count(&self) -> usize {
        self.roles.len() - self.ignored
    }

    pub(super) fn of(names: &[&str], options: &Options) -> Self {
        let mut found = Self { roles: Vec::with_capacity(names.len()), faults: Vec::new(), ignored: 0 };
        for name in names {
            let role = found.role(name, options);
            found.ignored += usize::from(role == Ok(Role::Ignored));
            let role = role.unwrap_or_else(|message| {
                found.faults.push(FieldError::new(shown(name), message));
                Role::Ignored
            });
            found.roles.push((shown(name), role));
        }
        found
    }

    fn role(&self, name: &str, options: &Options) -> Result<Role, String> {
        if is_index(name) || options.ignore.iter().any(|ignored| same(ignored, name)) {
            return Ok(Role::Ignored);
        }
        let key = options.match_on.as_str();
        let role = match Field::from_name(name) {
            Some(field) if field.name() == key => Role::Key,
            Some(field) => Role::Field(field),
            None if name == "id" && key == "id" => Role::Key,
            None => return Err(unknown(name, key)),
        };
        match self.roles.iter().find(|(_, other)| *other == role) {
            Some((other, _)) if other == name => Err("is given twice".to_owned()),
            Some((other, _)) => Err(format!("is given twice, as {other} and as {name}")),
            None => Ok(role),
        }
    }

    /// Adds what is not there and must be. A table of nothing at all lacks nothing.
    pub(super) fn require(&mut self, rows: usize, options: &Options) {
        if rows == 0 && self.roles.is_empty() {
            return;
        }
        let key = options.match_on.as_str();
        let has = |wanted: Role| self.roles.iter().any(|(_, role)| *role == wanted);
        let mut missing = Vec::new();
        if !has(Role::Key) {
            missing
                .push(FieldError::new(key, format!("is missing: rows find their accounts by it (match_on={key:?})")));
        }
        if options.mode == Mode::Replace && options.match_on != MatchOn::Name && !has(Role::Field(Field::Name)) {
            missing.push(FieldError::new("name", "is missing: mode \"replace\" sends accounts in full, name included"));
        }
        self.faults.extend(missing);
    }
}

/// What pandas and pyarrow call an index that has no name.
fn is_index(name: &str) -> bool {
    let level = name.strip_prefix("__index_level_").and_then(|rest| rest.strip_suffix("__"));
    level.is_some_and(|level| !level.is_empty() && level.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Whether two names mean the same column.
fn same(left: &str, right: &str) -> bool {
    left == right || member(left).is_some_and(|name| Some(name) == member(right))
}

fn member(name: &str) -> Option<&'static str> {
    MEMBERS.iter().find(|member| member.name == name || member.wire == name).map(|member| member.name)
}

fn unknown(name: &str, key: &str) -> String {
    if name == "id" {
        return format!("is not used with match_on={key:?}; if that is meant, name it in ignore=");
    }
    // The list of accounts as a table has the stage in three columns.
    if member(name).is_some() || matches!(name, "stage_id" | "stage_name" | "stage_color_id") {
        return "cannot be updated: the service sets it; name it in ignore=".to_owned();
    }
    let names = Field::ALL.iter().map(|field| field.name()).chain(["id"]);
    match nearest(name, names) {
        Some(right) => format!("is not a field of a contact account; did you mean {right}? Else name it in ignore="),
        None => "is not a field of a contact account; if it is to be left out, name it in ignore=".to_owned(),
    }
}

/// A name for a message of one line.
pub(super) fn shown(name: &str) -> String {
    if name.trim().is_empty() { format!("{name:?}") } else { plain_line(name, LONGEST_NAME) }
}
