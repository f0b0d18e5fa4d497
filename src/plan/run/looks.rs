//! How a run reads the accounts of a plan again: which page contains which rows, and the cost. Pure.

use super::proof::{FEWEST, checks};
use crate::plan::file::{ItemsProof, OpenRow};
use crate::plan::planner::{Look, next_look};

/// If at most this many rows may have been sent, the run reads their accounts with `GET` before all others. A crash
/// leaves at most as many as were in flight. If there are more, the run reads them by pages, like the others.
const MOST_SENT_FIRST: usize = 16;

/// Returns the number of requests that apply rows.
pub(super) fn requests_for(rows: Vec<OpenRow>, items: Option<ItemsProof>, most_on_a_look: usize) -> u64 {
    let (first, rows) = parted(rows, items);
    let mut requests = 2 * first.len() + rows.len();
    let mut demanded = if items.is_none() { FEWEST } else { 0 };
    for (_, look) in looks(&rows, most_on_a_look) {
        requests += 1;
        if let Look::Page { rows, .. } = look {
            requests += demanded + checks(rows.len(), demanded);
            demanded = 0;
        }
    }
    requests as u64
}

/// Returns the rows to read with `GET` before all others, and the rows to read by pages.
pub(super) fn parted(rows: Vec<OpenRow>, items: Option<ItemsProof>) -> (Vec<OpenRow>, Vec<OpenRow>) {
    // Pages are useless, or proving them takes as many requests.
    if items == Some(ItemsProof::Incomplete) || (items.is_none() && rows.len() <= FEWEST) {
        return (rows, Vec::new());
    }
    let sent = rows.iter().filter(|row| row.was_sent).count();
    if sent > MOST_SENT_FIRST {
        return (Vec::new(), rows);
    }
    rows.into_iter().partition(|row| row.was_sent)
}

/// Returns the looks at rows, in order.
fn looks(rows: &[OpenRow], most: usize) -> impl Iterator<Item = (usize, Look)> {
    let mut start = 0;
    std::iter::from_fn(move || {
        let look = next_look(rows, start, most)?;
        let from = std::mem::replace(&mut start, look.end());
        Some((from, look))
    })
}

/// Returns the start of the look with the longest texts: that account shows whether items are truncated.
pub(super) fn start_of_proof(rows: &[OpenRow], most: usize) -> usize {
    let on_pages = rows.iter().enumerate().filter(|(_, row)| row.position.is_some());
    let Some((heaviest, _)) = on_pages.max_by_key(|(_, row)| row.weight) else { return 0 };
    looks(rows, most).find(|(_, look)| look.end() > heaviest).map_or(0, |(from, _)| from)
}
