//! Leave to send a request, from something that counts over several machines.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::error::Failure;

/// What [`Acquire::acquire`] gives.
pub type Acquiring<'a> = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send + 'a>>;

/// Is asked before every request, when the quota of this machine and a hold of the service allow it.
pub trait Acquire: fmt::Debug + Send + Sync {
    /// Waits until one request may be sent. The future must not block its thread; when it is dropped, no request is sent.
    ///
    /// # Errors
    /// [`Failure::Acquire`]. Then the call ends, and sends nothing more.
    fn acquire(&self) -> Acquiring<'_>;

    /// The request for which this has granted leave was not sent.
    fn give_back(&self);
}

/// The leave that a request needs. Leave that no request used is given back.
pub(crate) struct Leave {
    /// Who grants it; `None` when nobody needs to.
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

    /// Waits until leave is granted.
    ///
    /// # Errors
    /// Those of [`Acquire::acquire`]; then it is still wanted.
    pub(crate) async fn get(&mut self) -> Result<(), Failure> {
        if let Some(acquire) = self.acquire.as_ref().filter(|_| !self.is_granted) {
            acquire.acquire().await?;
            self.is_granted = true;
        }
        Ok(())
    }

    /// The request is sent.
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
