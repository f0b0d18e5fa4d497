//! The client. Each operation runs the same steps: validate, quota, transport, retry, read.

mod check;
mod echo;
mod exchange;
mod fresh;
mod kept;
mod look;
mod look_age;
#[cfg(feature = "plan")]
mod once;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use tokio::time::Instant;

use crate::account::{AccountFields, ContactAccount, FieldError, WrongKind, check_id};
use crate::answer::{Answer, Page};
use crate::change::{self, Deviations};
#[cfg(feature = "python")]
use crate::columns::ColumnPage;
use crate::config::Config;
use crate::error::{Call, Error, Failure, Operation, WaitReason};
use crate::identity::Identity;
#[cfg(feature = "plan")]
pub(crate) use crate::identity::LONGEST_HOLD;
pub use crate::identity::QuotaUse;
pub(crate) use crate::identity::Slot;
use crate::paging::LONGEST_PAGE;
use crate::retry::Budget;
use crate::shared_folder;
use crate::transport::{Request, Transport};
pub(crate) use crate::turns::Turn;
use crate::turns::Turns;
#[cfg(feature = "plan")]
pub(crate) use crate::turns::{AccountTurns, Writes};

use self::check::refuse;
pub use self::check::{check_patch, check_update};
pub(crate) use self::fresh::Updated;
#[cfg(feature = "plan")]
pub(crate) use self::kept::{add_kept_members, lacks_members};
pub(crate) use self::look::{Looking, Seen};

const MEBIBYTE: usize = 1 << 20;
/// The size of an account on a page, for reserving memory.
const LONGEST_ITEM: usize = 64 << 10;
/// Sixteen fields of a company fit, so the buffer does not grow.
const USUAL_BODY: usize = 1 << 10;
const LIST: Call = Call { operation: Operation::List, id: None };

/// An event during a call, for logging.
#[derive(Debug)]
pub enum Event<'a> {
    /// The service answered a request, or the request failed.
    Attempted {
        /// The method.
        method: &'a Method,
        /// The path, without the host.
        path: &'a str,
        /// The status, or the failure.
        outcome: Result<u16, &'a Failure>,
        /// The number of the attempt, from 1.
        attempt: u32,
        /// When the attempt was sent.
        sent: Instant,
    },
    /// The call is about to send an update, or one of its updates has failed.
    Unconfirmed {
        /// Whether the service may have applied an update of the call without confirming it. This is what holds if the
        /// call is dropped now.
        may_have_been_applied: bool,
    },
    /// The quota counts only the requests of this process. Reported once.
    QuotaNotShared {
        /// The reason.
        reason: &'a str,
    },
    /// The call is about to wait.
    Waiting {
        /// The time to wait.
        wait: Duration,
        /// The reason for the wait.
        reason: WaitReason,
        /// The call that waits.
        call: Call,
    },
}

/// Receives events during calls. Must not block.
pub trait Observer: Send + Sync {
    /// Receives an event.
    fn observe(&self, event: Event<'_>);
}

/// The result of a partial update.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patched {
    /// The account after the change.
    pub account: ContactAccount,
    /// Whether the call sent an update. It does not if nothing would change.
    pub written: bool,
    /// Where the answer of the service differs from what was sent.
    pub deviations: Deviations,
}

/// What to list, and in which order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ListQuery {
    /// Return only accounts that match this text; `None` for all accounts.
    pub search: Option<String>,
    /// The JSON name of the field to sort by; `None` for the order of the service.
    pub sort_by: Option<String>,
    /// Whether to sort in descending order.
    pub descending: bool,
}

/// A client. Clones share everything, including the connections.
///
/// # Examples
/// ```no_run
/// # async fn example() -> Result<(), replyio::Error> {
/// use replyio::{AccountFields, Client, Config, Presence};
///
/// let client = Client::new(Config::new("my-key")?)?;
/// let changes = AccountFields { city: Presence::Value("Oslo".into()), ..Default::default() };
/// let patched = client.patch(4711, &changes).await?;
/// assert_eq!(patched.account.city.as_deref(), Some("Oslo"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Client {
    config: Arc<Config>,
    identity: Arc<Identity>,
    shared: Arc<Shared>,
    transport: Transport,
    turns: Turns,
    observer: Option<Arc<dyn Observer>>,
}

