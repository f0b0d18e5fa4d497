//! What must hold for any plan file at all.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use replyio::ApiKey;
use replyio::plan::file::{FileError, FileErrorKind, PlanFile};
use replyio::plan::{Change, Status};

/// A message is one that a person reads.
const LONGEST_MESSAGE: usize = 2_000;

fn name(kind: &FileErrorKind) -> String {
    let text = format!("{kind:?}");
    text.split(['(', ' ']).next().unwrap_or_default().to_owned()
}

fn check_message(error: &FileError) {
    let message = error.to_string();
    assert!(message.len() <= LONGEST_MESSAGE, "a message of {} bytes: {message:.200}", message.len());
    assert!(!matches!(error.kind(), FileErrorKind::Internal(_)), "{message}");
}

/// The files of a folder, with their bytes.
fn files(path: &Path) -> BTreeMap<std::ffi::OsString, Vec<u8>> {
    let entries = fs::read_dir(path.parent().unwrap()).unwrap().map(|entry| entry.unwrap());
    entries.map(|entry| (entry.file_name(), fs::read(entry.path()).unwrap())).collect()
}

pub(crate) fn judge(path: &Path) -> String {
    let before = files(path);
    // A plan with a log gets an index of it beside it.
    let is_alone = before.len() == 1 && before.values().all(|bytes| bytes.get(18..20) == Some(&[1, 1]));
    let opened = PlanFile::open(path);
    assert!(!is_alone || files(path) == before, "opening changed the folder");
    match opened {
        Ok(file) => {
            judge_plan(&file, path);
            "opened".to_owned()
        }
        Err(error) => {
            check_message(&error);
            let _ = PlanFile::make_way(path).inspect_err(check_message);
            if matches!(error.kind(), FileErrorKind::NeedsLog(_))
                && let Ok(file) = PlanFile::recover(path).inspect_err(check_message)
            {
                judge_plan(&file, path);
                return "recovered".to_owned();
            }
            name(error.kind())
        }
    }
}

type Shown = BTreeMap<u64, (Option<i64>, Vec<Change>)>;

/// What a plan shows a person.
fn shown(file: &PlanFile) -> Result<(String, Shown), FileError> {
    use std::fmt::Write as _;
    let (mut text, mut shown) = (format!("{:?}", file.header()), Shown::new());
    file.for_each_row(|row| {
        writeln!(text, "{row:?}").unwrap();
        assert!(shown.insert(row.row, (row.account_id, Vec::new())).is_none(), "row {} twice", row.row);
    })?;
    file.for_each_change(|change| {
        writeln!(text, "{change:?}").unwrap();
        let (account, changes) = shown.get_mut(&change.row).unwrap();
        assert_eq!(*account, change.account_id, "another account");
        changes.push(Change::new(change.field, change.before, change.after));
    })?;
    for (_, changes) in shown.values_mut() {
        changes.sort_unstable_by_key(|change| change.field);
    }
    Ok((text, shown))
}

fn judge_plan(file: &PlanFile, path: &Path) {
    let whole = "a plan that was opened can be read";
    let (text, shown_before) = shown(file).expect(whole);
    let counts = file.counts().expect(whole);
    assert_eq!(counts.values().sum::<u64>(), shown_before.len() as u64, "rows that are counted and not shown");
    file.state().expect(whole);
    file.rows_done(&[]).expect(whole);
    file.stored_otherwise().expect(whole);
    file.open_keys().expect(whole);
    let mut applied = 0;
    for row in file.open_rows(&[Status::Conflict]).expect(whole) {
        let (account, changes) = shown_before.get(&row.row).expect("a row that is applied is shown");
        assert_eq!(*account, row.account_id, "another account");
        let mut asked = file.changes_of(&[row.row]).expect(whole).remove(&row.row).unwrap();
        // The others are values of fields that the row does not change.
        asked.retain(|change| change.is_planned || change.before != change.after);
        assert_eq!(&asked, changes, "what is applied is what is shown");
        applied += changes.len();
        for change in changes {
            let mut fields = replyio::AccountFields::default();
            let is_of_kind = fields.set(change.field, change.after.as_field_value()).is_ok();
            assert!(is_of_kind, "{change:?} is not of its field's kind");
        }
        assert!(changes.is_empty() || row.account_id.is_none_or(|id| id > 0), "account {:?}", row.account_id);
    }
    let mut reverted = Ok(());
    let read = file.revert_rows(|row| {
        reverted = if shown_before.contains_key(&row.row) { Ok(()) } else { Err(row.row) };
        Ok(())
    });
    read.expect(whole);
    assert_eq!(reverted, Ok(()), "a row that is reverted is shown");
    let key = ApiKey::new("another-key").unwrap();
    for url in ["https://elsewhere.example/v3", file.header().base_url.as_str()] {
        let _ = file.check_target(url, None, None, &key, false).inspect_err(check_message);
    }
    match file.revert_file() {
        Ok(revert) => {
            let (_, rows) = shown(&revert).expect("a revert can be read");
            assert!(rows.len() <= shown_before.len(), "a revert of more rows");
        }
        Err(error) => check_message(&error),
    }
    match file.start_run() {
        Ok(run) => {
            run.recent_requests(1_764_000_200_000).map_or_else(|error| check_message(&error), drop);
            drop(run);
            let again = PlanFile::open(path).unwrap_or_else(|error| panic!("after a run: {error}"));
            assert_eq!(shown(&again).expect(whole).0, text, "a run that did nothing changed the plan");
        }
        Err(error) => {
            check_message(&error);
            assert!(applied == 0 || !matches!(error.kind(), FileErrorKind::Damaged(_)), "opened, not run: {error}");
        }
    }
}
