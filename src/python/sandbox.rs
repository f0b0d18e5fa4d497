//! The sandbox for Python. Its public interface is `replyio.sandbox`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, Method};
use pyo3::exceptions::{PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;
use pyo3::types::{PyBytes, PyDict, PyInt, PyString};
use pythonize::depythonize;
use serde_json::Value;

use super::convert::ToPython;
use super::deviations::DeviationArguments;
use super::guard::guarded;
use super::{errors, exit};
use crate::config::BaseUrl;
use crate::identity;
use crate::sandbox::{
    self as core, Applied, Auth, Deviations, Fault, SandboxError, SandboxOptions, SandboxQuota, Scopes,
};

/// A running sandbox.
#[pyclass(frozen, module = "replyio._replyio")]
pub(super) struct Sandbox(core::Sandbox);

/// Number, connection, microseconds since 1970, method, path, query, headers, body, status, applied.
type RequestRow<'py> =
    (u64, u64, i64, String, String, String, Vec<(String, String)>, Bound<'py, PyBytes>, Option<u16>, bool);

#[pymethods]
impl Sandbox {
    #[new]
    #[pyo3(signature = (*, accounts, port, quota, clock_scale, faults, path, api_keys, scopes, auth, owners, forbidden,
                        max_body, keep_requests, idle_timeout, deviations))]
    #[expect(clippy::too_many_arguments, reason = "they are the keyword arguments of the Python class")]
    fn start(
        py: Python<'_>,
        accounts: Option<Vec<Bound<'_, PyAny>>>,
        port: u16,
        quota: Option<(u32, u32)>,
        clock_scale: f64,
        faults: Vec<FaultArguments<'_>>,
        path: Option<PathBuf>,
        api_keys: Option<Vec<String>>,
        scopes: BTreeMap<String, (bool, bool)>,
        auth: &str,
        owners: Option<BTreeSet<i64>>,
        forbidden: BTreeSet<i64>,
        max_body: usize,
        keep_requests: usize,
        idle_timeout: f64,
        deviations: Option<DeviationArguments<'_>>,
    ) -> PyResult<Self> {
        guarded(py, "sandbox", || {
            let options = SandboxOptions {
                accounts: accounts.map(|given| all_accounts(&given)).transpose()?,
                port,
                quota: quota.map(|(per_minute, per_hour)| SandboxQuota { per_minute, per_hour }),
                clock_scale,
                faults: faults.into_iter().map(FaultArguments::read).collect::<PyResult<_>>()?,
                path,
                api_keys,
                scopes: scopes.into_iter().map(|(key, (read, write))| (key, Scopes { read, write })).collect(),
                auth: match auth {
                    "both" => Auth::Both,
                    "x-api-key" => Auth::ApiKey,
                    "bearer" => Auth::Bearer,
                    _ => return Err(errors::configuration(py, "auth must be \"both\", \"x-api-key\" or \"bearer\"")),
                },
                owners,
                forbidden,
                max_body,
                keep_requests,
                idle_timeout: seconds(idle_timeout)
                    .ok_or_else(|| errors::configuration(py, "idle_timeout must be a positive number of seconds"))?,
                deviations: deviations
                    .map_or_else(|| Ok(Deviations::default()), DeviationArguments::read)
                    .map_err(|reason| errors::configuration(py, &format!("deviations {reason}")))?,
            };
            let sandbox = exit::detached(py, || core::Sandbox::start(options)).map_err(|error| raised(py, &error))?;
            // The system reuses ports: this one may have belonged to an earlier sandbox that asked clients to wait.
            identity::forget(&BaseUrl::new(&sandbox.url()).map_err(|error| errors::to_python(py, &error))?);
            Ok(Self(sandbox))
        })
    }

    fn stop(&self, py: Python<'_>) -> PyResult<()> {
        guarded(py, "sandbox_stop", || {
            exit::detached(py, || self.0.stop());
            Ok(())
        })
    }

    #[getter]
    fn url(&self, py: Python<'_>) -> PyResult<String> {
        guarded(py, "sandbox_url", || Ok(self.0.url()))
    }

    #[getter]
    fn port(&self, py: Python<'_>) -> PyResult<u16> {
        guarded(py, "sandbox_port", || Ok(self.0.port()))
    }

    fn requests<'py>(&self, py: Python<'py>) -> PyResult<Vec<RequestRow<'py>>> {
        guarded(py, "sandbox_requests", || {
            let requests = exit::detached(py, || self.here().map(core::Sandbox::requests))?;
            let rows = requests.into_iter().map(|request| {
                (
                    request.number,
                    request.connection,
                    request.time.as_microsecond(),
                    request.method.to_string(),
                    request.path,
                    request.query,
                    request.headers,
                    PyBytes::new(py, &request.body),
                    request.status.map(|status| status.as_u16()),
                    request.applied,
                )
            });
            Ok(rows.collect())
        })
    }

    fn clear_requests(&self, py: Python<'_>) -> PyResult<()> {
        guarded(py, "sandbox_clear_requests", || exit::detached(py, || self.here().map(core::Sandbox::clear_requests)))
    }

    fn accounts<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        guarded(py, "sandbox_accounts", || {
            let accounts = exit::detached(py, || self.here().map(core::Sandbox::accounts))?;
            accounts.into_iter().map(|account| account.to_python(py)).collect()
        })
    }

    fn set_account(&self, given: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = given.py();
        guarded(py, "sandbox_set_account", || {
            let account = account(given)?;
            let set = exit::detached(py, || self.here().map(|sandbox| sandbox.set_account(&account)))?;
            set.map_err(|error| raised(py, &error))
        })
    }

    fn remove_account(&self, py: Python<'_>, id: i64) -> PyResult<bool> {
        guarded(py, "sandbox_remove_account", || {
            let removed = exit::detached(py, || self.here().map(|sandbox| sandbox.remove_account(id)))?;
            removed.map_err(|error| raised(py, &error))
        })
    }

    fn add_fault(&self, py: Python<'_>, fault: FaultArguments<'_>) -> PyResult<()> {
        guarded(py, "sandbox_add_fault", || {
            let fault = fault.read()?;
            exit::detached(py, || self.here().map(|sandbox| sandbox.add_fault(fault)))
        })
    }

    fn clear_faults(&self, py: Python<'_>) -> PyResult<()> {
        guarded(py, "sandbox_clear_faults", || exit::detached(py, || self.here().map(core::Sandbox::clear_faults)))
    }

    fn close_connections(&self, py: Python<'_>) -> PyResult<()> {
        guarded(py, "sandbox_close_connections", || {
            exit::detached(py, || self.here().map(core::Sandbox::close_connections))
        })
    }
}

