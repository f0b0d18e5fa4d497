//! Reads the settings of a client from Python.

use std::env;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyString};

use super::acquire::{Gate, QuotaGate};
use super::convert::{integer, type_name};
use super::errors;
use super::guard::guarded;
use crate::acquire::Acquire;
use crate::config::{ActAs, ApiKey, AuthScheme, BaseUrl, Config, ProxyUrl, check_clock_scale, check_timeout};
use crate::error::{Error, KeyOrigin};
use crate::quota::Quota;
use crate::text::plain_line;

/// The variable with the URL of the service.
const BASE_URL: &str = "REPLY_BASE_URL";

/// The most characters of a folder in a message.
const LONGEST_FOLDER: usize = 200;

/// Returns the folder for plans without a name; `None` if the home directory is unknown.
#[pyfunction]
pub(super) fn state_folder(py: Python<'_>) -> PyResult<Option<PathBuf>> {
    guarded(py, "state_folder", || {
        let chosen = chosen_state_folder().map_err(|error| errors::to_python(py, &error))?;
        Ok(chosen.or_else(crate::state_folder::usual))
    })
}

/// Processes with different working directories would each have a quota and plans of their own.
fn chosen_state_folder() -> Result<Option<PathBuf>, Error> {
    match crate::state_folder::chosen() {
        Some(folder) if !folder.is_absolute() => {
            let folder = plain_line(&folder.to_string_lossy(), LONGEST_FOLDER);
            Err(refused(format!("REPLYIO_STATE_DIR must be an absolute path, not {folder}")))
        }
        chosen => Ok(chosen),
    }
}

/// Reads all settings of a new client.
pub(super) fn config_from(settings: &Bound<'_, PyDict>) -> Result<Config, Error> {
    let given = |name: &str| settings.get_item(name).ok().flatten().filter(|value| !value.is_none());
    let (api_key, origin) = match given("api_key") {
        Some(key) => (text("api_key", &key)?, KeyOrigin::Argument),
        None => match from_environment("REPLY_API_KEY") {
            Some(key) => (key, KeyOrigin::Environment),
            None => {
                return Err(refused(
                    "no API key: pass api_key= or set REPLY_API_KEY; replyio.sandbox.Sandbox().client() needs none",
                ));
            }
        },
    };
    chosen_state_folder()?;
    let mut config = Config::new("none")?;
    config.turns_shared = true;
    config.api_key = ApiKey::with_origin(api_key, origin)?;
    if let Some(url) = given("base_url") {
        config.base_url = BaseUrl::new(&text("base_url", &url)?)?;
    } else if let Some(url) = from_environment(BASE_URL) {
        config.base_url = BaseUrl::of_variable(BASE_URL, &url)?;
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
pub(super) fn change(config: &mut Config, name: &str, value: &Bound<'_, PyAny>) -> Result<(), Error> {
    match name {
        // No name is empty, so the refusal of another type says which names there are, too.
        "auth" => config.auth = AuthScheme::new(&text("auth", value).unwrap_or_default())?,
        "act_as" => config.act_as = act_as(value)?,
        "team_id" if value.is_none() => config.team_id = None,
        "team_id" => config.team_id = Some(integer(value).map_err(|message| refused(format!("team_id {message}")))?),
        "timeout" => config.timeout = seconds("timeout", value)?,
        "attempt_timeout" => config.attempt_timeout = seconds("attempt_timeout", value)?,
        "max_attempts" => config.max_attempts = count("max_attempts", value)?,
        "quota" if value.is_none() => (config.quota, config.acquire) = (None, None),
        "quota" => {
            let part = |name: &str| match value.getattr(name) {
                Ok(number) => count(name, &number),
                Err(_) => Err(wrong_type("quota", "a Quota or None", value)),
            };
            config.quota = Some(Quota { per_minute: part("per_minute")?, per_hour: part("per_hour")? });
            let scale = value.getattr("clock_scale").and_then(|scale| scale.extract());
            config.quota_clock_scale = scale.map_err(|_| wrong_type("quota", "a Quota or None", value))?;
            check_clock_scale("clock_scale", config.quota_clock_scale)?;
            let shared = value.getattr("shared").and_then(|shared| shared.extract());
            config.quota_shared = shared.map_err(|_| wrong_type("quota", "a Quota or None", value))?;
            let share = value.getattr("bulk_share").and_then(|share| share.extract());
            config.bulk_share = share.map_err(|_| wrong_type("quota", "a Quota or None", value))?;
            config.acquire = gate(value).map(|gate| gate as Arc<dyn Acquire>);
        }
        _ => return Err(refused(format!("{name} is not a setting that can be changed here"))),
    }
    Ok(())
}

/// What a quota asks before each request.
pub(super) fn gate(quota: &Bound<'_, PyAny>) -> Option<Arc<Gate>> {
    quota.getattr("_gate").ok()?.cast::<QuotaGate>().ok().map(|gate| gate.get().gate())
}

fn act_as(value: &Bound<'_, PyAny>) -> Result<Option<ActAs>, Error> {
    if value.is_none() {
        return Ok(None);
    }
    if value.is_instance_of::<PyString>() {
        return ActAs::user_email(&text("act_as", value)?).map(Some);
    }
    let id = integer(value).map_err(|_| wrong_type("act_as", "a positive user id or an email address", value))?;
    ActAs::user_id(id).map(Some)
}

fn refused(message: impl Into<String>) -> Error {
    Error::Configuration(message.into())
}

fn wrong_type(name: &str, expected: &str, value: &Bound<'_, PyAny>) -> Error {
    refused(format!("{name} must be {expected}, not {}", type_name(value)))
}

fn text(name: &str, value: &Bound<'_, PyAny>) -> Result<String, Error> {
    value.extract().map_err(|_| wrong_type(name, "valid Unicode text", value))
}

fn count(name: &str, value: &Bound<'_, PyAny>) -> Result<u32, Error> {
    let number = integer(value).ok().and_then(|number| u32::try_from(number).ok()).filter(|number| *number > 0);
    number.ok_or_else(|| refused(format!("{name} must be an integer from 1 to {}", u32::MAX)))
}

fn seconds(name: &str, value: &Bound<'_, PyAny>) -> Result<Duration, Error> {
    let is_number = value.is_instance_of::<PyFloat>() || value.is_instance_of::<PyInt>() || integer(value).is_ok();
    let is_number = is_number && !value.is_instance_of::<PyBool>();
    let number: f64 = if is_number { value.extract().unwrap_or(f64::NAN) } else { f64::NAN };
    let time = Duration::try_from_secs_f64(number).unwrap_or_default();
    check_timeout(name, time).map(|()| time)
}

/// Returns an environment variable. An empty one counts as not set.
fn from_environment(name: &str) -> Option<String> {
    env::var_os(name).map(|value| value.to_string_lossy().into_owned()).filter(|value| !value.is_empty())
}
