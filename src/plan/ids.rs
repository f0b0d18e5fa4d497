//! The ids of rows whose account was not found yet.

/// Rows by id, sorted. This takes half the memory of a hash table, and a list in the order of ids finds each row next
/// to the last one.
#[derive(Debug, Default)]
pub(super) struct Ids {
    rows: Vec<(i64, u32)>,
    taken: Vec<bool>,
    left: usize,
    /// The position after the last match.
    next: usize,
}

impl Ids {
    /// Takes ids with their rows. Returns the groups of rows with the same id, each in the order of its rows.
    pub(super) fn new(mut rows: Vec<(i64, u32)>) -> (Self, Vec<(i64, Vec<u32>)>) {
        rows.sort_unstable();
        let mut repeated: Vec<(i64, Vec<u32>)> = Vec::new();
        for group in rows.chunk_by(|left, right| left.0 == right.0).filter(|group| group.len() > 1) {
            let id = group.first().map_or(0, |(id, _)| *id);
            repeated.push((id, group.iter().map(|(_, row)| *row).collect()));
        }
        if !repeated.is_empty() {
            rows.retain(|(id, _)| repeated.binary_search_by_key(id, |(id, _)| *id).is_err());
        }
        let (taken, left) = (vec![false; rows.len()], rows.len());
        (Self { rows, taken, left, next: 0 }, repeated)
    }

    /// Removes and returns the row of an id.
    pub(super) fn take(&mut self, id: i64) -> Option<u32> {
        let is_next = self.rows.get(self.next).is_some_and(|(next, _)| *next == id);
        let place = if is_next { self.next } else { self.rows.binary_search_by_key(&id, |(id, _)| *id).ok()? };
        let taken = self.taken.get_mut(place).filter(|taken| !**taken)?;
        *taken = true;
        self.left -= 1;
        self.next = place + 1;
        self.rows.get(place).map(|(_, row)| *row)
    }

    /// Returns the remaining rows.
    pub(super) fn iter(&self) -> impl Iterator<Item = (i64, u32)> {
        self.rows.iter().zip(&self.taken).filter(|(_, taken)| !**taken).map(|(row, _)| *row)
    }

    /// Returns the number of remaining rows.
    pub(super) fn len(&self) -> usize {
        self.left
    }
}

#[cfg(test)]
mod tests {
    use super::Ids;

    #[test]
    fn every_id_is_found_once_in_any_order() {
        let (mut ids, repeated) = Ids::new(vec![(30, 0), (10, 1), (20, 2), (40, 3)]);
        assert!(repeated.is_empty());
        assert_eq!([20, 30, 10, 20, 25].map(|id| ids.take(id)), [Some(2), Some(0), Some(1), None, None]);
        assert_eq!((ids.len(), ids.iter().collect::<Vec<_>>()), (1, vec![(40, 3)]));
    }

    #[test]
    fn rows_for_the_same_id_are_apart() {
        let (mut ids, repeated) = Ids::new(vec![(7, 0), (5, 1), (7, 2), (5, 3), (6, 4), (7, 5)]);
        assert_eq!(repeated, [(5, vec![1, 3]), (7, vec![0, 2, 5])]);
        assert_eq!((ids.len(), ids.take(7), ids.take(6)), (1, None, Some(4)));
    }
}
