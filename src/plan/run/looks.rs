//! How the rows of a plan are looked at: which page shows which rows, and what that costs. Pure.

use super::proof::FEWEST;
use crate::plan::file::{ItemsProof, OpenRow};
use crate::plan::planner::{Look, next_look};

/// How many requests it takes to apply rows.
pub(super) fn requests_to_apply(rows: &[OpenRow], items: Option<ItemsProof>, most_on_a_look: usize) -> u64 {
    if reads_singly(rows.len(), items) {
        return 2 * rows.len() as u64;
    }
    let (mut requests, mut has_page) = (rows.len() as u64, false);
    for (_, look) in looks(rows, most_on_a_look) {
        requests += 1;
        has_page |= matches!(look, Look::Page { .. });
    }
    requests + if has_page && items.is_none() { FEWEST as u64 } else { 0 }
}

/// Whether every account is read by itself: pages are of no use, or to prove them takes as many requests.
pub(super) fn reads_singly(rows: usize, items: Option<ItemsProof>) -> bool {
    items == Some(ItemsProof::Incomplete) || (items.is_none() && rows <= FEWEST)
}

/// The looks at rows, one after the other.
fn looks(rows: &[OpenRow], most: usize) -> impl Iterator<Item = (usize, Look)> {
    let mut start = 0;
    std::iter::from_fn(move || {
        let look = next_look(rows, start, most)?;
        let from = std::mem::replace(&mut start, look.end());
        Some((from, look))
    })
}

/// Where the look begins that shows the account with the longest texts: that account tells whether items are cut.
pub(super) fn start_of_proof(rows: &[OpenRow], most: usize) -> usize {
    let on_pages = rows.iter().enumerate().filter(|(_, row)| row.position.is_some());
    let Some((heaviest, _)) = on_pages.max_by_key(|(_, row)| row.weight) else { return 0 };
    looks(rows, most).find(|(_, look)| look.end() > heaviest).map_or(0, |(from, _)| from)
}