/// The state that all clients with the same connections share.
struct Shared {
    bearer_worked: AtomicBool,
    /// The service asked for the bearer scheme, and the update has not been sent with it yet.
    #[cfg(feature = "plan")]
    bearer_is_next: AtomicBool,
    budget: Mutex<Budget>,
}

impl Shared {
    const fn new() -> Self {
        Self {
            bearer_worked: AtomicBool::new(false),
            #[cfg(feature = "plan")]
            bearer_is_next: AtomicBool::new(false),
            budget: Mutex::new(Budget::new()),
        }
    }
}

impl Client {
    /// Creates a client. Sends no request.
    ///
    /// # Errors
    /// Returns [`Error::Configuration`] if a setting cannot be used.
    pub fn new(config: Config) -> Result<Self, Error> {
        config.check()?;
        let transport = Transport::new(&config)?;
        let shared = Arc::new(Shared::new());
        let identity = Arc::new(Identity::new(&config)?);
        let turns = turns_of(&config);
        Ok(Self { config: Arc::new(config), identity, shared, transport, turns, observer: None })
    }

    /// Returns the settings.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Returns a client with other settings that uses the same connections. The base URL, the key, the proxy, the
    /// certificates and the connect timeout belong to the connections and do not change.
    ///
    /// # Errors
    /// Returns [`Error::Configuration`] if a setting cannot be used.
    pub fn with_config(&self, config: Config) -> Result<Self, Error> {
        let config = config.over_connections_of(&self.config);
        config.check()?;
        let identity = Arc::new(Identity::new(&config)?);
        Ok(Self { config: Arc::new(config), identity, ..self.clone() })
    }

    /// Returns the same client with its own connections, for another runtime.
    ///
    /// # Errors
    /// Returns [`Error::Configuration`] if the system cannot set them up.
    pub fn with_own_connections(&self) -> Result<Self, Error> {
        Ok(Self { transport: self.transport.sibling()?, ..self.clone() })
    }

    /// Returns a client with the same settings that shares nothing: for a forked child, in which a copied lock may be
    /// held.
    ///
    /// # Errors
    /// Returns [`Error::Configuration`] if the system cannot set up the connections.
    pub fn anew(&self) -> Result<Self, Error> {
        Ok(Self {
            config: Arc::clone(&self.config),
            identity: Arc::new(Identity::new(&self.config)?),
            shared: Arc::new(Shared::new()),
            transport: self.transport.sibling()?,
            turns: turns_of(&self.config),
            observer: None,
        })
    }

    /// Returns a client with the settings and shared state of this client that uses the connections of another one and
    /// reports to an observer. The other client must have the same base URL, key, proxy and certificates.
    #[must_use]
    pub fn over_connections_of(&self, other: &Self, observer: Arc<dyn Observer>) -> Self {
        Self {
            config: Arc::clone(&self.config),
            identity: Arc::clone(&self.identity),
            shared: Arc::clone(&self.shared),
            transport: other.transport.clone(),
            turns: self.turns.clone(),
            observer: Some(observer),
        }
    }

