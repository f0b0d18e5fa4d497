//! Reads a list page by page, and checks that the pages contain all of it. Pure: it sends nothing.
//!
//! The service counts pages by offset over a list that may change, and documents no order. An account that moves
//! forward occurs twice, and an account that moves back would be missed. So each page begins with the last account of
//! the previous page, and a page without any known account is read again further back. This does not detect an account
//! that moves from the coming pages to the pages already read while another one moves the other way. If a missed
//! account would give a wrong result, the pages are read again until no account moves.

use std::collections::HashMap;
use std::time::Duration;

use crate::answer::Item;
use crate::error::{Call, CallError, Error, Failure, Operation, Unexpected};
use crate::sabotage::{Guard, is_off};

/// The most accounts on a page.
pub const LONGEST_PAGE: u32 = 1_000;
/// How many pages in a row may have no new account. Accounts that are added during reading can shift a page by its
/// whole length, but hardly three times in a row.
const MOST_WITHOUT_PROGRESS: u32 = 3;
/// How often in a row a page is read again further back.
const MOST_STEPS_BACK: u32 = 3;
/// The most passes over all pages until no account moves.
const MOST_PASSES: u32 = 5;
/// The number of passes in a row without a new account after which the list counts as complete, although accounts move.
const PASSES_WITHOUT_NEWS: u32 = 2;

/// The progress of reading a list.
///
/// # Examples
/// ```no_run
/// # async fn example(client: replyio::Client) -> Result<(), replyio::Error> {
/// use replyio::{ListQuery, Paging};
///
/// let query = ListQuery { sort_by: Some("id".into()), ..ListQuery::default() };
/// let mut paging = Paging::whole_set(1_000);
/// while let Some((top, skip)) = paging.next() {
///     let page = client.list_page(&query, top, skip).await?;
///     let is_new = paging.page(skip, &page.items, page.has_more);
///     let is_new = is_new.map_err(|error| error.into_error(Default::default()))?;
///     println!("{} more accounts", is_new.into_iter().filter(|is_new| *is_new).count());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Paging {
    page_size: u32,
    /// Whether every account of the list must be read.
    is_whole: bool,
    seen: Seen,
    /// The passes, if pages are read again until no account moves.
    pass: Option<Pass>,
    skip: u64,
    /// The number of items on the previous page.
    length: u64,
    without_progress: u32,
    steps_back: u32,
    is_finished: bool,
}

/// The pages do not contain the whole list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incomplete {
    /// What is wrong with the pages, or with an item on one. Never contains a value.
    pub reason: String,
    /// Whether the set changed while it was read, and nothing is wrong with the answers.
    pub is_unsettled: bool,
}

impl Incomplete {
    /// An answer is wrong.
    pub(crate) const fn wrong(reason: String) -> Self {
        Self { reason, is_unsettled: false }
    }

    const fn unsettled(reason: String) -> Self {
        Self { reason, is_unsettled: true }
    }

    /// Returns the error of the call that read the page, with its duration.
    pub fn into_error(self, elapsed: Duration) -> Error {
        let Self { reason, is_unsettled } = self;
        let unexpected = |reason| Failure::Unexpected(Unexpected { status: Some(200), reason, excerpt: None });
        Error::Call(Box::new(CallError {
            call: Call { operation: Operation::List, id: None },
            attempts: 1,
            elapsed,
            may_have_been_applied: false,
            failure: if is_unsettled { Failure::Unsettled { reason } } else { unexpected(reason) },
        }))
    }
}

impl Paging {
    /// Reads every account of a list, in pages with this number of new accounts.
    pub fn whole_set(page_size: u32) -> Self {
        Self::new(page_size, true)
    }

    /// Reads every account of a list. If an account moves during reading, reads all pages again until none does.
    pub fn settled_set(page_size: u32) -> Self {
        Self { pass: Some(Pass::default()), ..Self::new(page_size, true) }
    }

    /// Reads a list from which an account may be missed, because the caller does not depend on it.
    pub fn without_overlap(page_size: u32) -> Self {
        Self::new(page_size, false)
    }

    fn new(page_size: u32, is_whole: bool) -> Self {
        Self {
            page_size,
            is_whole,
            seen: Seen::default(),
            pass: None,
            skip: 0,
            length: 0,
            without_progress: 0,
            steps_back: 0,
            is_finished: false,
        }
    }

    /// Returns the page to read next: the number of accounts, and how many to skip. `None` after the last page.
    pub fn next(&self) -> Option<(u32, u64)> {
        if self.is_finished {
            return None;
        }
        let overlaps = self.is_whole && self.skip > 0;
        let top = (self.page_size + u32::from(overlaps)).min(LONGEST_PAGE);
        Some((top, self.skip - u64::from(overlaps)))
    }

    /// Returns whether the last page was read.
    pub const fn is_finished(&self) -> bool {
        self.is_finished
    }

    /// The machine slept between two pages. Several accounts may have moved, so that the pages fit together all the
    /// same: if a missed account would give a wrong result, all pages are read again.
    #[cfg(feature = "plan")]
    pub(crate) fn slept(&mut self) {
        if let Some(pass) = &mut self.pass {
            pass.has_moved |= !pass.places.is_empty();
        }
    }

