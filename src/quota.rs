//! The service's quota as two sliding windows. Pure: the caller passes the time.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::error::WaitReason;
use crate::rate_limit::ServiceWindow;

/// The shorter window.
pub(crate) const MINUTE: Duration = Duration::from_secs(60);
/// The most moments to check for a gap before the last slot.
const MOST_LOOKED_AT: usize = 500;
/// How much later than it was sent a request of another process is assumed to arrive.
#[cfg(feature = "plan")]
const ON_ITS_WAY: Duration = Duration::from_secs(1);
/// The longer window.
pub(crate) const HOUR: Duration = Duration::from_secs(3600);

/// The longest Retry-After that delays other calls. Every window of the service has opened twice by then, so a longer
/// one has another reason, or is a mistake.
pub(crate) const LONGEST_HOLD: Duration = Duration::from_secs(2 * 3_600);

/// How many requests are allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Quota {
    /// In any sixty seconds.
    pub per_minute: u32,
    /// In any hour.
    pub per_hour: u32,
}

impl Default for Quota {
    /// A little below the service's 100 and 3,000, which all programs of a user share.
    fn default() -> Self {
        Self { per_minute: 95, per_hour: 2900 }
    }
}

impl Quota {
    /// Returns the quota of a bulk run: a share of the minute, so that single calls can run next to it. The hour is not
    /// divided, because single calls are few.
    #[cfg(feature = "plan")]
    pub(crate) fn for_bulk(self, share: f64) -> Self {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of a number that fits")]
        let part = (f64::from(self.per_minute) * share) as u32;
        // A plan reads and updates an account with two requests.
        Self { per_minute: part.max(self.per_minute.min(2)), ..self }
    }
}

/// The earliest slot opens after the latest allowed moment: when, and why not earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooLate {
    /// When the request could be sent.
    pub opens_at: Duration,
    /// Why it has to wait.
    pub reason: WaitReason,
}

/// A change of the booked moments, which other windows can apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Edit {
    /// The moment that is no longer booked.
    pub removed: Option<Duration>,
    /// The moment that is booked.
    pub added: Option<Duration>,
    /// Whether another machine sent the request, as the service reports.
    pub elsewhere: bool,
}

/// A request that was sent and not yet answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ticket(u64);

/// The requests of one user in the last hour. Times are measured from any fixed moment, on a clock that never goes
/// back.
///
/// The service counts a request when it arrives, some time after it was sent, and before it is answered. So this counts
/// it from its answer: however long its way is, the service's windows have opened when these have.
#[derive(Debug, Default)]
pub(crate) struct Windows {
    /// In the order of time, including future ones.
    booked: VecDeque<Duration>,
    /// Requests in flight, and from when they count until their answer.
    in_flight: Vec<(Ticket, Duration)>,
    tickets: u64,
    /// Whether there may be a gap before the last slot: one was returned, or booked under a smaller quota, such as that
    /// of a bulk update, or by another process.
    has_gaps: bool,
    /// The quota of the last booking.
    last_quota: Option<Quota>,
    held_until: Duration,
    /// The hold that a rate-limit header of the service caused.
    reported_until: Duration,
    /// The changes since they were last taken; `None` while no other windows follow.
    edits: Option<Vec<Edit>>,
}

impl Windows {
    /// Starts or stops keeping changes until they are taken.
    pub(crate) fn keep_edits(&mut self, keep: bool) {
        self.edits = keep.then(|| self.edits.take().unwrap_or_default());
    }

    /// Returns the changes that others do not know yet.
    pub(crate) fn edits(&self) -> &[Edit] {
        self.edits.as_deref().unwrap_or_default()
    }

    /// Discards the changes, because others know them.
    pub(crate) fn edits_are_told(&mut self) {
        if let Some(edits) = &mut self.edits {
            edits.clear();
        }
    }

