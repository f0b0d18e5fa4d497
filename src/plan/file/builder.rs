//! Creates a plan file.
//!
//! Until the file is sealed, writes do not wait for the disk: a half-written plan is useless and cannot be opened. The
//! builder has no journal file: SQLite would replay the journal of a killed process into whatever plan has that name
//! later. The rows are in other pages than the header, which still tells that the file is half-written. Sealing waits
//! twice: for the rows, and then for the mark that they are complete.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::{fs, io};

use rusqlite::{Connection, params};

use super::error::{FileError, FileErrorKind};
use super::header::{Facts, Header};
use super::presence::Presence;
use super::private::{FileId, create_beside, create_private, remove, with_suffix};
use super::schema::{self, StoredRequest, StoredRow};
use super::state::{self, Activity, AtRisk, Cleared, Owner};
use super::{PlanFile, PlannedRow, check, connect, log, simulation};
use crate::private_file::sync_folder;

/// Rows and changes go to the writing thread in batches of this size, each sorted by row: if rows arrive in another
/// order, such as those of a table that is not sorted by account, neighbors are still written together.
const BATCH: usize = 65_536;
/// The most batches that may wait.
const BATCHES: usize = 1;

/// What SQLite's longest file has after the name of a plan while the plan is created.
const WHILE_CREATED: &str = ".00000000000000000000000000000000.new-journal";

/// A plan file during its creation. Dropping it before it is sealed deletes the file.
pub struct Builder {
    /// The path as the caller passed it.
    name: PathBuf,
    path: PathBuf,
    header: Header,
    batch: Vec<PlannedRow>,
    /// Rows and changes in the batch.
    size: usize,
    rows: u64,
    requests: Vec<i64>,
    cleared: Cleared,
    at_risk: Vec<AtRisk>,
    writing: Option<Writing>,
    file: Option<FileId>,
    /// Dropped last, after SQLite is closed.
    _presence: Presence,
}

/// Where rows are written.
enum Writing {
    Thread(SyncSender<Vec<PlannedRow>>, JoinHandle<rusqlite::Result<Rows>>),
    /// A simulation has no thread.
    Here(Rows),
}

/// The written rows, in one transaction.
struct Rows {
    connection: Connection,
    edits: u64,
    cleared: u64,
}

impl Builder {
    /// Creates a new file.
    ///
    /// # Errors
    /// Returns [`FileError`] if the file exists or cannot be created.
    pub fn create(name: &Path, header: &Header) -> Result<Self, FileError> {
        let io = |error: io::Error| FileError::new(name, FileErrorKind::of_io(&error));
        let presence = Presence::enter().ok_or_else(|| FileError::new(name, FileErrorKind::Forked))?;
        if name.symlink_metadata().is_ok() {
            return Err(FileError::new(name, what_is_at(name)));
        }
        let path = place_of(name).map_err(io)?;
        refuse_long_name(&path, header.is_revert()).map_err(io)?;
        refuse_name_of_sqlite(&path).map_err(|kind| FileError::new(name, kind))?;
        // SQLite would treat an existing log as the log of the new plan. A journal only undoes what its deleted plan
        // had not committed.
        log::refuse_stray(&path).map_err(|error| error.at(name))?;
        let journal = with_suffix(&path, "-journal");
        if journal.symlink_metadata().is_ok_and(|found| found.is_file()) {
            fs::remove_file(&journal).map_err(io)?;
        }
        if create_private(&path).map_err(io)?.is_none() {
            return Err(FileError::new(name, what_is_at(name)));
        }
        let started = Owner::here(Activity::Planned).and_then(|owner| start(name, &path, header, &owner));
        let writing = started.and_then(|rows| Writing::start(rows).map_err(io));
        let writing = writing.inspect_err(|error| {
            if error.kind() != &FileErrorKind::Exists {
                remove(&path);
            }
        })?;
        Ok(Self {
            name: name.to_owned(),
            file: FileId::at(&path),
            path,
            header: header.clone(),
            batch: Vec::new(),
            size: 0,
            rows: 0,
            requests: Vec::new(),
            cleared: Cleared::new(),
            at_risk: Vec::new(),
            writing: Some(writing),
            _presence: presence,
        })
    }