impl Sandbox {
    /// Returns the sandbox, unless this is a forked child's copy.
    fn here(&self) -> PyResult<&core::Sandbox> {
        if self.0.is_here() {
            return Ok(&self.0);
        }
        Err(PyRuntimeError::new_err("this sandbox belongs to the process that started it; start another one here"))
    }
}

/// A `replyio.sandbox.Fault`, attribute by attribute.
#[derive(FromPyObject)]
pub(super) struct FaultArguments<'py> {
    request: Option<u64>,
    id: Option<i64>,
    method: Option<String>,
    times: Option<u32>,
    delay: f64,
    status: Option<u16>,
    retry_after: Option<Bound<'py, PyAny>>,
    body: Option<BodyArgument<'py>>,
    headers: Option<BTreeMap<String, String>>,
    reset: bool,
    close: bool,
    cut: Option<usize>,
    applied: Option<AppliedArgument>,
}

#[derive(FromPyObject)]
enum BodyArgument<'py> {
    Text(String),
    Bytes(Vec<u8>),
    Json(Bound<'py, PyAny>),
}

#[derive(FromPyObject)]
enum AppliedArgument {
    Whether(bool),
    Word(String),
}

impl FaultArguments<'_> {
    fn read(self) -> PyResult<Fault> {
        let wrong = |what: &str| PyValueError::new_err(format!("the sandbox cannot use this fault: {what}"));
        let applied = match &self.applied {
            None => Applied::Auto,
            Some(AppliedArgument::Whether(true)) => Applied::Before,
            Some(AppliedArgument::Whether(false)) => Applied::Never,
            Some(AppliedArgument::Word(word)) if word == "late" => Applied::Late,
            Some(AppliedArgument::Word(_)) => return Err(wrong("applied must be True, False or \"late\"")),
        };
        let method = self.method.as_ref().map(|method| method.to_uppercase().parse::<Method>());
        Ok(Fault {
            request: self.request,
            id: self.id,
            method: method.transpose().map_err(|_| wrong("method is not an HTTP method"))?,
            times: self.times,
            delay: Duration::try_from_secs_f64(self.delay).map_err(|_| wrong("delay must be a number of seconds"))?,
            response: self.response().map_err(|error| wrong(&error.to_string()))?,
            reset: self.reset,
            close: self.close,
            cut: self.cut,
            applied,
        })
    }

    fn response(&self) -> Result<Option<core::Response>, Box<dyn std::error::Error>> {
        let Some(status) = self.status else { return Ok(None) };
        let mut response = core::Response::status(status)?;
        let (body, content_type) = match &self.body {
            None => (None, None),
            Some(BodyArgument::Text(text)) => (Some(text.clone().into()), Some("text/plain; charset=utf-8")),
            Some(BodyArgument::Bytes(bytes)) => (Some(bytes.clone().into()), Some("application/octet-stream")),
            Some(BodyArgument::Json(value)) => {
                let problem = response.status.is_client_error() || response.status.is_server_error();
                let content_type = if problem { "application/problem+json" } else { "application/json" };
                (Some(serde_json::to_vec(&depythonize::<Value>(value)?)?.into()), Some(content_type))
            }
        };
        response.body = body;
        let mut headers = HeaderMap::new();
        if let Some(content_type) = content_type {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        }
        if let Some(retry_after) = &self.retry_after {
            headers.insert(RETRY_AFTER, retry_after.str()?.to_str()?.parse()?);
        }
        for (name, value) in self.headers.iter().flatten() {
            headers.insert(name.parse::<HeaderName>()?, value.parse()?);
        }
        response.headers = headers;
        Ok(Some(response))
    }
}