    /// Reduces the changes to their effect on the bookings after a moment.
    pub(crate) fn merge_edits(&mut self, after: Duration) {
        let Some(edits) = &mut self.edits else { return };
        let mut added: BTreeMap<Duration, Vec<Edit>> = BTreeMap::new();
        let mut removed = Vec::new();
        for edit in std::mem::take(edits) {
            if let Some(moment) = edit.removed {
                // A booking that others do not know yet needs no removal.
                if added.get_mut(&moment).and_then(Vec::pop).is_none() {
                    removed.push(Edit { added: None, ..edit });
                }
            }
            if let Some(moment) = edit.added {
                added.entry(moment).or_default().push(Edit { removed: None, ..edit });
            }
        }
        removed.retain(|edit| edit.removed.is_some_and(|moment| moment > after));
        removed.extend(added.into_iter().filter(|(moment, _)| *moment > after).flat_map(|(_, edits)| edits));
        *edits = removed;
    }

    /// Applies a change that other windows of the same user made.
    pub(crate) fn follow(&mut self, edit: Edit) {
        if let Some(removed) = edit.removed {
            self.take_out(removed);
        }
        if let Some(added) = edit.added {
            self.put_in(added);
        }
        self.has_gaps = true;
    }

    /// Takes the moments that all windows of the user have booked together, and what this one has not reported yet.
    pub(crate) fn load(&mut self, mut booked: Vec<Duration>, held_until: Duration) {
        booked.sort_unstable();
        self.booked = booked.into();
        self.has_gaps = true;
        self.held_until = held_until;
        for edit in self.edits().to_vec() {
            self.follow(edit);
        }
    }

    /// Books moments that were booked before on another clock.
    pub(crate) fn book_again(&mut self, moments: impl Iterator<Item = Duration>) {
        moments.for_each(|moment| self.insert(moment));
        self.has_gaps = true;
    }

    /// Returns all booked moments, in the order of time.
    pub(crate) fn booked(&self) -> impl DoubleEndedIterator<Item = Duration> {
        self.booked.iter().copied()
    }

    /// Returns until when the service asked to wait, even if that is in the past.
    pub(crate) fn held_until(&self) -> Duration {
        self.held_until
    }

    /// Applies a hold that others received.
    pub(crate) fn hold_until(&mut self, moment: Duration) {
        self.held_until = self.held_until.max(moment);
    }

    /// Books a slot for the next request: the earliest moment that both windows allow.
    ///
    /// # Errors
    /// Returns [`TooLate`] if that moment is after `latest`; nothing is then booked.
    pub(crate) fn reserve(
        &mut self,
        quota: Quota,
        now: Duration,
        latest: Duration,
    ) -> Result<(Duration, WaitReason), TooLate> {
        self.keep_in_flight(now);
        while self.booked.front().is_some_and(|counted| *counted + HOUR <= now) {
            self.booked.pop_front();
        }
        self.has_gaps |= self.last_quota.replace(quota).is_some_and(|last| last != quota);
        self.has_gaps &= self.booked.back().is_some_and(|last| *last > now);
        let (opens_at, reason) = self.earliest(quota, now);
        if opens_at > latest {
            return Err(TooLate { opens_at, reason });
        }
        self.insert(opens_at);
        Ok((opens_at, reason))
    }

    fn insert(&mut self, moment: Duration) {
        self.put_in(moment);
        if let Some(edits) = &mut self.edits {
            match edits.last_mut() {
                Some(last) if last.added.is_none() => last.added = Some(moment),
                _ => edits.push(Edit { removed: None, added: Some(moment), elsewhere: false }),
            }
        }
    }

    fn remove(&mut self, moment: Duration) -> Option<usize> {
        let position = self.take_out(moment)?;
        if let Some(edits) = &mut self.edits {
            edits.push(Edit { removed: Some(moment), added: None, elsewhere: false });
        }
        Some(position)
    }

