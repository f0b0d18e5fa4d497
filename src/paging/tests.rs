use std::collections::BTreeSet;
use std::ops::Range;

use proptest::prelude::*;

use super::{Incomplete, Item, Paging, Seen};

/// More pages than any of these sets has.
const BOUND: usize = 500;

fn item(id: i64) -> Item {
    Item::Unreadable { id: Some(id), reason: String::new() }
}

fn items(ids: impl IntoIterator<Item = i64>) -> Vec<Item> {
    ids.into_iter().map(item).collect()
}

/// Reads until the end. `page` gives the ids behind `skip` and whether there are more, by the number of the request.
fn read(
    mut paging: Paging,
    mut page: impl FnMut(usize, usize, usize) -> (Vec<i64>, bool),
) -> (usize, Result<Vec<i64>, String>) {
    let mut read = Vec::new();
    for request in 0..BOUND {
        let Some((top, skip)) = paging.next() else { return (request, Ok(read)) };
        let (ids, has_more) = page(request, usize::try_from(top).unwrap(), usize::try_from(skip).unwrap());
        match paging.page(skip, &items(ids.iter().copied()), has_more) {
            Ok(is_new) => read.extend(ids.into_iter().zip(is_new).filter(|(_, is_new)| *is_new).map(|(id, _)| id)),
            Err(Incomplete { reason, .. }) => return (request + 1, Err(reason)),
        }
    }
    panic!("{BOUND} requests, and no end");
}

/// A page as the service gives it.
fn cut(ids: &[i64], top: usize, skip: usize) -> (Vec<i64>, bool) {
    (ids.iter().copied().skip(skip).take(top).collect(), skip + top < ids.len())
}

fn both() -> [Paging; 2] {
    [Paging::whole_set(3), Paging::without_overlap(3)]
}

#[test]
fn every_account_is_read_once_with_one_account_of_overlap() {
    for (size, accounts, requests) in
        [(1, 4, 4), (2, 5, 3), (3, 7, 3), (3, 6, 2), (1000, 0, 1), (1000, 1000, 1), (1000, 2000, 3)]
    {
        let ids: Vec<i64> = (1..=accounts).collect();
        let (sent, read) = read(Paging::whole_set(size), |_, top, skip| cut(&ids, top, skip));
        assert_eq!((sent, read), (requests, Ok(ids)), "{accounts} accounts in pages of {size}");
    }
    let mut asked = Vec::new();
    read(Paging::whole_set(3), |_, top, skip| {
        asked.push((top, skip));
        cut(&[1, 2, 3, 4, 5, 6, 7], top, skip)
    })
    .1
    .unwrap();
    assert_eq!(asked, [(3, 0), (4, 2), (4, 5)]);
}

#[test]
fn without_overlap_no_account_is_asked_for_twice() {
    let ids: Vec<i64> = (1..=2000).collect();
    let (sent, read) = read(Paging::without_overlap(1000), |_, top, skip| cut(&ids, top, skip));
    assert_eq!((sent, read), (2, Ok(ids)));
}

#[test]
fn the_same_page_again_and_again_is_an_error_after_a_few() {
    for paging in both() {
        let (sent, read) = read(paging, |_, _, _| (vec![1, 2, 3], true));
        assert!(sent <= 5 && read.unwrap_err().contains("had no new account"));
    }
}

#[test]
fn pages_that_take_turns_are_an_error_after_a_few() {
    for paging in both() {
        let (sent, read) = read(paging, |request, _, _| (if request % 2 == 0 { vec![1, 2] } else { vec![2, 3] }, true));
        assert!(sent <= 6, "{sent}");
        read.unwrap_err();
    }
}

#[test]
fn a_skip_that_is_clamped_to_the_last_page_is_an_error_unless_it_says_that_it_is_the_last() {
    let ids = [1, 2, 3, 4, 5];
    for (last_has_more, paging) in [true, false].into_iter().flat_map(|more| both().map(|paging| (more, paging))) {
        let (sent, read) = read(paging, |_, _, skip| (cut(&ids, 2, skip.min(3)).0, last_has_more || skip < 3));
        assert!(sent <= 8, "{sent}");
        assert_eq!(read.is_err(), last_has_more);
        assert_eq!(read.unwrap_or(ids.to_vec()), ids);
    }
}

