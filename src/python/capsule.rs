//! Arrays and streams that others hand over through Arrow's interface for C, taken out of their capsules.

#![expect(
    unsafe_code,
    reason = "the interface is pointers and functions of C, and arrow-array has no safe way to them"
)]

use std::ffi::CStr;

use arrow_array::ffi::{FFI_ArrowArray, FFI_ArrowSchema, from_ffi_and_data_type};
use arrow_array::ffi_stream::FFI_ArrowArrayStream;
use arrow_array::{ArrayRef, make_array};
use arrow_schema::{ArrowError, DataType};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyTuple};

/// A stream of arrays of one type, read as they are asked for.
pub(super) struct Arrays {
    stream: FFI_ArrowArrayStream,
    kind: DataType,
}

impl Arrays {
    /// The type of each array.
    pub(super) fn kind(&self) -> &DataType {
        &self.kind
    }
}

/// Takes the stream out of a capsule, which is empty afterwards, as the interface demands.
pub(super) fn stream(capsule: &Bound<'_, PyCapsule>) -> PyResult<Arrays> {
    let place = capsule.pointer_checked(Some(c"arrow_array_stream"))?.cast::<FFI_ArrowArrayStream>();
    #[expect(
        unsafe_code,
        reason = "a capsule is a pointer; arrow-array checks nothing, and has no safe function for it"
    )]
    // SAFETY: a capsule of this name holds a pointer to a stream, and the capsule is alive.
    let mut stream = unsafe { FFI_ArrowArrayStream::from_raw(place.as_ptr()) };
    let kind = kind(&mut stream).map_err(|error| PyTypeError::new_err(error.to_string()))?;
    Ok(Arrays { stream, kind })
}

fn kind(stream: &mut FFI_ArrowArrayStream) -> Result<DataType, ArrowError> {
    let (Some(_), Some(get_schema)) = (stream.release, stream.get_schema) else {
        return Err(ArrowError::CDataInterface("the stream was read already".to_owned()));
    };
    let mut schema = FFI_ArrowSchema::empty();
    // SAFETY: a function of this stream, which was not released, and a schema that it may write to.
    let code = unsafe { get_schema(stream, &raw mut schema) };
    if code == 0 { DataType::try_from(&schema) } else { Err(failure(stream, code)) }
}

/// What went wrong, in the words of who fills the stream.
fn failure(stream: &mut FFI_ArrowArrayStream, code: i32) -> ArrowError {
    let unknown = || format!("error {code}, without a message");
    let Some(get_last_error) = stream.get_last_error else { return ArrowError::CDataInterface(unknown()) };
    // SAFETY: a function of this stream, which was not released.
    let text = unsafe { get_last_error(stream) };
    if text.is_null() {
        return ArrowError::CDataInterface(unknown());
    }
    // SAFETY: the interface promises a text that ends in a zero byte and lives until the next call.
    let text = unsafe { CStr::from_ptr(text) };
    ArrowError::CDataInterface(text.to_string_lossy().into_owned())
}

impl Iterator for Arrays {
    type Item = Result<ArrayRef, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        let get_next = self.stream.get_next?;
        let mut array = FFI_ArrowArray::empty();
        // SAFETY: a function of this stream, which was not released, and an array that it may write to.
        let code = unsafe { get_next(&raw mut self.stream, &raw mut array) };
        if code != 0 {
            return Some(Err(failure(&mut self.stream, code)));
        }
        // The end of a stream is an array that is released.
        if array.is_released() { None } else { Some(import(array, self.kind.clone())) }
    }
}

/// Takes an array and its type out of the two capsules of `__arrow_c_array__`.
pub(super) fn array(capsules: &Bound<'_, PyAny>) -> PyResult<ArrayRef> {
    let capsules = capsules.cast::<PyTuple>()?;
    let (schema, array) =
        (capsules.get_item(0)?.cast_into::<PyCapsule>()?, capsules.get_item(1)?.cast_into::<PyCapsule>()?);
    let schema = schema.pointer_checked(Some(c"arrow_schema"))?.cast::<FFI_ArrowSchema>();
    let array = array.pointer_checked(Some(c"arrow_array"))?.cast::<FFI_ArrowArray>();
    // SAFETY: capsules of these names hold pointers to a schema and an array, and both capsules are alive.
    let (kind, array) = unsafe { (DataType::try_from(schema.as_ref()), FFI_ArrowArray::from_raw(array.as_ptr())) };
    let wrong = |error: ArrowError| PyTypeError::new_err(error.to_string());
    if array.is_released() {
        return Err(PyTypeError::new_err("the array was read already"));
    }
    import(array, kind.map_err(wrong)?).map_err(wrong)
}

fn import(array: FFI_ArrowArray, kind: DataType) -> Result<ArrayRef, ArrowError> {
    // SAFETY: the interface promises an array of the type that comes with it.
    let data = unsafe { from_ffi_and_data_type(array, kind) }?;
    Ok(make_array(data))
}
