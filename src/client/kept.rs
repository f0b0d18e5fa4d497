//! Members that the answer to an update lacks, although the service kept them. Pure, except for the read of a patch.

use super::Client;
use super::exchange::{Running, Tries};
use crate::account::{ContactAccount, Field, STAGE};
use crate::answer::Answer;
use crate::change::{filled, has_lost, unsendable, unsendable_members};
use crate::transport::Request;

impl Client {
    /// Returns the answer to the update of a patch. Reads the account once more if the answer lacks members that the
    /// account had. If this read fails, they count as cleared.
    pub(super) async fn with_kept_members(
        &self,
        running: &mut Running,
        request: &Request,
        before: &ContactAccount,
        answer: ContactAccount,
    ) -> ContactAccount {
        if !lacks_members(before, &answer) {
            return answer;
        }
        running.updating = false;
        let read = |answer: &Answer| answer.account(before.id);
        let read = self.exchange_by(running, request, &read, &mut Tries::new(1), None).await;
        match read {
            Ok(Some(read)) => add_kept_members(before, answer, &read),
            _ => answer,
        }
    }
}

/// Returns whether an answer lacks members that the account had before its update, and that an update cannot include.
pub(crate) fn lacks_members(before: &ContactAccount, answer: &ContactAccount) -> bool {
    lacking(before, answer).next().is_some()
}

/// Adds to the answer such members as a read after the update shows them. The read must show an effect of the update:
/// the service may answer it with the account as it was before.
pub(crate) fn add_kept_members(
    before: &ContactAccount,
    mut answer: ContactAccount,
    read: &ContactAccount,
) -> ContactAccount {
    let differs = |field: &Field| filled(*field, before.value(*field)) != filled(*field, read.value(*field));
    if !Field::ALL.iter().any(differs) {
        return answer;
    }
    let names: Vec<String> = lacking(before, &answer).map(ToOwned::to_owned).collect();
    for name in names {
        if name == STAGE {
            answer.stage.clone_from(&read.stage);
        }
        if let Some(value) = read.extra.get(&name) {
            answer.extra.insert(name, value.clone());
        }
    }
    answer
}

fn lacking<'a>(before: &'a ContactAccount, answer: &'a ContactAccount) -> impl Iterator<Item = &'a str> {
    unsendable_members(before).filter(move |name| has_lost(name, &unsendable(before, name), answer))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{ContactAccount, add_kept_members, lacks_members};

    fn account(city: &str, stage: Option<i64>, tags: &[&str]) -> ContactAccount {
        let stage = stage.map(|id| json!({"id": id, "name": "Lead", "colorId": 1}));
        let members = json!({"id": 7, "name": "Acme", "ownerUserId": 1, "city": city, "stage": stage, "tags": tags});
        serde_json::from_value(members).unwrap()
    }

    #[test]
    fn what_a_read_after_the_update_shows_was_not_cleared() {
        let (before, answer) = (account("Oslo", Some(3), &["vip"]), account("Bergen", None, &[]));
        assert!(lacks_members(&before, &answer));
        let after = account("Bergen", Some(3), &["vip"]);
        assert_eq!(add_kept_members(&before, answer.clone(), &after), after);
        // The service cleared one of them.
        let after = account("Bergen", Some(3), &[]);
        assert_eq!(add_kept_members(&before, answer.clone(), &after), after);
        assert_eq!(add_kept_members(&before, answer.clone(), &answer), answer);
    }

    #[test]
    fn a_read_that_does_not_show_the_update_does_not_show_what_it_cleared() {
        let (before, answer) = (account("Oslo", Some(3), &["vip"]), account("Bergen", None, &[]));
        assert_eq!(add_kept_members(&before, answer.clone(), &before), answer);
    }
}
