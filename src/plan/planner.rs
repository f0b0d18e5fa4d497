//! Which request to send next, and what the answers mean for the rows. Pure: it sends nothing.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

use super::diff;
use super::file::{OpenRow, PlannedRow};
use super::ids::Ids;
use super::source::{Key, Options, Table};
use super::{MatchOn, Mode, Nulls, Status};
use crate::account::ContactAccount;

/// The most accounts that a page can have.
pub const LONGEST_PAGE: u32 = if cfg!(feature = "simulation") { 8 } else { 1_000 };
/// How many accounts may have moved between plan and apply without being missed on their page.
const SLACK: u64 = if cfg!(feature = "simulation") { 1 } else { 5 };
/// How often a page is read again because the set has moved under it.
const MOST_STEPS_BACK: u32 = 3;

/// What to ask the service next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    /// Nothing: every row is known.
    Done,
}

/// Finds the account of every row with the fewest requests, and what the row changes about it.
///
/// Pages are read while fewer were read than rows are left, then the rest is read one by one: never more than twice the
/// better of the two. A row that is matched by name needs all pages, for only then there is no second candidate.
pub struct Planner<'a> {
    table: &'a Table,
    mode: Mode,
    nulls: Nulls,
    match_on: MatchOn,
    /// The rows that are not found yet, by what they are matched on.
    ids: Ids,
    names: HashMap<Cow<'a, str>, u32>,
    /// Ids that are not found in pages, read one by one from the last to the first.
    singly: Option<Vec<(i64, u32)>>,
    /// Rows found by something else than the id, which a second candidate can still take back.
    held: HashMap<u32, PlannedRow>,
    pages: u64,
    skip: u64,
    last_id: Option<i64>,
    steps_back: u32,
    listed: bool,
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
            ids: Ids::default(),
            names: HashMap::new(),
            singly: None,
            held: HashMap::new(),
            pages: 0,
            skip: 0,
            last_id: None,
            steps_back: 0,
            listed: false,
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
        if let Some(singly) = &self.singly {
            return match singly.last() {
                Some(&(id, row)) => Step::Account { row: u64::from(row), id },
                None => Step::Done,
            };
        }
        let left = self.rows_left();
        let by_id = self.match_on == MatchOn::Id;
        if left == 0 && (by_id || self.pages == 0) {
            return Step::Done;
        }
        let singly_is_cheaper = left <= 1 || self.pages >= left;
        if self.listed || (by_id && singly_is_cheaper) {
            return self.read_singly();
        }
        let overlap = u64::from(!by_id && self.last_id.is_some());
        Step::Page { top: LONGEST_PAGE, skip: self.skip.saturating_sub(overlap) }
    }

    fn read_singly(&mut self) -> Step {
        let mut singly: Vec<(i64, u32)> = self.ids.iter().collect();
        // The order of the table, so that two runs of the same plan read the same way.
        singly.sort_unstable_by_key(|(_, row)| std::cmp::Reverse(*row));
        self.singly = Some(singly);
        self.next_step()
    }

    /// How many requests are left to be asked for, as far as that is known.
    pub fn requests_left(&self) -> Option<u64> {
        self.singly.as_ref().map(|singly| singly.len() as u64)
    }

    /// How many rows are still without an answer.
    pub fn rows_left(&self) -> u64 {
        (self.ids.len() + self.names.len()) as u64
    }

    /// Takes the answer to [`Step::Page`].
    ///
    /// # Errors
    /// Those of `give`.
    pub fn page<E>(
        &mut self,
        skip: u64,
        accounts: &[ContactAccount],
        has_more: bool,
        mut give: impl FnMut(PlannedRow) -> Result<(), E>,
    ) -> Result<(), E> {
        self.pages += 1;
        for (place, account) in (skip..).zip(accounts) {
            self.account(account, place, &mut give)?;
        }
        let moved = skip < self.skip && accounts.iter().all(|account| Some(account.id) != self.last_id);
        if moved && self.steps_back < MOST_STEPS_BACK && !accounts.is_empty() {
            self.steps_back += 1;
            self.skip = skip.saturating_sub(u64::from(LONGEST_PAGE) / 2);
            self.last_id = None;
            return Ok(());
        }
        self.steps_back = 0;
        let end = skip + accounts.len() as u64;
        self.listed = !has_more || end <= self.skip;
        self.skip = end.max(self.skip);
        self.last_id = accounts.last().map(|account| account.id);
        Ok(())
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
        self.ids.take(id);
        match account {
            Some(account) => give(self.compared(row, account, None)),
            None => give(self.not_found(u64::from(row), Some(id))),
        }
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
        self.ids.take(id);
        let error = format!("row {row}: {error}");
        give(self.planned(u64::from(row), Some(id), Status::Failed, Some(error)))
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
        let name = match self.match_on {
            MatchOn::Id => {
                return match self.ids.take(account.id) {
                    Some(row) => give(self.compared(row, account, Some(place))),
                    None => Ok(()),
                };
            }
            MatchOn::Name => Some(account.name.as_str()),
            MatchOn::DomainName => account.domain_name.as_deref(),
        };
        let Some(name) = name.map(|name| self.match_on.comparable(name)) else { return Ok(()) };
        let Some(&row) = self.names.get(name.as_ref()) else { return Ok(()) };
        match self.held.get(&row).map(|held| held.account_id) {
            None => {
                let planned = self.compared(row, account, Some(place));
                self.held.insert(row, planned);
            }
            Some(Some(id)) if id != account.id => {
                let error = format!("row {row} matches accounts {id} and {}; match on id instead", account.id);
                let mut planned = self.planned(u64::from(row), None, Status::Ambiguous, Some(error));
                planned.account_id = None;
                self.held.insert(row, planned);
            }
            Some(_) => {}
        }
        Ok(())
    }

    fn compared(&self, row: u32, account: &ContactAccount, place: Option<u64>) -> PlannedRow {
        let row = u64::from(row);
        let changes = diff::changes(account, self.table.row(row), self.mode, self.nulls);
        let status = if changes.is_empty() { Status::Unchanged } else { Status::Pending };
        let position = if status == Status::Pending { place } else { None };
        PlannedRow { position, changes, ..self.planned(row, Some(account.id), status, None) }
    }

    fn not_found(&self, row: u64, id: Option<i64>) -> PlannedRow {
        let error = match (id, self.match_on) {
            (Some(id), _) => format!("row {row}: there is no account {id}"),
            (None, MatchOn::Id) => format!("row {row}: there is no such account"),
            (None, by) => format!("row {row}: no account has this {}", by.as_str()),
        };
        self.planned(row, id, Status::NotFound, Some(error))
    }

    fn planned(&self, row: u64, account_id: Option<i64>, status: Status, error: Option<String>) -> PlannedRow {
        let key = match self.table.key(row) {
            Key::Text(text) => Some(text.to_owned()),
            Key::Id(_) | Key::Missing => None,
        };
        PlannedRow { row, account_id, key, status, error, position: None, changes: Vec::new() }
    }
}

impl MatchOn {
    /// A text as it is compared.
    fn comparable(self, text: &str) -> Cow<'_, str> {
        if self == Self::DomainName { Cow::Owned(text.to_lowercase()) } else { Cow::Borrowed(text) }
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
    let skip = first_place.saturating_sub(SLACK);
    let behind = skip + u64::from(LONGEST_PAGE) - SLACK;
    let on_page = |row: &&OpenRow| row.position.is_some_and(|place| (skip..behind).contains(&place));
    let on_page = || rows.iter().skip(start).take(most.max(1)).take_while(on_page);
    let count = on_page().count();
    let last_place = on_page().filter_map(|row| row.position).max().unwrap_or(first_place);
    if count < 2 {
        return Some(Look::Single(start));
    }
    let top = u32::try_from(last_place + 1 + SLACK - skip).unwrap_or(LONGEST_PAGE).min(LONGEST_PAGE);
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
