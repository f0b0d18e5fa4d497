//! Lists: page after page, each account once, as dataclasses or as an Arrow stream.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arrow_array::ffi_stream::FFI_ArrowArrayStream;
use arrow_array::{ArrayRef, Int64Array, RecordBatch, RecordBatchIterator, StringArray, TimestampMicrosecondArray};
use arrow_schema::{ArrowError, Field, Schema, SchemaRef};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyList};

use super::client::{Client, refusal};
use super::convert::{ToPython, account_to_python, integer};
use super::errors;
use super::guard::guarded;
use crate::account::{CompanySize, ContactAccount, DateTime, FieldError};
use crate::answer::{self, Item};
use crate::client::{self, ListQuery};
use crate::error::Operation;
use crate::paging::{Incomplete, LONGEST_PAGE, Paging};

/// A list of accounts that is being read.
#[pyclass(frozen, module = "replyio._replyio")]
pub(super) struct Listing {
    client: Py<Client>,
    query: ListQuery,
    paging: Arc<Mutex<Paging>>,
}

impl Listing {
    fn of(
        client: Py<Client>,
        search: Option<&Bound<'_, PyAny>>,
        sort_by: Option<&Bound<'_, PyAny>>,
        descending: bool,
        page_size: &Bound<'_, PyAny>,
    ) -> Result<Self, (&'static str, String)> {
        let text = |name, value: Option<&Bound<'_, PyAny>>| {
            value
                .map(|value| value.extract::<String>().map_err(|_| (name, "must be real text or None".to_owned())))
                .transpose()
        };
        let sort_by = text("sort_by", sort_by)?.map(|name| {
            let member = crate::MEMBERS.iter().find(|member| member.name == name);
            member.map_or(name, |member| member.wire.to_owned())
        });
        let query = ListQuery { search: text("search", search)?, sort_by, descending };
        let page_size = integer(page_size).ok().and_then(|size| u32::try_from(size).ok());
        match page_size {
            Some(page_size @ 1..=LONGEST_PAGE) => {
                Ok(Self { client, query, paging: Arc::new(Mutex::new(Paging::whole_set(page_size))) })
            }
            _ => Err(("page_size", "must be an integer from 1 to 1000".to_owned())),
        }
    }
}

#[pymethods]
impl Listing {
    /// Checks the arguments. Nothing is requested.
    #[new]
    fn new(
        client: &Bound<'_, Client>,
        search: Option<&Bound<'_, PyAny>>,
        sort_by: Option<&Bound<'_, PyAny>>,
        descending: bool,
        page_size: &Bound<'_, PyAny>,
    ) -> PyResult<Self> {
        let py = client.py();
        guarded(py, "list", || {
            let made = Self::of(client.clone().unbind(), search, sort_by, descending, page_size);
            made.map_err(|(field, message)| refusal(py, Operation::List, FieldError::new(field, message)))
        })
    }

    /// Whether the last page has been read.
    #[getter]
    fn finished(&self, py: Python<'_>) -> PyResult<bool> {
        guarded(py, "finished", || Ok(self.paging.lock().unwrap_or_else(PoisonError::into_inner).is_finished()))
    }

    /// Reads the next page.
    #[pyo3(signature = (event_loop=None))]
    fn next_page<'py>(&self, py: Python<'py>, event_loop: Option<&Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyAny>> {
        guarded(py, "next_page", || {
            let (query, paging) = (self.query.clone(), Arc::clone(&self.paging));
            let next = paging.lock().unwrap_or_else(PoisonError::into_inner).next();
            let operation = move |client: client::Client| async move {
                let Some((top, skip)) = next else { return Ok(None) };
                let started = Instant::now();
                let page = client.list_page(&query, top, skip).await?;
                Ok(Some(Arrived { paging, skip, page, elapsed: started.elapsed() }))
            };
            self.client.get().run(py, event_loop, operation)
        })
    }
}

/// The accounts of a page that no earlier page had.
fn new_accounts(paging: &mut Paging, skip: u64, page: answer::Page) -> Result<Vec<ContactAccount>, Incomplete> {
    for (index, item) in page.items.iter().enumerate() {
        if let Item::Unreadable { id, reason } = item {
            // A reason that is a pointer into the item is completed to one into the page.
            let colon = if reason.starts_with('/') { "" } else { ": " };
            let id = id.map_or_else(String::new, |id| format!("account {id}, "));
            return Err(Incomplete::wrong(format!("/items/{index}{colon}{reason} ({id}skip={skip})")));
        }
    }
    let is_new = paging.page(skip, &page.items, page.has_more)?;
    let new = page.items.into_iter().zip(is_new).filter(|(_, is_new)| *is_new);
    Ok(new.filter_map(|(item, _)| item.into_account()).collect())
}

/// A page that has arrived. It is counted with the interpreter held, so that no fork can copy a lock that is taken.
struct Arrived {
    paging: Arc<Mutex<Paging>>,
    skip: u64,
    page: answer::Page,
    elapsed: Duration,
}

/// A page of accounts, each of which no earlier page had.
#[pyclass(frozen, module = "replyio._replyio")]
pub(super) struct Batch(Vec<ContactAccount>);

impl ToPython for Option<Arrived> {
    fn to_python(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        let Some(Arrived { paging, skip, page, elapsed }) = self else {
            return Ok(Bound::new(py, Batch(Vec::new()))?.into_any());
        };
        let mut paging = paging.lock().unwrap_or_else(PoisonError::into_inner);
        let accounts = new_accounts(&mut paging, skip, page);
        drop(paging);
        let accounts = accounts.map_err(|error| errors::to_python(py, &error.into_error(elapsed)))?;
        Ok(Bound::new(py, Batch(accounts))?.into_any())
    }
}