    fn put_in(&mut self, moment: Duration) {
        self.booked.insert(self.booked.partition_point(|other| *other <= moment), moment);
    }

    fn take_out(&mut self, moment: Duration) -> Option<usize> {
        let position = self.booked.partition_point(|other| *other < moment);
        (self.booked.get(position) == Some(&moment)).then(|| {
            self.booked.remove(position);
            position
        })
    }

    /// Marks the request of a slot as sent. The caller must settle it in any case.
    ///
    /// # Errors
    /// Returns an error if the slot must wait because of events after its booking. The slot is then booked again, for
    /// the moment in the error.
    pub(crate) fn send(
        &mut self,
        quota: Quota,
        booked: Duration,
        now: Duration,
    ) -> Result<Ticket, (Duration, WaitReason)> {
        self.keep_in_flight(now);
        self.remove(booked);
        let (moment, reason) = self.earliest_after(quota, now);
        self.insert(moment);
        if moment > now {
            return Err((moment, reason));
        }
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.in_flight.push((ticket, moment));
        Ok(ticket)
    }

    /// A request was answered or given up: if it arrived, it has arrived by now.
    pub(crate) fn settle(&mut self, ticket: Ticket, now: Duration) {
        if let Some(index) = self.in_flight.iter().position(|(other, _)| *other == ticket) {
            let (_, counted) = self.in_flight.swap_remove(index);
            self.count_from(counted, now);
        }
    }

    /// A request in flight for longer than a window may still arrive: it counts from now.
    fn keep_in_flight(&mut self, now: Duration) {
        let mut in_flight = std::mem::take(&mut self.in_flight);
        for (_, counted) in in_flight.iter_mut().filter(|(_, counted)| *counted + MINUTE <= now) {
            self.count_from(*counted, now);
            *counted = now;
        }
        self.in_flight = in_flight;
    }

    fn count_from(&mut self, counted: Duration, now: Duration) {
        if counted < now && self.remove(counted).is_some() {
            self.insert(now);
        }
    }

    /// Counts requests that another process sent before, each by its age. With `may_be_known`, the windows may already
    /// contain them: this only adds the missing number for each time.
    #[cfg(feature = "plan")]
    pub(crate) fn count_earlier(&mut self, now: Duration, ages: impl Iterator<Item = Duration>, may_be_known: bool) {
        let ages = ages.map(|age| age.saturating_sub(ON_ITS_WAY)).filter(|age| *age < HOUR);
        let mut moments: Vec<Duration> = ages.map(|age| now.saturating_sub(age)).collect();
        moments.sort_unstable_by(|one, other| other.cmp(one));
        for (later, moment) in moments.into_iter().enumerate() {
            let from = moment.saturating_sub(ON_ITS_WAY * 2);
            let known =
                self.booked.partition_point(|other| *other <= now) - self.booked.partition_point(|other| *other < from);
            if !may_be_known || known <= later {
                self.insert(moment);
            }
        }
    }

    /// Returns how long the quota takes to allow this number of further requests.
    #[cfg(feature = "plan")]
    pub(crate) fn forecast(&self, quota: Quota, now: Duration, requests: u64) -> Duration {
        /// Beyond these, the windows are in step, and only the longer one matters.
        const IN_DETAIL: u64 = 6_000;
        let mut windows = Self { booked: self.booked.clone(), has_gaps: false, ..Self::default() };
        windows.held_until = self.held_until;
        let last = (0..requests.min(IN_DETAIL)).filter_map(|_| windows.reserve(quota, now, Duration::MAX).ok()).last();
        let in_detail = last.map_or(Duration::ZERO, |(moment, _)| moment.saturating_sub(now));
        let per_hour = quota.per_hour.min(quota.per_minute.saturating_mul(60)).max(1);
        let rest = u32::try_from(requests.saturating_sub(IN_DETAIL)).unwrap_or(u32::MAX);
        in_detail + HOUR.mul_f64(f64::from(rest) / f64::from(per_hour))
    }

