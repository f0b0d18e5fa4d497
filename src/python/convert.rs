//! Python values to fields, and accounts to dataclasses.

use jiff::tz::Offset;
use pyo3::exceptions::{PyOverflowError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyDict, PyInt, PyNone, PyString, PyType};

use super::once::once;
use crate::account::{
    AccountFields, CompanySize, ContactAccount, ContactAccountStage, DateTime, Field, FieldError, MEMBERS, Presence,
    nearest,
};
use crate::text::plain_line;

/// A name longer than this is cut.
const LONGEST_NAME: usize = 100;

/// What keyword arguments say, and every fault in how they say it.
pub(super) fn fields_from(arguments: &Bound<'_, PyDict>) -> (AccountFields, Vec<FieldError>) {
    let mut fields = AccountFields::default();
    let mut faults = Vec::new();
    for (key, value) in arguments.iter() {
        let Ok(name) = key.cast::<PyString>().map_err(PyErr::from).and_then(|key| key.to_str()) else {
            faults.push(FieldError::new("fields", "must be named by text"));
            continue;
        };
        let Some(field) = Field::from_name(name) else {
            faults.push(FieldError::new(shown_name(name), unknown_name(name)));
            continue;
        };
        if !fields.get(field).is_absent() || faults.iter().any(|fault| fault.field == field.name()) {
            let (snake, wire) = (field.name(), field.wire());
            faults.push(FieldError::new(snake, format!("is given twice, as {snake} and as {wire}")));
            continue;
        }
        if let Err(message) = set(&mut fields, field, &value) {
            faults.push(FieldError::new(field.name(), message));
        }
    }
    (fields, faults)
}

/// A name that is none, for a message of one line.
fn shown_name(name: &str) -> String {
    if name.trim().is_empty() { format!("{name:?}") } else { plain_line(name, LONGEST_NAME) }
}

fn unknown_name(name: &str) -> String {
    if MEMBERS.iter().any(|member| !member.writable && (member.name == name || member.wire == name)) {
        return "cannot be updated: the service sets it".to_owned();
    }
    match nearest(name, Field::ALL.iter().map(|field| field.name())) {
        Some(right) => format!("is not a field of a contact account; did you mean {right}?"),
        None => "is not a field of a contact account".to_owned(),
    }
}

fn set(fields: &mut AccountFields, field: Field, value: &Bound<'_, PyAny>) -> Result<(), String> {
    let place = match field {
        Field::OwnerUserId => {
            fields.owner_user_id = presence(value, integer)?;
            return Ok(());
        }
        Field::CompanySize => {
            fields.company_size = presence(value, |value| text(value).map(|text| CompanySize::exactly(&text)))?;
            return Ok(());
        }
        Field::Name => &mut fields.name,
        Field::Description => &mut fields.description,
        Field::DomainName => &mut fields.domain_name,
        Field::DomainSecondary => &mut fields.domain_secondary,
        Field::Industry => &mut fields.industry,
        Field::Country => &mut fields.country,
        Field::State => &mut fields.state,
        Field::City => &mut fields.city,
        Field::TimeZoneId => &mut fields.time_zone_id,
        Field::LinkedInUrl => &mut fields.linked_in_url,
        Field::Phone => &mut fields.phone,
        Field::TwitterUrl => &mut fields.twitter_url,
        Field::LogoUrl => &mut fields.logo_url,
        Field::Email => &mut fields.email,
    };
    *place = presence(value, text)?;
    Ok(())
}