    /// Adds the times of sent requests, in milliseconds since 1970. Sealing writes them.
    pub fn note_requests(&mut self, sent_at_ms: impl IntoIterator<Item = i64>) {
        self.requests.extend(sent_at_ms);
    }

    /// Adds members that updates are known to clear.
    pub(super) fn add_cleared(&mut self, cleared: Cleared) {
        self.cleared = cleared;
    }

    /// Adds the members that updates of the parent may have cleared.
    pub(super) fn add_at_risk(&mut self, at_risk: Vec<AtRisk>) {
        self.at_risk = at_risk.into_iter().map(|one| AtRisk { is_of_parent: true, ..one }).collect();
    }

    /// Adds a row. Sealing fails if a number occurs twice.
    ///
    /// # Errors
    /// Returns [`FileError`] if the rows cannot be written.
    pub fn add(&mut self, row: PlannedRow) -> Result<(), FileError> {
        self.rows += 1;
        self.size += 1 + row.changes.len();
        self.batch.push(row);
        if self.size >= BATCH { self.hand_over() } else { Ok(()) }
    }

    /// Closes the plan: every row is on the disk when this returns.
    ///
    /// # Errors
    /// Returns [`FileError`] if the rows cannot be written, or their number is wrong.
    pub fn seal(mut self, rows: u64) -> Result<PlanFile, FileError> {
        self.hand_over()?;
        let written = self.end_writing()?;
        if rows != self.rows {
            return Err(FileError::internal("a plan without some of its rows"));
        }
        simulation::before_commit(&self.path).map_err(|kind| FileError::new(&self.name, kind))?;
        let sealed = self.write_facts(&written, rows);
        sealed.map_err(|error| FileError::of_sqlite(&self.name, &error))?;
        self.file = None;
        sync_folder(&self.path);
        simulation::after_commit(&self.path).map_err(|kind| FileError::new(&self.name, kind))?;
        // The rows are not read back: that would show the system's cache, not the disk.
        Ok(PlanFile::of(&self.name, &self.path, self.header.clone(), written.cleared))
    }

    fn write_facts(&self, written: &Rows, rows: u64) -> rusqlite::Result<()> {
        let connection = &written.connection;
        connection.execute_batch("PRAGMA synchronous=FULL")?;
        let mut insert = connection.prepare(INSERT_FACT)?;
        let transaction = connection.unchecked_transaction()?;
        for (key, number) in [("rows", rows), ("edits", written.edits), ("cleared", written.cleared)] {
            insert.execute(params![key, i64::try_from(number).unwrap_or(i64::MAX)])?;
        }
        self.requests.iter().try_for_each(|at| StoredRequest::add(&transaction, *at))?;
        if !self.cleared.is_empty() {
            state::set_cleared(&transaction, &self.cleared)?;
        }
        if !self.at_risk.is_empty() {
            state::set_at_risk(&transaction, &self.at_risk)?;
        }
        state::set_owner(&transaction, None)?;
        // This waits for the whole file.
        transaction.commit()?;
        let checksum = Facts::read(connection)?.ok_or(rusqlite::Error::QueryReturnedNoRows)?.checksum();
        insert.execute(params!["sealed", checksum]).map(drop)
    }

    fn hand_over(&mut self) -> Result<(), FileError> {
        self.size = 0;
        let mut batch = std::mem::take(&mut self.batch);
        batch.sort_unstable_by_key(|row| row.row);
        let is_taken = match &mut self.writing {
            Some(Writing::Thread(sender, _)) => sender.send(batch).is_ok(),
            Some(Writing::Here(rows)) => {
                simulation::before_commit(&self.path).map_err(|kind| FileError::new(&self.name, kind))?;
                rows.write(batch).map_err(|error| FileError::of_sqlite(&self.name, &error))?;
                return simulation::after_commit(&self.path).map_err(|kind| FileError::new(&self.name, kind));
            }
            None => false,
        };
        if is_taken { Ok(()) } else { self.end_writing().and(Err(FileError::internal(ENDED))) }
    }