    /// Returns the earliest moment after all requests booked before it. Those after it check for themselves when their
    /// time has come.
    fn earliest_after(&self, quota: Quota, now: Duration) -> (Duration, WaitReason) {
        let mut earliest = (self.held_until.max(now), self.why_held());
        loop {
            let before = self.booked.partition_point(|other| *other <= earliest.0);
            let later = self.behind(quota, before, earliest);
            if later.0 == earliest.0 {
                return earliest;
            }
            earliest = later;
        }
    }

    /// Returns the earliest moment after all bookings, or in a gap between them.
    fn earliest(&self, quota: Quota, now: Duration) -> (Duration, WaitReason) {
        let from = (self.held_until.max(now), self.why_held());
        let behind_all = self.behind(quota, self.booked.len(), from);
        match self.booked.back() {
            Some(last) if (self.has_gaps && *last > from.0) || *last > behind_all.0 => {
                if self.has_room(quota, from.0) {
                    return from;
                }
                let free = both_windows(quota).map(|(_, length, reason)| {
                    // From the earliest on: the search may delay other processes.
                    let first = self.booked.partition_point(|sent| *sent + length < from.0);
                    let mut ends = self.booked.range(first..).take(MOST_LOOKED_AT).map(|sent| *sent + length);
                    ends.find(|end| self.has_room(quota, *end)).map(|end| (end, reason))
                });
                let behind_last = (behind_all.0.max(*last), behind_all.1);
                free.into_iter().rev().flatten().chain([behind_last]).min_by_key(|slot| slot.0).unwrap_or(behind_last)
            }
            _ => behind_all,
        }
    }

    /// Returns whether a request can be sent at a moment, given the bookings before and after it.
    fn has_room(&self, quota: Quota, moment: Duration) -> bool {
        let place = self.booked.partition_point(|other| *other <= moment);
        let with_it = |index: usize| match index.checked_sub(place) {
            None => self.booked.get(index).copied(),
            Some(0) => Some(moment),
            Some(_) => self.booked.get(index - 1).copied(),
        };
        both_windows(quota).into_iter().all(|(limit, length, _)| {
            let fits = |first| match (with_it(first), with_it(first + limit)) {
                (Some(sent), Some(next)) => next >= sent + length,
                _ => true,
            };
            (place.saturating_sub(limit)..=place).all(fits)
        })
    }

    /// Returns a booked slot: its request was never sent.
    pub(crate) fn release(&mut self, booked: Duration) {
        if let Some(position) = self.remove(booked) {
            self.has_gaps |= position < self.booked.len();
        }
    }

    /// Allows no request until the moment that the service asks for.
    pub(crate) fn hold(&mut self, now: Duration, wait: Duration) {
        self.held_until = self.held_until.max(now + wait);
    }

    /// Counts the requests of other machines that the service reports for one of its windows. The remaining quota never
    /// grows.
    pub(crate) fn lower(&mut self, quota: Quota, now: Duration, window: &ServiceWindow) {
        let Some(reset) = window.reset.filter(|reset| !reset.is_zero()) else { return };
        if window.remaining == 0 && reset <= LONGEST_HOLD {
            if now + reset > self.held_until {
                self.reported_until = now + reset;
            }
            self.hold(now, reset);
        }
        let Some(limit) = window.limit else { return };
        let is_hour = match window.length {
            Some(length) if length != MINUTE && length != HOUR => return,
            Some(length) => length == HOUR,
            // Compares the limits as a factor.
            None => u64::from(limit).pow(2) > u64::from(quota.per_minute) * u64::from(quota.per_hour),
        };
        let (length, allowed) = if is_hour { (HOUR, quota.per_hour) } else { (MINUTE, quota.per_minute) };
        let until = |moment: Duration| self.booked.partition_point(|other| *other <= moment);
        let known = until(now) - until(now.saturating_sub(length));
        let count = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
        let unknown = count(limit.saturating_sub(window.remaining)).saturating_sub(known);
        // A quota that is a part of the service's leaves room for others: only requests beyond that room count.
        let margin = limit.saturating_sub(allowed).min(limit.div_ceil(10));
        let room = count(window.remaining.saturating_sub(margin));
        let counted = unknown.min(count(allowed).saturating_sub(known).saturating_sub(room));
        // They expire with the window. Their send times are unknown: an hour's count is not part of a minute.
        let latest = if is_hour { now.saturating_sub(MINUTE) } else { now };
        let moment = (now + reset.min(length)).saturating_sub(length).min(latest);
        for _ in 0..counted {
            self.put_in(moment);
            if let Some(edits) = &mut self.edits {
                edits.push(Edit { removed: None, added: Some(moment), elsewhere: true });
            }
        }
    }

