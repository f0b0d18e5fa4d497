//! Reading the accounts with the fewest requests, into a plan's file.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use super::control::Control;
use super::pace::{Pace, Verdict};
use super::sent::{now_ms, sent_now};
use super::{ROUNDS, RunError};
use crate::answer::Item;
use crate::client::{Client, ListQuery, Observer};
use crate::error::ErrorKind;
use crate::plan::file::{Builder, FileError, Header, PlanFile, PlannedRow};
use crate::plan::planner::{Planner, Step};
use crate::plan::source::{Options, Table};

/// Plans a table: reads the accounts with the fewest requests and keeps what every row changes. Gives the file, or
/// `None` when it was stopped; then there is no file.
///
/// # Errors
/// [`RunError`]; then there is no file either.
pub async fn plan(
    client: &Client,
    table: &Table,
    options: &Options,
    path: &Path,
    control: &Arc<Control>,
    observer: Option<Arc<dyn Observer>>,
) -> Result<Option<PlanFile>, RunError> {
    let mut pace = Pace::new(client, control, observer);
    let mut builder = Builder::create(path, &header(client, table, options))?;
    control.state().rows = table.len();
    let mut give = |row: PlannedRow| {
        let status = row.status;
        builder.add(row)?;
        control.count(status);
        Ok::<(), FileError>(())
    };
    let mut planner = Planner::new(table, options, &mut give)?;
    let mut sent = Vec::new();
    let started = Instant::now();
    let mut rounds: HashMap<u64, u32> = HashMap::new();
    loop {
        let step = planner.next_step();
        if let Step::Refused(incomplete) = step {
            return Err(RunError::Call(incomplete.into_error(started.elapsed())));
        }
        if step == Step::Done {
            break;
        }
        let Some(admission) = pace.admit().await else { return Ok(None) };
        sent.push(sent_now());
        let client = pace.client.admitted();
        let asked = async {
            match &step {
                Step::Page { top, skip } => {
                    client.list_page(&ListQuery::default(), *top, *skip).await.map(|page| (page.items, page.has_more))
                }
                Step::Account { id, .. } => client.get(*id).await.map(|account| (vec![Item::Account(account)], false)),
                Step::Refused(_) | Step::Done => Ok((Vec::new(), false)),
            }
        };
        // Nothing is lost with a read.
        let result = tokio::select! {
            result = asked => result,
            () = control.stopped() => return Ok(None),
        };
        drop(admission);
        pace.gate.heed(&result);
        match (step, result) {
            (Step::Page { skip, .. }, Ok((accounts, has_more))) => {
                planner.page(skip, &accounts, has_more, &mut give)?;
                pace.succeeded();
            }
            (_, Ok((accounts, _))) => {
                planner.single(accounts.into_iter().next().and_then(Item::into_account).as_ref(), &mut give)?;
                pace.succeeded();
            }
            (Step::Account { .. }, Err(error)) if error.kind() == ErrorKind::NotFound => {
                planner.single(None, &mut give)?;
                pace.succeeded();
            }
            (Step::Page { .. }, Err(error)) if error.kind() == ErrorKind::UnexpectedResponse => {
                return Err(RunError::Call(error));
            }
            (Step::Account { .. }, Err(error)) if error.kind() == ErrorKind::UnexpectedResponse => {
                planner.unreadable(&error.to_string(), &mut give)?;
            }
            (step, Err(error)) => {
                let verdict = pace.failed(&error);
                let Step::Account { row, .. } = step else {
                    let Verdict::Again = verdict else { return Err(RunError::Call(error)) };
                    continue;
                };
                let tried = rounds.entry(row).or_default();
                *tried += u32::from(error.kind() != ErrorKind::RateLimit);
                match verdict {
                    Verdict::Fatal => return Err(RunError::Call(error)),
                    Verdict::Again if *tried < ROUNDS => planner.later(),
                    Verdict::Again | Verdict::Own => planner.unreadable(&error.to_string(), &mut give)?,
                }
            }
        }
        control.state().requests_left = planner.requests_left().unwrap_or(1);
    }
    planner.finish(&mut give)?;
    let file = builder.seal(table.len())?;
    sent.extend(pace.take_repeated());
    file.note_requests(sent).await?;
    Ok(Some(file))
}

fn header(client: &Client, table: &Table, options: &Options) -> Header {
    let config = client.config();
    Header {
        base_url: config.base_url.to_string(),
        act_as: config.act_as.as_ref().map(ToString::to_string),
        team_id: config.team_id,
        mode: options.mode,
        nulls: options.nulls,
        match_on: options.match_on,
        created_at_ms: now_ms(),
        source: table.description().to_owned(),
        is_revert: false,
    }
}

/// Makes the plan that takes back what a plan has changed, in a file of its own.
///
/// # Errors
/// [`FileError`] when one of the two files cannot be used.
pub fn reverse(file: &PlanFile, path: &Path) -> Result<PlanFile, FileError> {
    let header = Header { is_revert: true, created_at_ms: now_ms(), ..file.header().clone() };
    let mut builder = Builder::create(path, &header)?;
    let mut rows = 0;
    file.revert_rows(|row| {
        rows += 1;
        builder.add(row)
    })?;
    builder.seal(rows)
}
