//! Safe updates of Reply.io contact accounts.
//!
//! `PUT /v3/contact-accounts/{id}` replaces an account in full: the service clears each field that the body lacks.
//! [`Client::update`] sends exactly the given fields, [`Client::patch`] changes the given fields and keeps the others.
//!
//! ```no_run
//! use replyio::{AccountFields, Client, Config, Presence};
//!
//! # async fn example() -> Result<(), replyio::Error> {
//! let client = Client::new(Config::new("my-key")?)?;
//! let changes = AccountFields { city: Presence::Value("Oslo".into()), ..Default::default() };
//! client.patch(4711, &changes).await?;
//! # Ok(())
//! # }
//! ```

/// Declares an enum with a list of its variants.
macro_rules! enumerated {
    ($(#[$mark:meta])* $seen:vis enum $name:ident { $( $(#[$doc:meta])* $variant:ident, )+ }) => {
        $(#[$mark])*
        $seen enum $name { $( $(#[$doc])* $variant, )+ }

        impl $name {
            /// All variants, in order.
            $seen const ALL: &'static [Self] = &[$( Self::$variant, )+];
        }
    };
}

mod account;
mod acquire;
mod answer;
mod change;
pub mod check;
mod client;
mod clock;
#[cfg(any(feature = "python", all(test, feature = "plan")))]
mod columns;
mod config;
mod error;
mod exhaustion;
#[cfg(any(fuzzing, test))]
#[doc(hidden)]
pub mod fuzzing;
mod identity;
mod ledger;
mod lock;
mod paging;
mod per_process;
#[cfg(feature = "plan")]
pub mod plan;
mod private_file;
mod problem;
#[cfg(test)]
mod properties;
#[cfg(feature = "python")]
mod python;
mod quota;
mod rate_limit;
mod redaction;
mod retry;
mod sabotage;
#[cfg(feature = "sandbox")]
pub mod sandbox;
mod shared_folder;
#[cfg(feature = "simulation")]
#[doc(hidden)]
pub mod simulation;
mod state_folder;
mod text;
mod timestamp;
mod transport;
mod turns;

pub use account::{
    AccountFields, CompanySize, ContactAccount, ContactAccountStage, DateTime, Field, FieldError, FieldSet, FieldValue,
    Kind, MEMBERS, Member, MemberValue, Presence, WrongKind, nearest,
};
pub use acquire::{Acquire, Acquiring};
pub use answer::{Item, Page};
pub use change::{Change, Deviations, Value};
pub use client::{Client, Event, ListQuery, Observer, Patched, QuotaUse, check_patch, check_update};
pub use config::{ActAs, ApiKey, AuthScheme, BaseUrl, Config, LIVE_BASE_URL, ProxyUrl};
pub use error::{
    ApiFailure, Call, CallError, Error, ErrorKind, Failure, KeyOrigin, Operation, TransportFault, TransportKind,
    Unexpected, WaitReason,
};
pub use ledger::ProcessUse;
pub use paging::{Incomplete, LONGEST_PAGE, Paging};
pub use per_process::{PerProcess, Process};
pub use problem::Problem;
pub use quota::Quota;
