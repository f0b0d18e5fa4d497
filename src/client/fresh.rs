//! Updates that rest on a look at the account: no wait lies between the two.
//!
//! An update overwrites whatever somebody else has written since the look. So the slots of both are booked before the look,
//! which is sent when both are open, and the account is looked at again when the update could not leave soon after it.

use std::time::Duration;

use http::Method;
use tokio::time::Instant;

use super::exchange::{Running, Tries};
use super::{Client, Slot, Turn};
use crate::account::AccountFields;
use crate::answer::Answer;
use crate::error::{Error, Failure};

/// How long after the answer to its look an update leaves at most.
const LONGEST_AGE: Duration = Duration::from_secs(1);

/// An account that was looked at, and what became of its update.
pub(crate) struct Updated<T> {
    /// The account as the update took it to be.
    pub(crate) looked: T,
    /// The update, if one was sent, and the account as its answer or a later look shows it.
    pub(crate) update: Option<(AccountFields, T)>,
}

impl Client {
    /// Looks at an account, and sends the update that `decide` makes of the look; `None` sends nothing. It may be asked
    /// again, for a later look. The update has `allowed` attempts, and the look has those of the settings.
    ///
    /// # Errors
    /// [`Error::Call`] when a request fails, or with the failure of `decide`.
    pub(super) async fn look_and_update<T>(
        &self,
        running: &mut Running,
        turn: &Turn,
        allowed: u32,
        read: impl Fn(&Answer) -> Result<T, Failure>,
        mut decide: impl FnMut(&T) -> Result<Option<AccountFields>, Failure>,
    ) -> Result<Updated<T>, Error> {
        let look = self.account_request(Method::GET, turn.id(), None);
        let mut tries = Tries::new(allowed);
        let mut unanswered = None;
        loop {
            running.updating = false;
            let mut looks = Tries::new(self.config.max_attempts);
            looks.slot = self.slot_before_update(running, &mut tries).await?;
            let looked = self.exchange_by(running, &look, &read, &mut looks, None).await?;
            let looked = looked.ok_or_else(|| running.failed(Failure::Internal("a look expired".to_owned())))?;
            let leaves_by = Instant::now() + LONGEST_AGE;
            let Some(fields) = decide(&looked).map_err(|failure| running.failed(failure))? else {
                return Ok(match unanswered {
                    None => Updated { looked, update: None },
                    Some((before, sent)) => Updated { looked: before, update: Some((sent, looked)) },
                });
            };
            let request = self.update_request(turn, &fields).map_err(|failure| running.failed(failure))?;
            running.updating = true;
            let answered = self.exchange_by(running, &request, &read, &mut tries, Some(leaves_by)).await?;
            if let Some(after) = answered {
                return Ok(Updated { looked, update: Some((fields, after)) });
            }
            if running.has_updated {
                unanswered = Some((looked, fields));
            }
        }
    }

    /// Books the slots of a look and of the update after it, and waits until that of the update is open. An update that has
    /// no slot within the call's time keeps nobody from looking: there may be nothing to change.
    async fn slot_before_update(&self, running: &Running, tries: &mut Tries) -> Result<Option<Slot>, Error> {
        let look = self.book_slot(running);
        let look = look.map_err(|closed| running.failed(tries.last.take().unwrap_or(closed)))?;
        if tries.slot.is_none() {
            tries.slot = self.book_slot(running).ok();
        }
        if let Some(update) = &tries.slot {
            let wait = update.opens_at.saturating_duration_since(Instant::now());
            if !wait.is_zero() {
                self.sleep(running, wait, update.reason).await;
            }
        }
        Ok(Some(look))
    }
}
