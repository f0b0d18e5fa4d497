//! Decides which request to send next, and what the answers mean for the rows. Pure: it sends nothing.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;

use super::cut::{Cut, rows_of, shortened, wholes};
use super::diff;
use super::file::{OpenRow, PlannedRow};
use super::fingerprint::Fingerprints;
use super::ids::Ids;
use super::source::{Key, Options, Table};
use super::{Change, MatchOn, Mode, Nulls, SHORTEST_CUT, Status, Value, domain};
use crate::account::{ContactAccount, Field, FieldSet};
use crate::answer::Item;
use crate::change::filled;
use crate::paging::{Incomplete, LONGEST_PAGE, Paging};
use crate::sabotage::{Guard, is_off};
use crate::text::has_hidden_ends;

/// How many accounts may have moved between plan and apply without leaving their page.
const SLACK: u64 = 5;

/// The most accounts on a page, and how many of them may have moved. In the simulation both are small, so that a few
/// accounts fill several pages.
fn page_and_slack() -> (u32, u64) {
    #[cfg(feature = "simulation")]
    if crate::simulation::is_running() {
        return crate::simulation::page_and_slack();
    }
    (LONGEST_PAGE, SLACK)
}

/// The next request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A page of the list.
    Page {
        /// The number of accounts.
        top: u32,
        /// The number of accounts to skip.
        skip: u64,
    },
    /// One account.
    Account {
        /// Its id.
        id: i64,
    },
    /// No request: the rows cannot be matched, because an account may be hidden.
    Refused(Incomplete),
    /// No request: the outcome of every row is known.
    Done,
}

/// Finds the account of every row with few requests, and compares it with the row.
///
/// By id, it reads pages while it has read fewer pages than rows are left, then it reads the remaining accounts one by
/// one. It also reads an id that no page has: pages can miss an account, and only the service's own 404 proves that
/// there is none. So a plan takes at most twice the fewest requests that find every account or get its 404.
///
/// By name or domain name it reads all pages, because only then a second candidate is excluded. An unreadable item that
/// may be a candidate makes the plan fail. An item whose text the list may have truncated proves nothing: the planner
/// reads the account with `GET`, unless its only row is ambiguous already. If `GET` cannot read it, the rows that may
/// match it fail.
///
/// The planner never compares a row with a member that an item lacks. It reads such an account with `GET`.
pub struct Planner<'a> {
    table: &'a Table,
    mode: Mode,
    nulls: Nulls,
    match_on: MatchOn,
    /// The rows without an account, by their key.
    ids: Ids,
    names: HashMap<Cow<'a, str>, u32>,
    /// What each row gives its account.
    fingerprints: Fingerprints<'a>,
    /// Accounts whose item is unreadable or lacks a compared member.
    unclear: Vec<Single>,
    /// The fields that the items of accounts to read one by one show with a value.
    listed: HashMap<i64, FieldSet>,
    /// Accounts to read one by one, from the last to the first.
    singly: Option<Vec<Single>>,
    /// Those that could not be read, with the error.
    unread: Vec<(Single, String)>,
    /// The accounts whose item may show only the beginning of the matched text.
    cut: Cut,
    /// Each row, if something other than the id matches: a second candidate can still make it ambiguous.
    held: Vec<Held>,
    /// The other accounts whose items show the text of a row, besides the one that is held.
    others: BTreeMap<u32, Vec<i64>>,
    pages: u64,
    paging: Paging,
    /// Whether reading the pages is complete.
    has_all_pages: bool,
    refused: Option<Incomplete>,
}