    /// Returns the same client, reporting to an observer.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: replyio::Client) -> Result<(), replyio::Error> {
    /// use std::sync::Arc;
    /// use replyio::{Event, Observer};
    ///
    /// struct Attempts;
    ///
    /// impl Observer for Attempts {
    ///     fn observe(&self, event: Event<'_>) {
    ///         if let Event::Attempted { method, path, attempt, .. } = event {
    ///             println!("{method} {path}, attempt {attempt}");
    ///         }
    ///     }
    /// }
    ///
    /// client.observed(Arc::new(Attempts)).get(4711).await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn observed(&self, observer: Arc<dyn Observer>) -> Self {
        self.over_connections_of(self, observer)
    }

    /// Updates an account with exactly these fields: `PUT /v3/contact-accounts/{id}`. The service replaces the account
    /// in full, so it clears an optional field that is absent.
    ///
    /// # Errors
    /// Returns [`Error::Validation`] before any request if an argument is invalid, and [`Error::Call`] if the call
    /// fails.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: replyio::Client) -> Result<(), replyio::Error> {
    /// use replyio::{AccountFields, Presence};
    ///
    /// let fields = AccountFields { name: Presence::Value("Acme".into()), ..AccountFields::default() };
    /// let account = client.update(4711, &fields).await?;
    /// assert_eq!(account.city, None, "it was not named, and so it was cleared");
    /// # Ok(())
    /// # }
    /// ```
    pub async fn update(&self, id: i64, fields: &AccountFields) -> Result<ContactAccount, Error> {
        check_update(id, fields, Vec::new())?;
        let mut running = self.begin(Call { operation: Operation::Update, id: Some(id) });
        let turn = self.take_turn(&running, id).await?;
        let request = self.update_request(&turn, fields).map_err(|failure| running.failed(failure))?;
        running.updating = true;
        self.exchange(&mut running, &request, |answer| answer.account(id)).await
    }

    /// Changes single fields of an account and keeps the others: `GET`, merge, `PUT /v3/contact-accounts/{id}`. Sends
    /// no `PUT` if nothing would change.
    ///
    /// # Errors
    /// Returns [`Error::Validation`] before any request if an argument is invalid, and [`Error::Call`] if a request
    /// fails.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: replyio::Client) -> Result<(), replyio::Error> {
    /// use replyio::{AccountFields, Presence};
    ///
    /// let changes = AccountFields { city: Presence::Value("Oslo".into()), ..AccountFields::default() };
    /// let patched = client.patch(4711, &changes).await?;
    /// if !patched.deviations.is_empty() {
    ///     eprintln!("written, but the service answered otherwise: {:?}", patched.deviations);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn patch(&self, id: i64, changes: &AccountFields) -> Result<Patched, Error> {
        check_patch(id, changes, Vec::new())?;
        let mut running = self.begin(Call { operation: Operation::Patch, id: Some(id) });
        let turn = self.take_turn(&running, id).await?;
        let read = |answer: &Answer| answer.account(id);
        let decide = |current: &ContactAccount| {
            let changes = change::changes(current, changes);
            if changes.is_empty() {
                return Ok(None);
            }
            let merged = change::merged(current, &changes);
            merged.map(Some).map_err(|WrongKind| Failure::Internal("a field has the wrong type".into()))
        };
        let updated = self.look_and_update(&mut running, &turn, self.config.max_attempts, read, decide).await?;
        let Updated { looked, update: Some((sent, account)) } = updated else {
            return Ok(Patched { account: updated.looked, written: false, deviations: Deviations::default() });
        };
        // The next read changes nothing, and may wait for the quota.
        drop(turn);
        let request = self.account_request(Method::GET, id, None);
        let account = self.with_kept_members(&mut running, &request, &looked, account).await;
        let altered = change::altered(&looked, &sent, changes);
        let mut deviations = Deviations { altered, ..Deviations::of(&looked, &sent, &account) };
        deviations.lost = deviations.lost.into_iter().map(|name| self.without_key_in_name(name)).collect();
        Ok(Patched { account, written: true, deviations })
    }

    /// Reads an account: `GET /v3/contact-accounts/{id}`.
    ///
    /// # Errors
    /// Returns [`Error::Validation`] before any request if an argument is invalid, and [`Error::Call`] if the call
    /// fails.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: replyio::Client) -> Result<(), replyio::Error> {
    /// let account = client.get(4711).await?;
    /// println!("{} in {}", account.name, account.city.as_deref().unwrap_or("no city"));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn get(&self, id: i64) -> Result<ContactAccount, Error> {
        let call = Call { operation: Operation::Get, id: Some(id) };
        refuse(call, check_id(id).err().into_iter().collect())?;
        let mut running = self.begin(call);
        self.exchange(&mut running, &self.account_request(Method::GET, id, None), |answer| answer.account(id)).await
    }

    /// Reads one page of accounts: `GET /v3/contact-accounts`. [`Paging`](crate::Paging) reads all pages of a list.
    ///
    /// # Errors
    /// Returns [`Error::Validation`] before any request if `top` is not in 1 to 1,000, and [`Error::Call`] if the call
    /// fails.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(client: replyio::Client) -> Result<(), replyio::Error> {
    /// use replyio::{Item, ListQuery};
    ///
    /// let page = client.list_page(&ListQuery::default(), 25, 0).await?;
    /// for item in &page.items {
    ///     match item {
    ///         Item::Account(account) => println!("{}", account.name),
    ///         Item::Unreadable { id, reason } => eprintln!("account {id:?} cannot be read: {reason}"),
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn list_page(&self, query: &ListQuery, top: u32, skip: u64) -> Result<Page, Error> {
        let request = self.list_request(query, top, skip)?;
        let mut running = self.begin(LIST);
        self.exchange(&mut running, &request, Answer::page).await
    }

    /// Reads one page of accounts as columns; see [`Client::list_page`].
    #[cfg(feature = "python")]
    pub(crate) async fn list_columns(&self, query: &ListQuery, top: u32, skip: u64) -> Result<ColumnPage, Error> {
        let request = self.list_request(query, top, skip)?;
        let mut running = self.begin(LIST);
        self.exchange(&mut running, &request, Answer::columns).await
    }

    /// Returns how long the quota takes to allow this number of further requests; `None` without a quota.
    #[cfg(feature = "plan")]
    pub fn forecast(&self, requests: u64) -> Option<Duration> {
        let quota = self.config.quota?.for_bulk(self.config.bulk_share);
        Some(self.identity.forecast(quota, Instant::now(), requests))
    }

    /// Closes the shared quota file until the next request.
    #[cfg(feature = "python")]
    pub(crate) fn close_files(&self) {
        self.identity.close_ledger();
        self.turns.close_file();
    }

    /// Returns the used quota of the user, as far as this machine knows. Sends no request.
    pub fn quota_used(&self) -> QuotaUse {
        self.identity.used(Instant::now())
    }

    /// Counts requests that another process of the same user sent, each by its age.
    #[cfg(feature = "plan")]
    pub(crate) fn count_earlier(&self, ages: impl Iterator<Item = Duration>) {
        self.identity.count_earlier(Instant::now(), ages);
    }

    /// Creates the request of an update, which counts as begun: the caller holds the turn until the answer.
    fn update_request(&self, turn: &Turn, fields: &AccountFields) -> Result<Request, Failure> {
        let mut body = Vec::with_capacity(USUAL_BODY);
        serde_json::to_writer(&mut body, fields).map_err(|error| Failure::Internal(error.to_string()))?;
        turn.count_write();
        Ok(self.account_request(Method::PUT, turn.id(), Some(body.into())))
    }

    fn list_request(&self, query: &ListQuery, top: u32, skip: u64) -> Result<Request, Error> {
        let in_bounds = (1..=LONGEST_PAGE).contains(&top);
        let fault = (!in_bounds).then(|| FieldError::new("page_size", "must be an integer from 1 to 1000"));
        refuse(LIST, fault.into_iter().collect())?;
        let mut url = self.config.base_url.join(format_args!("/contact-accounts"));
        {
            let mut pairs = url.query_pairs_mut();
            pairs.append_pair("top", &top.to_string()).append_pair("skip", &skip.to_string());
            if let Some(search) = &query.search {
                pairs.append_pair("search", search);
            }
            if let Some(sort_by) = &query.sort_by {
                pairs.append_pair("sort_by", sort_by);
            }
            if query.sort_by.is_some() || query.descending {
                pairs.append_pair("sort_direction", if query.descending { "desc" } else { "asc" });
            }
        }
        let longest_body = (top as usize * LONGEST_ITEM).next_multiple_of(MEBIBYTE);
        Ok(Request { method: Method::GET, url, body: None, longest_body, names_limits: false })
    }

    fn account_request(&self, method: Method, id: i64, body: Option<Bytes>) -> Request {
        let url = self.config.base_url.join(format_args!("/contact-accounts/{id}"));
        Request { method, url, body, longest_body: MEBIBYTE, names_limits: false }
    }
}

fn turns_of(config: &Config) -> Turns {
    let folders = config.turns_shared.then(shared_folder::candidates);
    Turns::of(&config.base_url.service(), folders.as_deref())
}

impl std::fmt::Debug for Client {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Client").field("config", &self.config).finish_non_exhaustive()
    }
}
