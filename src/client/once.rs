//! The operations in a single attempt each, for a run that decides about retries itself.
//!
//! The caller books the slot of the quota and takes the account's turn, so the caller decides about every wait.

use std::sync::atomic::Ordering;

use http::Method;
use tokio::time::{Instant, sleep_until};

use super::exchange::Sending;
use super::look_age::LONGEST_AGE;
use super::{AccountTurns, Client, LIST, ListQuery, Slot, Turn};
use crate::account::{AccountFields, ContactAccount};
use crate::answer::{Answer, Page};
use crate::clock::Moment;
use crate::error::{Call, Error, Failure, Operation, WaitReason};
use crate::sabotage::{Guard, is_off};
use crate::transport::Request;

impl Client {
    /// Reads an account in one attempt. Waits until its slot opens.
    ///
    /// # Errors
    /// Returns [`Error::Call`] if the attempt fails.
    pub(crate) async fn get_once(&self, slot: Slot, id: i64) -> Result<ContactAccount, Error> {
        let call = Call { operation: Operation::Get, id: Some(id) };
        let request = self.account_request(Method::GET, id, None);
        self.read_once(slot, call, &request, |answer| self.account_without_key(answer, id)).await
    }

    /// Reads one page of accounts in one attempt; see [`Client::list_page`] and [`Client::get_once`].
    pub(crate) async fn list_page_once(
        &self,
        slot: Slot,
        query: &ListQuery,
        top: u32,
        skip: u64,
    ) -> Result<Page, Error> {
        let request = self.list_request(query, top, skip)?;
        self.read_once(slot, LIST, &request, |answer| self.page_without_key(answer)).await
    }

    /// Updates a merged account in one attempt. The caller holds the account's turn. Does not validate the account's
    /// own values, because the service returned them. Returns `None`, and sends no update, if it would have to wait for
    /// a slot: the account may change meanwhile.
    ///
    /// # Errors
    /// Returns [`Error::Call`] if the attempt fails.
    pub(crate) async fn put_once(
        &self,
        slot: Slot,
        turn: &Turn,
        fields: &AccountFields,
    ) -> Result<Option<ContactAccount>, Error> {
        let id = turn.id();
        let call = Call { operation: Operation::Update, id: Some(id) };
        if is_off(Guard::OwnValues) {
            super::check_update(id, fields, Vec::new())?;
        }
        let request = self.update_request(turn, fields).map_err(|failure| self.begin(call).failed(failure))?;
        self.exchange_once(slot, call, &request, |answer| self.account_without_key(answer, id)).await
    }

    /// Returns the turns of an account in this process. Only the holder of the turn may read, merge and update it.
    pub(crate) fn account(&self, id: i64) -> AccountTurns {
        self.turns.account(id)
    }

    /// Books a slot of the quota for one request, however long the wait is. Without a quota, the slot is open
    /// immediately, unless the service asked to wait.
    pub(crate) fn book(&self) -> Slot {
        let quota = self.config.quota.map(|quota| quota.for_bulk(self.config.bulk_share));
        let mut slot = self.identity.book_patiently(quota, Instant::now());
        self.tell_of_quota(&mut slot);
        slot
    }

    /// Waits until the function that counts over several machines grants a request, however long that takes.
    ///
    /// # Errors
    /// Those of [`Acquire::acquire`](crate::Acquire::acquire).
    pub(crate) async fn get_leave_patiently(&self, slot: &mut Slot) -> Result<(), Failure> {
        slot.leave.get().await.map_err(|failure| self.presentable(failure))
    }

    /// Returns until when the service asks this user to wait, and why; `None` if it does not.
    pub(crate) fn held(&self) -> Option<(Instant, WaitReason)> {
        self.identity.held(Instant::now()).map(|until| (until, WaitReason::RetryAfter))
    }

    async fn read_once<T>(
        &self,
        slot: Slot,
        call: Call,
        request: &Request,
        read: impl Fn(&Answer) -> Result<T, Failure>,
    ) -> Result<T, Error> {
        let answered = self.exchange_once(slot, call, request, read).await?;
        answered.ok_or_else(|| self.begin(call).failed(Failure::Internal("a read was not sent".to_owned())))
    }