impl<'a> Planner<'a> {
    /// Takes a table. Passes rows that need no request to `give` immediately.
    ///
    /// # Errors
    /// Returns the errors of `give`.
    pub fn new<E>(
        table: &'a Table,
        options: &Options,
        mut give: impl FnMut(PlannedRow) -> Result<(), E>,
    ) -> Result<Self, E> {
        let mut planner = Self {
            table,
            mode: options.mode,
            nulls: options.nulls,
            match_on: options.match_on,
            ids: Ids::default(),
            names: HashMap::new(),
            fingerprints: Fingerprints::of(table, options.mode, options.nulls),
            unclear: Vec::new(),
            listed: HashMap::new(),
            singly: None,
            unread: Vec::new(),
            cut: Cut::default(),
            held: Vec::new(),
            others: BTreeMap::new(),
            pages: 0,
            paging: if options.match_on == MatchOn::Id {
                Paging::without_overlap(page_and_slack().0)
            } else {
                Paging::settled_set(page_and_slack().0)
            },
            has_all_pages: false,
            refused: None,
        };
        let mut ids = Vec::new();
        let count = usize::try_from(table.len()).unwrap_or_default();
        if options.match_on == MatchOn::Id {
            ids.reserve_exact(count);
        } else {
            planner.names.reserve(count);
            planner.held.resize_with(count, Held::default);
        }
        let mut repeated: HashMap<u32, Vec<u32>> = HashMap::new();
        let mut faults = table.faults().iter().peekable();
        // These rows are not sent, but they name their accounts: the right one of several rows is unknown.
        let mut invalid = Vec::new();
        for row in 0..table.len() {
            let mut texts = Vec::new();
            while let Some(fault) = faults.next_if(|fault| fault.row == row) {
                texts.push(fault.message.as_str());
            }
            let number = u32::try_from(row).unwrap_or(u32::MAX);
            let key = table.key(row);
            let id = if let Key::Id(id) = key { Some(id) } else { None };
            if texts.is_empty() && key == Key::Missing {
                let error = format!("row {row} has no id, domain or name of an account");
                give(planner.planned(row, id, Status::Invalid, Some(error)))?;
            } else if texts.is_empty() {
                planner.hold(number, Held::Open);
            } else {
                give(planner.planned(row, id, Status::Invalid, Some(texts.join("; "))))?;
                invalid.push(number);
            }
            match key {
                Key::Id(id) => ids.push((id, number)),
                Key::Text(text) => {
                    let first = *planner.names.entry(planner.match_on.comparable(text)).or_insert(number);
                    if first != number {
                        repeated.entry(first).or_insert_with(|| vec![first]).push(number);
                    }
                }
                Key::Missing => {}
            }
        }
        let (ids, same_id) = Ids::new(ids);
        planner.ids = ids;
        let same_name = repeated.into_values().map(|rows| (None, rows));
        for (id, rows) in same_id.into_iter().map(|(id, rows)| (Some(id), rows)).chain(same_name) {
            let error = several_rows(&rows);
            for row in rows {
                planner.drop_key(row);
                if invalid.binary_search(&row).is_err() {
                    give(planner.planned(u64::from(row), id, Status::Ambiguous, Some(error.clone())))?;
                }
            }
        }
        for row in invalid {
            planner.drop_key(row);
        }
        Ok(planner)
    }

    /// Stops looking for the account of a row whose outcome was already passed on.
    fn drop_key(&mut self, row: u32) {
        match self.table.key(u64::from(row)) {
            Key::Id(id) => drop(self.ids.take(id)),
            Key::Text(text) => drop(self.names.remove(&self.match_on.comparable(text))),
            Key::Missing => {}
        }
        self.hold(row, Held::Given);
    }

    /// Returns the next request.
    pub fn next_step(&mut self) -> Step {
        if let Some(refused) = &self.refused {
            return Step::Refused(refused.clone());
        }
        if let Some(singly) = &mut self.singly {
            let is_ambiguous = |row: u32| self.held.get(row as usize).is_some_and(Held::is_ambiguous);
            while singly.pop_if(|one| one.text.is_none() && is_ambiguous(one.row)).is_some() {}
            return singly.last().map_or(Step::Done, |one| Step::Account { id: one.id });
        }
        let by_id = self.match_on == MatchOn::Id;
        let open = self.ids.len() as u64;
        let singly_is_cheaper = by_id && (open <= 1 || self.pages >= open);
        let nothing_to_match = !by_id && self.names.is_empty();
        match self.paging.next() {
            Some((top, skip)) if !(self.has_all_pages || singly_is_cheaper || nothing_to_match) => {
                Step::Page { top, skip }
            }
            _ => self.read_singly(),
        }
    }

