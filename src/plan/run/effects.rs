//! What the answer to an update shows of the fields of its account. Pure.

use crate::account::{ContactAccount, Field};
use crate::change::{Change, Value, filled};
use crate::plan::file::Unplanned;
use crate::sabotage::{Guard, is_off};
use crate::text::is_blank;

/// What became of the fields.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Effects {
    /// Whether the answer shows an effect of a change.
    pub(super) is_shown: bool,
    /// The changed fields in which the answer differs from the plan, with its value.
    pub(super) answered: Vec<(Field, Value)>,
    /// The fields without a change that a revert restores: the answer differs from what was sent, or they are empty
    /// since an attempt of the same run that got no answer.
    pub(super) unplanned: Vec<Unplanned>,
    /// The fields that differed from their values before the first attempt when the account was read, with those
    /// values: an earlier attempt altered them, or someone changed them since.
    pub(super) altered: Vec<(Field, Value)>,
    /// The fields that should have a value, had one, and are empty now.
    pub(super) emptied: Vec<Field>,
    /// Whether the service set another owner than it was sent. It may store a text in another form, but not a number.
    pub(super) has_other_owner: bool,
}

impl Effects {
    /// Compares an account before an update, the changes, and the answer. `unnamed` contains the values that fields
    /// without a change had before the first attempt, and `differing` the fields in which the answer differs from what
    /// was sent. If the first attempt was in an earlier run, someone may have emptied a field since.
    pub(super) fn of(
        account: &ContactAccount,
        changes: &[Change],
        unnamed: &[(Field, Value)],
        is_of_this_run: bool,
        differing: &[Field],
        answer: &ContactAccount,
    ) -> Self {
        let mut effects = Self::default();
        for change in changes {
            let (before, now) = (Value::from(account.value(change.field)), answer.value(change.field));
            effects.is_shown |=
                !before.is(change.field, change.after.as_field_value()) && !before.is(change.field, now);
            if !change.after.is(change.field, now) && !is_off(Guard::Answers) {
                effects.answered.push((change.field, now.into()));
            }
            if has_value(change.field, &before) && has_value(change.field, &change.after) {
                effects.emptied.push(change.field);
            }
        }
        for field in Field::ALL.iter().copied().filter(|field| !changes.iter().any(|change| change.field == *field)) {
            let now = Value::from(account.value(field));
            let stored =
                unnamed.iter().find(|(other, stored)| *other == field && !stored.is(field, account.value(field)));
            // Within one run, the earlier attempt has probably emptied it.
            let of_earlier_attempt = stored.filter(|_| is_of_this_run && now.is_empty(field));
            let is_emptied = has_value(field, &now) && filled(field, answer.value(field)).is_none();
            let differs = differing.contains(&field);
            // Any other value in between may be someone's, so a revert restores neither.
            if of_earlier_attempt.is_some() || (differs && (stored.is_none() || is_emptied)) {
                let before = of_earlier_attempt.map_or(now, |(_, value)| value.clone());
                if has_value(field, &before) {
                    effects.emptied.push(field);
                }
                effects.unplanned.push(Unplanned { field, before, answered: answer.value(field).into() });
            }
            effects.altered.extend(stored.filter(|_| of_earlier_attempt.is_none()).cloned());
            effects.has_other_owner |= differs && field == Field::OwnerUserId;
        }
        effects.emptied.retain(|field| filled(*field, answer.value(*field)).is_none());
        effects
    }

    /// Returns the fields of which an earlier attempt may have altered the value.
    pub(super) fn doubtful<'a>(&'a self, differing: &'a [Field]) -> impl Iterator<Item = Field> + 'a {
        let emptied = self.unplanned.iter().map(|unplanned| unplanned.field);
        emptied.filter(|field| !differing.contains(field)).chain(self.altered.iter().map(|(field, _)| *field))
    }
}

fn has_value(field: Field, value: &Value) -> bool {
    !value.is_empty(field) && !matches!(value, Value::Text(text) if is_blank(text))
}

