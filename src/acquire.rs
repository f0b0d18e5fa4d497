//! Permission to send a request, from a function that counts for several machines.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::error::Failure;

/// The future that [`Acquire::acquire`] returns.
pub type Acquiring<'a> = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send + 'a>>;

/// Grants each request, after the quota of this machine and a hold of the service allow it.
pub trait Acquire: fmt::Debug + Send + Sync {
    /// Waits until one request may be sent. The future must not block its thread. If it is dropped, no request is sent.
    ///
    /// # Errors
    /// Returns [`Failure::Acquire`]. Then the call ends, and sends nothing more.
    fn acquire(&self) -> Acquiring<'_>;

    /// Reports that a granted request was not sent.
    fn give_back(&self);
}

/// The permission that a request needs. If no request uses it, it is returned.
pub(crate) struct Leave {
    /// What grants it; `None` if the request needs no permission.
    acquire: Option<Arc<dyn Acquire>>,
    is_granted: bool,
}

impl Leave {
    pub(crate) fn of(acquire: Option<&Arc<dyn Acquire>>) -> Self {
        Self { acquire: acquire.cloned(), is_granted: false }
    }

    pub(crate) const fn is_wanted(&self) -> bool {
        self.acquire.is_some() && !self.is_granted
    }

    /// Waits until the request is granted.
    ///
    /// # Errors
    /// Those of [`Acquire::acquire`]; then the request still needs permission.
    pub(crate) async fn get(&mut self) -> Result<(), Failure> {
        if let Some(acquire) = self.acquire.as_ref().filter(|_| !self.is_granted) {
            acquire.acquire().await?;
            self.is_granted = true;
        }
        Ok(())
    }

    /// Records that the request is sent.
    pub(crate) fn spend(&mut self) {
        self.acquire = None;
    }
}

impl Drop for Leave {
    fn drop(&mut self) {
        if let Some(acquire) = self.acquire.as_ref().filter(|_| self.is_granted) {
            acquire.give_back();
        }
    }
}
