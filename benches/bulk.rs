//! Measures how long it takes to plan a million rows without a network, from Arrow to a complete plan file.
//!
//! `bulk ROWS ordered|shuffled id|domain_name|name ONE_IN FILE` prints one line of JSON and leaves the plan in FILE.
//! One row in so many changes its city. The accounts come as pages of a thousand, decoded beforehand: to make them is
//! not in the time.

use std::error::Error;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field as Column, Schema};
use replyio::plan::MatchOn;
use replyio::plan::file::{Builder, FileError, Header, KeyMark, PlannedRow};
use replyio::plan::planner::{Planner, Step};
use replyio::plan::source::{Options, Table};
use replyio::{ApiKey, BaseUrl, ContactAccount, Field, Item, LONGEST_PAGE};

/// As in the wheel, whose code has it already.
#[cfg(not(feature = "python"))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Where the plan says that it is for; `bulk.py` opens it with the same.
const BASE_URL: &str = "http://127.0.0.1:9/v3";
/// The key of that client.
const KEY: &str = "k";
/// The rows of one batch, as polars and `DuckDB` hand them over.
const BATCH: u64 = 100_000;
/// So many pages are made while the clock stands still. The thread that writes the file goes on meanwhile, with what is
/// queued for it: a few thousand rows, so it must not happen too often.
const PAGES_AT_ONCE: u64 = 100;
/// Fields that are the same text in every account; the others say which one it is.
const SHARED: [Field; 7] = [
    Field::Industry,
    Field::CompanySize,
    Field::Country,
    Field::State,
    Field::City,
    Field::TimeZoneId,
    Field::OwnerUserId,
];

/// The account that all others are made from.
fn template() -> Outcome<ContactAccount> {
    Ok(serde_json::from_str(include_str!("data/answer.json"))?)
}

/// The text of a field of an account. `bulk_worker.py` makes the same for pydantic.
fn text(template: &ContactAccount, field: Field, id: u64) -> String {
    let value = template.value(field);
    let Some(replyio::FieldValue::Text(text)) = value else { return String::new() };
    match field {
        _ if SHARED.contains(&field) => text.to_owned(),
        // Still a domain, and too short for the planner to assume that the list shows only its beginning.
        Field::DomainName => format!("c{id}.{}", text.trim_start_matches("northwind-")),
        _ => format!("{text} {id}"),
    }
}

fn account(template: &ContactAccount, id: u64) -> ContactAccount {
    let text = |field| Some(text(template, field, id));
    ContactAccount {
        id: id.cast_signed(),
        name: text(Field::Name).unwrap_or_default(),
        description: text(Field::Description),
        domain_name: text(Field::DomainName),
        domain_secondary: text(Field::DomainSecondary),
        linked_in_url: text(Field::LinkedInUrl),
        phone: text(Field::Phone),
        twitter_url: text(Field::TwitterUrl),
        logo_url: text(Field::LogoUrl),
        email: text(Field::Email),
        ..template.clone()
    }
}

/// The account of a row: the next one, or any.
fn id_of(row: u64, rows: u64, shuffled: bool) -> u64 {
    /// Shares no factor with a power of ten, so that every account comes once.
    const STRIDE: u64 = 387_420_489;
    1 + if shuffled { row.wrapping_mul(STRIDE) % rows } else { row }
}

/// What is measured.
struct Job {
    rows: u64,
    shuffled: bool,
    match_on: MatchOn,
    /// One row in so many changes something.
    changes_one_in: u64,
}

