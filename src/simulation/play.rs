//! Plays one seed: its story in its world, on virtual time, and checks it with the oracle.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use tokio::runtime::Builder;
use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio::time::{Duration, sleep, timeout};

use super::dice::Dice;
use super::event::{Event, Record};
use super::job::{self, Refused};
use super::oracle::{self, Job};
use super::permission;
use super::stage::{Stage, Violation, set_stage, stage};
use super::story::{End, How, Lane, Step, Story};
use super::wire::set_line;
use super::world::World;
use crate::account::{AccountFields, Field};
use crate::client::Client;
use crate::config::{BaseUrl, Config};
use crate::lock::lock;
use crate::plan::file::RowView;
use crate::plan::file::simulation::Simulation;
use crate::plan::run::Control;
use crate::plan::{Status, Value};

/// No story takes longer, unless it never ends.
const LONGEST: Duration = Duration::from_secs(60 * 86_400);
/// The pause before the last check, so that every wait and window is over.
const REST: Duration = Duration::from_secs(3 * 3_600);
/// A run stops if it finds that a stage has changed, and again if it cannot tell why. The next one continues.
const MOST_CALLS: usize = 3;

/// The result of a seed.
#[derive(Debug)]
pub(super) struct Played {
    pub(super) violations: Vec<Violation>,
    pub(super) record: Record,
}

/// Plays a story in a world. `folder` is for the plan files, and is deleted.
pub(super) fn play(seed: u64, world: &World, story: &Story, folder: &Path) -> Played {
    // The core stores some values once per process.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _one = lock(&ONE_AT_A_TIME);
    fastrand::seed(seed);
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    let files = Simulation::begin(seed, |path, _| stage(|stage| stage.writes(path)));
    runtime.block_on(async {
        set_stage(Some(Stage::new(seed, world, story.lanes.len())));
        if timeout(LONGEST, Box::pin(whole(seed, story, folder))).await.is_err() {
            stage(|stage| stage.violated(6, "it never ends".to_owned()));
        }
    });
    // Requests in flight end with it, and tell the stage.
    drop(runtime);
    drop(files);
    let Stage { violations, record, .. } = set_stage(None).expect("the stage is still there");
    let _ = fs::remove_dir_all(folder);
    Played { violations, record }
}

async fn whole(seed: u64, story: &Story, folder: &Path) {
    let (people, programs) = stage(|stage| (stage.world.colleague_s, stage.world.other_program_s));
    tokio::spawn(others(seed, "sleep", stage(|stage| stage.world.sleep_s), Stage::sleep));
    tokio::spawn(others(seed, "colleague", people, |stage, dice| {
        let now = stage.now();
        if let Some(text) = stage.service.colleague(now, dice) {
            stage.tell(Event::Other(text));
        }
    }));
    tokio::spawn(others(seed, "program", programs, |stage, _| stage.service.other_program(stage.now())));
    let folders: Vec<PathBuf> = (0..story.lanes.len()).map(|lane| folder.join(lane.to_string())).collect();
    for folder in &folders {
        fs::create_dir_all(folder).expect("a folder for plans");
    }
    let mut tasks = Vec::new();
    let mut shared = None;
    for (number, (lane, folder)) in story.lanes.iter().zip(&folders).enumerate() {
        let process = match shared.filter(|_| story.is_one_process) {
            Some(process) => process,
            None => start_process(folder),
        };
        shared = Some(process);
        let mut actor = Actor { lane: number, folder: folder.clone(), process, client: client(process, number) };
        let lane = lane.clone();
        tasks.push(tokio::spawn(async move { actor.act(&lane).await }));
    }
    for task in tasks {
        task.await.expect("a lane does not panic");
    }
    stage(|stage| {
        stage.service.is_calm = true;
        stage.tell(Event::Other("from now on everything works, and no one else updates accounts".to_owned()));
    });
    sleep(REST).await;
    for (number, (lane, folder)) in story.lanes.iter().zip(&folders).enumerate() {
        if lane.sheets.is_empty() {
            continue;
        }
        let process = start_process(folder);
        let mut actor = Actor { lane: number, folder: folder.clone(), process, client: client(process, number) };
        actor.finish(lane, &mut Dice::new(seed, "finish", number as u64)).await;
    }
}

