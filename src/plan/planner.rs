//! Which request to send next, and what the answers mean for the rows. Pure: it sends nothing.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::ops::{Bound, Range};

use super::diff;
use super::file::{OpenRow, PlannedRow};
use super::ids::Ids;
use super::source::{Key, Options, Table};
use super::{MatchOn, Mode, Nulls, SHORTEST_CUT, Status, domain};
use crate::account::{ContactAccount, Field, FieldSet};
use crate::answer::Item;
use crate::paging::{Incomplete, LONGEST_PAGE, Paging};
use crate::sabotage::{Guard, is_off};

/// How many accounts may have moved between plan and apply without being missed on their page.
const SLACK: u64 = 5;

/// The most accounts on a page, and how many of them may have moved. In the simulation both are small, so that a few
/// accounts fill several pages.
fn page_and_slack() -> (u32, u64) {
    #[cfg(feature = "simulation")]
    if crate::simulation::is_running() {
        return (8, 1);
    }
    (LONGEST_PAGE, SLACK)
}

/// What to ask the service next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A page of the list.
    Page {
        /// How many accounts.
        top: u32,
        /// How many before them are left out.
        skip: u64,
    },
    /// One account.
    Account {
        /// The row that is for it.
        row: u64,
        /// Its id.
        id: i64,
    },
    /// Nothing: the rows cannot be matched, because an account may be hidden.
    Refused(Incomplete),
    /// Nothing: every row is known.
    Done,
}

/// Finds the account of every row with few requests, and what the row changes about it.
///
/// By id, it reads pages while it has read fewer pages than rows are left, then it reads the accounts of the rest one by
/// one. An id that no page has is read too: pages can miss an account, and only the service's own 404 says that there is
/// none. So a plan takes at most twice the fewest requests that find every account or get its 404.
///
/// By name or domain name it reads all pages, because only then there is no second candidate. An item that may be a
/// candidate and cannot be read refuses the plan. Where the list may have cut the text of an item, `GET` tells the text.
///
/// The planner never compares a row with a member that an item lacks. It reads such an account by itself.
pub struct Planner<'a> {
    table: &'a Table,
    mode: Mode,
    nulls: Nulls,
    match_on: MatchOn,
    /// The fields that a row is compared in.
    compared: FieldSet,
    /// The rows that are not found yet, by what they are matched on.
    ids: Ids,
    names: BTreeMap<Cow<'a, str>, u32>,
    /// Rows whose item cannot be read, or lacks a member that they are compared in, with the account's id.
    unclear: Vec<(i64, u32)>,
    /// Accounts to read one by one, from the last to the first.
    singly: Option<Vec<(i64, u32)>>,
    /// The accounts whose item may show only the beginning of the text that a row is matched on: how long that is, the
    /// account, and such a row.
    cut: Vec<(Lengths, i64, u32)>,
    /// The length of the longest text of that kind in the list.
    longest: Lengths,
    /// Rows found by something else than the id, which a second candidate can still take back.
    held: HashMap<u32, PlannedRow>,
    pages: u64,
    paging: Paging,
    /// Whether the pages have told all that they can.
    listed: bool,
    refused: Option<Incomplete>,
}

