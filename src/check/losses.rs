//! Which members of an account may have other values than before a trial, from what the trial has seen since. Pure.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::account::{Field, STAGE};
use crate::change;

use super::kept::{Moment, Update};
use super::restoring::{self, is_text_of_check};
use super::wording::joined;

/// What the trial has seen of the account since its update was sent.
#[derive(Debug, Clone)]
pub(super) enum Sight {
    /// The answer to an update of the trial.
    Answer(Moment),
    /// A read.
    Read(Moment),
}

impl Sight {
    const fn moment(&self) -> &Moment {
        match self {
            Self::Answer(moment) | Self::Read(moment) => moment,
        }
    }

    const fn as_answer(&self) -> Option<&Moment> {
        if let Self::Answer(moment) = self { Some(moment) } else { None }
    }
}

/// The names of the members that a trial may have altered, and that someone may have to restore. The description is
/// not among them, because it was empty.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Losses {
    /// Members that differ where the trial has last seen the account.
    pub(super) shown: BTreeSet<Member>,
    /// Other members that differ in the last answer to an update. The reads after it may be older than it.
    pub(super) answered: BTreeSet<Member>,
    /// All members with a value, if the trial has not seen the account since an update that may have been applied.
    pub(super) unseen: BTreeSet<Member>,
}

/// A member that an update may alter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Member {
    Field(Field),
    Stage,
}

impl Member {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Field(field) => field.name(),
            Self::Stage => STAGE,
        }
    }

    /// Returns the value of the member before the trial. A stage is chosen by its name in Reply.io.
    fn value(self, before: &Moment) -> Value {
        let wire = if let Self::Field(field) = self { field.wire() } else { STAGE };
        let value = before.raw.get(wire).cloned().unwrap_or_default();
        let name = if self == Self::Stage { value.get("name").cloned() } else { None };
        name.unwrap_or(value)
    }
}

impl Losses {
    /// Compares the account before the trial with everything that the trial has seen since its update.
    pub(super) fn of(before: &Moment, update: Update, seen: &[Sight]) -> Self {
        let Some(last) = seen.last() else {
            let unseen = if update == Update::Unknown { filled(before) } else { BTreeSet::new() };
            return Self { unseen, ..Self::default() };
        };
        let shown = differing(before, last.moment());
        let answer = seen.iter().rev().find_map(Sight::as_answer);
        let mut answered = answer.map(|answer| differing(before, answer)).unwrap_or_default();
        answered.retain(|member| !shown.contains(member) && !is_disproved(*member, before, update, seen));
        Self { shown, answered, unseen: BTreeSet::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members().next().is_none()
    }

    /// Returns the members with their values before the trial.
    pub(super) fn values(&self, before: &Moment) -> Vec<(String, Value)> {
        self.members().map(|member| (member.name().to_owned(), member.value(before))).collect()
    }

    fn members(&self) -> impl Iterator<Item = Member> {
        [&self.shown, &self.answered, &self.unseen].into_iter().flatten().copied()
    }
}

pub(super) fn named(members: &BTreeSet<Member>) -> String {
    joined(members.iter().map(|member| member.name()))
}

/// Returns the members in which an account differs from before the trial, except the description.
pub(super) fn differing(before: &Moment, now: &Moment) -> BTreeSet<Member> {
    let fields = restoring::differing(&before.account, &now.account).into_iter();
    let fields = fields.filter(|field| *field != restoring::FIELD).map(Member::Field);
    let stage = (!restoring::same_stage(&before.raw, &now.raw)).then_some(Member::Stage);
    fields.chain(stage).collect()
}

/// Returns whether answers do not count for a member: the answer to the first update differs in it, and a read that
/// shows the text of that update does not.
fn is_disproved(member: Member, before: &Moment, update: Update, seen: &[Sight]) -> bool {
    let differs = |moment: &Moment| differing(before, moment).contains(&member);
    let has_text = |moment: &Moment| is_text_of_check(moment.account.value(restoring::FIELD));
    let first = seen.iter().find_map(Sight::as_answer).filter(|_| update == Update::Answered);
    first.is_some_and(differs)
        && seen.iter().any(|sight| matches!(sight, Sight::Read(read) if has_text(read) && !differs(read)))
}

/// Returns the members that have a value.
fn filled(before: &Moment) -> BTreeSet<Member> {
    let has_value = |field: &Field| change::filled(*field, before.account.value(*field)).is_some();
    let fields = Field::ALL.iter().copied().filter(has_value).map(Member::Field);
    let stage = before.raw.get(STAGE).is_some_and(|stage| !stage.is_null()).then_some(Member::Stage);
    fields.chain(stage).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::restoring::TEXT;
    use super::*;

    fn moment(members: &Value) -> Moment {
        let mut account =
            json!({"id": 7, "name": "Plain", "ownerUserId": 1, "city": "Oslo", "stage": {"id": 3, "name": "Lead"}});
        account.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        Moment { account: serde_json::from_value(account.clone()).unwrap(), raw: account.as_object().unwrap().clone() }
    }

    fn names(members: &BTreeSet<Member>) -> Vec<&'static str> {
        members.iter().map(|member| member.name()).collect()
    }

