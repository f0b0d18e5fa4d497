//! Lists: page after page, each account once, as dataclasses or as an Arrow stream.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arrow_array::{Array, RecordBatch};
use arrow_schema::{Field, Schema, SchemaRef};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyList};
use tokio::sync::watch;

use super::client::{Client, refusal};
use super::convert::{ToPython, integer, member_to_python, members_to_python};
use super::guard::guarded;
use super::{arrow, errors};
use crate::account::FieldError;
use crate::client::{self, ListQuery};
use crate::columns::{ColumnPage, Columns, UnreadableItem, value_of};
use crate::error::Operation;
use crate::lock::lock;
use crate::paging::{Incomplete, LONGEST_PAGE, Paging};
use crate::per_process::Process;

/// A list of accounts during reading.
#[pyclass(frozen, module = "replyio._replyio")]
pub(super) struct Listing {
    client: Py<Client>,
    query: ListQuery,
    pages: Arc<Mutex<Pages>>,
}

/// The pages of a list: those that arrived wait here until Python has taken them. Ctrl-C or a cancellation can take the
/// result of a call away, and a page that counts as read must not be lost with it.
struct Pages {
    paging: Paging,
    arrived: VecDeque<Vec<Columns>>,
    /// How many pages were counted.
    counted: u64,
    /// The call that reads the next page, until its sender is dropped.
    reading: Option<(Reader, watch::Receiver<()>)>,
}

/// Who waits for the same page together: the threads of a process, or the tasks of one event loop, by its address. An
/// event loop may never run again, and a forked child has none of its parent's calls.
type Reader = (Process, Option<usize>);

impl Pages {
    /// Returns what ends with the call that reads the next page, if there is one.
    fn reading(&self, by: Reader) -> Option<watch::Receiver<()>> {
        let (reader, reading) = self.reading.as_ref()?;
        (*reader == by && reading.has_changed().is_ok()).then(|| reading.clone())
    }

    /// Counts a page that was requested after `counted` pages, unless another event loop read it first.
    fn count(&mut self, counted: u64, skip: u64, page: ColumnPage) -> Result<(), Incomplete> {
        if self.counted == counted {
            let accounts = new_accounts(&mut self.paging, skip, page)?;
            self.counted += 1;
            self.arrived.extend((length(&accounts) > 0).then_some(accounts));
        }
        Ok(())
    }
}

fn length(parts: &[Columns]) -> usize {
    parts.iter().map(Columns::len).sum()
}

impl Listing {
    fn of(
        client: Py<Client>,
        search: Option<&Bound<'_, PyAny>>,
        sort_by: Option<&Bound<'_, PyAny>>,
        descending: &Bound<'_, PyAny>,
        page_size: &Bound<'_, PyAny>,
    ) -> Result<Self, (&'static str, String)> {
        let text = |name, value: Option<&Bound<'_, PyAny>>| {
            let text = value.map(PyAnyMethods::extract::<String>).transpose();
            text.map_err(|_| (name, "must be valid Unicode text or None".to_owned()))
        };
        let sort_by = text("sort_by", sort_by)?.map(|name| {
            let member = crate::MEMBERS.iter().find(|member| member.name == name);
            member.map_or(name, |member| member.wire.to_owned())
        });
        let descending = descending.extract().map_err(|_| ("descending", "must be True or False".to_owned()))?;
        let query = ListQuery { search: text("search", search)?, sort_by, descending };
        let page_size = integer(page_size).ok().and_then(|size| u32::try_from(size).ok());
        match page_size {
            Some(page_size @ 1..=LONGEST_PAGE) => {
                let pages =
                    Pages { paging: Paging::whole_set(page_size), arrived: VecDeque::new(), counted: 0, reading: None };
                Ok(Self { client, query, pages: Arc::new(Mutex::new(pages)) })
            }
            _ => Err(("page_size", "must be an integer from 1 to 1000".to_owned())),
        }
    }
}

#[pymethods]
impl Listing {
    /// Validates the arguments. Sends no request.
    #[new]
    fn new(
        client: &Bound<'_, Client>,
        search: Option<&Bound<'_, PyAny>>,
        sort_by: Option<&Bound<'_, PyAny>>,
        descending: &Bound<'_, PyAny>,
        page_size: &Bound<'_, PyAny>,
    ) -> PyResult<Self> {
        let py = client.py();
        guarded(py, "list", || {
            let made = Self::of(client.clone().unbind(), search, sort_by, descending, page_size);
            made.map_err(|(field, message)| refusal(py, Operation::List, FieldError::new(field, message)))
        })
    }

