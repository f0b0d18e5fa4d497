//! Converts Python values to fields, and accounts to dataclasses, member by member, according to the table of fields.

use pyo3::exceptions::{PyOverflowError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyDict, PyInt, PyNone, PyString, PyType};

use super::once::once;
use crate::account::{
    AccountFields, CompanySize, ContactAccount, ContactAccountStage, DateTime, Field, FieldError, FieldValue, Kind,
    MEMBERS, MemberValue, STAGE, nearest,
};
use crate::change::has_unsendable;
use crate::client::Patched;
use crate::text::plain_line;

/// The accepted kinds of tables, for messages.
pub(super) const TAKEN: &str = "a DataFrame or another Arrow table, an iterable of mappings, named tuples or \
    dataclass instances, or the path of a .csv, .tsv, .jsonl, .ndjson or .parquet file";

/// A longer name is truncated.
const LONGEST_NAME: usize = 100;

/// A result that converts to Python.
pub(super) trait ToPython: Send + 'static {
    fn to_python(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>>;
}

impl ToPython for () {
    fn to_python(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        Ok(PyNone::get(py).to_owned().into_any())
    }
}

impl ToPython for bool {
    fn to_python(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        Ok(PyBool::new(py, self).to_owned().into_any())
    }
}

impl ToPython for ContactAccount {
    fn to_python(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        account_to_python(py, &self)
    }
}

impl ToPython for Patched {
    /// The account and the warning, if any.
    fn to_python(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        let id = self.account.id;
        let mut warnings = Vec::new();
        if !self.deviations.fields.is_empty() {
            let names: Vec<&str> = self.deviations.fields.iter().copied().map(Field::name).collect();
            let names = names.join(", ");
            warnings.push(format!(
                "patch of account {id} was written, but the answer of the service differs from what was sent in {names}"
            ));
        }
        if !self.deviations.altered.is_empty() {
            let names: Vec<&str> = self.deviations.altered.iter().copied().map(Field::name).collect();
            let names = names.join(", ");
            warnings.push(format!(
                "{names} of account {id} changed during the patch, because of an attempt without an answer or because \
                of someone else; look at the account before the next patch"
            ));
        }
        let is_moved = |name: &&String| *name == STAGE && has_unsendable(&self.account, name);
        let (moved, lost): (Vec<&String>, Vec<&String>) = self.deviations.lost.iter().partition(is_moved);
        if !moved.is_empty() {
            warnings.push(format!(
                "account {id} has another stage after its patch: the update reset it, or someone changed it meanwhile; \
                look at the account before the next patch"
            ));
        }
        if !lost.is_empty() {
            let names: Vec<String> = lost.into_iter().map(|name| plain_line(name, LONGEST_NAME)).collect();
            let names = names.join(", ");
            warnings.push(format!(
                "patch of account {id} cleared {names}: an update cannot include stage or members that this version \
                does not know, and the service clears what an update does not include; look for a newer version of \
                replyio before the next patch"
            ));
        }
        let warning = (!warnings.is_empty()).then(|| warnings.join("; "));
        let account = account_to_python(py, &self.account)?;
        Ok((account, warning).into_pyobject(py)?.into_any())
    }
}

/// Reads keyword arguments. Returns every problem.
pub(super) fn fields_from(arguments: &Bound<'_, PyDict>) -> (AccountFields, Vec<FieldError>) {
    let mut fields = AccountFields::default();
    let mut faults = Vec::new();
    for (key, value) in arguments.iter() {
        let Ok(name) = key.cast::<PyString>().map_err(PyErr::from).and_then(|key| key.to_str()) else {
            faults.push(FieldError::new("fields", "must have names that are strings"));
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

/// Returns an unknown name for a one-line message.
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
    let value = match field.kind() {
        _ if value.is_none() => None,
        Kind::Integer => Some(FieldValue::Integer(integer(value)?)),
        Kind::Text | Kind::CompanySize | Kind::DateTime | Kind::Stage => Some(FieldValue::Text(text(value)?)),
    };
    fields.set(field, value).map_err(|_| format!("must be {}", field.kind().expected()))
}

fn text<'a>(value: &'a Bound<'_, PyAny>) -> Result<&'a str, String> {
    let Ok(text) = value.cast::<PyString>() else {
        return Err(format!("must be a string or None, not {}", type_name(value)));
    };
    text.to_str().map_err(|_| "must be valid Unicode: it contains a lone surrogate".to_owned())
}

/// Reads an integer. Refuses `bool`, although it is an integer in Python; accepts numpy integers.
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

/// The Python classes of the models, looked up once.
struct Models {
    new: Py<PyAny>,
    account: Dataclass,
    stage: Dataclass,
    sizes: Vec<(&'static str, Py<PyAny>)>,
    datetime: Py<PyAny>,
    utc: Py<PyAny>,
}

/// A dataclass with slots, and the setters of its slots.
struct Dataclass {
    class: Py<PyType>,
    setters: Vec<Setter>,
}

/// The setter of one slot of a dataclass.
struct Setter {
    descriptor: Py<PyAny>,
    set: ffi::descrsetfunc,
}

/// The slots of the stage.
const STAGE_SLOTS: [&str; 4] = ["id", "name", "color_id", "extra"];

/// The slot for members that the API contract does not list.
const EXTRA: &str = "extra";

static MODELS: PyOnceLock<Models> = PyOnceLock::new();

fn models(py: Python<'_>) -> PyResult<&Models> {
    once(py, &MODELS, || {
        let module = py.import("replyio.models")?;
        let size_class = module.getattr("CompanySize")?;
        let sizes = CompanySize::DOCUMENTED.iter().map(|text| Ok((*text, size_class.call1((*text,))?.unbind())));
        let datetime = py.import("datetime")?;
        let members = MEMBERS.iter().map(|member| member.name).chain([EXTRA]);
        Ok(Models {
            new: py.import("builtins")?.getattr("object")?.getattr("__new__")?.unbind(),
            account: Dataclass::of(&module, "ContactAccount", members)?,
            stage: Dataclass::of(&module, "ContactAccountStage", STAGE_SLOTS.into_iter())?,
            sizes: sizes.collect::<PyResult<_>>()?,
            datetime: datetime.getattr("datetime")?.unbind(),
            utc: datetime.getattr("timezone")?.getattr("utc")?.unbind(),
        })
    })
}

/// Creates the dataclass of an account.
fn account_to_python<'py>(py: Python<'py>, account: &ContactAccount) -> PyResult<Bound<'py, PyAny>> {
    members_to_python(py, &account.members(), &account.extra)
}

/// Creates the dataclass of an account from its members in the order of [`MEMBERS`], and the other ones. Sets the slots
/// directly: its `__init__` would take twice as long.
pub(super) fn members_to_python<'py>(
    py: Python<'py>,
    members: &[MemberValue<'_>; MEMBERS.len()],
    extra: &serde_json::Map<String, serde_json::Value>,
) -> PyResult<Bound<'py, PyAny>> {
    let models = models(py)?;
    let members = members.iter().map(|value| models.value(py, *value));
    models.make(py, &models.account, members.chain([open_members(py, extra)]))
}