    fn end_writing(&mut self) -> Result<Rows, FileError> {
        let ended = match self.writing.take() {
            Some(Writing::Thread(sender, thread)) => {
                drop(sender);
                thread.join().map_err(|_| FileError::internal(ENDED))?
            }
            Some(Writing::Here(rows)) if simulation::is_dead(&self.path) => Ok(rows),
            Some(Writing::Here(rows)) => rows.connection.execute_batch("COMMIT").map(|()| rows),
            None => return Err(FileError::internal(ENDED)),
        };
        ended.map_err(|error| FileError::of_sqlite(&self.name, &error))
    }
}

const INSERT_FACT: &str = "INSERT INTO plan VALUES (?1, ?2)";
const ENDED: &str = "the writing thread has ended";

impl Drop for Builder {
    fn drop(&mut self) {
        drop(self.end_writing());
        // The name may refer to another file by now.
        if self.file.is_some() && FileId::at(&self.path) == self.file {
            remove(&self.path);
        }
    }
}

impl Writing {
    fn start(rows: Rows) -> io::Result<Self> {
        if simulation::is_on() {
            return Ok(Self::Here(rows));
        }
        let (sender, receiver) = sync_channel(BATCHES);
        let work = move || rows.write_all(&receiver);
        let thread = thread::Builder::new().name("replyio-plan-file".to_owned()).spawn(work)?;
        Ok(Self::Thread(sender, thread))
    }
}

impl Rows {
    fn write_all(mut self, receiver: &Receiver<Vec<PlannedRow>>) -> rusqlite::Result<Self> {
        while let Ok(batch) = receiver.recv() {
            self.write(batch)?;
        }
        self.connection.execute_batch("COMMIT")?;
        Ok(self)
    }

    fn write(&mut self, batch: Vec<PlannedRow>) -> rusqlite::Result<()> {
        let mut insert_row = self.connection.prepare_cached(schema::INSERT_ROW)?;
        let mut insert_edit = self.connection.prepare_cached(schema::INSERT_EDIT)?;
        for planned in batch {
            let row = stored(&planned);
            row.insert(&mut insert_row)?;
            for change in &planned.changes {
                schema::insert_edit(&mut insert_edit, row.row, change, None)?;
                self.edits += u64::from(change.is_planned);
                self.cleared += u64::from(change.is_planned && change.after.is_empty(change.field));
            }
        }
        Ok(())
    }
}

/// Returns the path of a new file, without symbolic links.
fn place_of(name: &Path) -> io::Result<PathBuf> {
    let file = name.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "it has no file name"))?;
    let folder = name.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok(folder.canonicalize()?.join(file))
}

/// Refuses a name that leaves no room for those of the other files: those of a revert and of its revert, and those of
/// each while it is created. Otherwise a plan could be applied and not reverted.
fn refuse_long_name(path: &Path, is_revert: bool) -> io::Result<()> {
    let suffix = if is_revert { WHILE_CREATED } else { &format!(".revert999.revert999{WHILE_CREATED}") };
    match with_suffix(path, suffix).symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::InvalidFilename => Err(error),
        _ => Ok(()),
    }
}

/// Refuses the name of a file that SQLite keeps next to another plan.
fn refuse_name_of_sqlite(path: &Path) -> Result<(), FileErrorKind> {
    let name = connect::file_name(path)?;
    let is_beside = |suffix: &&&str| name.strip_suffix(**suffix).is_some_and(|plan| !plan.is_empty());
    log::BESIDE.iter().find(is_beside).map_or(Ok(()), |suffix| {
        Err(FileErrorKind::Foreign(format!(
            "cannot have a name that ends in {suffix}: SQLite keeps such a file next to another plan, and may delete \
             it; choose another name for the plan"
        )))
    })
}

