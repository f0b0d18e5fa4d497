//! The client for the Python layer: settings in, operations out.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use pyo3::prelude::*;
use pyo3::types::PyDict;
use pyo3::{PyTraverseError, PyVisit};

use super::acquire::Gate;
use super::convert::{ToPython, account_id, fields_from};
use super::engine::Engine;
use super::errors;
use super::events::Lines;
use super::exit;
use super::guard::guarded;
use super::lane;
use super::settings::{change, config_from, gate};
use crate::account::FieldError;
use crate::client::{self, Event, Observer, check_patch, check_update};
use crate::config::Config;
use crate::error::{Call, Error, Operation};
use crate::per_process::{PerProcess, Process};

/// Returns every problem with the fields of an update, as pairs of a field and a message.
#[pyfunction]
pub(super) fn field_faults(fields: &Bound<'_, PyDict>) -> PyResult<Vec<(String, String)>> {
    guarded(fields.py(), "field_faults", || {
        let (fields, mut faults) = fields_from(fields);
        faults.extend(fields.faults());
        Ok(faults.into_iter().map(|fault| (fault.field, fault.message)).collect())
    })
}

/// The core of a `ReplyClient`.
#[pyclass(frozen, module = "replyio._replyio")]
pub(super) struct Client {
    engine: Arc<Engine>,
    config: Config,
    /// What grants each request, and the quota, which must live at least as long.
    asks: Option<(Arc<Gate>, Py<PyAny>)>,
    /// What must live as long as this and everything that uses it: a sandbox.
    kept: OnceLock<Py<PyAny>>,
    per_process: PerProcess<client::Client>,
}

#[pymethods]
impl Client {
    /// Validates the settings, a dictionary with the names of `ReplyClient`. Sends no request.
    #[new]
    fn new(py: Python<'_>, settings: &Bound<'_, PyDict>) -> PyResult<Self> {
        guarded(py, "new", || {
            let config = config_from(settings).map_err(|error| errors::to_python(py, &error))?;
            let template = client::Client::new(config.clone()).map_err(|error| errors::to_python(py, &error))?;
            let asks = asks(settings, None)?;
            Ok(Self {
                engine: Engine::new(template),
                config,
                asks,
                kept: OnceLock::new(),
                per_process: PerProcess::new(),
            })
        })
    }

    /// Returns a client with other settings and the same connections.
    fn with_options(&self, py: Python<'_>, settings: &Bound<'_, PyDict>) -> PyResult<Self> {
        guarded(py, "with_options", || {
            let mut config = self.config.clone();
            for (name, value) in settings.iter() {
                let name: String = name.extract()?;
                change(&mut config, &name, &value).map_err(|error| errors::to_python(py, &error))?;
            }
            let asks = asks(settings, self.asks.as_ref())?;
            let kept = self.kept.get().map_or_else(OnceLock::new, |kept| kept.clone_ref(py).into());
            let engine = Arc::clone(&self.engine);
            let derived = Self { engine, config, asks, kept, per_process: PerProcess::new() };
            derived.client(py)?;
            Ok(derived)
        })
    }

    /// Keeps an object alive for as long as this client, its plans and its lists.
    fn keep(&self, py: Python<'_>, kept: Py<PyAny>) -> PyResult<()> {
        guarded(py, "keep", || {
            let _ = self.kept.set(kept);
            Ok(())
        })
    }

