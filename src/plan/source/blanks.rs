//! Decides which texts are empty cells.

use std::sync::Arc;

/// The texts that are empty cells: `""`, white space, and the words that the caller listed.
#[derive(Debug, Clone, Default)]
pub(super) struct Blanks(Arc<[String]>);

impl Blanks {
    /// White space around a word is ignored.
    pub(super) fn new(null_values: &[String]) -> Self {
        Self(null_values.iter().map(|word| word.trim().to_owned()).collect())
    }

    /// Returns whether a text is an empty cell.
    pub(super) fn has(&self, text: &str) -> bool {
        if self.0.is_empty() && text.bytes().next().is_some_and(|byte| byte.is_ascii_graphic()) {
            return false;
        }
        let text = text.trim();
        text.is_empty() || self.0.iter().any(|word| word == text)
    }
}