#[cfg(test)]
mod tests {
    use super::{Change, ContactAccount, Effects, Field, Unplanned, Value};
    use crate::change::Deviations;

    fn account(city: &str, phone: &str, owner: i64) -> ContactAccount {
        let members = serde_json::json!({"id": 1, "name": "A", "ownerUserId": owner, "city": city, "phone": phone});
        serde_json::from_value(members).unwrap()
    }

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    fn effects(unnamed: &[(Field, Value)], account: &ContactAccount, answer: &ContactAccount) -> Effects {
        effects_of(unnamed, true, account, answer)
    }

    fn effects_of(
        unnamed: &[(Field, Value)],
        is_of_this_run: bool,
        account: &ContactAccount,
        answer: &ContactAccount,
    ) -> Effects {
        let changes = [Change::new(Field::City, text("Oslo"), text("Bergen"))];
        let sent = crate::change::merged(account, &changes).unwrap();
        Effects::of(account, &changes, unnamed, is_of_this_run, &Deviations::of(account, &sent, answer).fields, answer)
    }

    #[test]
    fn an_answer_as_sent_shows_only_the_change() {
        let found = effects(&[(Field::Phone, text("1"))], &account("Oslo", "1", 7), &account("Bergen", "1", 7));
        assert_eq!(found, Effects { is_shown: true, ..Effects::default() });
    }

    #[test]
    fn a_value_before_the_first_attempt_is_compared_with_what_the_account_has_now() {
        let stored = [(Field::Phone, text("1"))];
        let found = effects(&stored, &account("Oslo", "2", 7), &account("Bergen", "2", 7));
        assert_eq!((found.altered, found.unplanned, found.emptied), (stored.to_vec(), vec![], vec![]));
        let found = effects(&stored, &account("Oslo", "", 7), &account("Bergen", "", 7));
        let unplanned = Unplanned { field: Field::Phone, before: text("1"), answered: text("") };
        assert_eq!((found.altered, found.unplanned, found.emptied), (vec![], vec![unplanned], vec![Field::Phone]));
        let found = effects_of(&stored, false, &account("Oslo", "", 7), &account("Bergen", "", 7));
        assert_eq!((found.altered, found.unplanned, found.emptied), (stored.to_vec(), vec![], vec![]));
        // The last attempt altered it once more. Someone may have written the value in between.
        let found = effects(&stored, &account("Oslo", "2", 7), &account("Bergen", "3", 7));
        assert_eq!((found.altered, found.unplanned, found.emptied), (stored.to_vec(), vec![], vec![]));
        let found = effects(&stored, &account("Oslo", "2", 7), &account("Bergen", "", 7));
        let unplanned = Unplanned { field: Field::Phone, before: text("2"), answered: text("") };
        assert_eq!(
            (found.altered, found.unplanned, found.emptied),
            (stored.to_vec(), vec![unplanned], vec![Field::Phone])
        );
        let found = effects(&stored, &account("Oslo", "", 7), &account("Bergen", "3", 7));
        let unplanned = Unplanned { field: Field::Phone, before: text("1"), answered: text("3") };
        assert_eq!((found.altered, found.unplanned), (vec![], vec![unplanned]));
        // An earlier run emptied it, or someone did, and the answer shows a default.
        let found = effects_of(&stored, false, &account("Oslo", "", 7), &account("Bergen", "n/a", 7));
        assert_eq!((found.altered, found.unplanned), (stored.to_vec(), vec![]));
    }

    #[test]
    fn a_value_of_the_row_that_comes_back_empty_is_emptied_if_there_was_another() {
        assert_eq!(effects(&[], &account("Oslo", "1", 7), &account("", "1", 7)).emptied, [Field::City]);
        assert_eq!(effects(&[], &account(" ", "1", 7), &account("", "1", 7)).emptied, []);
        let found = effects(&[], &account("Oslo", "1", 7), &account("Bergen", "1", 8));
        assert!(found.has_other_owner && found.emptied.is_empty());
    }
}
