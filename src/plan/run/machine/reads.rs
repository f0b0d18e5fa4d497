//! What the machine does with the accounts that it reads before their updates.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::super::policy::{Direction, Refusal, Verdict};
use super::super::proof::{self, Compared, FEWEST};
use super::super::record::{conflict, finish, overwritable, unchanged};
use super::super::{OnConflict, RunError};
use super::{Machine, Update};
use crate::account::{ContactAccount, Field, STAGE};
use crate::answer::Item;
use crate::change::{self, Change, Drift, Value, filled, has_lost, has_unsendable};
use crate::plan::Status;
use crate::plan::file::{self, Attempt, FileError, ItemsProof, ON_REVERT, OpenRow, Record};
use crate::sabotage::{Guard, is_off};

impl Machine {
    /// Takes the answer to [`Request::Page`]. `planned` contains the changes of each row.
    pub(in crate::plan::run) fn looked_at_page(
        &mut self,
        rows: Vec<OpenRow>,
        mut planned: HashMap<u64, Vec<Change>>,
        answer: Result<Vec<Item>, Refusal>,
        now: Duration,
    ) -> Vec<Record> {
        self.looking = self.looking.saturating_sub(1);
        let items = match answer {
            Ok(items) => items,
            Err(refusal) => {
                match self.policy.failed(Direction::Read, None, &mut 0, &refusal, now) {
                    Verdict::Retry(_) => rows.into_iter().for_each(|row| {
                        self.asked.remove(&row.row);
                        self.look_again(row);
                    }),
                    _ => self.fail(RunError::Call(refusal.error)),
                }
                return Vec::new();
            }
        };
        let mut records = self.succeeded(Direction::Read);
        if self.looked_at.is_none() {
            for row in rows {
                self.look_again(row);
            }
            return records;
        }
        let accounts = items.into_iter().filter_map(|item| match item {
            Item::Account(account) => Some((account.id, account)),
            // The row is read with `GET`, which may be able to read it, or reports what is wrong.
            Item::Unreadable { .. } => None,
        });
        let mut accounts: HashMap<i64, _> = accounts.collect();
        for account in accounts.values() {
            self.members.listed(account);
        }
        let ready_before = self.ready.len();
        let mut is_useless = false;
        for row in rows {
            let account = row.account_id.and_then(|id| accounts.remove(&id));
            let changes = planned.remove(&row.row).unwrap_or_default();
            match account {
                // It is compared with what `GET` shows now.
                Some(account) if self.asked.contains(&row.row) && !self.agreed.contains(&row.row) => {
                    self.shown.insert(row.row, account);
                    self.requests_left += 1;
                    let first = self.first_place();
                    self.singly.insert(first, row);
                }
                // `GET` shows what its update cleared.
                Some(_) if self.is_in_doubt(row) => {
                    self.requests_left += 1;
                    self.read_singly(row);
                }
                // `GET` shows whether it has another name, or the list truncates it.
                Some(account) if !self.still_matches(row, &account) => {
                    self.requests_left += 1;
                    self.read_singly(row);
                }
                Some(account) if self.needs_whole(&account, &changes) && !is_off(Guard::CompleteItems) => {
                    self.requests_left += 1;
                    self.read_singly(row);
                }
                Some(account) if account.is_complete() || is_off(Guard::CompleteItems) => {
                    records.extend(self.take_account(row, changes, account, true));
                }
                Some(_) => {
                    is_useless = true;
                    self.read_singly(row);
                }
                None => {
                    self.requests_left += 1;
                    self.read_singly(row);
                }
            }
        }
        if is_useless {
            records.extend(self.pages_are_of_no_use());
        } else {
            self.demand_proofs(ready_before);
        }
        records
    }

    /// Returns whether `GET` has to show the account of an item. An item that may be truncated decides nothing: its row
    /// would become a conflict, or look done. Even if the list's items are complete, it may truncate a text that the
    /// plan has written.
    fn needs_whole(&self, item: &ContactAccount, changes: &[Change]) -> bool {
        let is_complete = self.items == Some(ItemsProof::Complete);
        match change::drift(item, changes) {
            Drift::None => false,
            Drift::Done => !is_complete,
            Drift::Conflict(fields) => {
                let mut foreign = changes.iter().filter(|change| fields.contains(&change.field));
                !is_complete || foreign.any(|change| proof::may_show_beginning(item, change))
            }
        }
    }

