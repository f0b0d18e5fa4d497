//! A server with the contract's semantics, on 127.0.0.1.
//!
//! It answers the three operations on contact accounts as the service does (full replacement, problem details, the 401
//! without a body, paging, quota), and commits faults where it is told to. It knows nothing of the client.
//!
//! ```
//! use replyio::sandbox::{Sandbox, SandboxOptions};
//!
//! let sandbox = Sandbox::start(SandboxOptions::default())?;
//! assert!(sandbox.url().starts_with("http://127.0.0.1:"));
//! assert_eq!(sandbox.accounts().len(), 3);
//! # Ok::<(), replyio::sandbox::SandboxError>(())
//! ```

mod accounts;
mod answer;
mod deviations;
mod error;
mod faults;
mod guard;
mod journal;
mod openapi;
mod page;
mod routes;
mod seed;
mod state;
mod update;
mod windows;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use self::accounts::Accounts;
pub use self::deviations::{Dates, Deviations, Empty, RateLimitHeaders, Stored};
pub use self::error::SandboxError;
pub use self::faults::{Applied, Fault, Response};
use self::journal::Journal;
pub use self::seed::account_from_json;
#[cfg(feature = "python")]
pub(crate) use self::seed::account_from_members;
pub use self::state::SandboxRequest;
use self::state::State;
use self::wire::Shared;
use crate::account::ContactAccount;

/// The quota of each user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SandboxQuota {
    /// Requests a minute.
    pub per_minute: u32,
    /// Requests an hour.
    pub per_hour: u32,
}

/// How a key may be sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Auth {
    /// Either way.
    #[default]
    Both,
    /// `X-API-Key: <key>` only.
    ApiKey,
    /// `Authorization: Bearer <key>` only.
    Bearer,
}

/// What a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scopes {
    /// `contacts:read`: get and list.
    pub read: bool,
    /// `contacts:write`: update.
    pub write: bool,
}

/// How a sandbox behaves.
#[derive(Clone)]
pub struct SandboxOptions {
    /// The accounts that are there at the start. Default: three with every field filled, 4711 to 4713.
    pub accounts: Option<Vec<ContactAccount>>,
    /// The port on 127.0.0.1; 0, the default, takes a free one.
    pub port: u16,
    /// The quota of each user, which is a key together with the headers `X-User-Id`, `X-User-Email` and `X-Team-Id`.
    /// Default: none.
    pub quota: Option<SandboxQuota>,
    /// How much faster than real time the quota's clock goes. With 60 its hour passes in a minute, and `Retry-After` is
    /// divided by 60 and rounded up, so that waiting as long in real time is right. Default: 1.
    pub clock_scale: f64,
    /// What goes wrong on purpose. Default: nothing.
    pub faults: Vec<Fault>,
    /// The file that keeps the accounts. If it has accounts already, they are used in place of `accounts`. One
    /// sandbox at a time has it, until it is stopped; a second one is refused. Default: none, the accounts are gone when the
    /// sandbox stops.
    pub path: Option<PathBuf>,
    /// The keys that are known. Default: any that is not empty.
    pub api_keys: Option<Vec<String>>,
    /// Keys that may do less than everything. They are known, whatever `api_keys` says.
    pub scopes: BTreeMap<String, Scopes>,
    /// How a key may be sent. Default: either way.
    pub auth: Auth,
    /// The users in the team, who may own accounts. Default: any.
    pub owners: Option<BTreeSet<i64>>,
    /// Accounts that the caller has no right to.
    pub forbidden: BTreeSet<i64>,
    /// The longest body in bytes; a longer one is a 413. Default: 1 MiB.
    pub max_body: usize,
    /// How many requests are remembered, the newest ones, and at most 256 MiB of them. At least 1. Default: 100,000.
    pub keep_requests: usize,
    /// How long a connection may take to send a request, and how long it may be silent between two. Then it is closed.
    /// Default: 20 seconds.
    pub idle_timeout: Duration,
    /// How it differs from what the contract's page says. Default: not at all.
    pub deviations: Deviations,
}

impl Default for SandboxOptions {
    fn default() -> Self {
        Self {
            accounts: None,
            port: 0,
            quota: None,
            clock_scale: 1.0,
            faults: Vec::new(),
            path: None,
            api_keys: None,
            scopes: BTreeMap::new(),
            auth: Auth::Both,
            owners: None,
            forbidden: BTreeSet::new(),
            max_body: 1 << 20,
            keep_requests: 100_000,
            idle_timeout: Duration::from_secs(20),
            deviations: Deviations::default(),
        }
    }
}