fn batches(template: &ContactAccount, job: &Job) -> Outcome<(Arc<Schema>, Vec<RecordBatch>)> {
    let &Job { rows, shuffled, .. } = job;
    let is_key = |field: &&Field| field.name() == job.match_on.as_str();
    let fields: Vec<Field> = Field::ALL.iter().filter(|field| !is_key(field)).copied().collect();
    let key = Field::ALL.iter().find(is_key).copied();
    let kind = if key.is_some() { DataType::Utf8 } else { DataType::Int64 };
    let mut columns = vec![Column::new(job.match_on.as_str(), kind, false)];
    for field in &fields {
        let kind = if *field == Field::OwnerUserId { DataType::Int64 } else { DataType::Utf8 };
        columns.push(Column::new(field.name(), kind, true));
    }
    let schema = Arc::new(Schema::new(columns));
    let mut batches = Vec::new();
    let mut first = 0;
    while first < rows {
        let ids: Vec<u64> = (first..rows.min(first + BATCH)).map(|row| id_of(row, rows, shuffled)).collect();
        first += BATCH;
        let mut arrays: Vec<ArrayRef> = vec![match key {
            Some(field) => Arc::new(StringArray::from_iter_values(ids.iter().map(|id| text(template, field, *id)))),
            None => Arc::new(Int64Array::from_iter_values(ids.iter().map(|id| id.cast_signed()))),
        }];
        for field in &fields {
            let cell = |id: &u64| match field {
                Field::City if id.is_multiple_of(job.changes_one_in) => "Oslo".to_owned(),
                _ => text(template, *field, *id),
            };
            arrays.push(if *field == Field::OwnerUserId {
                Arc::new(Int64Array::from_iter_values(ids.iter().map(|_| template.owner_user_id)))
            } else {
                Arc::new(StringArray::from_iter_values(ids.iter().map(cell)))
            });
        }
        batches.push(RecordBatch::try_new(Arc::clone(&schema), arrays)?);
    }
    Ok((schema, batches))
}

/// The pages of the list, made anew as the plan gets on.
struct Pages {
    template: ContactAccount,
    rows: u64,
    items: Vec<Item>,
    first: u64,
}

impl Pages {
    fn new(template: ContactAccount, rows: u64) -> Self {
        let mut pages = Self { template, rows, items: Vec::new(), first: 0 };
        pages.fill(0);
        pages
    }

    /// Whether a whole page is there from here on.
    fn has(&self, top: u32, skip: u64) -> bool {
        skip >= self.first && self.rows.min(skip + u64::from(top)) <= self.first + self.items.len() as u64
    }

    fn fill(&mut self, skip: u64) {
        self.first = skip;
        let last = self.rows.min(skip + PAGES_AT_ONCE * u64::from(LONGEST_PAGE));
        self.items.clear();
        self.items.extend((skip..last).map(|place| Item::Account(account(&self.template, place + 1))));
    }

    fn page(&self, top: u32, skip: u64) -> &[Item] {
        let start = usize::try_from(skip - self.first).unwrap_or(usize::MAX);
        let end = self.items.len().min(start.saturating_add(top as usize));
        self.items.get(start..end).unwrap_or_default()
    }
}

/// A line of `/proc/self/status`, in bytes.
fn memory(name: &str) -> Outcome<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)).ok_or("no such line")?;
    Ok(line.trim_matches([':', ' ', '\t', 'k', 'B']).parse::<u64>()? * 1024)
}

/// Time that has passed, and processor time of all threads, while it runs.
#[derive(Default)]
struct Watch {
    wall: Duration,
    cpu: f64,
    since: Option<(Instant, f64)>,
}

impl Watch {
    fn start(&mut self) -> Outcome<()> {
        self.since = Some((Instant::now(), cpu_time()?));
        Ok(())
    }

    fn stop(&mut self) -> Outcome<()> {
        if let Some((wall, cpu)) = self.since.take() {
            self.wall += wall.elapsed();
            self.cpu += cpu_time()? - cpu;
        }
        Ok(())
    }
}

/// The processor time of this process so far, threads that have ended included, in seconds.
fn cpu_time() -> Outcome<f64> {
    /// The kernel's `USER_HZ`, the same on every Linux.
    const TICKS: f64 = 100.0;
    let text = std::fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = text.rsplit_once(')').ok_or("no name in /proc/self/stat")?;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u32>);
    Ok(f64::from(ticks.sum::<Result<u32, _>>()?) / TICKS)
}

