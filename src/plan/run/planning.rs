//! Plans a table: sends the requests of the [`Planner`], and stores every row in the plan's file.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::RunError;
use super::control::Control;
use super::policy::{Direction, Kind, Policy, Refusal, Verdict};
use super::request::{Counter, admit};
use super::sent::sent_now;
use crate::answer::Page;
use crate::client::{Client, ListQuery, Observer};
use crate::clock::now_ms;
use crate::error::{Error, Failure, WaitReason};
use crate::plan::file::{Builder, FileError, Header, KeyMark, PlanFile, PlannedRow};
use crate::plan::planner::{Planner, Step};
use crate::plan::source::{Options, Table};

/// Plans a table: reads the accounts with few requests and stores what every row changes. Returns the file, or `None`
/// if it was stopped; then there is no file.
///
/// # Errors
/// Returns [`RunError`] if planning fails; there is then no file.
pub async fn plan(
    client: &Client,
    table: &Table,
    options: &Options,
    path: &Path,
    control: &Arc<Control>,
    observer: Option<Arc<dyn Observer>>,
) -> Result<Option<PlanFile>, RunError> {
    let client = client.observed(Arc::new(Counter::new(control, observer)));
    match plan_rows(&client, table, options, path, control).await {
        Ok(file) => Ok(Some(file)),
        Err(End::Stopped) => Ok(None),
        Err(End::Failed(error)) => Err(error),
    }
}

/// Why there is no plan.
enum End {
    Stopped,
    Failed(RunError),
}

impl<E: Into<RunError>> From<E> for End {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

async fn plan_rows(
    client: &Client,
    table: &Table,
    options: &Options,
    path: &Path,
    control: &Control,
) -> Result<PlanFile, End> {
    let mut builder = Builder::create(path, &header(client, table, options)?)?;
    control.state().rows = table.len();
    let mut give = |row: PlannedRow| {
        // A million rows may need no request.
        if control.is_stopping() {
            return Err(End::Stopped);
        }
        let status = row.status;
        builder.add(row)?;
        control.count(status);
        Ok(())
    };
    let mut planner = Planner::new(table, options, &mut give)?;
    let mut waits = Waits::new(client.config().max_attempts);
    loop {
        let step = planner.next_step();
        let is_account = matches!(step, Step::Account { .. });
        let answer = waits.ask(client, control, &step).await.map_err(RunError::Acquire)?;
        match answer.ok_or(End::Stopped)? {
            Asked::Nothing => break,
            Asked::Incomplete(error) => return Err(RunError::Call(error).into()),
            Asked::Page { skip, page } => planner.page(skip, &page.items, page.has_more, &mut give)?,
            Asked::Account(account) => planner.single(Some(&account), &mut give)?,
            Asked::Refused(refusal) => match waits.failed(&step, &refusal) {
                _ if refusal.kind == Kind::NotFound && is_account => planner.single(None, &mut give)?,
                Verdict::Retry(_) if is_account => planner.later(),
                Verdict::Retry(_) => {}
                Verdict::GiveUp | Verdict::SetAside if is_account => {
                    planner.unreadable(&refusal.error.to_string(), &mut give)?;
                }
                _ => return Err(RunError::Call(refusal.error).into()),
            },
        }
        control.state().requests_left = planner.requests_left().unwrap_or(1);
    }
    planner.finish(&mut give)?;
    builder.note_requests(waits.sent);
    Ok(builder.seal(table.len())?)
}

/// The result of a step.
enum Asked {
    /// The outcome of every row is known.
    Nothing,
    /// The list is not readable completely.
    Incomplete(Error),
    Page {
        skip: u64,
        page: Page,
    },
    Account(Box<crate::account::ContactAccount>),
    Refused(Refusal),
}

/// The failures so far, and when to retry.
struct Waits {
    policy: Policy,
    started: Instant,
    attempts: HashMap<u64, u32>,
    not_before: HashMap<u64, Duration>,
    /// When requests were sent, in milliseconds since 1970.
    sent: Vec<i64>,
}

impl Waits {
    fn new(allowed: u32) -> Self {
        Self {
            policy: Policy::new(allowed),
            started: Instant::now(),
            attempts: HashMap::new(),
            not_before: HashMap::new(),
            sent: Vec::new(),
        }
    }

    /// Sends the request of a step when its time has come. Returns `None` if the run is to stop.
    ///
    /// # Errors
    /// [`Failure::Acquire`].
    async fn ask(&mut self, client: &Client, control: &Control, step: &Step) -> Result<Option<Asked>, Failure> {
        let of_row = match step {
            Step::Done => return Ok(Some(Asked::Nothing)),
            Step::Refused(incomplete) => {
                return Ok(Some(Asked::Incomplete(incomplete.clone().into_error(self.started.elapsed()))));
            }
            Step::Account { row, .. } => self.not_before.get(row).copied().unwrap_or_default(),
            Step::Page { .. } => Duration::ZERO,
        };
        control.wait(self.started + of_row.max(self.policy.paused_until()), WaitReason::BackOff).await;
        let Some(slot) = admit(client, control).await? else { return Ok(None) };
        self.sent.push(sent_now());
        let asked = async {
            match step {
                Step::Page { top, skip } => {
                    let page = client.list_page_once(slot, &ListQuery::default(), *top, *skip).await;
                    page.map(|page| Asked::Page { skip: *skip, page })
                }
                Step::Account { id, .. } => {
                    client.get_once(slot, *id).await.map(|account| Asked::Account(Box::new(account)))
                }
                Step::Refused(_) | Step::Done => Ok(Asked::Nothing),
            }
        };
        // A lost read has no effect.
        let answer: Result<Asked, Error> = tokio::select! {
            biased;
            answer = asked => answer,
            () = control.stopped() => return Ok(None),
        };
        Ok(Some(match answer {
            Ok(asked) => {
                self.policy.succeeded(Direction::Read);
                asked
            }
            Err(error) => Asked::Refused(error.into()),
        }))
    }

    fn failed(&mut self, step: &Step, refusal: &Refusal) -> Verdict {
        let now = self.started.elapsed();
        let &Step::Account { row, .. } = step else {
            return self.policy.failed(Direction::Read, None, &mut 0, refusal, now);
        };
        let verdict =
            self.policy.failed(Direction::Read, Some(row), self.attempts.entry(row).or_default(), refusal, now);
        if let Verdict::Retry(from) = verdict {
            self.not_before.insert(row, from);
        }
        verdict
    }
}

fn header(client: &Client, table: &Table, options: &Options) -> Result<Header, FileError> {
    let config = client.config();
    Ok(Header {
        identity: Header::new_identity()?,
        parent: None,
        parent_writes: None,
        key: KeyMark::of(&config.api_key)?,
        base_url: config.base_url.to_string(),
        act_as: config.act_as.as_ref().map(ToString::to_string),
        team_id: config.team_id,
        mode: options.mode,
        nulls: options.nulls,
        match_on: options.match_on,
        created_at_ms: now_ms(),
        source: table.description().to_owned(),
        source_digest: table.digest(options),
        suspicions: table.suspicions().to_vec(),
        is_revert: false,
    })
}
