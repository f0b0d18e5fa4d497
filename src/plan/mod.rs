//! Bulk updates: a table is planned with few requests, kept in a file, and applied, stopped, resumed and reverted.
//!
//! What is meant is separate from what is done: [`diff`] and [`source`] know neither network nor file, [`planner`] says
//! which request to send next and never sends one, [`mod@file`] keeps, and [`run`] brings them together.

pub mod diff;
mod domain;
pub mod file;
mod ids;
pub mod planner;
pub mod run;
pub mod source;

use crate::account::FieldValue;
pub use crate::change::{Change, Value};

pub use self::domain::domain_key;

/// A list is taken to show texts whole that have fewer characters.
const SHORTEST_CUT: usize = 32;

/// What a table's columns do to an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Mode {
    /// The columns given change, the rest stays.
    #[default]
    Patch,
    /// Only fields that are empty now are filled.
    Fill,
    /// The account becomes what the row says: a field without a column is cleared. The owner stays unless it is given.
    Replace,
}

/// What an empty cell means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Nulls {
    /// The field stays as it is.
    #[default]
    Keep,
    /// The field is cleared.
    Clear,
}

/// By what a row finds its account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum MatchOn {
    /// Its id.
    #[default]
    Id,
    /// Its primary domain name, by its [`domain_key`].
    DomainName,
    /// Its name, exactly.
    Name,
}

/// Makes an enum whose variants have one text each, in a file, a table and a message alike.
macro_rules! named {
    ($( $name:ident { $( $variant:ident $text:literal )+ } )+) => {
        $( impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[ $( Self::$variant, )+ ];

            /// Its name.
            pub const fn as_str(self) -> &'static str {
                match self { $( Self::$variant => $text, )+ }
            }

            /// The one of a name.
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $( $text => Some(Self::$variant), )+ _ => None }
            }
        } )+
    };
}

/// What became of a row. Every row has exactly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Status {
    /// The account already is as the row says.
    Unchanged,
    /// The service answered the row's update with success.
    Changed,
    /// The service refused the row's update; nothing was changed.
    Failed,
    /// The row cannot be sent: a cell is not what the contract allows.
    Invalid,
    /// No account matches.
    NotFound,
    /// Several accounts match the row, or several rows one account.
    Ambiguous,
    /// Somebody else changed the same field between plan and apply.
    Conflict,
    /// Still to be done.
    Pending,
    /// An update was sent and no answer tells whether it was applied.
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
    /// Nothing is in it.
    Empty,
    /// Text.
    Text(&'a str),
    /// An integer.
    Integer(i64),
}

/// A column of a table with texts that often mean nothing, or that only a program makes. They are sent as they are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Suspicion {
    /// The column, as the table names it.
    pub column: String,
    /// How many of its cells have such a text.
    pub cells: u64,
    /// The first row with one, from 0.
    pub row: u64,
}

impl<'a> Cell<'a> {
    /// The value as a field has it; `None` for an empty cell.
    pub fn value(self) -> Option<FieldValue<'a>> {
        match self {
            Self::Empty => None,
            Self::Text(text) => Some(FieldValue::Text(text)),
            Self::Integer(number) => Some(FieldValue::Integer(number)),
        }
    }
}