    /// Whether the last page was read.
    #[getter]
    fn finished(&self, py: Python<'_>) -> PyResult<bool> {
        guarded(py, "finished", || Ok(lock(&self.pages).paging.is_finished()))
    }

    /// The number of accounts on the pages that arrived and were not taken.
    #[getter]
    fn waiting(&self, py: Python<'_>) -> PyResult<usize> {
        guarded(py, "waiting", || Ok(lock(&self.pages).arrived.iter().map(|parts| length(parts)).sum()))
    }

    /// Returns the first page that was not taken, and leaves it here.
    fn first(&self, py: Python<'_>) -> PyResult<Option<Batch>> {
        guarded(py, "first", || Ok(lock(&self.pages).arrived.front().cloned().map(Batch)))
    }

    /// Takes the first page.
    fn drop_first(&self, py: Python<'_>) -> PyResult<()> {
        guarded(py, "drop_first", || {
            lock(&self.pages).arrived.pop_front();
            Ok(())
        })
    }

    /// Takes all pages.
    fn take(&self, py: Python<'_>) -> PyResult<Vec<Batch>> {
        guarded(py, "take", || Ok(lock(&self.pages).arrived.drain(..).map(Batch).collect()))
    }

    /// Reverts `take`.
    #[expect(clippy::needless_pass_by_value, reason = "pyo3 passes it by value")]
    fn give_back(&self, py: Python<'_>, pages: Vec<Py<Batch>>) -> PyResult<()> {
        guarded(py, "give_back", || {
            let arrived = &mut lock(&self.pages).arrived;
            pages.iter().rev().for_each(|page| arrived.push_front(page.get().0.clone()));
            Ok(())
        })
    }

    /// Reads the next page, which waits here then. If another call is reading it, only waits until that call has ended.
    #[pyo3(signature = (event_loop=None))]
    fn next_page<'py>(&self, py: Python<'py>, event_loop: Option<&Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyAny>> {
        guarded(py, "next_page", || {
            let (query, pages) = (self.query.clone(), Arc::clone(&self.pages));
            let reader = (Process::current(), event_loop.map(|event_loop| event_loop.as_ptr().addr()));
            let mut state = lock(&pages);
            let other = state.reading(reader);
            let Some((top, skip)) = state.paging.next().filter(|_| other.is_none()) else {
                drop(state);
                let operation = |_| async move {
                    if let Some(mut other) = other {
                        let _ = other.changed().await;
                    }
                    Ok(())
                };
                return self.client.get().run(py, event_loop, operation);
            };
            let (is_reading, reading) = watch::channel(());
            state.reading = Some((reader, reading));
            let counted = state.counted;
            drop(state);
            let operation = move |client: client::Client| async move {
                let started = Instant::now();
                let page = client.list_columns(&query, top, skip).await?;
                Ok(Arrived { pages, counted, skip, page, elapsed: started.elapsed(), is_reading })
            };
            self.client.get().run(py, event_loop, operation)
        })
    }
}

/// Returns the accounts of a page that no earlier page had, in parts without a gap.
fn new_accounts(paging: &mut Paging, skip: u64, page: ColumnPage) -> Result<Vec<Columns>, Incomplete> {
    let accounts = page.accounts.map_err(|UnreadableItem { index, id, reason }| {
        // Extends a pointer into the item to a pointer into the page.
        let colon = if reason.starts_with('/') { "" } else { ": " };
        let id = id.map_or_else(String::new, |id| format!("account {id}, "));
        Incomplete::wrong(format!("/items/{index}{colon}{reason} ({id}skip={skip})"))
    })?;
    let is_new = paging.page_of(skip, &accounts.ids(), page.has_more)?;
    Ok(accounts.kept(&is_new))
}

/// A page that has arrived. It is counted with the interpreter held, so that no fork can copy a held lock.
struct Arrived {
    pages: Arc<Mutex<Pages>>,
    /// How many pages had been counted when this one was requested.
    counted: u64,
    skip: u64,
    page: ColumnPage,
    elapsed: Duration,
    is_reading: watch::Sender<()>,
}