fn presence<T>(
    value: &Bound<'_, PyAny>,
    read: impl Fn(&Bound<'_, PyAny>) -> Result<T, String>,
) -> Result<Presence<T>, String> {
    if value.is_none() { Ok(Presence::Null) } else { read(value).map(Presence::Value) }
}

fn text(value: &Bound<'_, PyAny>) -> Result<String, String> {
    let Ok(text) = value.cast::<PyString>() else {
        return Err(format!("must be a string or None, not {}", type_name(value)));
    };
    match text.to_str() {
        Ok(text) => Ok(text.to_owned()),
        Err(_) => Err("must be real Unicode text: it has a lone surrogate".to_owned()),
    }
}

/// Reads an integer. `bool` is none, although Python thinks so; the integers of numpy are.
pub(super) fn integer(value: &Bound<'_, PyAny>) -> Result<i64, String> {
    const EXPECTED: &str = "must be a positive integer";
    if !value.is_instance_of::<PyBool>() {
        match value.extract::<i64>() {
            Ok(number) => return Ok(number),
            Err(error) if error.is_instance_of::<PyOverflowError>(value.py()) => {
                return Err(format!("{EXPECTED} below 2**63"));
            }
            Err(_) => {}
        }
    }
    Err(format!("{EXPECTED}, not {}", type_name(value)))
}

/// Reads the id of an account.
pub(super) fn account_id(value: &Bound<'_, PyAny>) -> Result<i64, FieldError> {
    integer(value).map_err(|message| FieldError::new("id", message))
}

pub(super) fn type_name(value: &Bound<'_, PyAny>) -> String {
    value.get_type().name().map_or_else(|_| "another type".to_owned(), |name| name.to_string())
}

/// The Python side of the models, looked up once.
struct Models {
    new: Py<PyAny>,
    account: Py<PyType>,
    stage: Py<PyType>,
    sizes: Vec<(&'static str, Py<PyAny>)>,
    datetime: Py<PyAny>,
    utc: Py<PyAny>,
    slots: Vec<Slot>,
    stage_slots: Vec<Slot>,
}

/// One slot of a dataclass, by its descriptor.
struct Slot {
    descriptor: Py<PyAny>,
    set: ffi::descrsetfunc,
}

/// The slots of the dataclass of the account that are not writable fields, after those.
const OTHER_SLOTS: [&str; 7] =
    ["id", "linked_prospects_count", "created_date", "last_activity_date", "stage", "email_provider", "extra"];

/// The slots of the stage.
const STAGE_SLOTS: [&str; 4] = ["id", "name", "color_id", "extra"];

static MODELS: PyOnceLock<Models> = PyOnceLock::new();

fn models(py: Python<'_>) -> PyResult<&Models> {
    once(py, &MODELS, || {
        let module = py.import("replyio.models")?;
        let class = |name: &str| Ok::<_, PyErr>(module.getattr(name)?.cast_into::<PyType>()?);
        let (account, stage) = (class("ContactAccount")?, class("ContactAccountStage")?);
        let size_class = module.getattr("CompanySize")?;
        let sizes = CompanySize::DOCUMENTED.iter().map(|text| Ok((*text, size_class.call1((*text,))?.unbind())));
        let datetime = py.import("datetime")?;
        let slots = Field::ALL.iter().map(|field| field.name()).chain(OTHER_SLOTS);
        Ok(Models {
            new: py.import("builtins")?.getattr("object")?.getattr("__new__")?.unbind(),
            slots: slots.map(|name| Slot::of(&account, name)).collect::<PyResult<_>>()?,
            stage_slots: STAGE_SLOTS.iter().map(|name| Slot::of(&stage, name)).collect::<PyResult<_>>()?,
            account: account.unbind(),
            stage: stage.unbind(),
            sizes: sizes.collect::<PyResult<_>>()?,
            datetime: datetime.getattr("datetime")?.unbind(),
            utc: datetime.getattr("timezone")?.getattr("utc")?.unbind(),
        })
    })
}

/// Makes the dataclass of an account. The slots are set directly: its `__init__` would take twice as long.
pub(super) fn account_to_python<'py>(py: Python<'py>, account: &ContactAccount) -> PyResult<Bound<'py, PyAny>> {
    let models = models(py)?;
    let object = models.new.bind(py).call1((&models.account,))?;
    let mut slots = Slots { object: &object, slots: models.slots.iter() };
    slots.text(Some(&account.name))?;
    slots.text(account.description.as_ref())?;
    slots.text(account.domain_name.as_ref())?;
    slots.text(account.domain_secondary.as_ref())?;
    slots.text(account.industry.as_ref())?;
    slots.fill(&models.size(py, account.company_size.as_ref()))?;
    slots.text(account.country.as_ref())?;
    slots.text(account.state.as_ref())?;
    slots.text(account.city.as_ref())?;
    slots.text(account.time_zone_id.as_ref())?;
    slots.text(account.linked_in_url.as_ref())?;
    slots.text(account.phone.as_ref())?;
    slots.text(account.twitter_url.as_ref())?;
    slots.text(account.logo_url.as_ref())?;
    slots.text(account.email.as_ref())?;
    slots.fill(&PyInt::new(py, account.owner_user_id))?;
    slots.fill(&PyInt::new(py, account.id))?;
    match account.linked_prospects_count {
        Some(count) => slots.fill(&PyInt::new(py, count))?,
        None => slots.fill(&PyNone::get(py))?,
    }
    for date in [account.created_date, account.last_activity_date] {
        match date {
            Some(date) => slots.fill(&models.datetime(py, date)?)?,
            None => slots.fill(&PyNone::get(py))?,
        }
    }
    match &account.stage {
        Some(stage) => slots.fill(&models.stage(py, stage)?)?,
        None => slots.fill(&PyNone::get(py))?,
    }
    slots.text(account.email_provider.as_ref())?;
    slots.fill(&open_members(py, &account.extra)?)?;
    Ok(object)
}

