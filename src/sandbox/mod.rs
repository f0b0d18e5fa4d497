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
use std::sync::{Arc, Mutex};
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
use crate::lock::lock;

/// The quota of each user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SandboxQuota {
    /// Requests a minute.
    pub per_minute: u32,
    /// Requests an hour.
    pub per_hour: u32,
}

/// How a client may send a key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Auth {
    /// In either header.
    #[default]
    Both,
    /// `X-API-Key: <key>` only.
    ApiKey,
    /// `Authorization: Bearer <key>` only.
    Bearer,
}

/// The scopes of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scopes {
    /// `contacts:read`: get and list.
    pub read: bool,
    /// `contacts:write`: update.
    pub write: bool,
}

/// The options of a sandbox.
#[derive(Clone)]
pub struct SandboxOptions {
    /// The initial accounts. Default: three with every field filled, 4711 to 4713.
    pub accounts: Option<Vec<ContactAccount>>,
    /// The port on 127.0.0.1; 0, the default, takes a free one.
    pub port: u16,
    /// The quota of each user, which is a key together with the headers `X-User-Id`, `X-User-Email` and `X-Team-Id`.
    /// Default: none.
    pub quota: Option<SandboxQuota>,
    /// How much faster than real time the quota's clock runs. With 60, its hour passes in a minute, and `Retry-After`
    /// is divided by 60 and rounded up, so that it is a wait in real time. Default: 1.
    pub clock_scale: f64,
    /// Deliberate faults. Default: none.
    pub faults: Vec<Fault>,
    /// The file that keeps the accounts. If it already contains accounts, they replace `accounts`. Only one sandbox at
    /// a time can use it, until it is stopped; a second one fails. Default: none; the accounts are lost when the
    /// sandbox stops.
    pub path: Option<PathBuf>,
    /// The valid keys. Default: any that is not empty.
    pub api_keys: Option<Vec<String>>,
    /// Keys with fewer scopes. They are valid, whatever `api_keys` says.
    pub scopes: BTreeMap<String, Scopes>,
    /// How a client may send a key. Default: in either header.
    pub auth: Auth,
    /// The users in the team, who may own accounts. Default: any.
    pub owners: Option<BTreeSet<i64>>,
    /// Accounts that the caller has no access to.
    pub forbidden: BTreeSet<i64>,
    /// The longest body in bytes; the sandbox answers a longer one with 413. Default: 1 MiB.
    pub max_body: usize,
    /// How many of the newest requests to keep, with a limit of 256 MiB. At least 1. Default: 100,000.
    pub keep_requests: usize,
    /// How long a connection may take to send a request, and how long it may be idle. The sandbox then closes it.
    /// Default: 20 seconds.
    pub idle_timeout: Duration,
    /// How it deviates from the API contract. Default: not at all.
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
/// It belongs to the process that started it. In a forked child, stopping or dropping the copy does nothing, and other
/// methods must not be called; [`Sandbox::is_here`] tells.
pub struct Sandbox {
    shared: Arc<Shared>,
    port: u16,
    process: u32,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Sandbox {
    /// Starts a sandbox in its own thread. It answers as soon as this returns.
    ///
    /// # Errors
    /// Returns an error if an option cannot be used, the port is not available, or the file does not contain sandbox
    /// accounts.
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

    /// Returns the base URL for a client, such as `http://127.0.0.1:8080/v3`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/v3", self.port)
    }

    /// Returns its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns whether this is the process that started it.
    pub fn is_here(&self) -> bool {
        self.process == std::process::id()
    }

    /// Returns every request that arrived, in that order, as far as they are kept.
    pub fn requests(&self) -> Vec<SandboxRequest> {
        self.shared.state().requests()
    }

    /// Deletes the kept requests. The numbering continues.
    pub fn clear_requests(&self) {
        self.shared.state().forget_requests();
    }

    /// Returns the stored accounts, by id.
    pub fn accounts(&self) -> Vec<ContactAccount> {
        self.shared.state().accounts.iter().cloned().collect()
    }

    /// Stores an account, as another program would: a new one, or a replacement for the one with its id.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written.
    pub fn set_account(&self, account: &ContactAccount) -> Result<(), SandboxError> {
        let mut account = account.clone();
        self.shared.options.deviations.complete(&mut account.extra);
        let stored = self.shared.state().put(account, None);
        stored.map_err(|source| self.file_error(source))
    }

    /// Removes an account, as another program would. Returns whether there was one.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written.
    pub fn remove_account(&self, id: i64) -> Result<bool, SandboxError> {
        let removed = self.shared.state().remove(id);
        removed.map_err(|source| self.file_error(source))
    }

    fn file_error(&self, source: std::io::Error) -> SandboxError {
        SandboxError::File { path: self.shared.options.path.clone().unwrap_or_default(), source }
    }

    /// Adds a fault after the others.
    pub fn add_fault(&self, fault: Fault) {
        self.shared.state().script.0.push(fault);
    }

    /// Removes all faults.
    pub fn clear_faults(&self) {
        self.shared.state().script.0.clear();
    }

    /// Closes every connection, as a server does with idle ones, and continues to accept new ones.
    pub fn close_connections(&self) {
        let ending = self.shared.end_connections();
        let began = Instant::now();
        while !ending.is_closed() && began.elapsed() < wire::FAREWELL {
            thread::sleep(Duration::from_micros(200));
        }
    }

    /// Closes the socket and every connection, and waits for the thread. Requests and accounts stay available.
    pub fn stop(&self) {
        if !self.is_here() {
            return;
        }
        let thread = lock(&self.thread).take();
        self.shared.stop.notify_one();
        if let Some(thread) = thread {
            // The requests show everything that its panic could say.
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
        // The thread belongs to the parent: this touches neither it nor a lock that it may have held at the fork.
        std::mem::forget(self.thread.get_mut().map(Option::take));
        std::mem::forget(Arc::clone(&self.shared));
    }
}