#[test]
fn an_empty_page_that_has_more_is_read_again_and_is_an_error_when_it_stays_empty() {
    for paging in both() {
        let (sent, read) = read(paging, |_, _, _| (Vec::new(), true));
        assert!(sent == 3 && read.is_err());
    }
    for paging in both() {
        let (sent, read) = read(paging, |request, top, skip| match request {
            0 | 2 => (Vec::new(), true),
            _ => cut(&[1, 2, 3, 4, 5], top, skip),
        });
        assert_eq!((sent, read), (4, Ok(vec![1, 2, 3, 4, 5])));
    }
}

#[test]
fn a_page_may_be_shorter_than_asked_for() {
    let ids: Vec<i64> = (1..=40).collect();
    for paging in both() {
        assert_eq!(read(paging, |_, _, skip| cut(&ids, 2, skip)).1.unwrap(), ids);
    }
}

#[test]
fn accounts_that_slip_over_the_end_of_a_page_are_found_by_going_back() {
    let ids: Vec<i64> = (1..=100).collect();
    let paging = Paging::whole_set(10);
    // Three are removed at the front before the second page, and before the last.
    let (_, read) = read(paging, |request, top, skip| cut(&ids[3 * request.min(1)..], top, skip));
    assert_eq!(read.unwrap(), ids);
}

#[test]
fn a_set_that_shrinks_below_what_was_read_is_read_to_its_end() {
    let ids: Vec<i64> = (1..=15).collect();
    let (_, read) = read(Paging::whole_set(10), |request, top, skip| cut(&ids[6 * request.min(1)..], top, skip));
    assert_eq!(read.unwrap(), ids);
}

#[test]
fn a_set_in_which_accounts_change_places_is_read_until_none_does() {
    let mut ids: Vec<i64> = (1..=30).collect();
    let (requests, found) = read(Paging::settled_set(10), |request, top, skip| {
        if request == 1 {
            ids.swap(2, 25);
        }
        cut(&ids, top, skip)
    });
    let mut found = found.unwrap();
    found.sort_unstable();
    assert_eq!((requests, found), (6, (1..=30).collect()));
    let (requests, found) = read(Paging::settled_set(10), |_, top, skip| cut(&ids, top, skip));
    assert_eq!((requests, found.unwrap().len()), (3, 30), "a set that stands still is read once");
}

#[cfg(feature = "plan")]
#[test]
fn all_pages_are_read_again_if_the_machine_slept_between_two_of_them() {
    // While it slept, an account of the first page was removed, and one of the last page moved to the front.
    let before: Vec<i64> = (1..=30).collect();
    let after: Vec<i64> = std::iter::once(30).chain(2..30).collect();
    for (sleeps, expected) in [(false, 29), (true, 30)] {
        let mut paging = Paging::settled_set(10);
        let (mut found, mut requests) = (Vec::new(), 0);
        while let Some((top, skip)) = paging.next() {
            let (ids, has_more) =
                cut(if requests == 0 { &before } else { &after }, top as usize, usize::try_from(skip).unwrap());
            requests += 1;
            let is_new = paging.page_of(skip, &ids.iter().copied().map(Some).collect::<Vec<_>>(), has_more).unwrap();
            found.extend(ids.into_iter().zip(is_new).filter_map(|(id, is_new)| is_new.then_some(id)));
            if sleeps && requests == 1 {
                paging.slept();
            }
        }
        assert_eq!(found.len(), expected, "{requests} requests");
    }
    let mut paging = Paging::settled_set(10);
    paging.slept();
    paging.page_of(0, &[Some(1), Some(2)], false).unwrap();
    assert!(paging.is_finished(), "nothing was read before");
}

#[test]
fn a_set_that_brings_new_accounts_whenever_it_is_read_is_an_error() {
    let mut ids: Vec<i64> = (1..=30).collect();
    let mut next = 100;
    let (requests, found) = read(Paging::settled_set(10), |_, top, skip| {
        next += 1;
        ids.insert(0, next);
        cut(&ids, top, skip)
    });
    assert!(found.unwrap_err().contains("replyio read the list 5 times, and accounts moved each time"));
    assert!(requests <= 30, "{requests}");
}

#[test]
fn a_list_of_other_accounts_every_time_is_an_error() {
    let mut next = 0;
    let (sent, read) = read(Paging::whole_set(10), |_, top, _| {
        next += 1_000;
        ((next..).take(top).collect(), true)
    });
    assert!(sent <= 6, "{sent}");
    assert!(read.unwrap_err().contains("accounts are missing"));
}

