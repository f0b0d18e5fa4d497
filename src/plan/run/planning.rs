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
use crate::client::{Client, ListQuery, Observer, Slot};
use crate::clock::{Moment, now_ms};
use crate::error::{Error, WaitReason};
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
        // Planning a million rows may need no request, so this also checks whether to stop.
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
    let everything = ListQuery::default();
    let mut awake_since = Moment::now();
    loop {
        match planner.next_step() {
            Step::Done => break,
            Step::Refused(incomplete) => {
                return Err(RunError::Call(incomplete.into_error(waits.started.elapsed())).into());
            }
            Step::Page { top, skip } => {
                let send = |slot| client.list_page_once(slot, &everything, top, skip);
                let answer = waits.ask(client, control, None, send).await?;
                // tokio's clock stops while the computer sleeps.
                if awake_since.has_slept() {
                    planner.slept();
                }
                awake_since = Moment::now();
                match answer {
                    Ok(page) => planner.page(skip, &page.items, page.has_more, &mut give)?,
                    Err((Verdict::Retry(_), _)) => {}
                    Err((_, refusal)) => return Err(RunError::Call(refusal.error).into()),
                }
            }
            Step::Account { id } => {
                match waits.ask(client, control, Some(id), |slot| client.get_once(slot, id)).await? {
                    Ok(account) => planner.single(Some(&account), &mut give)?,
                    Err((_, refusal)) if refusal.kind == Kind::NotFound => planner.single(None, &mut give)?,
                    Err((Verdict::Retry(_), _)) => planner.later(),
                    Err((Verdict::GiveUp | Verdict::SetAside, refusal)) => {
                        planner.unreadable(&refusal.error.to_string(), &mut give)?;
                    }
                    Err((Verdict::Stop, refusal)) => return Err(RunError::Call(refusal.error).into()),
                }
            }
        }
        control.state().requests_left = planner.requests_left().unwrap_or(1);
    }
    planner.finish(&mut give)?;
    builder.note_requests(waits.sent);
    Ok(builder.seal(table.len())?)
}

/// The failures so far, and when to retry.
struct Waits {
    policy: Policy,
    started: Instant,
    /// By account: a row may need several of them.
    attempts: HashMap<i64, u32>,
    not_before: HashMap<i64, Duration>,
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

    /// Sends a request when its time has come, for an account or for none. A failure comes with what follows from it.
    async fn ask<T, F: Future<Output = Result<T, Error>>>(
        &mut self,
        client: &Client,
        control: &Control,
        account: Option<i64>,
        send: impl FnOnce(Slot) -> F,
    ) -> Result<Result<T, (Verdict, Refusal)>, End> {
        let of_account = account.and_then(|account| self.not_before.get(&account).copied()).unwrap_or_default();
        control.wait(self.started + of_account.max(self.policy.paused_until()), WaitReason::BackOff).await;
        let slot = admit(client, control).await.map_err(RunError::Acquire)?.ok_or(End::Stopped)?;
        self.sent.push(sent_now());
        // A lost read has no effect.
        Ok(match control.unless_stopped(send(slot)).await.ok_or(End::Stopped)? {
            Ok(answer) => {
                self.policy.succeeded(Direction::Read);
                Ok(answer)
            }
            Err(error) => {
                let refusal = error.into();
                Err((self.failed(account, &refusal), refusal))
            }
        })
    }

    fn failed(&mut self, account: Option<i64>, refusal: &Refusal) -> Verdict {
        let now = self.started.elapsed();
        let Some(account) = account else { return self.policy.failed(Direction::Read, None, &mut 0, refusal, now) };
        let attempts = self.attempts.entry(account).or_default();
        let verdict = self.policy.failed(Direction::Read, Some(account.unsigned_abs()), attempts, refusal, now);
        if let Verdict::Retry(from) = verdict {
            self.not_before.insert(account, from);
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
        source_digest: table.digest(),
        suspicions: table.suspicions().to_vec(),
        generation: 0,
    })
}