    /// Sends a request once, when its slot is open. A 401 that asks for the bearer scheme is not an attempt: the
    /// request is sent again, in its own slot. The timeouts begin when a slot opens. Returns `None` for an update that
    /// would have to wait; the next one is then sent with the scheme that the service asked for.
    async fn exchange_once<T>(
        &self,
        mut slot: Slot,
        call: Call,
        request: &Request,
        read: impl Fn(&Answer) -> Result<T, Failure>,
    ) -> Result<Option<T>, Error> {
        let mut attempts = 0;
        let asked = Moment::now();
        let updating = request.method == Method::PUT;
        let next_scheme = &self.shared.bearer_is_next;
        let mut use_bearer = self.prefers_bearer() || (updating && next_scheme.swap(false, Ordering::Relaxed));
        loop {
            let mut running = self.begin(call);
            (running.attempts, running.updating) = (attempts, updating);
            while !slot.send() {
                if updating && (slot.waits_for_leave() || slot.opens_at > Instant::now() + LONGEST_AGE) {
                    next_scheme.store(use_bearer, Ordering::Relaxed);
                    return Ok(None);
                }
                if slot.waits_for_leave() {
                    let granted = self.get_leave(&running, &mut slot).await;
                    granted.map_err(|failure| running.failed(failure))?;
                } else {
                    sleep_until(slot.opens_at).await;
                    running.start_again();
                }
            }
            // The machine may have slept before the answer that asks for the other scheme.
            if updating && asked.elapsed() > LONGEST_AGE {
                next_scheme.store(use_bearer, Ordering::Relaxed);
                return Ok(None);
            }
            let sending = Sending { request, number: 1, use_bearer, last: None };
            match self.attempt(&mut running, slot, sending, &read).await {
                Err(failure) if self.should_try_bearer(&failure, use_bearer) => {
                    use_bearer = true;
                    attempts = running.attempts;
                    slot = self.book();
                }
                outcome => return outcome.map(Some).map_err(|failure| running.failed(failure)),
            }
        }
    }
}

#[cfg(test)]
#[cfg(feature = "sandbox")]
mod tests {
    use std::time::{Duration, Instant as Clock};

    use http::Method;

    use super::{AccountFields, Client, ContactAccount, ListQuery, WaitReason};
    use crate::account::{CompanySize, Presence};
    use crate::config::{ApiKey, BaseUrl, Config};
    use crate::error::{Error, ErrorKind};
    use crate::quota::Quota;
    use crate::sandbox::{Fault, Response, Sandbox, SandboxOptions, account_from_json};

    fn sandbox(faults: Vec<Fault>) -> Sandbox {
        let account = |id| account_from_json(&serde_json::json!({"id": id, "name": format!("Account {id}")})).unwrap();
        let accounts = Some((1..=3).map(account).collect());
        Sandbox::start(SandboxOptions { accounts, faults, ..SandboxOptions::default() }).unwrap()
    }

    /// Its key is its own, so that no other test counts in its quota.
    fn client_with(sandbox: &Sandbox, change: impl FnOnce(&mut Config)) -> Client {
        let key = format!("once-{}", sandbox.port());
        let base_url = BaseUrl::new(&sandbox.url()).unwrap();
        let mut config = Config { base_url, quota: None, ..Config::new(key).unwrap() };
        change(&mut config);
        Client::new(config).unwrap()
    }

    fn client(sandbox: &Sandbox) -> Client {
        client_with(sandbox, |_| {})
    }

    fn answering(status: u16, retry_after: Option<&str>) -> Fault {
        let mut response = Response::status(status).unwrap();
        if let Some(wait) = retry_after {
            response.headers.insert("retry-after", wait.parse().unwrap());
        }
        Fault { response: Some(response), ..Fault::default() }
    }

    /// Asks for the bearer scheme, once.
    fn bearer_challenge() -> Fault {
        let mut response = Response::status(401).unwrap();
        response.headers.insert("www-authenticate", "Bearer".parse().unwrap());
        Fault { response: Some(response), times: Some(1), ..Fault::default() }
    }

    fn attempts<T: std::fmt::Debug>(result: Result<T, Error>) -> (ErrorKind, u32, bool) {
        match result.unwrap_err() {
            Error::Call(error) => (error.failure.kind(), error.attempts, error.may_have_been_applied),
            other => panic!("{other:?}"),
        }
    }