impl<'a> Planner<'a> {
    /// Takes a table. Rows that can be judged without a request go to `give` at once.
    ///
    /// # Errors
    /// Those of `give`.
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
            compared: compared(table, options.mode),
            ids: Ids::default(),
            names: BTreeMap::new(),
            unclear: Vec::new(),
            singly: None,
            cut: Vec::new(),
            longest: Lengths::default(),
            held: HashMap::new(),
            pages: 0,
            paging: if options.match_on == MatchOn::Id {
                Paging::without_overlap(page_and_slack().0)
            } else {
                Paging::settled_set(page_and_slack().0)
            },
            listed: false,
            refused: None,
        };
        let mut ids = Vec::new();
        if options.match_on == MatchOn::Id {
            ids.reserve_exact(usize::try_from(table.len()).unwrap_or_default());
        }
        let mut repeated: HashMap<u32, Vec<u32>> = HashMap::new();
        let mut faults = table.faults().iter().peekable();
        for row in 0..table.len() {
            let mut texts = Vec::new();
            while let Some(fault) = faults.next_if(|fault| fault.row == row) {
                texts.push(fault.message.as_str());
            }
            let key = table.key(row);
            let id = if let Key::Id(id) = key { Some(id) } else { None };
            if !texts.is_empty() {
                give(planner.planned(row, id, Status::Invalid, Some(texts.join("; "))))?;
                continue;
            }
            let number = u32::try_from(row).unwrap_or(u32::MAX);
            match key {
                Key::Id(id) => ids.push((id, number)),
                Key::Text(text) => {
                    let first = *planner.names.entry(planner.match_on.comparable(text)).or_insert(number);
                    if first != number {
                        repeated.entry(first).or_insert_with(|| vec![first]).push(number);
                    }
                }
                Key::Missing => {
                    let error = format!("row {row} names no account");
                    give(planner.planned(row, id, Status::Invalid, Some(error)))?;
                }
            }
        }
        let (ids, same_id) = Ids::new(ids);
        planner.ids = ids;
        let same_name = repeated.into_values().map(|rows| (None, rows));
        for (id, rows) in same_id.into_iter().map(|(id, rows)| (Some(id), rows)).chain(same_name) {
            let error = several_rows(&rows);
            for row in rows {
                if let Key::Text(text) = table.key(u64::from(row)) {
                    planner.names.remove(&planner.match_on.comparable(text));
                }
                give(planner.planned(u64::from(row), id, Status::Ambiguous, Some(error.clone())))?;
            }
        }
        Ok(planner)
    }

    /// What to ask next.
    pub fn next_step(&mut self) -> Step {
        if let Some(refused) = &self.refused {
            return Step::Refused(refused.clone());
        }
        if let Some(singly) = &self.singly {
            return match singly.last() {
                Some(&(id, row)) => Step::Account { row: u64::from(row), id },
                None => Step::Done,
            };
        }
        let by_id = self.match_on == MatchOn::Id;
        let open = self.ids.len() as u64;
        let singly_is_cheaper = by_id && (open <= 1 || self.pages >= open);
        let nothing_to_match = !by_id && self.names.is_empty();
        match self.paging.next() {
            Some((top, skip)) if !(self.listed || singly_is_cheaper || nothing_to_match) => Step::Page { top, skip },
            _ => self.read_singly(),
        }
    }

    fn read_singly(&mut self) -> Step {
        let is_decided = |row: &u32| self.held.get(row).is_some_and(|held| held.status == Status::Ambiguous);
        let mut singly = std::mem::take(&mut self.unclear);
        singly.retain(|(_, row)| !is_decided(row));
        // A list that cuts texts shows none that is longer than where it cuts.
        let cut = std::mem::take(&mut self.cut).into_iter().filter(|(lengths, ..)| lengths.reach(&self.longest));
        singly.extend(cut.map(|(_, id, row)| (id, row)));
        singly.extend(self.ids.iter());
        // The order of the table, so that two runs of the same plan read the same way.
        singly.sort_unstable_by_key(|(_, row)| std::cmp::Reverse(*row));
        self.singly = Some(singly);
        self.next_step()
    }

    /// How many requests are left to be asked for, as far as that is known.
    pub fn requests_left(&self) -> Option<u64> {
        self.singly.as_ref().map(|singly| singly.len() as u64)
    }

    /// Takes the answer to [`Step::Page`].
    ///
    /// # Errors
    /// Those of `give`.
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
                // By id nothing is lost: the accounts that no page had are read one by one.
                self.listed = true;
                self.refused = (self.match_on != MatchOn::Id).then_some(incomplete);
                return Ok(());
            }
        };
        for (place, (item, is_new)) in (skip..).zip(items.iter().zip(is_new)) {
            match item {
                _ if !is_new => {}
                Item::Account(account) => self.account(account, place, &mut give)?,
                Item::Unreadable { id, reason } => self.hidden(*id, reason, place),
            }
        }
        Ok(())
    }

    /// Takes an item that may be the account of a row, and does not say so.
    fn hidden(&mut self, id: Option<i64>, reason: &str, place: u64) {
        if self.match_on == MatchOn::Id {
            if let Some((id, row)) = id.and_then(|id| Some((id, self.ids.take(id)?))) {
                self.unclear.push((id, row));
            }
            return;
        }
        let id = id.map_or_else(String::new, |id| format!(" (account {id})"));
        let by = self.match_on.as_str();
        self.refused.get_or_insert_with(|| {
            Incomplete::wrong(format!(
                "item {place} of the list{id} cannot be read: {reason}; a row may be for it, so match on id instead of {by}"
            ))
        });
    }

    /// Takes the answer to [`Step::Account`]; `None` when there is no such account.
    ///
    /// # Errors
    /// Those of `give`.
    pub fn single<E>(
        &mut self,
        account: Option<&ContactAccount>,
        mut give: impl FnMut(PlannedRow) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some((id, row)) = self.singly.as_mut().and_then(Vec::pop) else { return Ok(()) };
        if self.match_on == MatchOn::Id {
            let planned = match account {
                Some(account) => self.compared(row, account, None),
                None => self.not_found(u64::from(row), Some(id)),
            };
            return self.settle(id, row, planned, &mut give);
        }
        // Its item may have had another name, or a part of it only.
        let meant = account.and_then(|account| self.match_on.name_of(account));
        let meant = meant.and_then(|name| self.names.get(name.as_ref()).copied());
        if meant != Some(row) && self.held.get(&row).is_some_and(|held| held.account_id == Some(id)) {
            let planned = self.not_found(u64::from(row), account.is_none().then_some(id));
            self.held.insert(row, planned);
        }
        let (Some(account), Some(row)) = (account, meant) else { return Ok(()) };
        let planned = match self.held.get(&row) {
            Some(held) if is_other(held, id) => self.several_accounts(row, held.account_id, id),
            _ => self.compared(row, account, None),
        };
        self.held.insert(row, planned);
        Ok(())
    }

    fn several_accounts(&self, row: u32, one: Option<i64>, other: i64) -> PlannedRow {
        let one = one.map_or_else(|| "several".to_owned(), |one| one.to_string());
        let error = format!("row {row} matches accounts {one} and {other}; match on id instead");
        self.planned(u64::from(row), None, Status::Ambiguous, Some(error))
    }

    /// Leaves the account of [`Step::Account`] for later: it could not be read now.
    pub fn later(&mut self) {
        if let Some(singly) = &mut self.singly
            && let Some(last) = singly.pop()
        {
            singly.insert(0, last);
        }
    }

    /// Gives up the account of [`Step::Account`]: it cannot be read.
    ///
    /// # Errors
    /// Those of `give`.
    pub fn unreadable<E>(&mut self, error: &str, mut give: impl FnMut(PlannedRow) -> Result<(), E>) -> Result<(), E> {
        let Some((id, row)) = self.singly.as_mut().and_then(Vec::pop) else { return Ok(()) };
        let is_its_own = self.held.get(&row).is_some_and(|held| held.account_id == Some(id));
        if self.match_on != MatchOn::Id && !is_its_own {
            let by = self.match_on.as_str();
            self.refused.get_or_insert_with(|| {
                Incomplete::wrong(format!(
                    "the list may have cut the {by} of account {id}, which cannot be read: {error}; a row may be for it, so \
                     match on id instead of {by}"
                ))
            });
            return Ok(());
        }
        let error = format!("row {row}: {error}");
        let planned = self.planned(u64::from(row), Some(id), Status::Failed, Some(error));
        self.settle(id, row, planned, &mut give)
    }

    /// Keeps what a row's account, read by itself, says.
    fn settle<E>(
        &mut self,
        id: i64,
        row: u32,
        planned: PlannedRow,
        give: &mut impl FnMut(PlannedRow) -> Result<(), E>,
    ) -> Result<(), E> {
        self.ids.take(id);
        if self.match_on == MatchOn::Id {
            return give(planned);
        }
        self.held.insert(row, planned);
        Ok(())
    }

    /// Gives the rows that could not be judged before the end.
    ///
    /// # Errors
    /// Those of `give`.
    pub fn finish<E>(mut self, mut give: impl FnMut(PlannedRow) -> Result<(), E>) -> Result<(), E> {
        let mut by_account: HashMap<i64, Vec<u32>> = HashMap::new();
        for row in self.held.values() {
            if let (Some(id), Ok(number), true) =
                (row.account_id, u32::try_from(row.row), row.status != Status::Ambiguous)
            {
                by_account.entry(id).or_default().push(number);
            }
        }
        let held = std::mem::take(&mut self.held);
        let left: Vec<u32> = (self.ids.iter().map(|(_, row)| row))
            .chain(self.names.values().copied())
            .filter(|row| !held.contains_key(row))
            .collect();
        for mut row in held.into_values() {
            if let Some(rows) = row.account_id.and_then(|id| by_account.get(&id)).filter(|rows| rows.len() > 1) {
                row = self.planned(row.row, row.account_id, Status::Ambiguous, Some(several_rows(rows)));
            }
            give(row)?;
        }
        left.into_iter().try_for_each(|row| give(self.not_found(u64::from(row), None)))
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
            self.unclear.push((account.id, row));
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
        let lengths = Lengths::of(text);
        self.longest.extend(&lengths);
        if lengths.reach(&self.longest)
            && let Some(row) = self.row_of_whole(text, &name)
        {
            self.cut.push((lengths, account.id, row));
        }
        let Some(row) = self.names.get(name.as_ref()).copied() else { return Ok(()) };
        match self.held.get(&row).map(|held| held.account_id) {
            None if is_clear => {
                let planned = self.compared(row, account, Some(place));
                self.held.insert(row, planned);
            }
            None => {
                self.unclear.push((account.id, row));
                let planned = self.planned(u64::from(row), Some(account.id), Status::Pending, None);
                self.held.insert(row, planned);
            }
            Some(Some(id)) if id != account.id => {
                let planned = self.several_accounts(row, Some(id), account.id);
                self.held.insert(row, planned);
            }
            Some(_) => {}
        }
        Ok(())
    }

    /// A row that an account may be for if its item shows only the beginning of its text: the row that this beginning
    /// matches, where there is one.
    fn row_of_whole(&self, text: &str, name: &str) -> Option<u32> {
        let matched = self.names.get(name).copied();
        if matched.is_some() && text.chars().count() >= SHORTEST_CUT {
            return matched;
        }
        let begun = |beginning: Cow<'_, str>| {
            let from = (Bound::Included(beginning.as_ref()), Bound::Unbounded);
            let mut begun = self.names.range::<str, _>(from).take_while(|(other, _)| other.starts_with(&*beginning));
            begun.find(|(other, _)| other.as_ref() != name).map(|(_, row)| *row)
        };
        let other = self.match_on.beginnings(text).into_iter().find_map(begun)?;
        Some(matched.unwrap_or(other))
    }

    fn has_compared(&self, account: &ContactAccount) -> bool {
        Field::ALL.iter().all(|field| account.has(*field) || !self.compared.contains(*field))
    }

    fn compared(&self, row: u32, account: &ContactAccount, place: Option<u64>) -> PlannedRow {
        let row = u64::from(row);
        let changes = diff::changes(account, self.table.row(row), self.mode, self.nulls);
        if changes.is_empty() {
            return self.planned(row, Some(account.id), Status::Unchanged, None);
        }
        PlannedRow {
            // An update is built on the whole account, so that a page that lacks some of it is of no use.
            position: place.filter(|_| account.is_complete() || is_off(Guard::CompleteItems)),
            weight: account.text_bytes() as u64,
            changes,
            ..self.planned(row, Some(account.id), Status::Pending, None)
        }
    }

    fn not_found(&self, row: u64, id: Option<i64>) -> PlannedRow {
        let error = match (id, self.match_on) {
            (Some(id), _) => format!("row {row}: there is no account {id}"),
            (None, MatchOn::Id) => format!("row {row}: there is no such account"),
            (None, MatchOn::DomainName) if self.names_a_page(row) => format!(
                "row {row}: no account has this domain_name; it names a page of a site, which may be about another company; if \
                 the whole site is about this company, give the domain alone"
            ),
            (None, by) => format!("row {row}: no account has this {}", by.as_str()),
        };
        self.planned(row, id, Status::NotFound, Some(error))
    }

    fn names_a_page(&self, row: u64) -> bool {
        matches!(self.table.key(row), Key::Text(text) if domain::names_a_page(text))
    }

    fn planned(&self, row: u64, account_id: Option<i64>, status: Status, error: Option<String>) -> PlannedRow {
        let key = match self.table.key(row) {
            Key::Text(text) => Some(text.to_owned()),
            Key::Id(_) | Key::Missing => None,
        };
        PlannedRow { row, account_id, key, status, error, position: None, weight: 0, changes: Vec::new() }
    }
}