/// A running sandbox. It stops when it is dropped.
///
/// It belongs to the process that started it. In a forked child the copy does nothing when it is stopped or dropped, and
/// must not be asked for anything else; [`Sandbox::is_here`] tells.
pub struct Sandbox {
    shared: Arc<Shared>,
    port: u16,
    process: u32,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Sandbox {
    /// Starts a sandbox on a thread of its own. It answers as soon as this returns.
    ///
    /// # Errors
    /// An option cannot be used, the port is taken, or the file is not one of sandbox accounts.
    ///
    /// # Examples
    /// ```
    /// use replyio::sandbox::{Sandbox, SandboxOptions};
    /// use replyio::{BaseUrl, Client, Config};
    ///
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    /// # runtime.block_on(async {
    /// let sandbox = Sandbox::start(SandboxOptions::default())?;
    /// let config = Config { base_url: BaseUrl::new(&sandbox.url())?, ..Config::new("any-key")? };
    /// let account = Client::new(config)?.get(4711).await?;
    /// assert_eq!((account.name.as_str(), sandbox.requests().len()), ("Acme", 1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn start(mut options: SandboxOptions) -> Result<Self, SandboxError> {
        if !(options.clock_scale.is_finite() && options.clock_scale > 0.0) {
            let reason = "must be a positive number".to_owned();
            return Err(SandboxError::Option { name: "clock_scale", reason });
        }
        options.deviations.check(options.quota.is_some())?;
        let given = match options.accounts.take() {
            Some(accounts) => accounts,
            None => seed::default_accounts()?,
        };
        let mut accounts = Accounts::default();
        for mut account in given {
            let id = account.id;
            options.deviations.complete(&mut account.extra);
            if !accounts.insert(account) {
                return Err(SandboxError::Account { reason: format!("account {id} is given twice") });
            }
        }
        let bind = |source| SandboxError::Bind { port: options.port, source };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port)).map_err(bind)?;
        listener.set_nonblocking(true).map_err(bind)?;
        let port = listener.local_addr().map_err(bind)?.port();
        let journal = match &options.path {
            Some(path) => {
                let (journal, kept) = Journal::open(path, accounts)?;
                accounts = kept;
                Some(journal)
            }
            None => None,
        };
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(SandboxError::Thread)?;
        let state = State::new(accounts, journal, std::mem::take(&mut options.faults));
        let shared = Arc::new(Shared::new(options, state));
        let server = Arc::clone(&shared);
        let run = move || {
            runtime.block_on(async {
                if let Ok(listener) = tokio::net::TcpListener::from_std(listener) {
                    wire::serve(listener, server).await;
                }
            });
        };
        let thread =
            thread::Builder::new().name("replyio-sandbox".to_owned()).spawn(run).map_err(SandboxError::Thread)?;
        Ok(Self { shared, port, process: std::process::id(), thread: Mutex::new(Some(thread)) })
    }

    /// The base URL for a client, such as `http://127.0.0.1:8080/v3`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/v3", self.port)
    }

    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether this is the process that started it.
    pub fn is_here(&self) -> bool {
        self.process == std::process::id()
    }

    /// Every request that has arrived, in that order, as far as they are kept.
    pub fn requests(&self) -> Vec<SandboxRequest> {
        self.shared.state().requests()
    }

    /// Forgets the requests; their numbers go on.
    pub fn clear_requests(&self) {
        self.shared.state().forget_requests();
    }

    /// The accounts as they are stored, by id.
    pub fn accounts(&self) -> Vec<ContactAccount> {
        self.shared.state().accounts.iter().cloned().collect()
    }

    /// Puts an account there, as another program would: new, or in place of the one with its id.
    ///
    /// # Errors
    /// The file could not be written.
    pub fn set_account(&self, account: &ContactAccount) -> Result<(), SandboxError> {
        let mut account = account.clone();
        self.shared.options.deviations.complete(&mut account.extra);
        let stored = self.shared.state().put(account, None);
        stored.map_err(|source| self.file_error(source))
    }

    /// Removes an account, as another program would, and says whether there was one.
    ///
    /// # Errors
    /// The file could not be written.
    pub fn remove_account(&self, id: i64) -> Result<bool, SandboxError> {
        let removed = self.shared.state().remove(id);
        removed.map_err(|source| self.file_error(source))
    }

    fn file_error(&self, source: std::io::Error) -> SandboxError {
        SandboxError::File { path: self.shared.options.path.clone().unwrap_or_default(), source }
    }

    /// Adds a fault behind the others.
    pub fn add_fault(&self, fault: Fault) {
        self.shared.state().script.add(fault);
    }

    /// Ends all faults.
    pub fn clear_faults(&self) {
        self.shared.state().script.clear();
    }

    /// Closes every connection, as a server does with idle ones, and goes on with new ones.
    pub fn close_connections(&self) {
        let ending = self.shared.end_connections();
        let began = Instant::now();
        while !ending.is_closed() && began.elapsed() < wire::FAREWELL {
            thread::sleep(Duration::from_micros(200));
        }
    }

    /// Closes the socket and every connection, and waits for the thread. Requests and accounts can still be asked for.
    pub fn stop(&self) {
        if !self.is_here() {
            return;
        }
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.shared.stop.notify_one();
        if let Some(thread) = thread {
            // Its panic would have nothing to say that the requests do not show.
            let _ = thread.join();
        }
        self.shared.state().unlock();
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if self.is_here() {
            return self.stop();
        }
        // The thread is the parent's: neither it nor a lock that it may have held when it was copied is touched here.
        std::mem::forget(self.thread.get_mut().map(Option::take));
        std::mem::forget(Arc::clone(&self.shared));
    }
}
