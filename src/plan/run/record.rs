//! The outcomes of rows, and their texts. Pure.

use super::policy::{Kind, Refusal};
use crate::account::Field;
use crate::plan::Status;
use crate::plan::file::{Finished, ON_REVERT, OpenRow, Record};

/// How the error of a row begins whose update was written, but not as planned.
const WRITTEN: &str = "written, but ";

pub(super) fn finish(row: OpenRow, status: Status, error: Option<String>) -> Record {
    let error = error.map(|error| in_row(row, &error));
    Record::Finish { row: row.row, finished: Finished { error, ..Finished::of(status) } }
}

/// Returns the outcome of a row whose account needs no update. `altered` contains the fields that no row names and that
/// had another value before the update of the reverted plan, which got no answer.
pub(super) fn unchanged(row: OpenRow, altered: &[Field], left: Vec<Field>) -> Record {
    let names: Vec<&str> = altered.iter().map(|field| field.name()).collect();
    let parts: Vec<String> = has_other_value(&names).into_iter().chain(left_alone(&left)).collect();
    let error = (!parts.is_empty()).then(|| in_row(row, &parts.join("; ")));
    let stored_otherwise = !altered.is_empty();
    let finished = Finished { error, stored_otherwise, left, ..Finished::of(Status::Unchanged) };
    Record::Finish { row: row.row, finished }
}

/// Makes an outcome name the members that attempts without an answer cleared. A hint at the end stays there.
pub(super) fn name_lost(row: u64, finished: &mut Finished, members: &[String]) {
    let is_written = finished.status == Status::Changed;
    let start = format!("row {row}: {}", if is_written { WRITTEN } else { "" });
    let rest = finished.error.as_deref().map(|error| error.strip_prefix(&start).unwrap_or(error));
    let parts: Vec<String> = std::iter::once(cleared(members)).chain(rest.map(ToOwned::to_owned)).collect();
    finished.error = Some(start + &parts.join("; "));
    // The other statuses are failures.
    finished.stored_otherwise |= matches!(finished.status, Status::Changed | Status::Unchanged);
}

/// Returns the outcome of a row whose request failed permanently.
pub(super) fn given_up(row: OpenRow, refusal: &Refusal) -> Record {
    let status = match refusal.kind {
        // An account that this key can no longer see may have been written.
        _ if row.was_sent => Status::Unknown,
        Kind::NotFound => Status::NotFound,
        _ => Status::Failed,
    };
    finish(row, status, Some(refusal.error.to_string()))
}

pub(super) fn in_row(row: OpenRow, text: &str) -> String {
    format!("row {}: {text}", row.row)
}

/// Returns the error text of a row whose answer differs from what was sent.
pub(super) fn said_of(differing: &[Field], lost: &[String], altered: &[String], left: &[Field]) -> Option<String> {
    let mut parts = Vec::new();
    if !differing.is_empty() {
        let names: Vec<&str> = differing.iter().map(|field| field.name()).collect();
        parts.push(format!("the answer of the service differs from what was sent in {}", names.join(", ")));
    }
    if !lost.is_empty() {
        parts.push(cleared(lost));
    }
    let altered: Vec<&str> = altered.iter().filter(|name| !lost.contains(name)).map(String::as_str).collect();
    parts.extend(has_other_value(&altered));
    parts.extend(left_alone(left));
    (!parts.is_empty()).then(|| format!("{WRITTEN}{}", parts.join("; ")))
}

fn has_other_value(names: &[&str]) -> Option<String> {
    let names = (!names.is_empty()).then(|| names.join(", "))?;
    Some(format!("the account now has another value in {names}: the update altered it, or someone else changed it"))
}

fn cleared(members: &[String]) -> String {
    format!("the update cleared {}, which an update cannot include", members.join(", "))
}

/// Returns what a revert says of fields that no row named and that have another value now.
pub(super) fn left_alone(left: &[Field]) -> Option<String> {
    let names: Vec<&str> = left.iter().map(|field| field.name()).collect();
    (!names.is_empty()).then(|| format!("{} was not restored, because it has another value now", names.join(", ")))
}