/// Returns a value of an account as its dataclass has it.
pub(super) fn member_to_python<'py>(py: Python<'py>, value: MemberValue<'_>) -> PyResult<Bound<'py, PyAny>> {
    models(py)?.value(py, value)
}

/// Returns the members that the API contract does not list, as a dictionary.
fn open_members<'py>(
    py: Python<'py>,
    members: &serde_json::Map<String, serde_json::Value>,
) -> PyResult<Bound<'py, PyAny>> {
    if members.is_empty() { Ok(PyDict::new(py).into_any()) } else { Ok(pythonize::pythonize(py, members)?) }
}

impl Models {
    /// Creates an instance of a dataclass from the values of its slots, in the order of its setters.
    fn make<'py>(
        &self,
        py: Python<'py>,
        dataclass: &Dataclass,
        values: impl Iterator<Item = PyResult<Bound<'py, PyAny>>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let object = self.new.bind(py).call1((&dataclass.class,))?;
        for (setter, value) in dataclass.setters.iter().zip(values) {
            setter.set(&object, &value?)?;
        }
        Ok(object)
    }

    fn value<'py>(&self, py: Python<'py>, value: MemberValue<'_>) -> PyResult<Bound<'py, PyAny>> {
        Ok(match value {
            MemberValue::Nothing => PyNone::get(py).to_owned().into_any(),
            MemberValue::Text(text) => PyString::new(py, text).into_any(),
            MemberValue::Integer(number) => PyInt::new(py, number).into_any(),
            MemberValue::CompanySize(size) => self.size(py, size),
            MemberValue::DateTime(moment) => return self.datetime(py, moment),
            MemberValue::Stage(stage) => return self.stage(py, stage),
        })
    }

    fn size<'py>(&self, py: Python<'py>, size: &CompanySize) -> Bound<'py, PyAny> {
        let text = size.as_str();
        match self.sizes.iter().find(|(documented, _)| *documented == text) {
            Some((_, member)) => member.bind(py).clone(),
            None => PyString::new(py, text).into_any(),
        }
    }

    fn datetime<'py>(&self, py: Python<'py>, DateTime(moment): DateTime) -> PyResult<Bound<'py, PyAny>> {
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
        let color = stage.color_id.map_or(MemberValue::Nothing, MemberValue::Integer);
        let members = [MemberValue::Integer(stage.id), MemberValue::Text(&stage.name), color];
        let members = members.into_iter().map(|value| self.value(py, value));
        self.make(py, &self.stage, members.chain([open_members(py, &stage.extra)]))
    }
}

impl Dataclass {
    fn of<'a>(module: &Bound<'_, PyModule>, class: &str, slots: impl Iterator<Item = &'a str>) -> PyResult<Self> {
        let class = module.getattr(class)?.cast_into::<PyType>()?;
        let setters = slots.map(|name| Setter::of(&class, name)).collect::<PyResult<_>>()?;
        Ok(Self { class: class.unbind(), setters })
    }
}

/// A frozen dataclass refuses its own `__setattr__`, and `object.__setattr__` looks up the slot each time. Both end
/// here.
#[expect(unsafe_code, reason = "a slot can be set without a look-up only through the type's own function")]
impl Setter {
    fn of(class: &Bound<'_, PyType>, name: &str) -> PyResult<Self> {
        let descriptor = class.getattr(name)?;
        let kind = descriptor.get_type();
        // SAFETY: a live type object, and a slot number of the stable interface.
        let set = unsafe { ffi::PyType_GetSlot(kind.as_type_ptr(), ffi::Py_tp_descr_set) };
        if set.is_null() {
            return Err(PyTypeError::new_err(format!("{name} is not a slot")));
        }
        // SAFETY: that slot contains a function of this type.
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
