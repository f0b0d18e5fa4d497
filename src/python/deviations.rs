//! Reads the deviations of a sandbox from a `replyio.sandbox.Deviations`.

use std::collections::BTreeSet;

use pyo3::prelude::*;
use pythonize::depythonize;
use serde_json::{Map, Value};

use crate::account::{Field, MEMBERS};
use crate::sandbox::{Dates, Deviations, Empty, RateLimitHeaders, Stored};

/// A `replyio.sandbox.Deviations`, attribute by attribute.
#[derive(FromPyObject)]
pub(super) struct DeviationArguments<'py> {
    list_lacks: Vec<String>,
    list_cut: Option<usize>,
    dates: String,
    empty: String,
    unknown_members: Bound<'py, PyAny>,
    stored: String,
    ignored_fields: Vec<String>,
    update_clears: Vec<String>,
    update_owner: Option<i64>,
    rate_limit_headers: Option<String>,
}

impl DeviationArguments<'_> {
    /// Returns the deviations.
    ///
    /// # Errors
    /// Returns what is wrong, in a phrase that follows "deviations".
    pub(super) fn read(self) -> Result<Deviations, String> {
        let ignored_fields = if self.ignored_fields == ["all"] {
            Field::ALL.iter().copied().collect()
        } else {
            let field = |name: String| {
                Field::from_name(&name).ok_or_else(|| format!("cannot ignore {name:?}: it is not a field of an update"))
            };
            self.ignored_fields.into_iter().map(field).collect::<Result<BTreeSet<_>, _>>()?
        };
        Ok(Deviations {
            list_lacks: self.list_lacks.into_iter().map(wire_name).collect(),
            list_cut: self.list_cut,
            dates: choose(
                "dates",
                &self.dates,
                &[
                    ("utc", Dates::Utc),
                    ("offset", Dates::Offset),
                    ("local", Dates::Local),
                    ("date_only", Dates::DateOnly),
                    ("null", Dates::Null),
                ],
            )?,
            empty: choose(
                "empty",
                &self.empty,
                &[("as_sent", Empty::AsSent), ("null", Empty::Null), ("text", Empty::Text)],
            )?,
            unknown_members: depythonize::<Map<String, Value>>(&self.unknown_members)
                .map_err(|error| format!("unknown_members must be a mapping of names to JSON values: {error}"))?,
            stored: choose(
                "stored",
                &self.stored,
                &[
                    ("as_sent", Stored::AsSent),
                    ("trimmed", Stored::Trimmed),
                    ("reformatted", Stored::Reformatted),
                    ("escaped", Stored::Escaped),
                ],
            )?,
            ignored_fields,
            update_clears: self.update_clears.into_iter().map(wire_name).collect(),
            update_owner: self.update_owner,
            rate_limit_headers: match self.rate_limit_headers {
                None => RateLimitHeaders::None,
                Some(chosen) => choose(
                    "rate_limit_headers",
                    &chosen,
                    &[
                        ("x-rate-limit", RateLimitHeaders::XRateLimit),
                        ("ratelimit", RateLimitHeaders::RateLimit),
                        ("structured", RateLimitHeaders::Structured),
                    ],
                )?,
            },
        })
    }
}

/// Returns the JSON name of a member in either spelling; returns any other name unchanged.
fn wire_name(name: String) -> String {
    MEMBERS.iter().find(|member| member.name == name).map_or(name, |member| member.wire.to_owned())
}

fn choose<T: Copy>(name: &str, given: &str, choices: &[(&str, T)]) -> Result<T, String> {
    let found = choices.iter().find(|(word, _)| *word == given);
    found.map(|(_, choice)| *choice).ok_or_else(|| {
        let words = choices.iter().map(|(word, _)| format!("{word:?}")).collect::<Vec<_>>().join(", ");
        format!("{name} must be one of {words}")
    })
}