/// Returns why no plan can get a name that is taken.
fn what_is_at(name: &Path) -> FileErrorKind {
    if !name.exists() {
        return FileErrorKind::Dangling;
    }
    match connect::recognize(name) {
        Err(error) if error.kind() == &FileErrorKind::NotAPlan => FileErrorKind::Occupied,
        _ if is_half_made(name) => match PlanFile::open(name) {
            Err(error) => error.kind().clone(),
            Ok(_) => FileErrorKind::Exists,
        },
        _ => FileErrorKind::Exists,
    }
}

/// Returns whether a file is a plan whose planning has not ended.
fn is_half_made(name: &Path) -> bool {
    let head = connect::immutable(name).and_then(|connection| check::check_head(&connection));
    matches!(head, Ok(Err(FileErrorKind::HalfWritten(_))))
}

/// Creates a file with a complete header, so that a plan whose planning was killed can always be told from another
/// file.
fn start(name: &Path, path: &Path, header: &Header, owner: &Owner) -> Result<Rows, FileError> {
    let io = |error: io::Error| FileError::new(name, FileErrorKind::of_io(&error));
    simulation::before_commit(path).map_err(|kind| FileError::new(name, kind))?;
    let placeholder = FileId::at(path);
    let beside = create_beside(path).map_err(io)?;
    let of_sqlite = |error: rusqlite::Error| FileError::of_sqlite(name, &error);
    let made_as = path.file_name().unwrap_or_default().to_string_lossy();
    let started = write_head(&beside, header, &made_as, owner).map_err(of_sqlite);
    // Another plan may have got the name meanwhile.
    let rename = || {
        if FileId::at(path) != placeholder {
            return Err(FileError::new(name, FileErrorKind::Exists));
        }
        fs::rename(&beside, path).map_err(io)
    };
    if let Err(error) = started.and_then(|()| rename()) {
        remove(&beside);
        return Err(error);
    }
    let begin = || {
        let mut connection = connect::for_writing(path)?;
        connect::trust(&mut connection)?;
        // A process that opens the file now learns that it is being created.
        connection.execute_batch(
            "PRAGMA journal_mode=MEMORY; PRAGMA synchronous=OFF; PRAGMA cache_size=-64000; BEGIN EXCLUSIVE",
        )?;
        Ok(Rows { connection, edits: 0, cleared: 0 })
    };
    let rows = begin().map_err(of_sqlite)?;
    simulation::after_commit(path).map_err(|kind| FileError::new(name, kind))?;
    Ok(rows)
}

fn write_head(path: &Path, header: &Header, made_as: &str, owner: &Owner) -> rusqlite::Result<()> {
    let connection = connect::for_writing(path)?;
    connection.execute_batch("PRAGMA journal_mode=DELETE; PRAGMA synchronous=OFF; BEGIN")?;
    connection.pragma_update(None, "application_id", schema::APPLICATION_ID)?;
    connection.pragma_update(None, "user_version", schema::FORMAT)?;
    connection.execute_batch(&schema::SCHEMA.join(";"))?;
    let mut insert = connection.prepare(INSERT_FACT)?;
    for (key, value) in header.members() {
        insert.execute(params![key, value])?;
    }
    insert.execute(params!["name", made_as])?;
    state::create(&connection)?;
    state::set_owner(&connection, Some(owner))?;
    connection.execute_batch("COMMIT")
}

fn stored(planned: &PlannedRow) -> StoredRow {
    StoredRow {
        row: i64::try_from(planned.row).unwrap_or(i64::MAX),
        account_id: planned.account_id,
        matched_by: planned.key.clone(),
        status: planned.status.as_str().to_owned(),
        error: planned.error.clone(),
        position: planned.position.and_then(|place| i64::try_from(place).ok()),
        weight: i64::try_from(planned.weight).unwrap_or(i64::MAX),
        listed: planned.listed.bits(),
        repeated: 0,
        stored_otherwise: false,
        can_overwrite: false,
        finished_at_ms: None,
    }
}
