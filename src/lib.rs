//! Safe updates of Reply.io contact accounts.
pub mod account;
#[cfg(feature = "python")]
mod python;
#[cfg(feature = "sandbox")]
pub mod sandbox;
mod timestamp;

pub use account::{
    AccountFields, CompanySize, ContactAccount, ContactAccountStage, DateTime, Field, FieldError, FieldValue, Kind,
    MEMBERS, Member, Presence,
};