    async fn put(client: &Client, id: i64, fields: &AccountFields) -> Result<ContactAccount, Error> {
        let turn = client.account(id).take().await;
        client.put_once(client.book(), &turn, fields).await.map(|answered| answered.expect("its slot is open"))
    }

    fn named(name: &str) -> AccountFields {
        AccountFields { name: Presence::Value(name.to_owned()), ..AccountFields::default() }
    }

    #[tokio::test]
    async fn each_operation_sends_one_request() {
        let sandbox = sandbox(Vec::new());
        let client = client(&sandbox);
        assert_eq!(client.get_once(client.book(), 1).await.unwrap().id, 1);
        let page = client.list_page_once(client.book(), &ListQuery::default(), 2, 1).await.unwrap();
        assert_eq!((page.items.len(), page.has_more), (2, false));
        assert_eq!(put(&client, 2, &named("New")).await.unwrap().name, "New");
        assert_eq!(sandbox.requests().len(), 3);
    }

    #[tokio::test]
    async fn a_failed_attempt_is_not_repeated() {
        for (fault, kind) in [
            (answering(503, None), ErrorKind::Server),
            (Fault { reset: true, ..Fault::default() }, ErrorKind::Transport),
        ] {
            let sandbox = sandbox(vec![fault]);
            let client = client(&sandbox);
            assert_eq!(attempts(client.get_once(client.book(), 1).await), (kind, 1, false));
            assert_eq!(attempts(put(&client, 1, &named("New")).await), (kind, 1, true));
            assert_eq!(sandbox.requests().len(), 2);
        }
    }

    #[tokio::test]
    async fn an_accounts_own_values_are_not_judged() {
        let sandbox = sandbox(Vec::new());
        let fields = AccountFields {
            name: Presence::Value(" ".to_owned()),
            company_size: Presence::Value(CompanySize::Unknown("20001+".into())),
            owner_user_id: Presence::Value(0),
            ..AccountFields::default()
        };
        // The sandbox refuses them; that they are sent is what counts.
        assert_eq!(attempts(put(&client(&sandbox), 1, &fields).await).0, ErrorKind::BadRequest);
        assert_eq!(sandbox.requests().len(), 1);
    }

