//! Sends one request of a run in its slot of the quota, and counts it.

use std::sync::Arc;

use super::control::Control;
use crate::client::{Client, Event, Observer, Slot};

/// Waits until a request may be sent. Returns `None` if the run is to stop. Dropping it during the wait has no effect.
pub(super) async fn admit(client: &Client, control: &Control) -> Option<Slot> {
    let mut slot = client.book();
    loop {
        if control.is_stopping() {
            return None;
        }
        if let Some((until, reason)) = client.held() {
            control.wait(until, reason).await;
        } else if !slot.send() {
            control.wait(slot.opens_at, slot.reason).await;
        } else {
            return Some(slot);
        }
    }
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