    /// Returns the reason of the current hold.
    fn why_held(&self) -> WaitReason {
        if self.held_until == self.reported_until { WaitReason::ServiceLimit } else { WaitReason::RetryAfter }
    }

    /// Returns until when the service asked to wait, if that is in the future.
    pub(crate) fn held(&self, now: Duration) -> Option<Duration> {
        (self.held_until > now).then_some(self.held_until)
    }

    /// Returns the earliest time, from a given one on, at which the windows allow another request after this number of
    /// bookings.
    fn behind(&self, quota: Quota, count: usize, from: (Duration, WaitReason)) -> (Duration, WaitReason) {
        let opens = both_windows(quota).into_iter().filter_map(|(limit, length, reason)| {
            let first = self.booked.get(count.checked_sub(limit)?)?;
            Some((*first + length, reason))
        });
        opens.fold(from, |latest, other| if other.0 > latest.0 { other } else { latest })
    }
}

/// Returns for each window how many requests fit, its length, and the reason for a wait. At least one always fits.
fn both_windows(quota: Quota) -> [(usize, Duration, WaitReason); 2] {
    let limit = |count: u32| usize::try_from(count).unwrap_or(usize::MAX).max(1);
    [
        (limit(quota.per_minute), MINUTE, WaitReason::PerMinute(quota.per_minute)),
        (limit(quota.per_hour), HOUR, WaitReason::PerHour(quota.per_hour)),
    ]
}

#[cfg(test)]
mod tests {
    use super::{Duration, Quota, ServiceWindow, Ticket, TooLate, WaitReason, Windows};

    const QUOTA: Quota = Quota { per_minute: 3, per_hour: 5 };
    const NEVER: Duration = Duration::MAX;

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    fn moments(windows: &mut Windows, count: usize, now: Duration) -> Vec<u64> {
        (0..count).map(|_| windows.reserve(QUOTA, now, NEVER).unwrap().0.as_secs()).collect()
    }

    #[test]
    fn both_windows_hold_and_the_longer_wait_counts() {
        assert_eq!(
            moments(&mut Windows::default(), 12, seconds(10)),
            [10, 10, 10, 70, 70, 3610, 3610, 3610, 3670, 3670, 7210, 7210]
        );
    }

    #[test]
    fn no_interval_ever_holds_more_than_allowed() {
        let mut windows = Windows::default();
        let mut sent = Vec::new();
        let mut now = Duration::ZERO;
        for step in 0..2_000_u64 {
            now += Duration::from_millis(step * 37 % 1_500);
            let (moment, _) = windows.reserve(QUOTA, now, NEVER).unwrap();
            assert!(moment >= now);
            sent.push(moment);
        }
        for (index, first) in sent.iter().enumerate() {
            let within = |length: Duration| sent[index..].iter().take_while(|other| **other < *first + length).count();
            assert!(within(seconds(60)) <= 3 && within(seconds(3600)) <= 5);
        }
    }