    /// Takes the page after `skip` accounts. Returns for each item whether it is new; an item without a readable id is.
    /// After an error the position is unchanged, so that the caller can read the page again.
    ///
    /// # Errors
    /// Returns [`Incomplete`] if the pages contain nothing new, or accounts are missing between two of them.
    pub fn page(&mut self, skip: u64, items: &[Item], has_more: bool) -> Result<Vec<bool>, Incomplete> {
        self.page_of(skip, &items.iter().map(Item::id).collect::<Vec<_>>(), has_more)
    }

    /// Takes a page by the ids of its items; see [`Paging::page`].
    pub(crate) fn page_of(&mut self, skip: u64, ids: &[Option<i64>], has_more: bool) -> Result<Vec<bool>, Incomplete> {
        if self.next().is_none_or(|(_, next)| next != skip) {
            // Another reader of the same list got its answer first.
            return Ok(vec![false; ids.len()]);
        }
        let seen = self.pass.as_ref().map_or(&self.seen, |pass| &pass.seen);
        let is_connected = self.is_whole && ids.iter().any(|id| id.is_some_and(|id| seen.contains(id)));
        let may_have_gap = self.is_whole && skip > 0 && !(ids.is_empty() && has_more);
        if may_have_gap && !is_connected && !is_off(Guard::Progress) {
            return self.step_back(skip).map(|()| vec![false; ids.len()]);
        }
        if is_connected {
            self.steps_back = 0;
        }
        let mut has_progress = false;
        let mut is_new = |id: &Option<i64>| {
            let Some(id) = *id else { return true };
            let is_new = self.seen.insert(id);
            has_progress |= is_new;
            is_new
        };
        let is_new: Vec<bool> = ids.iter().map(&mut is_new).collect();
        if let Some(pass) = &mut self.pass {
            has_progress = pass.page(skip, ids, &is_new);
        }
        if has_more && !has_progress {
            self.without_progress += 1;
            if self.without_progress >= MOST_WITHOUT_PROGRESS && !is_off(Guard::Progress) {
                return Err(Incomplete::wrong(format!(
                    "the list does not end: {MOST_WITHOUT_PROGRESS} pages in a row had no new account, but /hasMore \
                    is still true (skip={skip})"
                )));
            }
        } else {
            self.without_progress = 0;
        }
        if !ids.is_empty() {
            self.length = ids.len() as u64;
            self.skip = skip + self.length;
        }
        self.is_finished = !has_more;
        if self.is_finished && self.pass.as_mut().is_some_and(|pass| !pass.ends_settled()) && !is_off(Guard::Progress) {
            if self.pass.as_ref().is_some_and(|pass| pass.ended >= MOST_PASSES) {
                return Err(Incomplete::unsettled(format!(
                    "replyio read the list {MOST_PASSES} times, and accounts moved each time"
                )));
            }
            (self.is_finished, self.skip, self.length, self.steps_back) = (false, 0, 0, 0);
        }
        Ok(is_new)
    }

    /// Goes back, so that the next page begins among the accounts already read.
    fn step_back(&mut self, skip: u64) -> Result<(), Incomplete> {
        if self.steps_back >= MOST_STEPS_BACK {
            return Err(Incomplete::unsettled(format!("accounts are missing before the page at skip={skip}")));
        }
        self.steps_back += 1;
        self.skip = skip.saturating_sub((self.length / 2).max(1));
        Ok(())
    }
}

/// One pass over all pages, of several.
#[derive(Debug, Default)]
struct Pass {
    /// The accounts of this pass.
    seen: Seen,
    /// The accounts by position.
    places: Vec<Option<i64>>,
    has_moved: bool,
    has_news: bool,
    /// How many passes have ended, and how many in a row had no new account.
    ended: u32,
    without_news: u32,
}

impl Pass {
    /// Takes a page. Returns whether it has an account that no page of this pass had.
    fn page(&mut self, skip: u64, ids: &[Option<i64>], is_new: &[bool]) -> bool {
        let mut has_progress = false;
        for (place, id) in (usize::try_from(skip).unwrap_or(usize::MAX)..).zip(ids) {
            let is_first_time = id.is_none_or(|id| self.seen.insert(id));
            has_progress |= is_first_time && id.is_some();
            if let Some(known) = self.places.get(place) {
                self.has_moved |= known != id;
            } else {
                self.has_moved |= !is_first_time;
                self.places.push(*id);
            }
        }
        self.has_news |= is_new.contains(&true);
        has_progress
    }

    /// Ends the pass. Returns whether no other pass is needed.
    fn ends_settled(&mut self) -> bool {
        let without_news = if self.has_news || self.ended == 0 { 0 } else { self.without_news + 1 };
        let is_settled = !self.has_moved || without_news >= PASSES_WITHOUT_NEWS;
        *self = Self { ended: self.ended + 1, without_news, ..Self::default() };
        is_settled
    }
}

/// The ids already read: one bit each, because the ids of most lists are close together.
#[derive(Debug, Default)]
struct Seen(HashMap<i64, u64>);

impl Seen {
    const fn place(id: i64) -> (i64, u64) {
        (id >> 6, 1 << (id & 63))
    }

    fn contains(&self, id: i64) -> bool {
        let (word, bit) = Self::place(id);
        self.0.get(&word).is_some_and(|bits| bits & bit != 0)
    }

    /// Adds an id. Returns whether it is new.
    fn insert(&mut self, id: i64) -> bool {
        let (word, bit) = Self::place(id);
        let bits = self.0.entry(word).or_default();
        let is_new = *bits & bit == 0;
        *bits |= bit;
        is_new
    }
}

#[cfg(test)]
mod tests;
