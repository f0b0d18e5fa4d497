//! The lengths of texts that a list may have truncated. Pure.

/// The length of a text in characters, UTF-16 units and bytes: a list that truncates texts may count any of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Lengths([usize; 3]);

/// By how much a truncated text can be shorter than the limit, by each count: the limit may be within a character, and
/// a space at the end may be removed.
const SHORTER: [usize; 3] = [1, 2, 4];

/// How near a length is to the longest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    Longest,
    Nearly,
    Not,
}

impl Lengths {
    pub(super) fn of(text: &str) -> Self {
        if text.is_ascii() {
            return Self([text.len(); 3]);
        }
        Self([text.chars().count(), text.encode_utf16().count(), text.len()])
    }

    pub(super) fn extend(&mut self, other: Self) {
        for (longest, length) in self.0.iter_mut().zip(other.0) {
            *longest = length.max(*longest);
        }
    }

    /// The number of counts.
    pub(super) const COUNTS: usize = 3;

    /// Returns whether a list that shows a text of the longest length may have truncated a text to this one, by any of
    /// the counts.
    pub(super) fn reach(self, longest: Self) -> bool {
        (0..Self::COUNTS).any(|count| self.reach_by(count, longest) != Reach::Not)
    }

    /// The same by one of the counts.
    pub(super) fn reach_by(self, count: usize, longest: Self) -> Reach {
        let of = |lengths: &[usize; 3]| lengths.get(count).copied().unwrap_or_default();
        match of(&longest.0).saturating_sub(of(&self.0)) {
            0 => Reach::Longest,
            missing if missing <= of(&SHORTER) => Reach::Nearly,
            _ => Reach::Not,
        }
    }

    pub(super) const fn bytes(self) -> usize {
        self.0[2]
    }
}

#[cfg(test)]
mod tests {
    use super::Lengths;

    #[test]
    fn a_text_is_as_long_as_the_limit_by_one_of_the_counts() {
        let limit = Lengths::of(&"x".repeat(255));
        for (text, may_be_cut) in [
            ("x".repeat(255), true),
            ("x".repeat(251), true),
            ("x".repeat(250), false),
            // 85 characters and 255 bytes, one character less, and 253 bytes with 127 UTF-16 units.
            ("\u{65e5}".repeat(85), true),
            ("\u{65e5}".repeat(84), true),
            ("\u{65e5}".repeat(83), false),
            ("\u{1f600}".repeat(127), true),
        ] {
            assert_eq!(Lengths::of(&text).reach(limit), may_be_cut, "{text}");
        }
    }
}