    fn read_singly(&mut self) -> Step {
        let mut singly = std::mem::take(&mut self.unclear);
        let wholes = wholes(self.match_on, &self.names, std::mem::take(&mut self.cut).possible());
        let cut: HashSet<i64> = wholes.iter().map(|whole| whole.seen.id).collect();
        singly.retain(|one| !cut.contains(&one.id));
        for whole in wholes {
            self.listed.insert(whole.seen.id, whole.seen.listed);
            let text = (!whole.is_only).then_some(whole.seen.text);
            singly.push(Single { id: whole.seen.id, row: whole.row, text });
        }
        for (row, others) in std::mem::take(&mut self.others) {
            let held = self.held_of(row).account_id();
            let mut proven = held.into_iter().chain(others).filter(|id| !cut.contains(id));
            match (proven.next(), proven.next()) {
                (Some(one), Some(other)) => self.hold(row, self.several_accounts(row, one, other).into()),
                (Some(id), None) if held != Some(id) => {
                    singly.push(Single { id, row, text: None });
                    self.hold(row, Held::Open);
                }
                _ => {}
            }
        }
        for one in &singly {
            if self.held_of(one.row).account_id() == Some(one.id) {
                self.hold(one.row, Held::Open);
            }
        }
        singly.extend(self.ids.iter().map(|(id, row)| Single { id, row, text: None }));
        // In the order of the table, so that two runs of the same plan read in the same order.
        singly.sort_unstable_by_key(|one| std::cmp::Reverse((one.row, one.id)));
        self.singly = Some(singly);
        self.next_step()
    }

    /// Returns the number of requests left, as far as it is known.
    pub fn requests_left(&self) -> Option<u64> {
        self.singly.as_ref().map(|singly| singly.len() as u64)
    }

    /// Takes the answer to [`Step::Page`].
    ///
    /// # Errors
    /// Returns the errors of `give`.
    pub fn page<E>(
        &mut self,
        skip: u64,
        items: &[Item],
        has_more: bool,
        mut give: impl FnMut(PlannedRow) -> Result<(), E>,
    ) -> Result<(), E> {
        self.pages += 1;
        let is_new = match self.paging.page(skip, items, has_more) {
            Ok(is_new) => is_new,
            Err(incomplete) => {
                // By id nothing is lost: the planner reads the accounts that no page had one by one.
                self.has_all_pages = true;
                self.refused = (self.match_on != MatchOn::Id).then_some(incomplete);
                return Ok(());
            }
        };
        for (place, (item, is_new)) in (skip..).zip(items.iter().zip(is_new)) {
            match item {
                _ if !is_new => {}
                Item::Account(account) if account.id < 1 => self.hidden(None, "/id must be 1 or greater", place),
                Item::Account(account) => self.account(account, place, &mut give)?,
                Item::Unreadable { id, reason } => self.hidden(*id, reason, place),
            }
        }
        Ok(())
    }

    /// The machine slept since the last page.
    pub(super) fn slept(&mut self) {
        self.paging.slept();
    }

    /// Takes an unreadable item that may be the account of a row.
    fn hidden(&mut self, id: Option<i64>, reason: &str, place: u64) {
        if self.match_on == MatchOn::Id {
            if let Some((id, row)) = id.and_then(|id| Some((id, self.ids.take(id)?))) {
                self.unclear.push(Single { id, row, text: None });
            }
            return;
        }
        let id = id.map_or_else(String::new, |id| format!(" (account {id})"));
        let by = self.match_on.as_str();
        self.refused.get_or_insert_with(|| {
            Incomplete::wrong(format!(
                "item {place} of the list{id} cannot be read: {reason}; a row may match this account, so match on id \
                instead of {by}"
            ))
        });
    }

