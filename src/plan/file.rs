//! The plan file.
use super::*;
use std::collections::*;
use std::path::Path;
#[derive(Debug)]
pub struct FileError;
impl FileError {
    pub fn internal(_: &str) -> Self {
        FileError
    }
}
pub struct Header {
    pub base_url: String,
    pub act_as: Option<String>,
    pub team_id: Option<i64>,
    pub mode: Mode,
    pub nulls: Nulls,
    pub match_on: MatchOn,
    pub created_at_ms: i64,
    pub source: String,
    pub is_revert: bool,
}
pub struct PlannedRow {
    pub row: u64,
    pub account_id: Option<i64>,
    pub key: Option<String>,
    pub status: Status,
    pub error: Option<String>,
    pub position: Option<u64>,
    pub changes: Vec<Change>,
}
#[derive(Clone)]
pub struct OpenRow {
    pub row: u64,
    pub account_id: Option<i64>,
    pub position: Option<u64>,
    pub was_sending: bool,
}
pub struct Builder;
impl Builder {
    pub fn create(_: &Path, _: &Header) -> Result<Self, FileError> {
        Err(FileError)
    }
    pub fn add(&mut self, _: PlannedRow) -> Result<(), FileError> {
        Ok(())
    }
    pub fn seal(self, _: u64) -> Result<PlanFile, FileError> {
        Err(FileError)
    }
}
#[derive(Clone)]
pub struct PlanFile;
impl PlanFile {
    pub fn open_rows(&self) -> Result<Vec<OpenRow>, FileError> {
        Ok(vec![])
    }
    pub fn changes_of(&self, _: &[u64]) -> Result<HashMap<u64, Vec<Change>>, FileError> {
        Err(FileError)
    }
    pub fn recent_requests(&self, _: i64) -> Result<Vec<i64>, FileError> {
        Err(FileError)
    }
    pub async fn sending(&self, _: u64, _: i64) -> Result<(), FileError> {
        Ok(())
    }
    pub async fn finish(&self, _: u64, _: Status, _: Option<String>, _: Option<i64>) -> Result<(), FileError> {
        Ok(())
    }
    pub async fn requeue(&self, _: u64) -> Result<(), FileError> {
        Ok(())
    }
    pub async fn note_requests(&self, _: Vec<i64>) -> Result<(), FileError> {
        Ok(())
    }
}