fn measure(job: &Job, path: &Path) -> Outcome<String> {
    let rows = job.rows;
    let template = template()?;
    let (schema, batches) = batches(&template, job)?;
    let mut pages = Pages::new(template, rows);
    // From here on the peak is counted anew.
    std::fs::write("/proc/self/clear_refs", "5")?;
    let before = memory("VmRSS")?;
    let (mut reading, mut planning, mut sealing) = (Watch::default(), Watch::default(), Watch::default());

    reading.start()?;
    let options = Options { match_on: job.match_on, ..Options::default() };
    let table = Table::from_batches(&schema, batches, &options)?;
    reading.stop()?;

    let mut making = Duration::ZERO;
    planning.start()?;
    let mut builder = Builder::create(path, &header(&table, &options)?)?;
    let mut give = |row: PlannedRow| -> Result<(), FileError> { builder.add(row) };
    let mut planner = Planner::new(&table, &options, &mut give)?;
    loop {
        match planner.next_step() {
            Step::Page { top, skip } => {
                if !pages.has(top, skip) {
                    planning.stop()?;
                    pages.fill(skip);
                    planning.start()?;
                }
                let page = pages.page(top, skip);
                planner.page(skip, page, skip + (page.len() as u64) < rows, &mut give)?;
            }
            Step::Account { id } => {
                let begun = Instant::now();
                let account = account(&pages.template, id.cast_unsigned());
                making += begun.elapsed();
                planner.single(Some(&account), &mut give)?;
            }
            Step::Refused(incomplete) => return Err(incomplete.reason.into()),
            Step::Done => break,
        }
    }
    planner.finish(&mut give)?;
    planning.stop()?;
    planning.wall -= making;

    sealing.start()?;
    let file = builder.seal(rows)?;
    sealing.stop()?;

    let peak = memory("VmHWM")?;
    let pending = file.open_rows(&[])?.len();
    if pending as u64 != rows / job.changes_one_in {
        return Err(format!("{pending} rows are pending").into());
    }
    let (table_s, plan_s, seal_s) =
        (reading.wall.as_secs_f64(), planning.wall.as_secs_f64(), sealing.wall.as_secs_f64());
    Ok(format!(
        "{{\"rows\":{rows},\"pending\":{pending},\"seconds\":{:.4},\"table_s\":{table_s:.4},\"plan_s\":{plan_s:.4},\
         \"seal_s\":{seal_s:.4},\"cpu_s\":{:.2},\"over_table_bytes\":{},\"file_bytes\":{}}}",
        table_s + plan_s + seal_s,
        reading.cpu + planning.cpu + sealing.cpu,
        peak.saturating_sub(before),
        std::fs::metadata(path)?.len(),
    ))
}

fn header(table: &Table, options: &Options) -> Outcome<Header> {
    Ok(Header {
        identity: Header::new_identity()?,
        parent: None,
        parent_writes: None,
        key: KeyMark::of(&ApiKey::new(KEY)?)?,
        base_url: BaseUrl::new(BASE_URL)?.to_string(),
        act_as: None,
        team_id: None,
        mode: options.mode,
        nulls: options.nulls,
        match_on: options.match_on,
        created_at_ms: 0,
        source: table.description().to_owned(),
        source_digest: table.digest(),
        suspicions: Vec::new(),
        generation: 0,
    })
}

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let line = match *arguments.as_slice() {
        [rows, order @ ("ordered" | "shuffled"), by, one_in, path] => {
            let (rows, shuffled, changes_one_in) = (rows.parse()?, order == "shuffled", one_in.parse()?);
            let match_on = MatchOn::from_name(by).ok_or("match on id, domain_name or name")?;
            measure(&Job { rows, shuffled, match_on, changes_one_in }, Path::new(path))?
        }
        _ => "a part of benches/compare.py, not a benchmark by itself: run `make bench`".to_owned(),
    };
    writeln!(io::stdout(), "{line}")?;
    Ok(())
}
