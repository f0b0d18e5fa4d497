//! Reads a set page by page, and checks that the pages give all of it. Pure: it sends nothing.
//!
//! The service counts pages by offset over a set that changes meanwhile, and documents no order. An account that moves
//! forward comes twice, and one that moves back would be missed. So each page begins with the last account of the page
//! before, and a page that does not have any account read before is read again further back.

use std::collections::HashMap;
use std::time::Duration;

use crate::answer::Item;
use crate::error::{Call, CallError, Error, Failure, Operation, Unexpected};
use crate::sabotage::{Guard, is_off};

/// The most accounts that a page can have.
pub const LONGEST_PAGE: u32 = 1_000;
/// How many pages in a row may bring no new account. Accounts that are added while the set is read can shift a page by
/// its whole length, but hardly three times in a row.
const MOST_WITHOUT_PROGRESS: u32 = 3;
/// How often in a row a page is read again further back.
const MOST_STEPS_BACK: u32 = 3;

/// Where in a set the reading is, and what has been read.
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
///     let is_new = paging.page(skip, &page.items, page.has_more).map_err(|error| error.into_error(Default::default()))?;
///     println!("{} more accounts", is_new.into_iter().filter(|is_new| *is_new).count());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Paging {
    page_size: u32,
    /// Whether every account of the set must be read.
    is_whole: bool,
    seen: Seen,
    skip: u64,
    /// How many items the page before had.
    length: u64,
    without_progress: u32,
    steps_back: u32,
    is_finished: bool,
}

/// The pages do not give the whole set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incomplete {
    /// What is wrong with the pages, or with an item on one. Never a value.
    pub reason: String,
}

impl Incomplete {
    /// The error of the call that read the page, and took so long.
    pub fn into_error(self, elapsed: Duration) -> Error {
        Error::Call(Box::new(CallError {
            call: Call { operation: Operation::List, id: None },
            attempts: 1,
            elapsed,
            may_have_been_applied: false,
            failure: Failure::Unexpected(Unexpected { status: Some(200), reason: self.reason, excerpt: None }),
        }))
    }
}

impl Paging {
    /// Reads every account of a set, in pages with this number of new accounts.
    pub fn whole_set(page_size: u32) -> Self {
        Self::new(page_size, true)
    }

    /// Reads a set from which an account may be missed: the caller does not depend on finding it.
    pub fn without_overlap(page_size: u32) -> Self {
        Self::new(page_size, false)
    }

    fn new(page_size: u32, is_whole: bool) -> Self {
        Self {
            page_size,
            is_whole,
            seen: Seen::default(),
            skip: 0,
            length: 0,
            without_progress: 0,
            steps_back: 0,
            is_finished: false,
        }
    }

    /// The page to read next: how many accounts, and how many before them are left out. `None` behind the last page.
    pub fn next(&self) -> Option<(u32, u64)> {
        if self.is_finished {
            return None;
        }
        let overlaps = self.is_whole && self.skip > 0;
        let top = (self.page_size + u32::from(overlaps)).min(LONGEST_PAGE);
        Some((top, self.skip - u64::from(overlaps)))
    }

    /// Whether the last page has been read.
    pub const fn is_finished(&self) -> bool {
        self.is_finished
    }

    /// Takes the page that was read behind `skip` accounts. Tells for each item whether it is new; an item without a
    /// readable id is. On an error the reading stands where it was, so that the page can be read again.
    ///
    /// # Errors
    /// [`Incomplete`] when the pages bring nothing new, or accounts are missing between two of them.
    pub fn page(&mut self, skip: u64, items: &[Item], has_more: bool) -> Result<Vec<bool>, Incomplete> {
        if self.next().is_none_or(|(_, next)| next != skip) {
            // Another reader of the same set was answered first.
            return Ok(vec![false; items.len()]);
        }
        let is_seen = |item: &Item| item.id().is_some_and(|id| self.seen.contains(id));
        let is_connected = self.is_whole && items.iter().any(is_seen);
        let may_have_gap = self.is_whole && skip > 0 && !(items.is_empty() && has_more);
        if may_have_gap && !is_connected && !is_off(Guard::Progress) {
            return self.step_back(skip).map(|()| vec![false; items.len()]);
        }
        if is_connected {
            self.steps_back = 0;
        }
        let mut has_progress = false;
        let mut is_new = |item: &Item| {
            let Some(id) = item.id() else { return true };
            let is_new = self.seen.insert(id);
            has_progress |= is_new;
            is_new
        };
        let is_new: Vec<bool> = items.iter().map(&mut is_new).collect();
        if has_more && !has_progress {
            self.without_progress += 1;
            if self.without_progress >= MOST_WITHOUT_PROGRESS && !is_off(Guard::Progress) {
                return Err(Incomplete {
                    reason: format!(
                        "the list does not end: {MOST_WITHOUT_PROGRESS} pages in a row brought no new account, and \
                         /hasMore is still true (skip={skip})"
                    ),
                });
            }
        } else {
            self.without_progress = 0;
        }
        if !items.is_empty() {
            self.length = items.len() as u64;
            self.skip = skip + self.length;
        }
        self.is_finished = !has_more;
        Ok(is_new)
    }

    /// Goes back, so that the next page begins among the accounts that have been read.
    fn step_back(&mut self, skip: u64) -> Result<(), Incomplete> {
        if self.steps_back >= MOST_STEPS_BACK {
            return Err(Incomplete {
                reason: format!(
                    "the list changes faster than it can be read: accounts are missing before the page at skip={skip}"
                ),
            });
        }
        self.steps_back += 1;
        self.skip = skip.saturating_sub((self.length / 2).max(1));
        Ok(())
    }
}

/// Ids that have been read: a bit each, since most sets have ids that are close together.
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

    /// Adds an id, and tells whether it is new.
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
