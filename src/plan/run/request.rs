//! Sends one request of a run in its slot of the quota, and counts it.

use std::pin::pin;
use std::sync::Arc;

use tokio::time::{Instant, timeout};

use super::control::{Control, UNSHOWN};
use crate::client::{Client, Event, Observer, Slot};
use crate::error::{Failure, WaitReason};

/// Waits until a request may be sent. Returns `None` if the run is to stop. Dropping it during the wait has no effect.
///
/// # Errors
/// [`Failure::Acquire`].
pub(super) async fn admit(client: &Client, control: &Control) -> Result<Option<Slot>, Failure> {
    let mut slot = client.book();
    loop {
        if control.is_stopping() {
            return Ok(None);
        }
        if let Some((until, reason)) = client.held() {
            control.wait(until, reason).await;
        } else if slot.waits_for_leave() {
            let mut asked = pin!(client.get_leave_patiently(&mut slot));
            if let Ok(granted) = timeout(UNSHOWN, control.unless_stopped(&mut asked)).await {
                granted.unwrap_or(Ok(()))?;
                continue;
            }
            let _shown = control.show(WaitReason::Acquire);
            control.unless_stopped(asked).await.unwrap_or(Ok(()))?;
        } else if !slot.send() {
            control.wait(slot.opens_at, slot.reason).await;
        } else {
            return Ok(Some(slot));
        }
    }
}

/// Returns whether a booked slot is open now, without using it.
fn is_open(client: &Client, slot: &mut Slot) -> bool {
    !slot.waits_for_leave() && slot.opens_at <= Instant::now() && client.held().is_none()
}

/// Waits until a booked slot is open, without using it, or until the run is to stop.
///
/// # Errors
/// [`Failure::Acquire`].
pub(super) async fn open(client: &Client, control: &Control, slot: &mut Slot) -> Result<(), Failure> {
    while !is_open(client, slot) && !control.is_stopping() {
        if let Some((until, reason)) = client.held() {
            control.wait(until, reason).await;
        } else if slot.waits_for_leave() {
            control.unless_stopped(client.get_leave_patiently(slot)).await.unwrap_or(Ok(()))?;
        } else {
            control.wait(slot.opens_at, slot.reason).await;
        }
    }
    Ok(())
}

/// Counts the requests that are really sent.
pub(super) struct Counter {
    control: Arc<Control>,
    next: Option<Arc<dyn Observer>>,
}

impl Counter {
    pub(super) fn new(control: &Arc<Control>, next: Option<Arc<dyn Observer>>) -> Self {
        Self { control: Arc::clone(control), next }
    }
}

impl Observer for Counter {
    fn observe(&self, event: Event<'_>) {
        if let Event::Attempted { .. } = &event {
            self.control.state().requests += 1;
        }
        if let Some(next) = &self.next {
            next.observe(event);
        }
    }
}