/// The accounts of a page that no earlier page had, as columns.
#[pyclass(frozen, module = "replyio._replyio")]
pub(super) struct Batch(Vec<Columns>);

impl ToPython for Arrived {
    fn to_python(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        let counted = lock(&self.pages).count(self.counted, self.skip, self.page);
        drop(self.is_reading);
        counted.map_err(|error| errors::to_python(py, &error.into_error(self.elapsed)))?;
        Ok(py.None().into_bound(py))
    }
}

#[pymethods]
impl Batch {
    /// Returns the accounts as dataclasses.
    fn accounts<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        guarded(py, "accounts", || {
            let list = PyList::empty(py);
            for part in &self.0 {
                for row in 0..part.len() {
                    list.append(part.with_account(row, |members, extra| members_to_python(py, members, extra))?)?;
                }
            }
            Ok(list)
        })
    }

    /// Returns the end of this page, as a page.
    fn last(&self, py: Python<'_>, count: usize) -> PyResult<Self> {
        guarded(py, "last", || {
            let mut skipped = length(&self.0).saturating_sub(count);
            let mut parts = Vec::new();
            for part in &self.0 {
                parts.push(part.slice(skipped, part.len()));
                skipped = skipped.saturating_sub(part.len());
            }
            Ok(Self(parts))
        })
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        guarded(py, "len", || Ok(length(&self.0)))
    }
}

/// Pages as one table: an Arrow stream with a record batch for each, or single columns.
#[pyclass(frozen, module = "replyio._replyio")]
pub(super) struct AccountTable(Vec<Columns>);

#[pymethods]
impl AccountTable {
    #[new]
    #[expect(clippy::needless_pass_by_value, reason = "pyo3 passes it by value")]
    fn new(py: Python<'_>, pages: Vec<Py<Batch>>) -> PyResult<Self> {
        guarded(py, "table", || {
            let parts = pages.iter().flat_map(|page| &page.get().0);
            Ok(Self(parts.filter(|part| part.len() > 0).cloned().collect()))
        })
    }

    /// The names of the columns.
    #[staticmethod]
    fn names(py: Python<'_>) -> PyResult<Vec<&'static str>> {
        guarded(py, "names", || Ok(COLUMNS.to_vec()))
    }

    /// Returns the values of a column.
    fn column<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyList>> {
        guarded(py, "column", || {
            let no_such_column = || PyValueError::new_err("there is no such column");
            let name = COLUMNS.into_iter().find(|known| *known == name).ok_or_else(no_such_column)?;
            let list = PyList::empty(py);
            for columns in &self.0 {
                let array = columns.array(name).ok_or_else(no_such_column)?;
                for row in 0..array.len() {
                    list.append(member_to_python(py, value_of(&array, row))?)?;
                }
            }
            Ok(list)
        })
    }

    /// Returns the stream, as the Arrow PyCapsule interface defines it.
    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        guarded(py, "arrow", || {
            // The interface allows a producer to ignore a requested schema.
            let _ = requested_schema;
            let schema = schema();
            let batch = |columns: &Columns| {
                let arrays = COLUMNS.into_iter().filter_map(|name| columns.array(name)).collect();
                RecordBatch::try_new(Arc::clone(&schema), arrays)
            };
            let batches = self.0.iter().map(batch).collect::<Result<Vec<_>, _>>();
            let batches = batches.map_err(|error| PyValueError::new_err(error.to_string()))?;
            arrow::exported(py, batches, schema)
        })
    }
}

fn schema() -> SchemaRef {
    let none = Columns::none();
    let field = |name| Some(Field::new(name, none.array(name)?.data_type().clone(), true));
    Arc::new(Schema::new(COLUMNS.into_iter().filter_map(field).collect::<Vec<_>>()))
}

/// The columns, in the order of the dataclass, with three columns for the stage.
const COLUMNS: [&str; 24] = [
    "id",
    "owner_user_id",
    "name",
    "linked_prospects_count",
    "created_date",
    "last_activity_date",
    "description",
    "domain_name",
    "domain_secondary",
    "industry",
    "company_size",
    "country",
    "state",
    "city",
    "time_zone_id",
    "linked_in_url",
    "phone",
    "twitter_url",
    "logo_url",
    "email",
    "stage_id",
    "stage_name",
    "stage_color_id",
    "email_provider",
];
