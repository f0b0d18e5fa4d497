//! The client as Python's face uses it: settings in, operations out.

use std::env;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyString};

use super::convert::{account_id, account_to_python, fields_from, integer, type_name};
use super::errors;
use super::exit;
use super::guard::guarded;
use super::job::Job;
use super::listing::Listing;
use super::plan::{self, PlanFile};
use super::runtime::{Engine, Outcome, ToPython};
use super::table::{Table, options_from};
use crate::account::{ContactAccount, Field, FieldError};
use crate::client::{self, Patched, check_patch, check_update};
use crate::config::{ActAs, ApiKey, AuthScheme, BaseUrl, Config, ProxyUrl};
use crate::error::{Call, Error, KeyOrigin, Operation};
use crate::per_process::{PerProcess, Process};
use crate::plan::run::{ApplyOptions, OnConflict, OnUnknownMember};
use crate::quota::Quota;
use crate::text::plain_line;

/// No time-out needs to be longer; it keeps arithmetic on moments from overflowing.
const LONGEST_TIMEOUT: f64 = 30.0 * 86_400.0;
/// A member's name longer than this is cut in a warning.
const LONGEST_NAME: usize = 100;

/// The core of a `ReplyClient`.
#[pyclass(frozen, module = "replyio._replyio")]
pub(super) struct Client {
    engine: Arc<Engine>,
    config: Config,
    per_process: PerProcess<client::Client>,
}

#[pymethods]
impl Client {
    /// Checks the settings, as a dictionary by their names in `ReplyClient`. No request is sent.
    #[new]
    fn new(py: Python<'_>, settings: &Bound<'_, PyDict>) -> PyResult<Self> {
        guarded(py, "new", || {
            let config = config_from(settings).map_err(|error| errors::to_python(py, &error))?;
            let template = client::Client::new(config.clone()).map_err(|error| errors::to_python(py, &error))?;
            Ok(Self { engine: Engine::new(template), config, per_process: PerProcess::new() })
        })
    }

    /// The same connections under other settings.
    fn with_options(&self, py: Python<'_>, settings: &Bound<'_, PyDict>) -> PyResult<Self> {
        guarded(py, "with_options", || {
            let mut config = self.config.clone();
            for (name, value) in settings.iter() {
                let name: String = name.extract()?;
                change(&mut config, &name, &value).map_err(|error| errors::to_python(py, &error))?;
            }
            let derived = Self { engine: Arc::clone(&self.engine), config, per_process: PerProcess::new() };
            derived.client(py)?;
            Ok(derived)
        })
    }