/// Returns the outcome of a row whose fields have values that neither the plan nor the account at planning had. `fills`
/// is true if the mode overwrites no value, `is_revert` if the plan reverts another one.
pub(super) fn conflict(row: OpenRow, foreign: &[Field], fills: bool, is_revert: bool) -> Record {
    let names = foreign.iter().map(|field| field.name()).collect::<Vec<_>>().join(", ");
    let on = if is_revert { ON_REVERT } else { "" };
    let overwrite = format!("apply(rows=[{}], on_conflict=\"overwrite\"){on}", row.row);
    let unknown = |error| finish(row, Status::Unknown, Some(error));
    match (row.was_sent, fills) {
        (true, false) => unknown(format!(
            "the value of {names} is neither the previous one nor the one sent: the service may store it in another \
             form, or someone changed it since; look at the account; to send the update again, use {overwrite}"
        )),
        (true, true) => unknown(format!(
            "this plan did not send the value of {names}: the service may store it in another form, or someone else \
             set it; mode \"fill\" does not overwrite values"
        )),
        (false, true) => {
            let error = format!("mode \"fill\" does not overwrite the new value of {names}");
            finish(row, Status::Conflict, Some(error))
        }
        (false, false) => {
            let what = if is_revert {
                "after the update that this plan reverts, or the service stores it in another form than its answer \
                 showed"
            } else if row.position.is_some() {
                "since the plan was made, or the list shows another value than GET"
            } else {
                "since the plan was made"
            };
            let text =
                format!("{names} changed {what}; look at the account; to send the update anyway, use {overwrite}");
            overwritable(row, &text)
        }
    }
}

/// Returns the outcome of a row that a run with `on_conflict="overwrite"` may write.
pub(super) fn overwritable(row: OpenRow, text: &str) -> Record {
    let error = Some(in_row(row, text));
    Record::Finish { row: row.row, finished: Finished { error, can_overwrite: true, ..Finished::of(Status::Conflict) } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_conflict_fits_one_field_and_several() {
        let text_of = |position, was_sent, fills, is_revert| {
            let row = OpenRow {
                row: 3,
                account_id: Some(7),
                position,
                weight: 0,
                listed: crate::account::FieldSet::default(),
                was_sent,
                is_pending: !was_sent,
                has_older_values: was_sent,
            };
            match conflict(row, &[Field::City, Field::Phone], fills, is_revert) {
                Record::Finish { finished, .. } => {
                    assert_eq!(finished.can_overwrite, !was_sent && !fills);
                    finished.error.unwrap_or_default()
                }
                other => panic!("{other:?}"),
            }
        };
        let text = |was_sent, fills, is_revert| text_of(None, was_sent, fills, is_revert);
        let other_form = "the service may store it in another form, or someone";
        let overwrite =
            "; look at the account; to send the update anyway, use apply(rows=[3], on_conflict=\"overwrite\")";
        assert_eq!(text(false, false, false), format!("row 3: city, phone changed since the plan was made{overwrite}"));
        let listed = text_of(Some(0), false, false, false);
        assert!(listed.contains("since the plan was made, or the list shows another value than GET; look"), "{listed}");
        assert_eq!(
            text(false, false, true),
            format!(
                "row 3: city, phone changed after the update that this plan reverts, or the service stores it in \
                 another form than its answer showed{overwrite} on the plan of the revert"
            )
        );
        assert!(!text(false, true, false).contains("on_conflict"));
        assert_eq!(text(false, true, false), "row 3: mode \"fill\" does not overwrite the new value of city, phone");
        let again = text(true, false, true);
        let expected =
            "; to send the update again, use apply(rows=[3], on_conflict=\"overwrite\") on the plan of the revert";
        assert!(again.ends_with(expected), "{again}");
        let expected = "row 3: the value of city, phone is neither the previous one nor the one sent: ";
        assert!(text(true, false, false).starts_with(&format!("{expected}{other_form}")));
        assert!(
            text(true, true, false)
                .starts_with(&format!("row 3: this plan did not send the value of city, phone: {other_form}"))
        );
    }
}