/// Other people, other programs of the same user, and the sleep of the machine: each acts from time to time, until all
/// is calm.
async fn others(seed: u64, who: &str, mean_s: Option<u64>, act: fn(&mut Stage, &mut Dice)) {
    let Some(mean) = mean_s else { return };
    let mut dice = Dice::new(seed, who, 0);
    loop {
        sleep(Duration::from_millis(dice.between(1, mean * 2_000))).await;
        if stage(|stage| stage.service.is_calm) {
            return;
        }
        stage(|stage| act(stage, &mut dice));
    }
}

/// Starts a process, without knowledge of earlier ones.
fn start_process(folder: &Path) -> usize {
    crate::identity::forget_here(&service());
    crate::turns::forget();
    crate::plan::run::forget();
    stage(|stage| stage.start_process(folder))
}

fn service() -> BaseUrl {
    BaseUrl::new("http://127.0.0.1:1/v3").expect("an address")
}

fn client(process: usize, lane: usize) -> Client {
    let (quota, acquire, turns_shared, seed) = stage(|stage| {
        set_line(stage.add_line(process, lane));
        (stage.world.quota, permission::of(stage, process, lane), stage.world.shares_turns, stage.seed)
    });
    let config = Config {
        base_url: service(),
        quota,
        acquire,
        turns_shared,
        ..Config::new(format!("key-{seed}")).expect("a key")
    };
    Client::new(config).expect("a client")
}

/// Executes the steps of a lane.
struct Actor {
    lane: usize,
    folder: PathBuf,
    process: usize,
    client: Client,
}

impl Actor {
    fn plan_path(&self, lane: &Lane, job: usize) -> PathBuf {
        let name = if lane.has_one_name { 0 } else { job };
        self.folder.join(format!("{name}.replyplan"))
    }

    async fn act(&mut self, lane: &Lane) {
        for step in &lane.steps {
            match step {
                Step::Pause(seconds) => sleep(Duration::from_secs(*seconds)).await,
                Step::Restart => self.restart(),
                _ => drop(self.operate(lane, step).await),
            }
        }
    }

    /// Continues in another process.
    fn restart(&mut self) {
        self.process = start_process(&self.folder);
        self.client = client(self.process, self.lane);
    }