    /// The address of the service.
    #[getter]
    fn base_url(&self) -> String {
        self.config.base_url.to_string()
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

    /// `GET`, merge, `PUT /v3/contact-accounts/{id}`. Gives the account and what there is to warn about.
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

    /// `GET /v3/contact-accounts`, page after page.
    fn list(
        slf: &Bound<'_, Self>,
        search: Option<&Bound<'_, PyAny>>,
        sort_by: Option<&Bound<'_, PyAny>>,
        descending: bool,
        page_size: &Bound<'_, PyAny>,
    ) -> PyResult<Listing> {
        guarded(slf.py(), "list", || {
            let refuse =
                |(field, message): (&str, String)| refusal(slf.py(), Operation::List, FieldError::new(field, message));
            Listing::new(slf.clone().unbind(), search, sort_by, descending, page_size).map_err(refuse)
        })
    }

    /// Starts to plan the updates of a table, into a new file.
    fn plan(&self, py: Python<'_>, table: &Table, options: &Bound<'_, PyDict>, path: PathBuf) -> PyResult<Job> {
        guarded(py, "plan", || plan::start(self, table, options_from(options)?, path, py))
    }

    /// Opens a plan, which must be for this client's address, user and team. `recover` opens one whose log is missing,
    /// `new_key` one that was made with another API key of the same user.
    #[expect(clippy::needless_pass_by_value, reason = "pyo3 hands it over by value")]
    #[pyo3(signature = (path, recover=false, new_key=false))]
    fn open_plan(&self, py: Python<'_>, path: PathBuf, recover: bool, new_key: bool) -> PyResult<PlanFile> {
        guarded(py, "open_plan", || plan::open(self, &path, recover, new_key, py))
    }

    /// Starts to apply what is left of a plan, failed rows included where `retry_failed` says so.
    #[pyo3(signature = (file, *, overwrite, clear_unknown_members, retry_failed, concurrency))]
    fn apply(
        &self,
        py: Python<'_>,
        file: &PlanFile,
        overwrite: bool,
        clear_unknown_members: bool,
        retry_failed: bool,
        concurrency: usize,
    ) -> PyResult<Job> {
        let options = ApplyOptions {
            on_conflict: if overwrite { OnConflict::Overwrite } else { OnConflict::Skip },
            on_unknown_member: if clear_unknown_members { OnUnknownMember::Clear } else { OnUnknownMember::Stop },
            concurrency,
        };
        guarded(py, "apply", || plan::apply(self, file, options, retry_failed, py))
    }

    /// How many requests it takes to apply what is left of a plan, and how many seconds.
    fn estimate(&self, py: Python<'_>, file: &PlanFile) -> PyResult<(u64, Option<f64>)> {
        guarded(py, "estimate", || plan::estimate(self, file, py))
    }

    /// Gives back threads and connections.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        guarded(py, "close", || {
            exit::detached(py, || self.engine.close());
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
        F: Future<Output = Outcome<T>> + Send + 'static,
    {
        self.engine.run(py, self.client(py)?, event_loop, operation)
    }

    /// The client of this process.
    pub(super) fn here(&self, py: Python<'_>) -> PyResult<&client::Client> {
        self.client(py).map(|(client, _)| client)
    }

    /// The client of this process, and which process that is.
    fn client(&self, py: Python<'_>) -> PyResult<(&client::Client, Process)> {
        let process = Process::current();
        if let Some(client) = self.per_process.get(process) {
            return Ok((client, process));
        }
        let shared = self.engine.client(py, process)?;
        let made = self.per_process.get_or_try_init(process, || shared.with_config(self.config.clone()));
        made.map(|client| (client, process)).map_err(|error| errors::to_python(py, &error))
    }
}

impl ToPython for ContactAccount {
    fn to_python(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        account_to_python(py, &self)
    }
}

impl ToPython for Patched {
    fn to_python(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        let id = self.account.id;
        let mut warnings = Vec::new();
        if !self.deviations.fields.is_empty() {
            let names: Vec<&str> = self.deviations.fields.iter().copied().map(Field::name).collect();
            let names = names.join(", ");
            warnings.push(format!(
                "patch of account {id} was written, but the service answered {names} differently from what was sent"
            ));
        }
        if !self.deviations.lost.is_empty() {
            let names: Vec<String> = self.deviations.lost.iter().map(|name| plain_line(name, LONGEST_NAME)).collect();
            let names = names.join(", ");
            warnings.push(format!(
                "patch of account {id} cleared {names}: this version of replyio does not know these members, so its \
                 update could not keep them; replyio is older than the service, upgrade it before the next patch"
            ));
        }
        let warning = (!warnings.is_empty()).then(|| warnings.join("; "));
        let account = account_to_python(py, &self.account)?;
        Ok((account, warning).into_pyobject(py)?.into_any())
    }
}

/// The id, or a stand-in together with its fault.
fn known_id(id: &Bound<'_, PyAny>, faults: &mut Vec<FieldError>) -> i64 {
    account_id(id).unwrap_or_else(|fault| {
        faults.push(fault);
        0
    })
}

fn refusal(py: Python<'_>, operation: Operation, fault: FieldError) -> PyErr {
    errors::to_python(py, &Error::Validation { call: Call { operation, id: None }, errors: vec![fault] })
}

fn config_from(settings: &Bound<'_, PyDict>) -> Result<Config, Error> {
    let given = |name: &str| settings.get_item(name).ok().flatten().filter(|value| !value.is_none());
    let (api_key, origin) = match given("api_key") {
        Some(key) => (text("api_key", &key)?, KeyOrigin::Argument),
        None => match from_environment("REPLY_API_KEY") {
            Some(key) => (key, KeyOrigin::Environment),
            None => {
                return Err(refused(
                    "no API key: give api_key= or set REPLY_API_KEY; replyio.sandbox.Sandbox().client() needs none",
                ));
            }
        },
    };
    let mut config = Config::new("none")?;
    config.api_key = ApiKey::with_origin(api_key, origin)?;
    let base_url = match given("base_url") {
        Some(url) => Some(text("base_url", &url)?),
        None => from_environment("REPLY_BASE_URL"),
    };
    if let Some(url) = base_url {
        config.base_url = BaseUrl::new(&url)?;
    }
    for (name, value) in settings.iter() {
        let name = text("a setting's name", &name)?;
        match name.as_str() {
            "api_key" | "base_url" => {}
            "connect_timeout" => config.connect_timeout = seconds("connect_timeout", &value)?,
            "proxy" if value.is_none() => config.proxy = None,
            "proxy" => config.proxy = Some(ProxyUrl::new(&text("proxy", &value)?)?),
            "ca_file" if value.is_none() => config.ca_file = None,
            "ca_file" => {
                let path: Result<PathBuf, _> = value.extract();
                config.ca_file = Some(path.map_err(|_| wrong_type("ca_file", "a path", &value))?);
            }
            name => change(&mut config, name, &value)?,
        }
    }
    Ok(config)
}

/// Changes one of the settings that do not belong to the connections.
fn change(config: &mut Config, name: &str, value: &Bound<'_, PyAny>) -> Result<(), Error> {
    match name {
        "auth" => config.auth = AuthScheme::new(&text("auth", value)?)?,
        "act_as" => config.act_as = act_as(value)?,
        "team_id" if value.is_none() => config.team_id = None,
        "team_id" => config.team_id = Some(integer(value).map_err(|message| refused(format!("team_id {message}")))?),
        "timeout" => config.timeout = seconds("timeout", value)?,
        "attempt_timeout" => config.attempt_timeout = seconds("attempt_timeout", value)?,
        "max_attempts" => config.max_attempts = count("max_attempts", value)?,
        "quota" if value.is_none() => config.quota = None,
        "quota" => {
            let part = |name: &str| match value.getattr(name) {
                Ok(number) => count(name, &number),
                Err(_) => Err(wrong_type("quota", "a Quota or None", value)),
            };
            config.quota = Some(Quota { per_minute: part("per_minute")?, per_hour: part("per_hour")? });
            let scale = value.getattr("clock_scale").and_then(|scale| scale.extract());
            config.quota_clock_scale = scale.map_err(|_| wrong_type("quota", "a Quota or None", value))?;
        }
        _ => return Err(refused(format!("{name} is not a setting that can be changed here"))),
    }
    Ok(())
}

fn act_as(value: &Bound<'_, PyAny>) -> Result<Option<ActAs>, Error> {
    if value.is_none() {
        return Ok(None);
    }
    if value.is_instance_of::<PyString>() {
        return ActAs::user_email(&text("act_as", value)?).map(Some);
    }
    let id = integer(value).map_err(|_| wrong_type("act_as", "a positive user id or an e-mail address", value))?;
    ActAs::user_id(id).map(Some)
}

fn refused(message: impl Into<String>) -> Error {
    Error::Configuration(message.into())
}

fn wrong_type(name: &str, expected: &str, value: &Bound<'_, PyAny>) -> Error {
    refused(format!("{name} must be {expected}, not {}", type_name(value)))
}

fn text(name: &str, value: &Bound<'_, PyAny>) -> Result<String, Error> {
    value.extract().map_err(|_| wrong_type(name, "real text", value))
}

fn count(name: &str, value: &Bound<'_, PyAny>) -> Result<u32, Error> {
    match integer(value).ok().and_then(|number| u32::try_from(number).ok()) {
        Some(number) if number > 0 => Ok(number),
        _ => Err(refused(format!("{name} must be a positive integer"))),
    }
}

fn seconds(name: &str, value: &Bound<'_, PyAny>) -> Result<Duration, Error> {
    let is_number =
        (value.is_instance_of::<PyFloat>() || value.is_instance_of::<PyInt>()) && !value.is_instance_of::<PyBool>();
    let number: f64 = if is_number { value.extract().unwrap_or(f64::NAN) } else { f64::NAN };
    if number > 0.0 && number <= LONGEST_TIMEOUT {
        Ok(Duration::from_secs_f64(number))
    } else {
        Err(refused(format!("{name} must be a number of seconds, more than 0 and at most {LONGEST_TIMEOUT}")))
    }
}

/// A variable of the environment. An empty one counts as not set.
fn from_environment(name: &str) -> Option<String> {
    env::var_os(name).map(|value| value.to_string_lossy().into_owned()).filter(|value| !value.is_empty())
}