#[pymethods]
impl Batch {
    /// The accounts as dataclasses.
    fn accounts<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        guarded(py, "accounts", || {
            let list = PyList::empty(py);
            for account in &self.0 {
                list.append(account_to_python(py, account)?)?;
            }
            Ok(list)
        })
    }

    /// The end of this page, as a page.
    fn last(&self, py: Python<'_>, count: usize) -> PyResult<Self> {
        guarded(py, "last", || {
            let first = self.0.len().saturating_sub(count);
            Ok(Self(self.0.get(first..).unwrap_or_default().to_vec()))
        })
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        guarded(py, "len", || Ok(self.0.len()))
    }
}

/// Pages as one Arrow stream, a record batch each.
#[pyclass(frozen, module = "replyio._replyio")]
pub(super) struct ArrowStream(Vec<Py<Batch>>);

#[pymethods]
impl ArrowStream {
    #[new]
    fn new(py: Python<'_>, pages: Vec<Py<Batch>>) -> PyResult<Self> {
        guarded(py, "stream", || Ok(Self(pages)))
    }

    /// The stream, by the Arrow PyCapsule interface.
    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        guarded(py, "arrow", || {
            // The interface lets a producer ignore a requested schema.
            let _ = requested_schema;
            let schema = schema();
            let batches: Result<Vec<_>, _> = self.0.iter().map(|page| batch(&schema, &page.get().0)).collect();
            let batches = batches.map_err(|error| PyValueError::new_err(error.to_string()))?;
            let reader = RecordBatchIterator::new(batches.into_iter().map(Ok), schema);
            PyCapsule::new_with_value(py, FFI_ArrowArrayStream::new(Box::new(reader)), c"arrow_array_stream")
        })
    }
}

fn batch(schema: &SchemaRef, accounts: &[ContactAccount]) -> Result<RecordBatch, ArrowError> {
    let columns = COLUMNS.iter().map(|(_, column)| column(accounts)).collect();
    RecordBatch::try_new(Arc::clone(schema), columns)
}

fn schema() -> SchemaRef {
    let nobody: [ContactAccount; 0] = [];
    let field = |(name, column): &(&str, Column)| Field::new(*name, column(&nobody).data_type().clone(), true);
    Arc::new(Schema::new(COLUMNS.iter().map(field).collect::<Vec<_>>()))
}

/// Makes a column from the accounts.
type Column = fn(&[ContactAccount]) -> ArrayRef;

fn texts<'a>(accounts: &'a [ContactAccount], get: impl Fn(&'a ContactAccount) -> Option<&'a str>) -> ArrayRef {
    Arc::new(accounts.iter().map(get).collect::<StringArray>())
}

fn integers(accounts: &[ContactAccount], get: impl Fn(&ContactAccount) -> Option<i64>) -> ArrayRef {
    Arc::new(accounts.iter().map(get).collect::<Int64Array>())
}

fn dates(accounts: &[ContactAccount], get: impl Fn(&ContactAccount) -> Option<DateTime>) -> ArrayRef {
    let moments = accounts.iter().map(|account| get(account).map(DateTime::as_microsecond));
    Arc::new(moments.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
}

/// The columns, in the order of the dataclass, the stage spread over three.
const COLUMNS: &[(&str, Column)] = &[
    ("id", |accounts| integers(accounts, |account| Some(account.id))),
    ("owner_user_id", |accounts| integers(accounts, |account| Some(account.owner_user_id))),
    ("name", |accounts| texts(accounts, |account| Some(&account.name))),
    ("linked_prospects_count", |accounts| integers(accounts, |account| account.linked_prospects_count)),
    ("created_date", |accounts| dates(accounts, |account| account.created_date)),
    ("last_activity_date", |accounts| dates(accounts, |account| account.last_activity_date)),
    ("description", |accounts| texts(accounts, |account| account.description.as_deref())),
    ("domain_name", |accounts| texts(accounts, |account| account.domain_name.as_deref())),
    ("domain_secondary", |accounts| texts(accounts, |account| account.domain_secondary.as_deref())),
    ("industry", |accounts| texts(accounts, |account| account.industry.as_deref())),
    ("company_size", |accounts| texts(accounts, |account| account.company_size.as_ref().map(CompanySize::as_str))),
    ("country", |accounts| texts(accounts, |account| account.country.as_deref())),
    ("state", |accounts| texts(accounts, |account| account.state.as_deref())),
    ("city", |accounts| texts(accounts, |account| account.city.as_deref())),
    ("time_zone_id", |accounts| texts(accounts, |account| account.time_zone_id.as_deref())),
    ("linked_in_url", |accounts| texts(accounts, |account| account.linked_in_url.as_deref())),
    ("phone", |accounts| texts(accounts, |account| account.phone.as_deref())),
    ("twitter_url", |accounts| texts(accounts, |account| account.twitter_url.as_deref())),
    ("logo_url", |accounts| texts(accounts, |account| account.logo_url.as_deref())),
    ("email", |accounts| texts(accounts, |account| account.email.as_deref())),
    ("stage_id", |accounts| integers(accounts, |account| account.stage.as_ref().map(|stage| stage.id))),
    ("stage_name", |accounts| texts(accounts, |account| account.stage.as_ref().map(|stage| stage.name.as_str()))),
    ("stage_color_id", |accounts| {
        integers(accounts, |account| account.stage.as_ref().and_then(|stage| stage.color_id))
    }),
    ("email_provider", |accounts| texts(accounts, |account| account.email_provider.as_deref())),
];
