//! Bulk updates: a table is planned with few requests, stored in a file, and then applied, stopped, resumed and
//! reverted.
//!
//! Deciding is separate from doing: [`diff`] and [`source`] know neither network nor file, [`planner`] decides which
//! request comes next and never sends one, [`mod@file`] stores the plan, and [`run`] combines them.

mod cut;
pub mod diff;
mod domain;
pub mod file;
mod fingerprint;
mod ids;
mod lengths;
pub mod planner;
pub mod run;
pub mod source;

use crate::account::FieldValue;
pub use crate::change::{Change, Value};

pub use self::domain::domain_key;

/// Requests older than this no longer count, in milliseconds.
const HOUR_MS: i64 = 3_600_000;

/// The planner assumes that a list shows texts with fewer characters in full.
const SHORTEST_CUT: usize = 32;

/// What a table's columns do to an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Mode {
    /// Changes the given columns and keeps the other fields.
    #[default]
    Patch,
    /// Only fills fields that are empty.
    Fill,
    /// Replaces the account with the row: clears each field that has no column. Keeps the owner unless it is given.
    Replace,
}

/// What an empty cell does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Nulls {
    /// Keeps the field.
    #[default]
    Keep,
    /// Clears the field.
    Clear,
}

/// How a row finds its account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum MatchOn {
    /// By its id.
    #[default]
    Id,
    /// By its primary domain name, compared by its [`domain_key`].
    DomainName,
    /// By its name, exactly.
    Name,
}

/// Generates an enum whose variants have the same text in a file, a table and a message.
macro_rules! named {
    ($( $name:ident { $( $variant:ident $text:literal )+ } )+) => {
        $( impl $name {
            /// Returns all variants.
            pub const ALL: &'static [Self] = &[ $( Self::$variant, )+ ];

            /// Returns the text.
            pub const fn as_str(self) -> &'static str {
                match self { $( Self::$variant => $text, )+ }
            }

            /// Returns the variant with a text.
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $( $text => Some(Self::$variant), )+ _ => None }
            }
        } )+
    };
}
use named;

/// The status of a row. Every row has exactly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Status {
    /// The account already has the values of the row.
    Unchanged,
    /// The service confirmed the row's update.
    Changed,
    /// The service refused the row's update and changed nothing.
    Failed,
    /// The row cannot be sent, because the API contract does not allow a cell.
    Invalid,
    /// No account matches.
    NotFound,
    /// Several accounts match the row, or several rows match one account.
    Ambiguous,
    /// Between plan and apply, someone else changed the same field, or the account no longer has the name that matched.
    Conflict,
    /// The row is still to be done.
    Pending,
    /// An update was sent and no answer confirmed it.
    Unknown,
}

named! {
    Mode { Patch "patch" Fill "fill" Replace "replace" }
    Nulls { Keep "keep" Clear "clear" }
    MatchOn { Id "id" DomainName "domain_name" Name "name" }
    Status {
        Unchanged "unchanged" Changed "changed" Failed "failed" Invalid "invalid" NotFound "not_found"
        Ambiguous "ambiguous" Conflict "conflict" Pending "pending" Unknown "unknown"
    }
}

/// One cell of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cell<'a> {
    /// An empty cell.
    Empty,
    /// Text.
    Text(&'a str),
    /// An integer.
    Integer(i64),
}

/// A column of a table with suspicious texts: texts that often mean an empty value, that only programs write, or that
/// begin or end with white space. The plan sends them unchanged.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Suspicion {
    /// The name of the column in the table.
    pub column: String,
    /// The number of its cells with such a text.
    pub cells: u64,
    /// The first row with such a text, from 0.
    pub row: u64,
}

impl<'a> Cell<'a> {
    /// Returns the value of a field; `None` for an empty cell.
    pub fn value(self) -> Option<FieldValue<'a>> {
        match self {
            Self::Empty => None,
            Self::Text(text) => Some(FieldValue::Text(text)),
            Self::Integer(number) => Some(FieldValue::Integer(number)),
        }
    }
}