/// The fields in which a row is compared with its account.
fn compared(table: &Table, mode: Mode) -> FieldSet {
    let left_out = |field: &Field| mode == Mode::Replace && field.nullable();
    table.fields().iter().copied().chain(Field::ALL.iter().copied().filter(left_out)).collect()
}

/// The length of a text in characters, UTF-16 units and bytes: a list that cuts texts may count any of them.
#[derive(Debug, Clone, Copy, Default)]
struct Lengths([usize; 3]);

impl Lengths {
    fn of(text: &str) -> Self {
        Self([text.chars().count(), text.encode_utf16().count(), text.len()])
    }

    fn extend(&mut self, other: &Self) {
        for (longest, length) in self.0.iter_mut().zip(other.0) {
            *longest = length.max(*longest);
        }
    }

    /// Whether no text is longer, by one way of counting.
    fn reach(&self, longest: &Self) -> bool {
        self.0.iter().zip(longest.0).any(|(length, longest)| *length >= longest)
    }
}

impl MatchOn {
    /// Whether an account still is the one that a row was matched with by this text: its domain or its name may have moved
    /// to another account since. An id always is.
    pub(crate) fn still_matches(self, key: &str, account: &ContactAccount) -> bool {
        self == Self::Id || self.name_of(account) == Some(self.comparable(key))
    }