    /// The function of the quota, or a subclass of a sandbox, may refer to the client.
    #[expect(clippy::needless_pass_by_value, reason = "pyo3 passes it by value")]
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.asks.as_ref().map_or(Ok(()), |(_, quota)| visit.call(quota))?;
        self.kept.get().map_or(Ok(()), |kept| visit.call(kept))
    }

    /// The base URL of the service.
    #[getter]
    fn base_url(&self, py: Python<'_>) -> PyResult<String> {
        guarded(py, "base_url", || Ok(self.config.base_url.to_string()))
    }

    /// `PUT /v3/contact-accounts/{id}`
    #[pyo3(signature = (id, fields, event_loop=None))]
    fn update<'py>(
        &self,
        py: Python<'py>,
        id: &Bound<'py, PyAny>,
        fields: &Bound<'py, PyDict>,
        event_loop: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        guarded(py, "update", || {
            let (fields, mut faults) = fields_from(fields);
            let id = known_id(id, &mut faults);
            check_update(id, &fields, faults).map_err(|error| errors::to_python(py, &error))?;
            let operation = move |client: client::Client| async move { client.update(id, &fields).await };
            self.run(py, event_loop, operation)
        })
    }

    /// `GET`, merge, `PUT /v3/contact-accounts/{id}`. Returns the account and the warning, if any.
    #[pyo3(signature = (id, changes, event_loop=None))]
    fn patch<'py>(
        &self,
        py: Python<'py>,
        id: &Bound<'py, PyAny>,
        changes: &Bound<'py, PyDict>,
        event_loop: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        guarded(py, "patch", || {
            let (changes, mut faults) = fields_from(changes);
            let id = known_id(id, &mut faults);
            check_patch(id, &changes, faults).map_err(|error| errors::to_python(py, &error))?;
            let operation = move |client: client::Client| async move { client.patch(id, &changes).await };
            self.run(py, event_loop, operation)
        })
    }

    /// `GET /v3/contact-accounts/{id}`
    #[pyo3(signature = (id, event_loop=None))]
    fn get<'py>(
        &self,
        py: Python<'py>,
        id: &Bound<'py, PyAny>,
        event_loop: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        guarded(py, "get", || {
            let id = account_id(id).map_err(|fault| refusal(py, Operation::Get, fault))?;
            let operation = move |client: client::Client| async move { client.get(id).await };
            self.run(py, event_loop, operation)
        })
    }

    /// Returns the remaining quota of the minute and the hour, how many seconds the service asked to wait, whether
    /// other processes count, and the use of each process. `None` without a quota.
    #[expect(clippy::type_complexity, reason = "a tuple of Python's")]
    fn quota_left(&self, py: Python<'_>) -> PyResult<Option<(u32, u32, Option<f64>, bool, HashMap<u32, (u32, u32)>)>> {
        guarded(py, "quota_left", || {
            let Some(quota) = self.config.quota else { return Ok(None) };
            let client = self.here(py)?;
            let used = exit::detached(py, || client.quota_used());
            if let Some(reason) = &used.warning {
                let lines = Lines::default();
                lines.observe(Event::QuotaNotShared { reason });
                lane::log(py, &lines)?;
            }
            let processes = used.processes.iter().map(|each| (each.process, (each.minute, each.hour))).collect();
            let held = used.held.map(|held| held.as_secs_f64());
            let left = |limit: u32, used: u32| limit.saturating_sub(used);
            Ok(Some((
                left(quota.per_minute, used.minute),
                left(quota.per_hour, used.hour),
                held,
                used.is_shared,
                processes,
            )))
        })
    }

    /// Stops threads and closes connections.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        guarded(py, "close", || {
            exit::detached(py, || {
                self.engine.close();
                if let Some(client) = self.per_process.get(Process::current()) {
                    client.close_files();
                }
            });
            self.engine.drop_spare_bridges(py);
            Ok(())
        })
    }
}

impl Client {
    /// Runs an operation; see [`Engine::run`].
    pub(super) fn run<'py, T, F>(
        &self,
        py: Python<'py>,
        event_loop: Option<&Bound<'py, PyAny>>,
        operation: impl FnOnce(client::Client) -> F + Send,
    ) -> PyResult<Bound<'py, PyAny>>
    where
        T: ToPython,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        self.engine.run(py, self.client(py)?, event_loop, operation)
    }

    /// Returns the client of this process.
    pub(super) fn here(&self, py: Python<'_>) -> PyResult<&client::Client> {
        self.client(py).map(|(client, _)| client)
    }

    /// Returns the client of this process, and the process.
    fn client(&self, py: Python<'_>) -> PyResult<(&client::Client, Process)> {
        let process = Process::current();
        if let Some((gate, _)) = &self.asks {
            gate.prepare(py, process)?;
        }
        if let Some(client) = self.per_process.get(process) {
            return Ok((client, process));
        }
        let shared = self.engine.client(py, process)?;
        let made = self.per_process.get_or_try_init(process, || shared.with_config(self.config.clone()));
        made.map(|client| (client, process)).map_err(|error| errors::to_python(py, &error))
    }
}

/// Returns what grants each request: from the quota in the settings, or the previous one if they have no quota.
fn asks(
    settings: &Bound<'_, PyDict>,
    before: Option<&(Arc<Gate>, Py<PyAny>)>,
) -> PyResult<Option<(Arc<Gate>, Py<PyAny>)>> {
    let py = settings.py();
    Ok(match settings.get_item("quota")? {
        Some(quota) => gate(&quota).map(|gate| (gate, quota.unbind())),
        None => before.map(|(gate, quota)| (Arc::clone(gate), quota.clone_ref(py))),
    })
}

/// Returns the id, or a placeholder together with its fault.
fn known_id(id: &Bound<'_, PyAny>, faults: &mut Vec<FieldError>) -> i64 {
    account_id(id).unwrap_or_else(|fault| {
        faults.push(fault);
        0
    })
}

/// Returns the exception for one invalid argument.
pub(super) fn refusal(py: Python<'_>, operation: Operation, fault: FieldError) -> PyErr {
    errors::to_python(py, &Error::Validation { call: Call { operation, id: None }, errors: vec![fault] })
}
