//! How the rows of a plan are looked at: which page shows which rows, and what that costs. Pure.

use super::proof::{FEWEST, ONE_OF};
use crate::plan::file::{ItemsProof, OpenRow};
use crate::plan::planner::{Look, next_look};

/// So many rows that may have been sent are read by themselves, before all others. A crash leaves no more, so that at most
/// as many rows are unknown at any time.
const MOST_SENT_FIRST: usize = 16;

/// How many requests it takes to apply rows.
pub(super) fn requests_to_apply(rows: Vec<OpenRow>, items: Option<ItemsProof>, most_on_a_look: usize) -> u64 {
    let (first, rows) = parted(rows, items);
    let (mut requests, mut has_page) = ((2 * first.len() + rows.len()) as u64, false);
    for (_, look) in looks(&rows, most_on_a_look) {
        requests += 1;
        if let Look::Page { rows, .. } = look {
            requests += (rows.len() / ONE_OF) as u64;
            has_page = true;
        }
    }
    requests + if has_page && items.is_none() { FEWEST as u64 } else { 0 }
}

/// The rows that are read by themselves, before all others, and the rows that are looked at by pages.
pub(super) fn parted(rows: Vec<OpenRow>, items: Option<ItemsProof>) -> (Vec<OpenRow>, Vec<OpenRow>) {
    // Pages are of no use, or to prove them takes as many requests.
    if items == Some(ItemsProof::Incomplete) || (items.is_none() && rows.len() <= FEWEST) {
        return (rows, Vec::new());
    }
    let sent = rows.iter().filter(|row| row.was_sent).count();
    if sent > MOST_SENT_FIRST {
        return (Vec::new(), rows);
    }
    rows.into_iter().partition(|row| row.was_sent)
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