    /// Schedules accounts of the page for `GET` before any of them is updated.
    fn demand_proofs(&mut self, ready_before: usize) {
        let on_page: Vec<&Update> = self.ready.iter().skip(ready_before).collect();
        let accounts: Vec<&ContactAccount> = on_page.iter().map(|update| &update.account).collect();
        let mut places = self.proofs.demanded(&accounts);
        let are_most_demanded = accounts.len() > FEWEST && 2 * places.len() > accounts.len();
        let mut in_estimate = if self.items.is_none() { FEWEST } else { 0 };
        if are_most_demanded {
            places = proof::spread(&places, accounts.len(), FEWEST);
        } else {
            if self.items.is_none() {
                proof::sample(&accounts, &mut places);
            }
            let before = places.len();
            proof::spot_checks(accounts.len(), &mut places);
            in_estimate += places.len() - before;
        }
        let rows: Vec<OpenRow> = places.iter().filter_map(|place| on_page.get(*place)).map(|one| one.row).collect();
        if are_most_demanded {
            // Comparing all of them would delay every update. The others are read with `GET`, so no update is built on
            // what the page shows of them.
            let is_proof = |update: &Update| rows.contains(&update.row);
            let on_page = self.ready.split_off(ready_before).into_iter();
            let (kept, others): (VecDeque<_>, VecDeque<_>) = on_page.partition(is_proof);
            self.ready.extend(kept);
            self.requests_left += others.len() as u64;
            self.singly.extend(others.into_iter().map(|update| update.row));
        }
        self.requests_left += rows.len().saturating_sub(in_estimate) as u64;
        let first = self.first_place();
        for row in rows {
            self.to_prove.insert(row.row);
            self.singly.insert(first, row);
        }
    }

    /// Returns the first place in `singly` behind the row that others wait for: if a proof fails, nothing else makes
    /// the run read that row.
    fn first_place(&self) -> usize {
        self.singly.iter().take_while(|row| self.is_urgent(**row)).count()
    }

    /// Reads every account with `GET` from now on. Returns what a later run need not find out again.
    fn pages_are_of_no_use(&mut self) -> Option<Record> {
        let was_known = self.items.replace(ItemsProof::Incomplete) == Some(ItemsProof::Incomplete);
        // The run reads these accounts next. Several texts that end at the same length show where the list truncates.
        let shown = self.ready.iter().filter(|update| self.to_prove.contains(&update.row.row));
        self.shown.extend(shown.map(|update| (update.row.row, update.account.clone())));
        self.singly.append(&mut self.todo);
        self.look_again_if(|update| update.is_from_page);
        if was_known {
            return None;
        }
        let to_read = self.singly.len() + self.later.len() + self.set_aside.len();
        self.requests_left = (2 * to_read + self.ready.len()) as u64;
        Some(Record::Items(ItemsProof::Incomplete))
    }

    /// Takes the answer to [`Request::Account`].
    pub(in crate::plan::run) fn looked_at_account(
        &mut self,
        row: OpenRow,
        changes: Vec<Change>,
        answer: Result<ContactAccount, Refusal>,
        now: Duration,
    ) -> Vec<Record> {
        self.looking = self.looking.saturating_sub(1);
        let is_proof = self.to_prove.remove(&row.row);
        let shown = is_proof.then(|| self.ready.iter().position(|update| update.row.row == row.row)).flatten();
        let shown = shown.and_then(|place| self.ready.remove(place)).map(|update| update.account);
        let shown = shown.or(self.shown.remove(&row.row));
        let account = match answer {
            Ok(account) => account,
            Err(refusal) => {
                if is_proof {
                    // Without this proof, no account from a page may be updated. Another account can provide the proof.
                    self.look_again_if(|update| update.is_from_page);
                }
                return self.row_failed(row, Direction::Read, refusal, now);
            }
        };
        let mut records = self.succeeded(Direction::Read);
        if self.looked_at.is_none() {
            self.look_again(row);
            return records;
        }
        if let Some(shown) = shown {
            self.members.compare(&shown, &account);
            match self.proofs.compare(&shown, &account) {
                Compared::Whole if self.to_prove.is_empty() && self.items.is_none() && self.proofs.are_enough() => {
                    self.items = Some(ItemsProof::Complete);
                    records.extend(self.pages_are_of_use());
                }
                Compared::Whole => {}
                Compared::Contradicting(fields) if self.spares_members() => {
                    let fields = fields.iter().map(|field| field.name()).collect();
                    self.fail(RunError::Contradiction { row: row.row, id: account.id, fields });
                    return records;
                }
                Compared::Lacking | Compared::Contradicting(_) => {
                    let found = self.pages_are_of_no_use();
                    // The update of this row.
                    self.requests_left += u64::from(found.is_some());
                    records.extend(found);
                }
            }
            self.agreed.insert(row.row);
        }
        if let Some(in_doubt) = self.in_doubt.get_mut(&row.row) {
            let members = in_doubt.members.iter();
            let differs = |(name, before): &(&String, &serde_json::Value)| has_lost(name, before, &account);
            let differing: Vec<String> = members.filter(differs).map(|(name, _)| name.clone()).collect();
            let (lost, altered): (Vec<String>, Vec<String>) =
                differing.into_iter().partition(|name| name != STAGE || !has_unsendable(&account, name));
            in_doubt.altered = Some(altered);
            if !lost.is_empty() {
                // The doubt is over. A later run updates this account, which has lost the members already.
                let had = self.in_doubt.remove(&row.row).map(|in_doubt| in_doubt.members).unwrap_or_default();
                self.hold_up_no_other(row.row);
                self.members.cleared(&lost);
                self.lost.entry(row.row).or_default().extend(lost.iter().cloned());
                let members = had.into_iter().filter(|(name, _)| lost.contains(name)).collect();
                records.push(Record::Lost { row: row.row, members });
                if self.spares_members() {
                    records.extend(row.was_sent.then(|| finish(row, Status::Unknown, None)));
                    self.fail(RunError::ClearedMembers {
                        row: row.row,
                        id: account.id,
                        members: lost,
                        is_written: true,
                    });
                    return records;
                }
            }
        }
        let hidden = self.hidden(row, &changes, &account);
        let finished = if hidden.is_empty() {
            self.take_account(row, changes, account, false)
        } else {
            self.read_item(row, &hidden)
        };
        if finished.is_some() {
            // The run does not write the row again, and its account still had the members, or someone changed them.
            self.hold_up_no_other(row.row);
        }
        records.extend(finished);
        records
    }