    /// Takes the answer to [`Step::Account`]; `None` when there is no such account.
    ///
    /// # Errors
    /// Returns the errors of `give`.
    pub fn single<E>(
        &mut self,
        account: Option<&ContactAccount>,
        mut give: impl FnMut(PlannedRow) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(Single { id, row, .. }) = self.singly.as_mut().and_then(Vec::pop) else { return Ok(()) };
        if self.match_on == MatchOn::Id {
            self.ids.take(id);
            return give(match account {
                Some(account) => self.compared(row, account, None),
                None => self.not_found(u64::from(row), Some(id)),
            });
        }
        // Its item may have had another name, or only a part of it.
        let Some((account, name)) = account.and_then(|account| Some((account, self.match_on.name_of(account)?))) else {
            return Ok(());
        };
        let Some(row) = self.names.get(name.as_ref()).copied() else { return Ok(()) };
        let held = self.held_of(row);
        if held.is_ambiguous() {
            return Ok(());
        }
        let planned = match held.account_id() {
            Some(one) => self.several_accounts(row, one, id),
            None => self.compared(row, account, None),
        };
        self.hold(row, planned.into());
        Ok(())
    }

    fn several_accounts(&self, row: u32, one: i64, other: i64) -> PlannedRow {
        let error = format!("row {row} matches accounts {one} and {other}; match on id instead");
        self.planned(u64::from(row), None, Status::Ambiguous, Some(error))
    }

    /// Postpones the account of [`Step::Account`], because reading it failed.
    pub fn later(&mut self) {
        if let Some(singly) = &mut self.singly
            && let Some(last) = singly.pop()
        {
            singly.insert(0, last);
        }
    }

    /// Gives up the account of [`Step::Account`], because it is unreadable.
    ///
    /// # Errors
    /// Returns the errors of `give`.
    pub fn unreadable<E>(&mut self, error: &str, mut give: impl FnMut(PlannedRow) -> Result<(), E>) -> Result<(), E> {
        let Some(one) = self.singly.as_mut().and_then(Vec::pop) else { return Ok(()) };
        let matches_any = |text: &str| self.match_on.beginnings(text).iter().any(|beginning| beginning.is_empty());
        if one.text.as_deref().is_some_and(matches_any) {
            let by = self.match_on.as_str();
            self.refused.get_or_insert_with(|| {
                Incomplete::wrong(format!(
                    "the list may have truncated the {by} of account {}, which cannot be read: {error}; any row may \
                     match this account, so match on id instead of {by}",
                    one.id
                ))
            });
            return Ok(());
        }
        if self.match_on != MatchOn::Id {
            self.unread.push((one, error.to_owned()));
            return Ok(());
        }
        self.ids.take(one.id);
        give(self.unread_row(one.row, one.id, error))
    }

    fn unread_row(&self, row: u32, id: i64, error: &str) -> PlannedRow {
        self.planned(u64::from(row), Some(id), Status::Failed, Some(format!("row {row}: {error}")))
    }

    /// Fails the rows that may match an account that could not be read.
    fn fail_unread(&mut self) {
        let unread = std::mem::take(&mut self.unread);
        let mut rows: Vec<(usize, u32)> = unread.iter().map(|(one, _)| one.row).enumerate().collect();
        let shown = unread.iter().enumerate().filter_map(|(place, (one, _))| Some((place, one.text.as_deref()?)));
        rows.extend(rows_of(self.match_on, &self.names, shown));
        // Of several accounts, a row names the one that was read first.
        rows.sort_unstable();
        let mut failed = HashSet::new();
        for (place, row) in rows {
            let Some((one, error)) = unread.get(place) else { continue };
            if self.held_of(row).is_ambiguous() || !failed.insert(row) {
                continue;
            }
            let planned = match one.text {
                None => self.unread_row(row, one.id, error),
                Some(_) => self.unread_row(
                    row,
                    one.id,
                    &format!(
                        "the list may have truncated the {} of account {}, so this row may match it; plan this row \
                         again, or match on id instead. Reading the account failed: {error}",
                        self.match_on.as_str(),
                        one.id
                    ),
                ),
            };
            self.hold(row, planned.into());
        }
    }