    #[test]
    fn a_slot_that_comes_too_late_is_not_booked() {
        let mut windows = Windows::default();
        moments(&mut windows, 3, seconds(0));
        let refused = windows.reserve(QUOTA, seconds(1), seconds(59));
        assert_eq!(refused, Err(TooLate { opens_at: seconds(60), reason: WaitReason::PerMinute(3) }));
        assert_eq!(windows.reserve(QUOTA, seconds(1), seconds(60)), Ok((seconds(60), WaitReason::PerMinute(3))));
    }

    #[test]
    fn a_slot_given_back_can_be_booked_again() {
        let mut windows = Windows::default();
        moments(&mut windows, 3, seconds(0));
        windows.release(seconds(0));
        assert_eq!(moments(&mut windows, 2, seconds(1)), [1, 60]);
    }

    #[test]
    fn a_slot_given_back_in_the_middle_is_booked_before_those_behind_it() {
        let mut windows = Windows::default();
        assert_eq!(moments(&mut windows, 8, seconds(0)), [0, 0, 0, 60, 60, 3600, 3600, 3600]);
        windows.release(seconds(60));
        assert_eq!(moments(&mut windows, 2, seconds(1)), [60, 3660]);
        windows.release(seconds(60));
        windows.release(seconds(60));
        assert_eq!(moments(&mut windows, 3, seconds(61)), [61, 3661, 7200]);
    }

    #[test]
    fn what_a_smaller_quota_leaves_is_free_for_a_larger_one() {
        let (bulk, single) = (Quota { per_minute: 4, per_hour: 100 }, Quota { per_minute: 5, per_hour: 100 });
        let mut windows = Windows::default();
        let mut book = |quota| windows.reserve(quota, seconds(10), NEVER).unwrap().0.as_secs();
        assert_eq!([book(bulk), book(bulk), book(bulk), book(bulk), book(bulk), book(bulk)], [10, 10, 10, 10, 70, 70]);
        assert_eq!([book(single), book(single), book(single)], [10, 70, 70]);
        assert_eq!([book(bulk), book(single)], [130, 70]);
    }

    #[test]
    fn a_hold_of_the_service_holds_back_everyone() {
        let mut windows = Windows::default();
        windows.hold(seconds(0), seconds(42));
        windows.hold(seconds(0), seconds(7));
        assert_eq!(windows.reserve(QUOTA, seconds(1), NEVER), Ok((seconds(42), WaitReason::RetryAfter)));
        windows.hold(seconds(100), seconds(7_200));
        assert_eq!(windows.reserve(QUOTA, seconds(100), NEVER), Ok((seconds(7_300), WaitReason::RetryAfter)));
    }

    #[test]
    fn a_request_counts_from_its_answer() {
        let mut windows = Windows::default();
        let slots: Vec<Duration> = (0..3).map(|_| windows.reserve(QUOTA, seconds(10), NEVER).unwrap().0).collect();
        let tickets: Vec<Ticket> = slots.iter().map(|slot| windows.send(QUOTA, *slot, *slot).unwrap()).collect();
        windows.settle(tickets[1], seconds(12));
        windows.settle(tickets[0], seconds(17));
        // The third one is not answered: it may arrive at any time, and counts as sent now.
        assert_eq!(moments(&mut windows, 1, seconds(70)), [72]);
        windows.settle(tickets[2], seconds(71));
        assert_eq!(moments(&mut windows, 1, seconds(71)), [77]);
    }

    #[test]
    fn who_waited_looks_again_before_the_request_goes_out() {
        let mut windows = Windows::default();
        let one = Quota { per_minute: 1, per_hour: 5 };
        let slots: Vec<Duration> = (0..3).map(|_| windows.reserve(one, seconds(10), NEVER).unwrap().0).collect();
        assert_eq!(slots, [seconds(10), seconds(70), seconds(130)]);
        let first = windows.send(one, slots[0], seconds(10)).unwrap();
        windows.settle(first, seconds(15));
        // Its slot was booked while the first one was in flight.
        let later = (seconds(75), WaitReason::PerMinute(1));
        assert_eq!(windows.send(one, slots[1], seconds(70)), Err(later));
        let second = windows.send(one, later.0, seconds(75)).unwrap();
        windows.settle(second, seconds(76));
        windows.hold(seconds(76), seconds(84));
        let held = (seconds(160), WaitReason::RetryAfter);
        assert_eq!(windows.send(one, slots[2], seconds(130)), Err(held));
        assert!(windows.send(one, held.0, seconds(160)).is_ok());
    }