    /// Returns the fields that an update would clear, because `GET` shows them empty, although the list showed a value.
    fn hidden(&self, row: OpenRow, changes: &[Change], account: &ContactAccount) -> Vec<&'static str> {
        if !self.spares_members() || self.agreed.contains(&row.row) {
            return Vec::new();
        }
        let is_hidden = |field: &&Field| {
            row.listed.contains(**field)
                && filled(**field, account.value(**field)).is_none()
                && !changes.iter().any(|change| change.field == **field && !change.is_unnamed())
        };
        Field::ALL.iter().filter(is_hidden).map(|field| field.name()).collect()
    }

    /// Reads the item of an account with such fields: someone may have emptied them, or the service does not show them.
    /// Returns the outcome of the row if its item cannot be read.
    fn read_item(&mut self, row: OpenRow, hidden: &[&str]) -> Option<Record> {
        if row.position.is_some() && self.asked.insert(row.row) {
            self.requests_left += 1;
            self.disputed.push_back(row);
            return None;
        }
        // Other rows no longer wait for this one.
        self.unproven.take_if(|unproven| *unproven == row.row);
        let error = format!(
            "the list showed a value of {} when the plan was made, but GET shows none, so an update could clear a \
             value that GET hides. If the field is really empty, or its value may go, use apply(rows=[{}], \
             on_conflict=\"overwrite\", on_unknown_member=\"clear\"){}",
            hidden.join(", "),
            row.row,
            if self.settings.is_revert { ON_REVERT } else { "" }
        );
        Some(if row.was_sent { finish(row, Status::Unknown, Some(error)) } else { overwritable(row, &error) })
    }

    /// Takes an account that was read: prepares its update, or returns the outcome of its row.
    fn take_account(
        &mut self,
        row: OpenRow,
        changes: Vec<Change>,
        account: ContactAccount,
        is_from_page: bool,
    ) -> Option<Record> {
        let finished = self.prepare(row, changes, account, is_from_page);
        if finished.is_some() {
            self.unproven.take_if(|unproven| *unproven == row.row);
        }
        finished
    }

    fn prepare(
        &mut self,
        mut row: OpenRow,
        mut changes: Vec<Change>,
        account: ContactAccount,
        is_from_page: bool,
    ) -> Option<Record> {
        let mut unnamed: HashMap<Field, Value> = HashMap::new();
        for change in changes.extract_if(.., |change| change.is_unnamed()) {
            unnamed.insert(change.field, change.before);
        }
        if !row.was_sent {
            if !self.settings.is_revert {
                unnamed.clear();
            }
            row.has_older_values |= !unnamed.is_empty();
        }
        let reopened = self.reopened.remove(&row.row);
        for (field, before) in reopened.iter().flatten() {
            changes
                .iter_mut()
                .filter(|change| change.field == *field)
                .for_each(|change| change.before = before.clone());
        }
        if changes.is_empty() {
            let error = "reading its account failed when the plan was made; plan this row again";
            return Some(finish(row, Status::Failed, Some(error.to_owned())));
        }
        let is_left = |change: &Change| {
            let is = |value: &Value| value.is(change.field, account.value(change.field));
            !(change.is_planned || is(&change.before) || is(&change.after))
        };
        let left: Vec<Field> = changes.iter().filter(|change| is_left(change)).map(|change| change.field).collect();
        changes.retain(|change| !is_left(change));
        let drift = change::drift(&account, &changes);
        // If the account has all values of an update that may have been sent, the service stored the name or domain in
        // another form.
        let is_ours = row.was_sent && drift == Drift::Done;
        if !is_ours && !self.still_matches(row, &account) {
            let name = self.match_on.as_str();
            let error = format!("the account no longer has the {name} that matched this row; plan this row again");
            let status = if row.was_sent { Status::Unknown } else { Status::Conflict };
            return Some(finish(row, status, Some(error)));
        }
        let foreign: Vec<Field> = match drift {
            Drift::Done if !row.was_sent => {
                let is_altered = |(field, before): &(&Field, &Value)| !before.is(**field, account.value(**field));
                let mut altered: Vec<Field> = unnamed.iter().filter(is_altered).map(|(field, _)| *field).collect();
                altered.sort_unstable();
                return Some(unchanged(row, &altered, left));
            }
            // A row that may have been sent is sent again even if it looks done: only an answer confirms it.
            Drift::None | Drift::Done => Vec::new(),
            Drift::Conflict(fields) => {
                let change_of = |field: &Field| changes.iter().find(|change| change.field == *field);
                let is_cut = |change| self.is_cut(row, change, &account);
                let cut: Vec<_> = fields.iter().map(|field| change_of(field).map_or(Some(false), is_cut)).collect();
                if cut.contains(&None) && self.waits_for_items(row, reopened) {
                    return None;
                }
                fields.into_iter().zip(cut).filter(|(_, cut)| *cut != Some(true)).map(|(field, _)| field).collect()
            }
        };
        let fill_would_overwrite =
            self.settings.fills && foreign.iter().any(|field| filled(*field, account.value(*field)).is_some());
        if !foreign.is_empty() && (self.settings.on_conflict == OnConflict::Skip || fill_would_overwrite) {
            return Some(conflict(row, &foreign, fill_would_overwrite, self.settings.is_revert));
        }
        let would_clear = self.members.would_clear(&account);
        if self.spares_members() && !would_clear.is_empty() {
            self.fail(RunError::ClearedMembers {
                row: row.row,
                id: account.id,
                members: would_clear,
                is_written: false,
            });
            return None;
        }
        // A revert must not restore what an earlier attempt of this plan may have written.
        let is_unchanged = |change: &&Change| change.before.is(change.field, account.value(change.field));
        // If the plan saw only the beginning of a text, because the list truncates it, the whole text does not come
        // from this plan.
        let may_be_ours = |change: &&Change| {
            row.was_sent && self.is_cut(row, change, &account) != Some(true) && !proof::may_be_whole(change, &account)
        };
        let is_overwritten =
            |change: &&Change| !may_be_ours(change) && !is_unchanged(change) && !is_off(Guard::Answers);
        let overwritten = changes.iter().filter(is_overwritten);
        let overwritten = overwritten.map(|change| (change.field, account.value(change.field).into())).collect();
        // What the account had before the first attempt counts.
        let value_before = |field: &Field| {
            let is_named = left.contains(field) || changes.iter().any(|change| change.field == *field);
            let now = || filled(*field, account.value(*field)).map(|value| Value::from(Some(value)));
            if is_named { None } else { Some((*field, unnamed.remove(field).or_else(now)?)) }
        };
        let unnamed = Field::ALL.iter().filter_map(value_before).collect();
        let Ok(fields) = change::merged(&account, &changes) else {
            self.fail(FileError::internal("a change of the plan is not of its field's kind").into());
            return None;
        };
        self.ready.push_back(Update {
            row,
            fields,
            attempt: Attempt { overwritten, unnamed, at_risk: file::Members::new() },
            account,
            changes,
            left,
            looked_at: self.looked_at.unwrap_or_default(),
            is_from_page,
        });
        None
    }

    /// Returns whether the plan saw only the beginning of an account's text. `None` if a second account has to show
    /// that. It saw the whole text if it read the account with `GET`, and a revert knows what the updates wrote.
    fn is_cut(&self, row: OpenRow, change: &Change, account: &ContactAccount) -> Option<bool> {
        if self.settings.is_revert || row.position.is_none() {
            return Some(false);
        }
        self.proofs.is_cut(change, account)
    }

    /// Reads a row again, at most once, if an account that is still to be compared may show where the list truncates.
    fn waits_for_items(&mut self, row: OpenRow, reopened: Option<Vec<(Field, Value)>>) -> bool {
        if self.shown.is_empty() || !self.waited.insert(row.row) {
            return false;
        }
        self.reopened.extend(reopened.map(|before| (row.row, before)));
        self.look_again(row);
        true
    }
}