    fn held_of(&self, row: u32) -> &Held {
        self.held.get(row as usize).unwrap_or(&Held::Given)
    }

    fn hold(&mut self, row: u32, held: Held) {
        if let Some(place) = self.held.get_mut(row as usize) {
            *place = held;
        }
    }

    /// Passes on the rows that could not be decided before the end.
    ///
    /// # Errors
    /// Returns the errors of `give`.
    pub fn finish<E>(mut self, mut give: impl FnMut(PlannedRow) -> Result<(), E>) -> Result<(), E> {
        self.fail_unread();
        for (row, held) in (0..).zip(std::mem::take(&mut self.held)) {
            give(match held {
                Held::Given => continue,
                Held::Open => self.not_found(row, None),
                Held::Unchanged(id) => self.planned(row, Some(id), Status::Unchanged, None),
                Held::Planned(planned) => *planned,
            })?;
        }
        self.ids.iter().try_for_each(|(_, row)| give(self.not_found(u64::from(row), None)))
    }

    fn account<E>(
        &mut self,
        account: &ContactAccount,
        place: u64,
        give: &mut impl FnMut(PlannedRow) -> Result<(), E>,
    ) -> Result<(), E> {
        let is_clear = account.is_complete() || self.has_compared(account);
        if self.match_on == MatchOn::Id {
            let Some(row) = self.ids.take(account.id) else { return Ok(()) };
            if is_clear {
                return give(self.compared(row, account, Some(place)));
            }
            self.read_later(account, row);
            return Ok(());
        }
        if self.match_on == MatchOn::DomainName && !account.has(Field::DomainName) {
            self.hidden(Some(account.id), "/domainName is missing", place);
            return Ok(());
        }
        let Some(text) = self.match_on.text_of(account) else { return Ok(()) };
        let name = self.match_on.comparable(text);
        if name.is_empty() {
            return Ok(());
        }
        self.cut.add(account.id, text, || fields_with_a_value(account));
        let Some(row) = self.names.get(name.as_ref()).copied() else { return Ok(()) };
        if self.held_of(row).account_id().is_some() {
            self.others.entry(row).or_default().push(account.id);
            self.listed.insert(account.id, fields_with_a_value(account));
        } else if is_clear {
            let planned = self.compared(row, account, Some(place));
            self.hold(row, planned.into());
        } else {
            self.read_later(account, row);
            let planned = self.planned(u64::from(row), Some(account.id), Status::Pending, None);
            self.hold(row, planned.into());
        }
        Ok(())
    }

    /// Schedules an account whose item does not show everything that its row is compared with.
    fn read_later(&mut self, account: &ContactAccount, row: u32) {
        self.unclear.push(Single { id: account.id, row, text: None });
        self.listed.insert(account.id, fields_with_a_value(account));
    }

    fn has_compared(&self, account: &ContactAccount) -> bool {
        self.fingerprints.fields.iter().all(|field| account.has(*field))
    }

    fn compared(&mut self, row: u32, account: &ContactAccount, place: Option<u64>) -> PlannedRow {
        let has_all = self.fingerprints.has(row, account);
        let row = u64::from(row);
        if has_all {
            return self.planned(row, Some(account.id), Status::Unchanged, None);
        }
        let changes = diff::changes(account, self.table.row(row), self.mode, self.nulls);
        if changes.is_empty() {
            return self.planned(row, Some(account.id), Status::Unchanged, None);
        }
        let is_shortened = |change: &&Change| shortens(change, place.is_none());
        let shortened: Vec<&str> = changes.iter().filter(is_shortened).map(|change| change.field.name()).collect();
        if !shortened.is_empty() {
            let error = format!(
                "row {row}: {} has only the beginning of the account's text, as a list may show it; leave the column \
                 out, or write it with patch_contact_account({}, ...)",
                shortened.join(", "),
                account.id
            );
            return self.planned(row, Some(account.id), Status::Invalid, Some(error));
        }
        PlannedRow {
            // An update needs the whole account, so a page that lacks a part of it is useless.
            position: place.filter(|_| account.is_complete() || is_off(Guard::CompleteItems)),
            weight: account.text_bytes() as u64,
            listed: match place {
                Some(_) => fields_with_a_value(account),
                None => self.listed.get(&account.id).copied().unwrap_or_default(),
            },
            changes,
            ..self.planned(row, Some(account.id), Status::Pending, None)
        }
    }