    #[test]
    fn what_was_last_seen_counts_and_what_an_answer_shows_is_kept() {
        let before = moment(&json!({}));
        let with_text = |members: Value| {
            let mut members = members;
            members["description"] = json!(TEXT);
            moment(&members)
        };
        let lost = || with_text(json!({"city": null, "stage": null}));
        let of = |seen: &[Sight]| {
            let losses = Losses::of(&before, Update::Answered, seen);
            assert!(losses.unseen.is_empty());
            (names(&losses.shown), names(&losses.answered))
        };
        let (all, none) = (vec!["city", "stage"], Vec::new());
        for (seen, expected) in [
            (vec![], (none.clone(), none.clone())),
            (vec![Sight::Answer(lost())], (all.clone(), none.clone())),
            (vec![Sight::Answer(lost()), Sight::Read(before.clone())], (none.clone(), all.clone())),
            (vec![Sight::Answer(lost()), Sight::Read(lost())], (all.clone(), none.clone())),
            (vec![Sight::Answer(lost()), Sight::Read(with_text(json!({})))], (none.clone(), none.clone())),
            (vec![Sight::Answer(lost()), Sight::Read(with_text(json!({"city": null})))], (vec!["city"], none.clone())),
            // The second update has restored the city.
            (
                vec![
                    Sight::Answer(lost()),
                    Sight::Read(lost()),
                    Sight::Answer(moment(&json!({"stage": null}))),
                    Sight::Read(before.clone()),
                ],
                (none.clone(), vec!["stage"]),
            ),
            // Only the second update has lost the stage, and the read after it is older.
            (
                vec![
                    Sight::Answer(with_text(json!({}))),
                    Sight::Read(with_text(json!({}))),
                    Sight::Answer(moment(&json!({"stage": null}))),
                    Sight::Read(with_text(json!({}))),
                ],
                (none.clone(), vec!["stage"]),
            ),
        ] {
            assert_eq!(of(&seen), expected, "{seen:?}");
        }
    }

    #[test]
    fn an_update_without_an_answer_may_have_altered_every_value_until_the_account_is_seen() {
        let before = moment(&json!({"phone": "", "companySize": "Empty"}));
        let unseen = |update, seen: &[Sight]| names(&Losses::of(&before, update, seen).unseen);
        assert_eq!(unseen(Update::Unknown, &[]), ["name", "city", "owner_user_id", "stage"]);
        assert_eq!(unseen(Update::Unknown, &[Sight::Read(before.clone())]), [""; 0]);
        for update in [Update::None, Update::NotApplied, Update::Answered] {
            assert_eq!(unseen(update, &[]), [""; 0]);
        }
        let values = Losses::of(&before, Update::Unknown, &[]).values(&before);
        assert_eq!(values.last(), Some(&("stage".to_owned(), json!("Lead"))));
    }
}
