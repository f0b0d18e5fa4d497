//! Validates a request before it is sent: finds every problem that the API contract rules out.

use crate::account::{AccountFields, Field, FieldError, check_id};
use crate::error::{Call, Error, Operation};

/// Validates an update: returns every problem that the API contract rules out, together with the problems that the
/// caller found. Does not check a field twice.
///
/// # Errors
/// Returns [`Error::Validation`] with every problem, in the order of the fields.
pub fn check_update(id: i64, fields: &AccountFields, mut faults: Vec<FieldError>) -> Result<(), Error> {
    if fields.name.is_absent() && faults.iter().all(|fault| fault.field != Field::Name.name()) {
        faults.push(FieldError::new(
            Field::Name.name(),
            "is required, because the update replaces the account in full; patch_contact_account() changes single \
            fields",
        ));
    }
    check(Operation::Update, id, fields, faults)
}

/// Validates a partial update; see [`check_update`].
///
/// # Errors
/// Returns [`Error::Validation`] with every problem, in the order of the fields.
pub fn check_patch(id: i64, changes: &AccountFields, faults: Vec<FieldError>) -> Result<(), Error> {
    check(Operation::Patch, id, changes, faults)
}

fn check(operation: Operation, id: i64, fields: &AccountFields, mut faults: Vec<FieldError>) -> Result<(), Error> {
    if faults.iter().all(|fault| fault.field != "id") {
        faults.extend(check_id(id).err());
    }
    faults.extend(fields.faults());
    faults.sort_by_key(|fault| match fault.field.as_str() {
        "id" => (0, None),
        name => Field::from_name(name).map_or((2, None), |field| (1, Some(field))),
    });
    refuse(Call { operation, id: (id > 0).then_some(id) }, faults)
}

pub(super) fn refuse(call: Call, errors: Vec<FieldError>) -> Result<(), Error> {
    if errors.is_empty() { Ok(()) } else { Err(Error::Validation { call, errors }) }
}