    /// What an account is matched by.
    fn text_of(self, account: &ContactAccount) -> Option<&str> {
        match self {
            Self::Id => None,
            Self::Name => Some(account.name.as_str()),
            Self::DomainName => account.domain_name.as_deref(),
        }
    }

    /// What an account is matched by, as it is compared.
    fn name_of(self, account: &ContactAccount) -> Option<Cow<'_, str>> {
        self.text_of(account).map(|text| self.comparable(text))
    }

    /// A text as it is compared.
    fn comparable(self, text: &str) -> Cow<'_, str> {
        if self == Self::DomainName { domain::domain_key(text) } else { Cow::Borrowed(text) }
    }

    /// With what a text, as it is compared, can begin of which only this beginning is known.
    fn beginnings(self, text: &str) -> Vec<Cow<'_, str>> {
        if self == Self::DomainName { domain::key_beginnings(text) } else { vec![Cow::Borrowed(text)] }
    }
}

/// Whether a row was found in another account, or in several.
fn is_other(held: &PlannedRow, id: i64) -> bool {
    match held.status {
        Status::Ambiguous => true,
        Status::NotFound => false,
        _ => held.account_id != Some(id),
    }
}

fn several_rows(rows: &[u32]) -> String {
    const SHOWN: usize = 5;
    let shown: Vec<String> = rows.iter().take(SHOWN).map(ToString::to_string).collect();
    let more = if rows.len() > SHOWN { format!(" and {} more", rows.len() - SHOWN) } else { String::new() };
    format!("rows {}{more} are for the same account: keep one of them", shown.join(", "))
}

/// How to look again at the next rows before they are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// One page has them all, as far as nothing has moved.
    Page {
        /// Which of the rows.
        rows: Range<usize>,
        /// How many accounts.
        top: u32,
        /// How many before them are left out.
        skip: u64,
    },
    /// One row is read by itself.
    Single(usize),
}

impl Look {
    /// The first row behind those of this look.
    pub fn end(&self) -> usize {
        match self {
            Self::Page { rows, .. } => rows.end,
            Self::Single(row) => row + 1,
        }
    }
}

/// The look for the rows from `start` on: the longest page with at most `most` of them, or a single account when a page
/// would have no second one. `rows` are in the order of their place; those without one come first.
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
    let top = u32::try_from(last_place + 1 + slack - skip).unwrap_or(page).min(page);
    Some(Look::Page { rows: start..start + count, top, skip })
}

/// How many requests it takes to look at all the rows again.
pub fn looks(rows: &[OpenRow], most: usize) -> u64 {
    let mut looks = 0;
    let mut start = 0;
    while let Some(look) = next_look(rows, start, most) {
        looks += 1;
        start = look.end();
    }
    looks
}

#[cfg(test)]
mod tests;