    fn not_found(&self, row: u64, id: Option<i64>) -> PlannedRow {
        let error = match (id, self.match_on) {
            (Some(id), _) => format!("row {row}: there is no account {id}"),
            (None, MatchOn::Id) => format!("row {row}: there is no such account"),
            (None, MatchOn::DomainName) if self.names_a_page(row) => format!(
                "row {row}: no account has this domain_name; it names a page of a site, which may be about another \
                 company; if the whole site is about this company, use only the domain"
            ),
            (None, MatchOn::DomainName) => format!("row {row}: no account has this domain_name"),
            (None, MatchOn::Name) => {
                let has_hidden_ends = matches!(self.table.key(row), Key::Text(text) if has_hidden_ends(text));
                let ends = if has_hidden_ends { "; this text has white space at its beginning or end" } else { "" };
                format!("row {row}: no account has exactly this name, letter case and spaces included{ends}")
            }
        };
        self.planned(row, id, Status::NotFound, Some(error))
    }

    fn names_a_page(&self, row: u64) -> bool {
        matches!(self.table.key(row), Key::Text(text) if domain::names_a_page(text))
    }

    fn planned(&self, row: u64, account_id: Option<i64>, status: Status, error: Option<String>) -> PlannedRow {
        let key = match self.match_on {
            MatchOn::Id => None,
            MatchOn::DomainName | MatchOn::Name => match self.table.key(row) {
                Key::Text(text) => Some(text.to_owned()),
                Key::Id(_) | Key::Missing => None,
            },
        };
        PlannedRow {
            row,
            account_id,
            key,
            status,
            error,
            position: None,
            weight: 0,
            listed: FieldSet::default(),
            changes: Vec::new(),
        }
    }
}

fn fields_with_a_value(account: &ContactAccount) -> FieldSet {
    Field::ALL.iter().copied().filter(|field| filled(*field, account.value(*field)).is_some()).collect()
}

impl MatchOn {
    /// Returns whether an account still matches the text of a row: the domain or the name may have moved to another
    /// account. An id always matches.
    pub(crate) fn still_matches(self, key: &str, account: &ContactAccount) -> bool {
        self == Self::Id || self.name_of(account) == Some(self.comparable(key))
    }

    /// Returns the text of an account that rows are matched by.
    fn text_of(self, account: &ContactAccount) -> Option<&str> {
        match self {
            Self::Id => None,
            Self::Name => Some(account.name.as_str()),
            Self::DomainName => account.domain_name.as_deref(),
        }
    }

    /// Returns the text that an account is matched by, in its comparable form.
    fn name_of(self, account: &ContactAccount) -> Option<Cow<'_, str>> {
        self.text_of(account).map(|text| self.comparable(text))
    }

    /// Returns the comparable form of a text.
    pub(super) fn comparable(self, text: &str) -> Cow<'_, str> {
        if self == Self::DomainName { domain::domain_key(text) } else { Cow::Borrowed(text) }
    }

    /// Returns the possible beginnings of the comparable form of a text of which only this beginning is known.
    pub(super) fn beginnings(self, text: &str) -> Vec<Cow<'_, str>> {
        let known = shortened(text).filter(|known| !known.is_empty()).unwrap_or(text);
        if self == Self::DomainName { domain::key_beginnings(known) } else { vec![Cow::Borrowed(known)] }
    }
}

/// An account to read by itself.
#[derive(Debug)]
struct Single {
    id: i64,
    /// A row that it may match.
    row: u32,
    /// The text that its item shows, if other rows may match it, too: the list may have truncated the text.
    text: Option<Box<str>>,
}

