//! Checks how the service behaves, and describes where it differs from what this version expects.
//!
//! [`reading`] sends at most five requests and no update. [`Trial`] also changes one account and restores it. Pure
//! functions create the texts, which contain neither the key nor a value of an account.

mod facts;
mod kept;
mod losses;
mod restoring;
mod said;
mod trial;
mod wording;

use std::time::Duration;

use serde_json::{Map, Value};

use crate::account::{ContactAccount, FieldError, check_id};
use crate::answer::{Item, Page};
use crate::client::{Client, ListQuery, Looking, Seen};
use crate::error::{Call, Error, Failure, Operation};
use crate::paging::LONGEST_PAGE;

use self::facts::{Compared, Facts};
pub use self::trial::Trial;

/// The most requests of a reading.
const MOST_REQUESTS: u32 = 5;
/// One request for as many accounts as a page can have: more accounts show more forms.
const TOP: u32 = LONGEST_PAGE;
/// The pause before a retry if the service asks for none.
const PAUSE: Duration = Duration::from_millis(500);

/// One finding of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The subject, such as `dates`.
    pub topic: &'static str,
    /// What the check found. Never contains the key or a value of an account.
    pub found: String,
    /// What this means for the user.
    pub follows: String,
    /// Whether it is what this version expects.
    pub verdict: Verdict,
}

/// Whether the service behaves as this version expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It does.
    AsExpected,
    /// It does not.
    Differs,
    /// The check could not find out, without a fault of the service: no account shows it.
    NotKnown,
}

impl Verdict {
    /// Returns its words in a report.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AsExpected => "as expected",
            Self::Differs => "differs",
            Self::NotKnown => "not known",
        }
    }
}

impl From<bool> for Verdict {
    fn from(differs: bool) -> Self {
        if differs { Self::Differs } else { Self::AsExpected }
    }
}

/// The result of reading the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// The findings, in a fixed order.
    pub findings: Vec<Finding>,
    /// The number of requests sent.
    pub requests: u32,
    /// Why the account must not be updated, although the caller asked for it.
    pub obstacle: Option<String>,
}

/// The result of sending the key in one header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Tried {
    /// The key was not sent in this header, or no answer confirmed it.
    #[default]
    Untold,
    /// It was accepted.
    Accepted,
    /// It was refused with 401.
    Refused,
}

/// The results for both headers that can carry a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Key {
    api_key_header: Tried,
    bearer: Tried,
    /// Whether the settings allow only one header.
    is_chosen: bool,
}

impl Key {
    fn tried(&mut self, bearer: bool, outcome: Tried) {
        *(if bearer { &mut self.bearer } else { &mut self.api_key_header }) = outcome;
    }
}

/// Sends at most five requests and no update. Always reads `account`, if it is given.
///
/// A failed request is a finding, not an error.
///
/// # Errors
/// Returns [`Error::Validation`] if the id is invalid.
pub async fn reading(client: &Client, account: Option<i64>) -> Result<Reading, Error> {
    if let Some(fault) = account.and_then(|id| check_id(id).err()) {
        return Err(refused(fault));
    }
    let client = client.without_memory();
    let chosen = client.chosen_bearer();
    let mut session = Session {
        looking: client.begin_looking(),
        client,
        bearer: chosen.unwrap_or_default(),
        key: Key { is_chosen: chosen.is_some(), ..Key::default() },
        left: MOST_REQUESTS,
    };
    let mut facts = Facts::default();
    let page = session.ask(Ask::Page(TOP)).await.map(|answer| {
        facts.limits.extend(answer.limits.iter().cloned());
        facts.items(&answer.items, &answer.unreadable);
        answer.items
    });
    let items = page.as_ref().map(Vec::as_slice).unwrap_or_default();
    let mut obstacle = None;
    let mut failure = page.as_ref().err().map(|failure| said::failure(failure, &session.client));
    for id in facts::worth_reading(items, account) {
        match session.ask(Ask::Account(id)).await {
            Ok(answer) => {
                facts.limits.extend(answer.limits);
                for whole in &answer.items {
                    facts.whole(whole);
                    let item = items.iter().find(|item| facts::id(item) == Some(id));
                    let compared = item.map(|item| Compared::of(item, whole));
                    if account == Some(id) {
                        obstacle = match (&compared, item) {
                            (Some(compared), Some(item)) => obstacle_in_list(compared, item),
                            _ => session.search_and_compare(id, whole, &mut facts).await,
                        };
                    }
                    facts.compared.extend(compared);
                }
            }
            Err(failed) => {
                let said = said::failure(&failed, &session.client);
                if account == Some(id) {
                    obstacle = Some(format!("it could not be read: {said}"));
                }
                // Nothing shows that the account of the caller exists.
                let is_unknown = !items.iter().any(|item| facts::id(item) == Some(id));
                if !is_unknown || !failed.is_about_the_account() {
                    failure.get_or_insert(said);
                }
            }
        }
    }
    session.try_the_other_header().await;
    let findings = wording::reading(session.key, &facts, failure.as_deref(), &session.client);
    Ok(Reading { findings, requests: session.looking.requests(), obstacle })
}

/// Returns the error for an invalid id.
fn refused(fault: FieldError) -> Error {
    Error::Validation { call: Call { operation: Operation::Get, id: None }, errors: vec![fault] }
}