#[test]
fn after_an_error_the_same_page_is_asked_for() {
    let mut paging = Paging::whole_set(2);
    paging.page(0, &items([1, 2]), true).unwrap();
    let next = paging.next();
    for _ in 0..2 {
        paging.page(1, &items([]), true).unwrap();
    }
    paging.page(1, &items([]), true).unwrap_err();
    assert_eq!(paging.next(), next);
    assert_eq!(paging.page(1, &items([2, 3]), false), Ok(vec![false, true]));
    assert_eq!(paging.next(), None);
}

#[test]
fn a_page_that_two_readers_asked_for_counts_once() {
    let mut paging = Paging::whole_set(2);
    assert_eq!(paging.page(0, &items([1, 2]), true), Ok(vec![true, true]));
    for _ in 0..5 {
        assert_eq!(paging.page(0, &items([1, 2]), true), Ok(vec![false, false]));
    }
    assert_eq!(paging.page(1, &items([2, 3]), false), Ok(vec![false, true]));
    assert_eq!(paging.page(1, &items([2, 3]), false), Ok(vec![false, false]));
}

#[test]
fn items_without_an_id_are_new_and_no_progress() {
    let nameless = || vec![Item::Unreadable { id: None, reason: String::new() }];
    let mut paging = Paging::without_overlap(1);
    assert_eq!(paging.page(0, &nameless(), true), Ok(vec![true]));
    assert_eq!(paging.page(1, &nameless(), true), Ok(vec![true]));
    paging.page(2, &nameless(), true).unwrap_err();
}

#[test]
fn ids_are_told_apart() {
    let mut seen = Seen::default();
    for id in [0, 1, 63, 64, -1, -64, -65, i64::MAX, i64::MIN] {
        assert!(!seen.contains(id), "{id}");
        assert!(seen.insert(id), "{id}");
        assert!(!seen.insert(id) && seen.contains(id), "{id}");
    }
}

/// What another program does before a request: accounts are removed, and new ones appear at a place.
#[derive(Debug, Clone)]
struct Move {
    removed: Range<usize>,
    added: usize,
    place: usize,
}

fn any_move() -> impl Strategy<Value = Move> {
    (0_usize..60, 0_usize..9, 0_usize..6, 0_usize..60).prop_map(|(start, removed, added, place)| Move {
        removed: start..start + removed,
        added,
        place,
    })
}

proptest! {
    #[test]
    fn no_account_that_stays_is_left_out_without_an_error(
        accounts in 0_i64..60, size in 1_u32..12, longest in 1_usize..15,
        moves in proptest::collection::vec(proptest::option::of(any_move()), 0..30),
    ) {
        let mut ids: Vec<i64> = (1..=accounts).collect();
        let mut stayed: BTreeSet<i64> = ids.iter().copied().collect();
        let mut fresh = 1_000;
        let (_, read) = read(Paging::whole_set(size), |request, top, skip| {
            // Nothing that happened before the first page is of interest.
            if let Some(Some(step)) = moves.get(request).filter(|_| request > 0) {
                let range = step.removed.start.min(ids.len())..step.removed.end.min(ids.len());
                for gone in ids.drain(range) {
                    stayed.remove(&gone);
                }
                let place = step.place.min(ids.len());
                ids.splice(place..place, (0..step.added).map(|_| { fresh += 1; fresh }));
            }
            cut(&ids, top.min(longest), skip)
        });
        if let Ok(read) = read {
            let distinct: BTreeSet<i64> = read.iter().copied().collect();
            prop_assert_eq!(distinct.len(), read.len(), "an account came twice");
            prop_assert!(stayed.is_subset(&distinct), "left out: {:?}", stayed.difference(&distinct));
        }
    }

    #[test]
    fn whatever_the_pages_are_the_reading_ends(
        pages in proptest::collection::vec((proptest::collection::vec(0_i64..40, 0..6), any::<bool>()), 1..20),
        whole in any::<bool>(), size in 1_u32..5,
    ) {
        let paging = if whole { Paging::whole_set(size) } else { Paging::without_overlap(size) };
        let _ = read(Paging::settled_set(size), |request, _, _| pages[request % pages.len()].clone());
        let _ = read(paging, |request, _, _| pages[request % pages.len()].clone());
    }
}