    #[test]
    fn a_request_that_is_never_answered_counts_until_it_is_given_up() {
        let mut windows = Windows::default();
        let one = Quota { per_minute: 1, per_hour: 5 };
        let (slot, _) = windows.reserve(one, seconds(10), NEVER).unwrap();
        let ticket = windows.send(one, slot, slot).unwrap();
        let late = Err(TooLate { opens_at: seconds(9_060), reason: WaitReason::PerMinute(1) });
        assert_eq!(windows.reserve(one, seconds(9_000), seconds(9_000)), late);
        windows.settle(ticket, seconds(9_030));
        assert_eq!(windows.reserve(one, seconds(9_030), NEVER).unwrap().0, seconds(9_090));
    }

    #[cfg(feature = "plan")]
    #[test]
    fn a_forecast_is_when_the_last_of_them_goes_out() {
        let mut windows = Windows::default();
        moments(&mut windows, 2, seconds(10));
        assert_eq!(windows.forecast(QUOTA, seconds(20), 0), seconds(0));
        assert_eq!(windows.forecast(QUOTA, seconds(20), 4), seconds(3610 - 20));
        let million = Quota::default();
        let hours = windows.forecast(million, seconds(20), 29_000).as_secs_f64() / 3600.0;
        assert!((9.9..10.1).contains(&hours), "{hours}");
    }

    #[cfg(feature = "plan")]
    #[test]
    fn requests_of_an_earlier_process_count() {
        let mut windows = Windows::default();
        let now = super::HOUR + seconds(5);
        windows.count_earlier(now, [4000, 3000, 30, 20, 10].into_iter().map(seconds), false);
        assert_eq!(windows.reserve(QUOTA, now, NEVER).unwrap().0, now + seconds(31));
        assert_eq!(windows.reserve(QUOTA, now, NEVER).unwrap().0, now + seconds(601));
    }

    fn told(limit: u32, remaining: u32, reset: u64) -> ServiceWindow {
        ServiceWindow { length: None, limit: Some(limit), remaining, reset: Some(seconds(reset)) }
    }

    #[test]
    fn what_the_service_says_is_left_lowers_what_is_left_and_never_raises_it() {
        let quota = Quota { per_minute: 10, per_hour: 1_000 };
        let now = super::HOUR * 2;
        let left = |windows: &Windows| {
            let mut windows = Windows { booked: windows.booked.clone(), ..Windows::default() };
            (0..20).filter(|_| windows.reserve(quota, now, now).is_ok()).count()
        };
        let mut windows = Windows::default();
        for _ in 0..4 {
            windows.reserve(quota, now, now).unwrap();
        }
        // The service knows no more than this process.
        windows.lower(quota, now, &told(12, 8, 30));
        windows.lower(quota, now, &told(12, 11, 30));
        assert_eq!(left(&windows), 6);
        // Three requests came from elsewhere. Reported again, they count once.
        for _ in 0..3 {
            windows.lower(quota, now, &told(12, 5, 30));
        }
        assert_eq!(left(&windows), 3);
        windows.lower(quota, now, &told(12, 9, 30));
        assert_eq!(left(&windows), 3);
        // They expire with the service's window.
        assert_eq!(moments_of(&mut windows, quota, 4, now), [0, 0, 0, 30]);
        windows.lower(quota, now, &told(12, 0, 45));
        assert_eq!(windows.held(now), Some(now + seconds(45)));
    }