/// Returns why an account must not be updated, from its list item.
fn obstacle_in_list(compared: &Compared, item: &Map<String, Value>) -> Option<String> {
    wording::contradiction(compared).or_else(|| restoring::unknown_members(item))
}

/// The kind of a request.
#[derive(Clone, Copy)]
enum Ask<'a> {
    /// The first page of a list, with this number of accounts.
    Page(u32),
    /// The accounts that match a text.
    Search(&'a str),
    Account(i64),
}

/// The parts of an answer that the check uses.
struct Answered {
    items: Vec<Map<String, Value>>,
    /// Why items are unreadable.
    unreadable: Vec<String>,
    limits: Vec<String>,
}

/// The requests of one reading.
struct Session {
    client: Client,
    looking: Looking,
    bearer: bool,
    key: Key,
    /// The number of requests left.
    left: u32,
}

impl Session {
    /// Sends a request. Tries the other header if the service refuses the first one, and retries once if that may help.
    async fn ask(&mut self, ask: Ask<'_>) -> Result<Answered, Failure> {
        let mut may_repeat = true;
        loop {
            if self.left == 0 {
                return Err(Failure::Internal("the check already sent its five requests".to_owned()));
            }
            let failure = match self.send(ask, self.bearer).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            if matches!(&failure, Failure::Api(answer) if answer.status == 401) {
                if self.bearer || self.key.is_chosen || self.key.api_key_header == Tried::Accepted || self.left == 0 {
                    return Err(failure);
                }
                self.key.api_key_header = Tried::Refused;
                self.bearer = true;
                continue;
            }
            let wait = failure.retry_after().unwrap_or(PAUSE);
            if !failure.is_retryable() || !may_repeat || self.left == 0 || !self.looking.has_time_for(wait) {
                return Err(failure);
            }
            may_repeat = false;
            self.client.pause(&self.looking, wait).await;
        }
    }

    /// Searches for the list item of an account that is not on the first page. Returns why the account must not be
    /// updated.
    async fn search_and_compare(&mut self, id: i64, whole: &Map<String, Value>, facts: &mut Facts) -> Option<String> {
        let name = whole.get("name").and_then(Value::as_str).unwrap_or_default();
        match self.ask(Ask::Search(name)).await {
            Ok(answer) => match answer.items.iter().find(|item| facts::id(item) == Some(id)) {
                Some(item) => {
                    let compared = Compared::of(item, whole);
                    let obstacle = obstacle_in_list(&compared, item);
                    facts.compared.push(compared);
                    obstacle
                }
                None => Some(wording::not_compared("the list does not show it")),
            },
            Err(failed) => {
                let why = format!("its list item could not be read ({})", said::failure(&failed, &self.client));
                Some(wording::not_compared(&why))
            }
        }
    }

    /// Sends a request once.
    async fn send(&mut self, ask: Ask<'_>, bearer: bool) -> Result<Answered, Failure> {
        self.left -= 1;
        let (search, top) = match ask {
            Ask::Page(top) => (None, top),
            Ask::Search(text) => (Some(text.to_owned()), TOP),
            Ask::Account(_) => (None, 0),
        };
        let query = ListQuery { search, ..ListQuery::default() };
        let outcome = match ask {
            Ask::Page(_) | Ask::Search(_) => {
                self.client.look_at_page(&mut self.looking, &query, top, bearer).await.map(Answered::page)
            }
            Ask::Account(id) => self.client.look_at_account(&mut self.looking, id, bearer).await.map(Answered::account),
        };
        match &outcome {
            Ok(_) => self.key.tried(bearer, Tried::Accepted),
            Err(Failure::Api(answer)) if answer.status == 401 => self.key.tried(bearer, Tried::Refused),
            // The service knows a user who has no access to this account.
            Err(failure) if is_known(failure) => self.key.tried(bearer, Tried::Accepted),
            Err(_) => {}
        }
        outcome
    }

    /// Finds out whether the service also accepts the bearer scheme, if that is worth one more request.
    async fn try_the_other_header(&mut self) {
        let is_open = self.key.api_key_header == Tried::Accepted && self.key.bearer == Tried::Untold;
        if is_open && !self.key.is_chosen && self.left > 0 {
            // The result is in the key's outcome.
            let _ = self.send(Ask::Page(1), true).await;
        }
    }
}

/// Returns whether a failure is the service's answer to an accepted key: about the account, or about a scope.
fn is_known(failure: &Failure) -> bool {
    let lacks_a_scope = matches!(failure, Failure::Api(answer) if answer.status == 403 && answer.is_problem);
    lacks_a_scope || failure.is_about_the_account()
}

impl Answered {
    fn page(seen: Seen<Page>) -> Self {
        let unreadable = seen.read.items.into_iter().filter_map(|item| match item {
            Item::Unreadable { reason, .. } => Some(reason),
            Item::Account(_) => None,
        });
        let items = match seen.raw {
            Value::Object(mut page) => page.remove("items"),
            _ => None,
        };
        let items = match items {
            Some(Value::Array(items)) => items.into_iter().filter_map(object).collect(),
            _ => Vec::new(),
        };
        Self { items, unreadable: unreadable.collect(), limits: seen.limits }
    }

    fn account(seen: Seen<ContactAccount>) -> Self {
        Self { items: object(seen.raw).into_iter().collect(), unreadable: Vec::new(), limits: seen.limits }
    }
}

fn object(value: Value) -> Option<Map<String, Value>> {
    if let Value::Object(members) = value { Some(members) } else { None }
}