/// What is known of a row that is matched by something other than the id. Nearly all rows change nothing, so these take
/// no more than the id.
#[derive(Debug, Default)]
enum Held {
    /// Its outcome was passed on, or it has no key.
    #[default]
    Given,
    /// No account matches it so far.
    Open,
    /// This account has its values.
    Unchanged(i64),
    Planned(Box<PlannedRow>),
}

impl Held {
    fn account_id(&self) -> Option<i64> {
        match self {
            Self::Given | Self::Open => None,
            Self::Unchanged(id) => Some(*id),
            Self::Planned(planned) => planned.account_id,
        }
    }

    fn is_ambiguous(&self) -> bool {
        matches!(self, Self::Planned(planned) if planned.status == Status::Ambiguous)
    }
}

impl From<PlannedRow> for Held {
    fn from(planned: PlannedRow) -> Self {
        match planned.account_id {
            Some(id) if planned.status == Status::Unchanged => Self::Unchanged(id),
            _ => Self::Planned(Box::new(planned)),
        }
    }
}

/// Returns whether a change keeps only the beginning of a text, as a list may show it: with a mark, or if only `GET`
/// shows the rest. The table may have been made from such a list.
fn shortens(change: &Change, is_read_by_get: bool) -> bool {
    let (Value::Text(before), Value::Text(after)) = (&change.before, &change.after) else { return false };
    match shortened(after).filter(|beginning| !beginning.is_empty()) {
        Some(beginning) => before.starts_with(beginning),
        None => is_read_by_get && after.chars().count() >= SHORTEST_CUT && before.starts_with(after.as_str()),
    }
}

fn several_rows(rows: &[u32]) -> String {
    const SHOWN: usize = 5;
    let shown: Vec<String> = rows.iter().take(SHOWN).map(ToString::to_string).collect();
    let more = if rows.len() > SHOWN { format!(" and {} more", rows.len() - SHOWN) } else { String::new() };
    format!("rows {}{more} match the same account; keep only one of them", shown.join(", "))
}

/// How to read the accounts of the next rows again before their update.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// One page contains all of them, if nothing has moved.
    Page {
        /// The rows.
        rows: Range<usize>,
        /// The number of accounts.
        top: u32,
        /// The number of accounts to skip.
        skip: u64,
    },
    /// One row is read by `GET`.
    Single(usize),
}

impl Look {
    /// Returns the first row after those of this look.
    pub fn end(&self) -> usize {
        match self {
            Self::Page { rows, .. } => rows.end,
            Self::Single(row) => row + 1,
        }
    }
}

/// Returns how many accounts to read, and how many to skip, so that the page has the account that was at a position.
pub fn page_around(place: u64) -> (u32, u64) {
    page_between(place, place)
}

fn page_between(first: u64, last: u64) -> (u32, u64) {
    let (page, slack) = page_and_slack();
    let skip = first.saturating_sub(slack);
    (u32::try_from(last + 1 + slack - skip).unwrap_or(page).min(page), skip)
}

/// Returns the look for the rows from `start` on: the longest page with at most `most` of them, or a single account if
/// a page would contain only one. `rows` are sorted by position; those without one come first.
pub fn next_look(rows: &[OpenRow], start: usize, most: usize) -> Option<Look> {
    let first = rows.get(start)?;
    let Some(first_place) = first.position else { return Some(Look::Single(start)) };
    let (page, slack) = page_and_slack();
    let skip = first_place.saturating_sub(slack);
    let behind = skip + u64::from(page) - slack;
    let on_page = |row: &&OpenRow| row.position.is_some_and(|place| (skip..behind).contains(&place));
    let on_page = || rows.iter().skip(start).take(most.max(1)).take_while(on_page);
    let count = on_page().count();
    let last_place = on_page().filter_map(|row| row.position).max().unwrap_or(first_place);
    if count < 2 {
        return Some(Look::Single(start));
    }
    let (top, skip) = page_between(first_place, last_place);
    Some(Look::Page { rows: start..start + count, top, skip })
}

#[cfg(test)]
mod tests;