    /// Returns the files of a plan's reverts, and of their reverts, in the order of their names.
    fn reverts(&self, plan: &Path) -> Vec<PathBuf> {
        let stem = plan.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let is_revert = |path: &PathBuf| {
            path.file_name().is_some_and(|name| {
                let name = name.to_string_lossy();
                name.starts_with(&format!("{stem}.revert")) && name.ends_with(".replyplan")
            })
        };
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut reverts: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_revert).collect();
        reverts.sort();
        reverts
    }

    /// The logs of a plan and of its reverts are lost. Recovers each of them, again if its process is killed meanwhile.
    fn lose_logs(&mut self, plan: &Path, job: usize, dies_at: Option<u64>) {
        let reverts = self.reverts(plan);
        if let Some(steps) = dies_at {
            stage(|stage| stage.die_after(self.process, steps));
        }
        for path in reverts.iter().chain(plan.exists().then_some(&plan.to_owned())) {
            if !job::lose_log(path) {
                continue;
            }
            stage(|stage| {
                stage.tell(Event::Other("the log of a plan is lost, and the plan is recovered".to_owned()));
                if let Some(job) = stage.jobs.get_mut(&(self.lane, job)) {
                    job.has_lost_log = true;
                }
            });
            let mut recovered = job::recover(path);
            if stage(|stage| stage.is_dead(self.process)) {
                self.restart();
                recovered = job::recover(path);
            }
            if let Err(refused) = recovered {
                let text = format!("a plan without its log cannot be recovered: {refused}");
                stage(|stage| stage.violated(2, text.replace(&*self.folder.to_string_lossy(), "")));
            }
        }
        stage(|stage| stage.spare(self.process));
    }

    /// Finishes every job without further faults, and checks the result.
    async fn finish(&mut self, lane: &Lane, dice: &mut Dice) {
        for job in 0..lane.sheets.len() {
            // Where updates lose nothing, a job ends without that permission.
            let how = How { clear_unknown: stage(|stage| stage.world.loses_members()), ..How::CALM };
            if !stage(|stage| stage.jobs.contains_key(&(self.lane, job))) {
                continue;
            }
            // An interrupted job can be reverted without being finished first.
            let is_ended = !dice.chance(250) && !job::is_reverted(&self.plan_path(lane, job));
            if is_ended && !self.end(lane, &Step::Apply(job, how)).await {
                stage(|stage| stage.violated(2, format!("job {job} cannot be ended although everything works")));
            }
            if !is_ended || dice.chance(600) {
                let started = stage(|stage| stage.now());
                // Retries what failed before, while not everything worked.
                let is_reverted = self.end(lane, &Step::Revert(job, How { retries: true, ..how })).await;
                // A revert without open rows is not resumed, so its file is at its old place.
                let reverted_by = stage(|stage| stage.reverted_by.remove(&(self.lane, job)));
                if let Some(Ok(report)) = reverted_by.filter(|_| is_reverted).map(|path| job::report(&path)) {
                    tell_report(self.lane, &report);
                    stage(|stage| oracle::reverted(stage, self.lane, job, &report, started));
                } else {
                    let text = format!("job {job} cannot be reverted although everything works");
                    stage(|stage| stage.violated(3, text));
                }
            }
        }
    }

    /// Executes a step, again if it stops because of a stage that changed before all was calm. Returns whether it
    /// finished.
    async fn end(&mut self, lane: &Lane, step: &Step) -> bool {
        let most = if stage(|stage| stage.world.has_stages()) { MOST_CALLS } else { 1 };
        for _ in 0..most {
            if self.operate(lane, step).await {
                return true;
            }
        }
        false
    }

    /// Executes one step. Returns whether it finished.
    async fn operate(&mut self, lane: &Lane, step: &Step) -> bool {
        let number = stage(|stage| stage.start_operation(self.lane, step));
        if let Step::Plan(job, _) = step {
            stage(|stage| stage.sheets.insert((self.lane, *job), lane.sheets[*job].clone()));
        }
        let control = Arc::new(Control::default());
        let end = match step {
            Step::Plan(_, end) | Step::Patch(.., end) | Step::Update(.., end) => *end,
            Step::Apply(_, how) | Step::Revert(_, how) => how.end,
            _ => End::ItsOwn,
        };
        let abandoned = Arc::new(Notify::new());
        let ending = self.prepare(end, &control, &abandoned);
        let died = stage(|stage| stage.died(self.process));
        let done = tokio::select! {
            biased;
            () = died.notified() => None,
            () = abandoned.notified() => Some(Err(Refused::Abandoned)),
            done = Box::pin(self.work(lane, step, &control)) => {
                Some(done).filter(|_| !stage(|stage| stage.is_dead(self.process)))
            }
        };
        if let Some(ending) = ending {
            ending.abort();
        }
        // What the run was about to do ends here.
        yield_now().await;
        let is_abandoned = matches!(done, Some(Err(Refused::Abandoned)));
        stage(|stage| stage.spare(self.process));
        let result = match &done {
            None => "its process was killed".to_owned(),
            Some(Ok(())) => "done".to_owned(),
            // The folder and the process have other names in each run.
            Some(Err(refused)) => {
                let process = format!("({})", std::process::id());
                refused.to_string().replace(&*self.folder.to_string_lossy(), "").replace(&process, "(1)")
            }
        };
        stage(|stage| {
            stage.end_operation(number, result);
            stage.judge_permissions(self.process);
        });
        if let Some(Err(Refused::Run(error))) = &done {
            stage(|stage| oracle::stopped(stage, number, error));
        }
        // A call that was cancelled says nothing: its update may have been applied.
        if let (Step::Patch(..) | Step::Update(..), Some(done), false) = (step, &done, is_abandoned) {
            let error = if let Err(Refused::Call(error)) = done { Some(error) } else { None };
            stage(|stage| oracle::called(stage, number, error));
        }
        if done.is_none() {
            self.restart();
            if let Step::Apply(job, how) | Step::Revert(job, how) = step
                && how.loses_log
            {
                self.lose_logs(&self.plan_path(lane, *job), *job, how.recovery_dies_at);
            }
        } else {
            stage(|stage| oracle::ended(stage, number));
        }
        let is_stopped = control.is_stopping();
        self.judge(
            lane,
            step,
            number,
            end,
            done.is_none() || is_abandoned,
            matches!(done, Some(Ok(()))) && !is_stopped,
        );
        matches!(done, Some(Ok(())))
    }

    fn prepare(
        &self,
        end: End,
        control: &Arc<Control>,
        abandoned: &Arc<Notify>,
    ) -> Option<tokio::task::JoinHandle<()>> {
        let (control, abandoned, process) = (Arc::clone(control), Arc::clone(abandoned), self.process);
        match end {
            End::ItsOwn => None,
            End::Stop(after, grace) => Some(tokio::spawn(async move {
                sleep(Duration::from_millis(after)).await;
                stage(|stage| stage.tell(Event::Other("the run is asked to stop".to_owned())));
                control.stop();
                sleep(Duration::from_millis(grace)).await;
                stage(|stage| stage.tell(Event::Other("the run is abandoned".to_owned())));
                abandoned.notify_one();
            })),
            End::Cancel(after) => Some(tokio::spawn(async move {
                sleep(Duration::from_millis(after)).await;
                stage(|stage| stage.tell(Event::Other("the call is cancelled".to_owned())));
                abandoned.notify_one();
            })),
            End::Kill(after) => Some(tokio::spawn(async move {
                sleep(Duration::from_millis(after)).await;
                stage(|stage| stage.die(process));
            })),
            End::KillAtStep(steps) => {
                stage(|stage| stage.die_after(process, steps));
                None
            }
            End::DiskFails(writes) => {
                stage(|stage| stage.fail_disk_after(process, writes));
                None
            }
        }
    }

    async fn work(&self, lane: &Lane, step: &Step, control: &Arc<Control>) -> Result<(), Refused> {
        let client = &self.client;
        match step {
            Step::Plan(job, _) => {
                let path = self.plan_path(lane, *job);
                if lane.has_one_name && *job > 0 && path.exists() {
                    fs::remove_file(&path).map_err(|error| Refused::Other(error.to_string()))?;
                    stage(|stage| stage.jobs.remove(&(self.lane, *job - 1)));
                }
                job::plan(client, &lane.sheets[*job], &path, control).await
            }
            Step::Apply(job, how) if how.is_twice => {
                Box::pin(job::apply_twice(client, &self.plan_path(lane, *job), *how, control)).await
            }
            Step::Apply(job, how) => job::apply(client, &self.plan_path(lane, *job), *how, control).await,
            Step::Revert(job, how) => {
                let mut files = vec![self.plan_path(lane, *job)];
                // Otherwise, they may be those of an earlier job.
                if !lane.has_one_name {
                    files.extend(self.reverts(&files[0]));
                }
                let path = job::revert(client, &files[how.of % files.len()], *how, control).await?;
                stage(|stage| stage.reverted_by.insert((self.lane, *job), path));
                Ok(())
            }
            Step::Patch(id, given, _) => client.patch(*id, &fields(given)).await.map(drop).map_err(Refused::Call),
            Step::Update(id, given, _) => client.update(*id, &fields(given)).await.map(drop).map_err(Refused::Call),
            Step::Pause(_) | Step::Restart => Ok(()),
        }
    }

    /// Checks the content of the plan file after an operation.
    fn judge(&self, lane: &Lane, step: &Step, operation: usize, end: End, is_killed: bool, is_done: bool) {
        let (job, is_plan) = match step {
            Step::Plan(job, _) => (*job, true),
            Step::Apply(job, _) | Step::Revert(job, _) => (*job, false),
            _ => return,
        };
        let report = match job::report(&self.plan_path(lane, job)) {
            Ok(report) => report,
            Err(refused) => {
                let is_planned = stage(|stage| stage.jobs.contains_key(&(self.lane, job)));
                if is_planned || (is_plan && is_done) {
                    stage(|stage| stage.violated(2, format!("the plan of job {job} cannot be read: {refused}")));
                }
                return;
            }
        };
        tell_report(self.lane, &report);
        let sheet = &lane.sheets[job];
        stage(|stage| {
            let started = stage.operations[operation].started;
            // The file says that the update may have been applied, and no request shows it.
            let is_sent = |row: &RowView| {
                stage.puts.iter().any(|(_, put)| put.operation == operation && Some(put.id) == row.account_id)
            };
            let is_marked = |row: &&RowView| is_killed && row.status == Status::Unknown && !is_sent(row);
            let marked: Vec<usize> = report.rows.iter().filter(is_marked).map(|row| row.row as usize).collect();
            if is_plan {
                let planning = &stage.operations[operation];
                let from = planning.started.saturating_sub(stage.lag());
                let planned = (from, planning.ended.unwrap_or_default());
                stage.jobs.insert((self.lane, job), Job::new(sheet, planned, operation, &report));
                oracle::planned(stage, self.lane, job, &report);
            }
            if let Some(job) = stage.jobs.get_mut(&(self.lane, job)) {
                job.is_shaken |= end != End::ItsOwn;
                for row in marked {
                    job.unknown_since.entry(row).or_insert(started);
                }
            }
            if let Step::Apply(_, how) = step
                && is_killed
                && !how.is_twice
                && !how.loses_log
            {
                oracle::killed(stage, self.lane, job, operation, &report, *how);
            }
            let ran = if let Step::Apply(_, how) = step {
                Some(*how).filter(|how| !(is_killed && how.loses_log))
            } else {
                None
            };
            oracle::reported(stage, self.lane, job, &report, ran, ran.is_some() && is_done);
        });
        let reverted_by = stage(|stage| stage.reverted_by.get(&(self.lane, job)).cloned());
        if let Some(path) = reverted_by.filter(|_| is_done && matches!(step, Step::Revert(..)))
            && let Ok(report) = job::report(&path)
        {
            tell_report(self.lane, &report);
            stage(|stage| oracle::reported_revert(stage, self.lane, job, operation, &report));
        }
    }
}

fn tell_report(lane: usize, report: &job::Report) {
    stage(|stage| {
        // A row is reported again only if it changed.
        let mut told = std::mem::take(&mut stage.told);
        for row in &report.rows {
            let changes = report.changes.iter().filter(|change| change.row == row.row);
            let changes: Vec<String> = changes
                .map(|change| format!("{} {:?} -> {:?}", change.field.name(), change.before, change.after))
                .collect();
            let id = row.account_id.map_or_else(String::new, |id| format!(" (account {id})"));
            let error = row.error.as_deref().map_or_else(String::new, |error| format!(": {error}"));
            let text = format!("row {}{id} {}{error} {}", row.row, row.status.as_str(), changes.join(", "));
            if told.insert((lane, row.row, text.clone())) {
                stage.tell(Event::Row { lane, text });
            }
        }
        stage.told = told;
    });
}

fn fields(given: &[(Field, Value)]) -> AccountFields {
    let mut fields = AccountFields::default();
    for (field, value) in given {
        fields.set(*field, value.as_field_value()).expect("a value of the field's kind");
    }
    fields
}