    #[test]
    fn a_hold_of_a_header_and_one_of_retry_after_are_told_apart() {
        let now = super::HOUR * 2;
        let mut windows = Windows::default();
        let mut reason = |change: &mut dyn FnMut(&mut Windows)| {
            change(&mut windows);
            windows.reserve(QUOTA, now, now).unwrap_err().reason
        };
        assert_eq!(reason(&mut |windows| windows.lower(QUOTA, now, &told(12, 0, 30))), WaitReason::ServiceLimit);
        assert_eq!(reason(&mut |windows| windows.hold(now, seconds(20))), WaitReason::ServiceLimit);
        assert_eq!(reason(&mut |windows| windows.hold(now, seconds(45))), WaitReason::RetryAfter);
        assert_eq!(reason(&mut |windows| windows.lower(QUOTA, now, &told(12, 0, 40))), WaitReason::RetryAfter);
    }

    #[test]
    fn requests_of_others_take_nothing_from_a_part_of_the_quota_that_the_service_has_room_for() {
        let part = Quota { per_minute: 31, per_hour: 960 };
        let now = super::HOUR * 2;
        let mut windows = Windows::default();
        for _ in 0..10 {
            windows.reserve(part, now, now).unwrap();
        }
        // Two other machines have sent 42 requests: there is room for 48.
        for _ in 0..3 {
            windows.lower(part, now, &told(100, 48, 30));
        }
        assert_eq!(windows.booked.len(), 10);
        // They have sent 85: five requests are left, which the margin keeps.
        windows.lower(part, now, &told(100, 5, 30));
        assert_eq!(windows.booked.len(), 31);
    }

    fn moments_of(windows: &mut Windows, quota: Quota, count: usize, now: Duration) -> Vec<u64> {
        (0..count).map(|_| windows.reserve(quota, now, NEVER).unwrap().0.saturating_sub(now).as_secs()).collect()
    }

    #[test]
    fn what_is_left_of_the_hour_closes_no_minute() {
        let quota = Quota { per_minute: 10, per_hour: 1_000 };
        let now = super::HOUR * 2;
        for reset in [1, 900, 3_590, 3_600, 9_999] {
            let mut windows = Windows::default();
            windows.lower(quota, now, &told(1_000, 3, reset));
            let opens = reset.min(3_540);
            assert_eq!(moments_of(&mut windows, quota, 4, now), [0, 0, 0, opens], "{reset}");
        }
    }

    #[test]
    fn nothing_that_the_service_says_counts_more_than_the_quota() {
        let quota = Quota { per_minute: 10, per_hour: 1_000 };
        let now = super::HOUR * 2;
        let mut windows = Windows::default();
        windows.lower(quota, now, &told(u32::MAX, 1, 60));
        assert_eq!(windows.booked.len(), 1_000);
        // A window of another length than a minute or an hour closes only while nothing of it is left.
        let mut windows = Windows::default();
        let second = |remaining| ServiceWindow { length: Some(seconds(1)), ..told(5, remaining, 1) };
        windows.lower(quota, now, &second(1));
        assert_eq!((windows.booked.len(), windows.held(now)), (0, None));
        windows.lower(quota, now, &second(0));
        assert_eq!((windows.booked.len(), windows.held(now)), (0, Some(now + seconds(1))));
        windows.lower(quota, now, &ServiceWindow { reset: None, ..told(10, 0, 1) });
        assert_eq!(windows.booked.len(), 0);
    }

    #[test]
    fn a_quota_of_nothing_still_lets_one_through() {
        let nothing = Quota { per_minute: 0, per_hour: 0 };
        let mut windows = Windows::default();
        assert_eq!(windows.reserve(nothing, seconds(0), NEVER).unwrap().0, seconds(0));
        assert_eq!(windows.reserve(nothing, seconds(0), NEVER).unwrap().0, seconds(3600));
    }
}
