//! Decides which texts are empty cells.

use std::sync::Arc;

use crate::text::is_blank;

/// The texts that are empty cells: `""`, white space, invisible characters, and the words that the caller listed.
#[derive(Debug, Clone, Default)]
pub(super) struct Blanks(Arc<[String]>);

impl Blanks {
    /// White space around a word is ignored.
    pub(super) fn new(null_values: &[String]) -> Self {
        Self(null_values.iter().map(|word| word.trim().to_owned()).collect())
    }

    /// Returns whether every empty cell shows nothing.
    pub(super) fn are_only_blank(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns whether a text is an empty cell.
    pub(super) fn has(&self, text: &str) -> bool {
        if self.are_only_blank() && text.bytes().next().is_some_and(|byte| byte.is_ascii_graphic()) {
            return false;
        }
        is_blank(text) || self.0.iter().any(|word| word == text.trim())
    }
}