fn seconds(number: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(number).ok().filter(|duration| !duration.is_zero())
}

fn all_accounts(given: &[Bound<'_, PyAny>]) -> PyResult<Vec<crate::ContactAccount>> {
    // There may be a million, and a growing vector would copy them repeatedly.
    let mut accounts = Vec::with_capacity(given.len());
    for given in given {
        accounts.push(account(given)?);
    }
    Ok(accounts)
}

fn account(given: &Bound<'_, PyAny>) -> PyResult<crate::ContactAccount> {
    let unusable = |error: PyErr| errors::configuration(given.py(), &error.to_string());
    let mut members = members(given).map_err(unusable)?;
    let members = members.iter_mut().map(|(name, value)| (&**name, std::mem::take(value)));
    core::account_from_members(members).map_err(|error| raised(given.py(), &error))
}

fn members(given: &Bound<'_, PyAny>) -> PyResult<Vec<(PyBackedStr, Value)>> {
    given.cast::<PyDict>()?.iter().map(|(name, value)| Ok((name.extract()?, json(&value)?))).collect()
}

/// Converts a value to JSON. Has a fast path for texts and numbers, which most values are.
fn json(value: &Bound<'_, PyAny>) -> PyResult<Value> {
    if value.is_none() {
        return Ok(Value::Null);
    }
    if let Ok(text) = value.cast_exact::<PyString>() {
        return Ok(text.to_cow()?.into_owned().into());
    }
    match value.cast_exact::<PyInt>().map(|number| number.extract::<i64>()) {
        Ok(Ok(number)) => Ok(number.into()),
        _ => Ok(depythonize(value)?),
    }
}

fn raised(py: Python<'_>, error: &SandboxError) -> PyErr {
    match error {
        SandboxError::Bind { source, .. } | SandboxError::File { source, .. } | SandboxError::Thread(source) => {
            match source.raw_os_error() {
                // With the number, Python creates the right subclass, such as `PermissionError`.
                Some(number) => PyOSError::new_err((number, error.to_string())),
                None => PyOSError::new_err(error.to_string()),
            }
        }
        SandboxError::Option { .. } | SandboxError::Account { .. } | SandboxError::Damaged { .. } => {
            errors::configuration(py, &error.to_string())
        }
    }
}