    #[tokio::test]
    async fn an_attempt_waits_until_its_slot_opens() {
        let sandbox = sandbox(Vec::new());
        let client = client_with(&sandbox, |config| {
            config.quota = Some(Quota { per_minute: 1, per_hour: 100 });
            config.quota_clock_scale = 100.0;
            config.timeout = Duration::from_millis(300);
        });
        client.get_once(client.book(), 1).await.unwrap();
        let began = Clock::now();
        // The timeout does not include the wait of 600 ms.
        client.get_once(client.book(), 1).await.unwrap();
        assert!(began.elapsed() > Duration::from_millis(500), "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn a_slot_counts_from_the_answer_and_is_given_back_when_it_is_not_used() {
        let sandbox = sandbox(Vec::new());
        let client = client_with(&sandbox, |config| config.quota = Some(Quota { per_minute: 2, per_hour: 100 }));
        drop(client.book());
        for _ in 0..2 {
            client.get_once(client.book(), 1).await.unwrap();
        }
        let mut slot = client.book();
        assert!(!slot.send() && slot.reason == WaitReason::PerMinute(2));
    }

    #[tokio::test]
    async fn the_bearer_fallback_has_a_slot_of_its_own() {
        let sandbox = sandbox(vec![bearer_challenge()]);
        let client = client_with(&sandbox, |config| config.quota = Some(Quota { per_minute: 2, per_hour: 100 }));
        client.get_once(client.book(), 1).await.unwrap();
        assert_eq!(sandbox.requests().len(), 2);
        assert!(!client.book().send(), "both requests count");
    }

    #[tokio::test]
    async fn an_update_waits_for_no_slot_and_the_next_one_uses_the_scheme_that_the_service_asked_for() {
        let sandbox = sandbox(vec![bearer_challenge()]);
        let client = client_with(&sandbox, |config| config.quota = Some(Quota { per_minute: 1, per_hour: 100 }));
        let turn = client.account(1).take().await;
        let fields = named("New");
        for _ in 0..2 {
            // The next slot opens in a minute.
            let sent = client.put_once(client.book(), &turn, &fields);
            assert_eq!(tokio::time::timeout(Duration::from_secs(10), sent).await.unwrap().unwrap(), None);
        }
        assert_eq!(sandbox.requests().len(), 1);
        let unlimited = Client {
            config: std::sync::Arc::new(Config { quota: None, ..(*client.config).clone() }),
            ..client.clone()
        };
        assert_eq!(unlimited.put_once(unlimited.book(), &turn, &named("New")).await.unwrap().unwrap().name, "New");
        let last = sandbox.requests().pop().unwrap();
        assert!(last.headers.iter().any(|(name, _)| name.as_str() == "authorization"), "{last:?}");
        assert_eq!(sandbox.requests().len(), 2);
    }

    #[tokio::test]
    async fn every_retryable_answer_with_retry_after_holds_the_user_with_and_without_a_quota() {
        for quota in [None, Some(Quota::default())] {
            for status in [408, 429, 500, 502, 503, 504, 520] {
                let sandbox = sandbox(vec![Fault { times: Some(1), ..answering(status, Some("600")) }]);
                let client = client_with(&sandbox, |config| config.quota = quota);
                assert_eq!(client.held(), None);
                attempts(client.get_once(client.book(), 1).await);
                let (until, reason) = client.held().unwrap();
                let wait = until - super::Instant::now();
                assert!(wait > Duration::from_secs(595) && wait <= Duration::from_secs(600), "{status} {wait:?}");
                let mut slot = client.book();
                assert!(!slot.send() && slot.opens_at >= until - Duration::from_millis(1), "{status}");
                assert_eq!((reason, slot.reason), (WaitReason::RetryAfter, WaitReason::RetryAfter));
                let other = client_with(&sandbox, |config| config.api_key = ApiKey::new("another").unwrap());
                assert_eq!(other.held(), None);
            }
        }
    }

    #[tokio::test]
    async fn an_answer_that_no_attempt_betters_holds_nobody() {
        for status in [400, 401, 403, 404, 501] {
            let sandbox = sandbox(vec![answering(status, Some("600"))]);
            let client = client(&sandbox);
            attempts(client.get_once(client.book(), 1).await);
            assert_eq!(client.held(), None, "{status}");
        }
    }

    #[tokio::test]
    async fn a_wait_that_is_no_window_of_the_quota_holds_nobody_and_one_of_two_hours_is_held_in_full() {
        for (asked, scale) in [("7201", 1.0), ("99999999999999999999", 1.0), ("7200", 1.0), ("7200", 1_000.0)] {
            let sandbox = sandbox(vec![Fault { times: Some(1), ..answering(503, Some(asked)) }]);
            let client = client_with(&sandbox, |config| config.quota_clock_scale = scale);
            attempts(client.get_once(client.book(), 1).await);
            let held = client.held().map(|(until, _)| (until - super::Instant::now()).as_secs_f64().round());
            assert_eq!(held, (asked == "7200").then_some(7_200.0), "{asked}");
            if held.is_none() {
                assert_eq!(client.get_once(client.book(), 1).await.unwrap().id, 1, "the next call asks again");
            }
        }
    }

    #[tokio::test]
    async fn a_write_shows_in_the_turns_of_its_account_whoever_made_it() {
        let sandbox = sandbox(Vec::new());
        let client = client(&sandbox);
        let (first, second) = (client.account(1), client.account(2));
        let another = client_with(&sandbox, |config| config.api_key = ApiKey::new("another").unwrap());
        put(&client, 1, &named("A")).await.unwrap();
        client.update(1, &named("B")).await.unwrap();
        another.patch(1, &named("C")).await.unwrap();
        another.patch(1, &named("C")).await.unwrap();
        client.get(1).await.unwrap();
        assert_eq!((first.writes().here, second.writes().here), (3, 0), "a patch without a change writes nothing");
    }

    #[tokio::test]
    async fn the_turn_is_taken_before_the_read_and_kept_to_the_answer() {
        let sandbox = sandbox(Vec::new());
        let client = client(&sandbox);
        let turn = client.account(1).take().await;
        let call = tokio::spawn({
            let client = client.clone();
            async move { client.patch(1, &named("New")).await.map(|patched| patched.account.name) }
        });
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(sandbox.requests().len(), 0);
        drop(turn);
        assert_eq!(call.await.unwrap().unwrap(), "New");
        let methods: Vec<Method> = sandbox.requests().into_iter().map(|request| request.method).collect();
        assert_eq!(methods, [Method::GET, Method::PUT]);
    }
}
