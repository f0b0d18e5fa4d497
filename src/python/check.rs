//! A check of the service, step by step, so that Python can restore the account after an interruption.

use std::sync::{Arc, Mutex};

use pyo3::prelude::*;
use pyo3::types::PyDict;
use serde_json::{Map, Value};

use super::client::{Client, refusal};
use super::convert::account_id;
use super::errors;
use super::guard::guarded;
use crate::check::{Reading, Trial, reading};
use crate::client;
use crate::error::Operation;
use crate::lock::lock;

/// A running check.
#[pyclass(frozen, module = "replyio._replyio")]
pub(super) struct Check {
    client: Py<Client>,
    account: Option<i64>,
    trial: Option<Trial>,
    reading: Arc<Mutex<Option<Reading>>>,
}

#[pymethods]
impl Check {
    /// Validates the id of the account to update, if there is one. Sends no request.
    #[new]
    fn new(client: &Bound<'_, Client>, write: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        let py = client.py();
        guarded(py, "check", || {
            let account = write.map(account_id).transpose();
            let account = account.map_err(|fault| refusal(py, Operation::Get, fault))?;
            let trial = account.map(Trial::new).transpose().map_err(|error| errors::to_python(py, &error))?;
            Ok(Self { client: client.clone().unbind(), account, trial, reading: Arc::default() })
        })
    }

    /// Sends only reads. Returns whether the account may be updated.
    #[pyo3(signature = (event_loop=None))]
    fn read<'py>(&self, py: Python<'py>, event_loop: Option<&Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyAny>> {
        guarded(py, "check", || {
            let (account, trial, kept) = (self.account, self.trial.clone(), Arc::clone(&self.reading));
            let operation = move |client: client::Client| async move {
                trial.as_ref().map_or(Ok(()), |trial| trial.check_quota(&client))?;
                let found = reading(&client, account).await?;
                if let (Some(trial), Some(obstacle)) = (&trial, &found.obstacle) {
                    trial.refuse(obstacle);
                }
                let may_write = trial.is_some() && found.obstacle.is_none();
                *lock(&kept) = Some(found);
                Ok(may_write)
            };
            self.client.get().run(py, event_loop, operation)
        })
    }

    /// Changes the account and restores it, in one turn.
    #[pyo3(signature = (event_loop=None))]
    fn write<'py>(&self, py: Python<'py>, event_loop: Option<&Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyAny>> {
        guarded(py, "check", || {
            let trial = self.trial.clone();
            let operation = move |client: client::Client| async move {
                if let Some(trial) = trial {
                    trial.run(&client).await;
                }
                Ok(())
            };
            self.client.get().run(py, event_loop, operation)
        })
    }

    /// Restores the account after an interruption.
    #[pyo3(signature = (event_loop=None))]
    fn restore<'py>(&self, py: Python<'py>, event_loop: Option<&Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyAny>> {
        guarded(py, "check", || {
            let trial = self.trial.clone();
            let operation = move |client: client::Client| async move {
                if let Some(trial) = trial {
                    trial.restore(&client).await;
                }
                Ok(())
            };
            self.client.get().run(py, event_loop, operation)
        })
    }

    /// Returns what the check may have left in the account; None if nothing.
    fn left_behind(&self, py: Python<'_>) -> PyResult<Option<String>> {
        guarded(py, "check", || Ok(self.trial.as_ref().and_then(Trial::left_behind)))
    }

    /// Returns the findings, the number of requests, and what to restore by hand.
    fn result<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        guarded(py, "check", || {
            let reading = lock(&self.reading).clone();
            let (mut findings, mut requests) = reading.map(|made| (made.findings, made.requests)).unwrap_or_default();
            let mut to_restore = Map::new();
            if let Some(trial) = &self.trial {
                findings.extend(trial.findings());
                requests += trial.requests();
                to_restore.extend(trial.to_restore());
            }
            let findings: Vec<_> = findings
                .into_iter()
                .map(|finding| (finding.topic, finding.found, finding.follows, finding.verdict.as_str()))
                .collect();
            let result = PyDict::new(py);
            result.set_item("findings", findings)?;
            result.set_item("requests", requests)?;
            result.set_item("to_restore", pythonize::pythonize(py, &Value::Object(to_restore))?)?;
            Ok(result)
        })
    }
}