/// Members that the contract does not know, as a dictionary.
fn open_members<'py>(
    py: Python<'py>,
    members: &serde_json::Map<String, serde_json::Value>,
) -> PyResult<Bound<'py, PyAny>> {
    if members.is_empty() { Ok(PyDict::new(py).into_any()) } else { Ok(pythonize::pythonize(py, members)?) }
}

impl Models {
    fn size<'py>(&self, py: Python<'py>, size: Option<&CompanySize>) -> Bound<'py, PyAny> {
        let Some(size) = size else { return PyNone::get(py).to_owned().into_any() };
        let text = size.as_str();
        match self.sizes.iter().find(|(documented, _)| *documented == text) {
            Some((_, member)) => member.bind(py).clone(),
            None => PyString::new(py, text).into_any(),
        }
    }

    fn datetime<'py>(&self, py: Python<'py>, DateTime(timestamp): DateTime) -> PyResult<Bound<'py, PyAny>> {
        let moment = Offset::UTC.to_datetime(timestamp);
        self.datetime.bind(py).call1((
            moment.year(),
            moment.month(),
            moment.day(),
            moment.hour(),
            moment.minute(),
            moment.second(),
            moment.subsec_nanosecond() / 1000,
            &self.utc,
        ))
    }

    fn stage<'py>(&self, py: Python<'py>, stage: &ContactAccountStage) -> PyResult<Bound<'py, PyAny>> {
        let object = self.new.bind(py).call1((&self.stage,))?;
        let mut slots = Slots { object: &object, slots: self.stage_slots.iter() };
        slots.fill(&PyInt::new(py, stage.id))?;
        slots.text(Some(&stage.name))?;
        match stage.color_id {
            Some(color) => slots.fill(&PyInt::new(py, color))?,
            None => slots.fill(&PyNone::get(py))?,
        }
        slots.fill(&open_members(py, &stage.extra)?)?;
        Ok(object)
    }
}

/// Sets the slots of a frozen dataclass, one after the other, in the order of their list.
struct Slots<'a, 'py> {
    object: &'a Bound<'py, PyAny>,
    slots: std::slice::Iter<'a, Slot>,
}

impl Slots<'_, '_> {
    fn text(&mut self, text: Option<&String>) -> PyResult<()> {
        let py = self.object.py();
        match text {
            Some(text) => self.fill(&PyString::new(py, text)),
            None => self.fill(&PyNone::get(py)),
        }
    }

    fn fill(&mut self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let Some(slot) = self.slots.next() else { return Ok(()) };
        slot.set(self.object, value)
    }
}

/// A frozen dataclass refuses its own `__setattr__`, and `object.__setattr__` looks the slot up each time. This is what
/// both come to in the end.
#[expect(unsafe_code, reason = "a slot can be set without a look-up only through the type's own function")]
impl Slot {
    fn of(class: &Bound<'_, PyType>, name: &str) -> PyResult<Self> {
        let descriptor = class.getattr(name)?;
        let kind = descriptor.get_type();
        // SAFETY: a live type object, and a slot number of the stable interface.
        let set = unsafe { ffi::PyType_GetSlot(kind.as_type_ptr(), ffi::Py_tp_descr_set) };
        if set.is_null() {
            return Err(PyTypeError::new_err(format!("{name} is not a slot")));
        }
        // SAFETY: what that slot holds is a function of this type.
        let set = unsafe { std::mem::transmute::<*mut std::ffi::c_void, ffi::descrsetfunc>(set) };
        Ok(Self { descriptor: descriptor.unbind(), set })
    }

    fn set(&self, object: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        // SAFETY: all three are live objects and the interpreter is attached, as the bound references prove; the
        // descriptor itself refuses an object of another class.
        let result = unsafe { (self.set)(self.descriptor.as_ptr(), object.as_ptr(), value.as_ptr()) };
        if result == 0 { Ok(()) } else { Err(PyErr::fetch(object.py())) }
    }
}
