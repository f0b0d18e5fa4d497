//! Updates that are made from a read of the account, without a wait between the two.
//!
//! An update overwrites everything that someone else has written since the read. So the client books the slots of both
//! before the read, and sends the read when both are open. It reads the account again if it could not send the update
//! soon after the read.

use http::Method;
use tokio::time::Instant;

use super::exchange::{Running, Tries};
use super::look_age::Look;
use super::{Client, Slot, Turn};
use crate::account::AccountFields;
use crate::answer::Answer;
use crate::clock::Moment;
use crate::error::{Error, Failure};

/// How often in succession a read may be too old for its update.
const MOST_STALE: u32 = 5;

/// An account that was read, and the outcome of its update.
pub(crate) struct Updated<T> {
    /// The account before any update was sent.
    pub(crate) looked: T,
    /// The last update, if one was sent, and the account from its answer or a later read.
    pub(crate) update: Option<(AccountFields, T)>,
}

impl Client {
    /// Reads an account, and sends the update that `decide` makes from it; `None` sends nothing. May call `decide`
    /// again, for a later read. The update has `allowed` attempts, and the read has those of the settings.
    ///
    /// # Errors
    /// Returns [`Error::Call`] if a request fails, or with the failure of `decide`.
    pub(super) async fn look_and_update<T>(
        &self,
        running: &mut Running,
        turn: &Turn,
        allowed: u32,
        read: impl Fn(&Answer) -> Result<T, Failure>,
        mut decide: impl FnMut(&T) -> Result<Option<AccountFields>, Failure>,
    ) -> Result<Updated<T>, Error> {
        self.check_pairs("a patch")?;
        let look = self.account_request(Method::GET, turn.id(), None);
        let mut tries = Tries::new(allowed);
        let mut earlier: Option<(T, AccountFields)> = None;
        let mut stale = 0;
        loop {
            running.updating = false;
            let mut looks = Tries::new(self.config.max_attempts);
            looks.slot = self.slot_before_update(running, &mut tries).await?;
            let asked = Moment::now();
            let looked = self.exchange_by(running, &look, &read, &mut looks, None).await?;
            let looked = looked.ok_or_else(|| running.failed(Failure::Internal("a read expired".to_owned())))?;
            let fresh = Look { sent: asked, answered: Moment::now() };
            let Some(fields) = decide(&looked).map_err(|failure| running.failed(failure))? else {
                return Ok(match earlier {
                    None => Updated { looked, update: None },
                    Some((before, sent)) => Updated { looked: before, update: Some((sent, looked)) },
                });
            };
            let request = self.update_request(turn, &fields).map_err(|failure| running.failed(failure))?;
            running.updating = true;
            let attempts = running.attempts;
            let answered = self.exchange_by(running, &request, &read, &mut tries, Some(&fresh)).await?;
            if running.attempts > attempts {
                // A later read may lack what this update cleared.
                let looked = earlier.take().map_or(looked, |(before, _)| before);
                if let Some(after) = answered {
                    return Ok(Updated { looked, update: Some((fields, after)) });
                }
                earlier = running.may_have_been_applied.then_some((looked, fields));
                stale = 0;
            } else {
                stale += 1;
                if let Some(slot) = tries.slot.as_ref().filter(|_| stale >= MOST_STALE) {
                    let wait = fresh.answered.elapsed() + slot.opens_at.saturating_duration_since(Instant::now());
                    let apart = Failure::Apart { wait, reason: slot.reason };
                    return Err(running.failed(tries.last.take().unwrap_or(apart)));
                }
            }
        }
    }

    /// Refuses a quota that cannot allow a read and an update soon after it.
    pub(crate) fn check_pairs(&self, what: &str) -> Result<(), Error> {
        if self.config.quota.is_none_or(|quota| quota.per_minute.min(quota.per_hour) >= 2) {
            return Ok(());
        }
        Err(Error::Configuration(format!(
            "{what} needs a quota of at least 2 requests per minute and per hour: one to read an account, and one to \
            update it soon after"
        )))
    }

    /// Books the slots of a read and of the update after it, and waits until the slot of the update is open. If the
    /// update has no slot before the call's deadline, the client still reads the account: an update may be unnecessary.
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
