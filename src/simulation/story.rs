//! The actions of one seed: tables, jobs, and other changes of accounts. Plain data, so that it can be shortened.

mod traits;

use std::fmt;

use super::dice::Dice;
use super::world::World;
use crate::account::{CompanySize, Field};
use crate::plan::run::Selection;
use crate::plan::source::{Builder, CellError, Given, Number, Options, Table};
use crate::plan::{MatchOn, Mode, Nulls, Value};

/// How long a stopped run may take to finish its requests in flight.
const GRACE_MS: u64 = 4_500;

/// The content of a table cell.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell {
    /// The row does not have the column.
    Absent,
    Empty,
    Value(Value),
}

/// The key by which a row finds its account.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Key {
    Id(i64),
    Text(String),
    Empty,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    pub(super) key: Key,
    pub(super) cells: Vec<Cell>,
}

/// A table, and its options.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sheet {
    pub(super) mode: Mode,
    pub(super) nulls: Nulls,
    pub(super) match_on: MatchOn,
    pub(super) fields: Vec<Field>,
    pub(super) rows: Vec<Row>,
    /// The row that contains every column twice, which no table allows.
    pub(super) repeats_in: Option<usize>,
}

/// How a run ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// When it is done.
    ItsOwn,
    /// It is asked to stop after the first number of milliseconds, and abandoned after the second one, as by a second
    /// Ctrl-C.
    Stop(u64, u64),
    /// It is cancelled after this number of milliseconds: its future is dropped, with what it has in flight.
    Cancel(u64),
    /// Its process is killed after this number of milliseconds.
    Kill(u64),
    /// Its process is killed after this number of requests, answers and writes.
    KillAtStep(u64),
    /// The disk fails from that write on.
    DiskFails(u64),
}

/// The part of a plan that a run includes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    /// One bit for each row; `None` for every row.
    rows: Option<u64>,
    /// The most rows.
    pub(super) limit: Option<u64>,
}

impl Part {
    const WHOLE: Self = Self { rows: None, limit: None };

    fn draw(dice: &mut Dice) -> Self {
        let rows = dice.chance(600).then(|| dice.between(0, u64::MAX));
        let limit = (rows.is_none() || dice.chance(300)).then(|| dice.between(0, 8));
        Self { rows, limit }
    }

    pub(super) fn is_whole(self) -> bool {
        self == Self::WHOLE
    }

    pub(super) fn has(self, row: u64) -> bool {
        self.rows.is_none_or(|rows| rows.rotate_right(row as u32) & 1 == 1)
    }

    /// Returns the part in the form of the product.
    pub(super) fn selection(self) -> Selection {
        let selected = self.rows.map(|_| (0..64).filter(|row| self.has(*row)).collect());
        Selection { rows: selected, limit: self.limit, ..Selection::default() }
    }
}

/// The options of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct How {
    pub(super) overwrite: bool,
    pub(super) clear_unknown: bool,
    /// Whether it includes failed rows and conflicts.
    pub(super) retries: bool,
    /// Which of the plan and its reverts a revert reverts; 0 is the plan.
    pub(super) of: usize,
    pub(super) part: Part,
    pub(super) concurrency: usize,
    pub(super) end: End,
    /// Whether it is applied twice at the same time.
    pub(super) is_twice: bool,
    /// Whether the log of its plan is lost if its process is killed.
    pub(super) loses_log: bool,
    /// The step of the recovery at which its process is killed.
    pub(super) recovery_dies_at: Option<u64>,
}

impl How {
    pub(super) const CALM: Self = Self {
        overwrite: false,
        clear_unknown: false,
        retries: false,
        of: 0,
        part: Part::WHOLE,
        concurrency: 4,
        end: End::ItsOwn,
        is_twice: false,
        loses_log: false,
        recovery_dies_at: None,
    };
}

/// A step of a lane. Jobs are numbered within the lane.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Step {
    Plan(usize, End),
    Apply(usize, How),
    Revert(usize, How),
    Patch(i64, Vec<(Field, Value)>, End),
    Update(i64, Vec<(Field, Value)>, End),
    Pause(u64),
    /// The process ends, and another one starts.
    Restart,
}

/// Consecutive steps.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Lane {
    pub(super) sheets: Vec<Sheet>,
    pub(super) steps: Vec<Step>,
    /// Whether every job uses the file name of the previous one, whose plan is deleted. Files next to it stay.
    pub(super) has_one_name: bool,
}

/// All actions. Lanes run concurrently.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Story {
    pub(super) lanes: Vec<Lane>,
    /// Whether all lanes are in one process. If not, each has its own, and those may be killed.
    pub(super) is_one_process: bool,
}

impl Story {
    /// Returns the story of a seed.
    pub(super) fn draw(seed: u64, world: &World) -> Self {
        let dice = &mut Dice::new(seed, "story", 0);
        let mut lanes = vec![Lane::job(dice, world)];
        let has_more = !world.is_quiet() || dice.chance(100);
        let is_one_process = has_more && dice.chance(250);
        if has_more && dice.chance(300) {
            lanes.push(Lane::job(dice, world));
        }
        if has_more && dice.chance(350) {
            lanes.push(Lane::single_calls(dice, world));
        }
        let reverts = &mut Dice::new(seed, "reverts", 0);
        for lane in &mut lanes {
            lane.revert_again(reverts, world);
        }
        if is_one_process && lanes.len() > 1 {
            lanes.iter_mut().flat_map(|lane| &mut lane.steps).for_each(Step::survive);
        }
        let is_one_process = is_one_process && lanes.len() > 1;
        let mut story = Self { lanes, is_one_process };
        story.add_traits(seed, world, has_more);
        story
    }
}

impl Lane {
    fn job(dice: &mut Dice, world: &World) -> Self {
        let sheets = vec![Sheet::draw(dice, world)];
        let mut lane = Self { sheets, steps: Vec::new(), has_one_name: dice.chance(400) };
        if dice.chance(300) {
            lane.steps.push(Step::Pause(dice.between(0, 200)));
        }
        let jobs = if dice.chance(150) { 2 } else { 1 };
        for job in 0..jobs {
            if job > 0 {
                lane.sheets.push(Sheet::draw(dice, world));
            }
            lane.steps.push(Step::Plan(job, if dice.chance(50) { End::draw(dice, world) } else { End::ItsOwn }));
            for _ in 0..dice.between(1, 3) {
                if dice.chance(250) {
                    lane.steps.push(Step::Pause(dice.between(1, 400)));
                }
                let retries = dice.chance(150);
                lane.steps.push(Step::Apply(job, How { retries, ..How::draw(dice, world) }));
            }
            if dice.chance(350) {
                lane.steps.push(Step::Revert(job, How::draw(dice, world)));
                if dice.chance(300) {
                    lane.steps.push(Step::Apply(job, How::draw(dice, world)));
                }
            }
        }
        lane
    }

    fn single_calls(dice: &mut Dice, world: &World) -> Self {
        let mut lane = Self::default();
        for _ in 0..dice.between(1, 6) {
            let id = dice.between(1, world.accounts.max(1) + 1) as i64;
            let fields =
                (0..dice.between(1, 3)).map(|_| dice.pick(Field::ALL)).collect::<std::collections::BTreeSet<_>>();
            let fields = fields.into_iter().filter(|field| Some(*field) != world.hidden);
            let value = |field, dice: &mut Dice| match world.texts.value(dice, field, id) {
                _ if field.nullable() && dice.chance(200) => Value::Null,
                Value::Text(text) if text == super::service::NEW_SIZE => Value::Text("2-10".to_owned()),
                value => value,
            };
            let mut given: Vec<(Field, Value)> = fields.map(|field| (field, value(field, dice))).collect();
            lane.steps.push(Step::Pause(dice.between(0, 60)));
            lane.steps.push(if dice.chance(150) {
                given.retain(|(field, _)| *field != Field::Name);
                given.push((Field::Name, Value::Text(world.texts.key(Field::Name, id))));
                Step::Update(id, given, End::ItsOwn)
            } else {
                Step::Patch(id, given, End::ItsOwn)
            });
        }
        lane
    }
}

impl End {
    fn draw(dice: &mut Dice, world: &World) -> Self {
        if world.is_quiet() && dice.chance(500) {
            return Self::ItsOwn;
        }
        match dice.between(0, 9) {
            0 => Self::Stop(dice.between(0, 60_000), GRACE_MS),
            1 => Self::Kill(dice.between(0, 60_000)),
            2..4 => Self::KillAtStep(dice.between(1, 60)),
            4 => Self::DiskFails(dice.between(1, 20)),
            _ => Self::ItsOwn,
        }
    }
}

impl How {
    fn draw(dice: &mut Dice, world: &World) -> Self {
        Self {
            of: 0,
            overwrite: dice.chance(150),
            clear_unknown: dice.chance(300),
            concurrency: dice.between(1, 6) as usize,
            end: End::draw(dice, world),
            retries: false,
            part: Part::WHOLE,
            is_twice: dice.chance(30),
            loses_log: false,
            recovery_dies_at: None,
        }
    }
}

impl Step {
    /// Removes kills of a process that other lanes use.
    fn survive(&mut self) {
        let end = match self {
            Self::Plan(_, end) => end,
            Self::Apply(_, how) | Self::Revert(_, how) => &mut how.end,
            _ => return,
        };
        if matches!(end, End::Kill(_) | End::KillAtStep(_) | End::DiskFails(_)) {
            *end = End::ItsOwn;
        }
    }
}

impl Sheet {
    fn draw(dice: &mut Dice, world: &World) -> Self {
        let match_on = dice.pick(&[MatchOn::Id, MatchOn::Id, MatchOn::Id, MatchOn::DomainName, MatchOn::Name]);
        let mode = dice.pick(&[Mode::Patch, Mode::Patch, Mode::Patch, Mode::Fill, Mode::Replace]);
        // A plan in this mode has a value for every field.
        let needs_patch = match_on == MatchOn::Name || world.hidden.is_some();
        let mode = if needs_patch && mode == Mode::Replace { Mode::Patch } else { mode };
        let nulls = dice.pick(&[Nulls::Keep, Nulls::Keep, Nulls::Clear]);
        let key_field = match match_on {
            MatchOn::Id => None,
            MatchOn::DomainName => Some(Field::DomainName),
            MatchOn::Name => Some(Field::Name),
        };
        let most = if world.texts.are_the_subject { dice.between(4, 10) } else { dice.between(1, 4) };
        let mut fields: Vec<Field> = (0..most).map(|_| dice.pick(Field::ALL)).collect();
        if mode == Mode::Replace {
            fields.push(Field::Name);
        }
        fields.sort();
        fields.dedup();
        fields.retain(|field| Some(*field) != key_field && Some(*field) != world.hidden);
        let most_rows = if dice.chance(150) { 24 } else { 10 };
        let count = if world.is_large() { dice.between(most_rows, world.accounts) } else { dice.between(0, most_rows) };
        let rows = (0..count).map(|number| Row::draw(dice, world, match_on, &fields, number)).collect();
        let repeats_in = dice.chance(15).then(|| dice.index(4));
        Self { mode, nulls, match_on, fields, rows, repeats_in }
    }

    pub(super) fn options(&self) -> Options {
        Options { mode: self.mode, nulls: self.nulls, match_on: self.match_on, ..Options::default() }
    }

    /// Returns the table in the form of the product.
    pub(super) fn table(&self) -> Result<Table, String> {
        self.cells().map_err(|error| format!("{error:?}"))?.finish(None).map_err(|error| error.to_string())
    }

    fn cells(&self) -> Result<Builder, CellError> {
        let mut builder = Builder::new(&self.options());
        let key = builder.column(match self.match_on {
            MatchOn::Id => "id",
            MatchOn::DomainName => "domain_name",
            MatchOn::Name => "name",
        })?;
        let columns: Vec<usize> =
            self.fields.iter().map(|field| builder.column(field.name())).collect::<Result<_, _>>()?;
        for (number, row) in self.rows.iter().enumerate() {
            builder.push(
                key,
                match &row.key {
                    Key::Id(id) => Given::Number(Number::Integer(*id), "int"),
                    Key::Text(text) => Given::Text(text),
                    Key::Empty => Given::Empty,
                },
            )?;
            for (column, cell) in columns.iter().zip(&row.cells) {
                let given = match cell {
                    Cell::Absent => continue,
                    Cell::Empty | Cell::Value(Value::Null) => Given::Empty,
                    Cell::Value(Value::Text(text)) => Given::Text(text),
                    Cell::Value(Value::Integer(number)) => Given::Number(Number::Integer(*number), "int"),
                };
                builder.push(*column, given)?;
                if self.repeats_in == Some(number) {
                    builder.push(*column, given)?;
                }
            }
            builder.end_row();
        }
        Ok(builder)
    }

    /// Returns the value of a field in a row. `None` if the row keeps the field.
    pub(super) fn meant(&self, row: usize, field: Field) -> Option<Value> {
        let row = &self.rows[row];
        if self.match_on == MatchOn::DomainName && field == Field::DomainName && self.mode == Mode::Replace {
            return match &row.key {
                Key::Text(text) => Some(Value::Text(text.clone())),
                Key::Id(_) | Key::Empty => None,
            };
        }
        let cell =
            self.fields.iter().position(|other| *other == field).map_or(&Cell::Absent, |index| &row.cells[index]);
        match cell {
            Cell::Value(value) => Some(value.clone()),
            Cell::Empty => {
                (self.nulls == Nulls::Clear && self.mode != Mode::Fill && field.nullable()).then_some(Value::Null)
            }
            Cell::Absent => (self.mode == Mode::Replace && field.nullable()).then_some(Value::Null),
        }
    }

    /// Returns whether a row cannot be sent, whatever the service contains.
    pub(super) fn is_invalid(&self, row: usize) -> bool {
        let row = &self.rows[row];
        let is_key_bad = match &row.key {
            Key::Id(id) => *id < 1,
            Key::Text(text) => text.trim().is_empty(),
            Key::Empty => true,
        };
        let clears = self.nulls == Nulls::Clear && self.mode != Mode::Fill;
        let is_cell_bad = |(field, cell): (&Field, &Cell)| match (field, cell) {
            (Field::Name, Cell::Empty | Cell::Absent) if self.mode == Mode::Replace => true,
            (Field::Name | Field::OwnerUserId, Cell::Empty) => clears,
            (Field::CompanySize, Cell::Value(Value::Text(size))) => !CompanySize::DOCUMENTED.contains(&size.as_str()),
            _ => false,
        };
        is_key_bad || self.fields.iter().zip(&row.cells).any(is_cell_bad)
    }
}

impl Row {
    fn draw(dice: &mut Dice, world: &World, match_on: MatchOn, fields: &[Field], number: u64) -> Self {
        let last = world.accounts.max(1) + u64::from(dice.chance(100));
        let any = dice.between(1, last);
        // At random, many rows would name the same account, and those are not written.
        let id = (if world.is_large() && !any.is_multiple_of(8) { number + 1 } else { any }) as i64;
        let key = match match_on {
            _ if dice.chance(20) => Key::Empty,
            MatchOn::Id => Key::Id(if dice.chance(20) { 0 } else { id }),
            MatchOn::DomainName => Key::Text(world.texts.written_domain(dice, id)),
            MatchOn::Name => Key::Text(world.texts.key(Field::Name, id)),
        };
        let cells = fields.iter().map(|field| match dice.between(0, 19) {
            0 => Cell::Absent,
            1..4 => Cell::Empty,
            4 if *field == Field::OwnerUserId => Cell::Value(Value::Integer(99)),
            _ => Cell::Value(world.texts.value(dice, *field, id)),
        });
        let cells = cells.collect();
        Self { key, cells }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plan(job, end) => write!(formatter, "plan job {job}{end}"),
            Self::Apply(job, how) => write!(formatter, "apply job {job}{how}"),
            Self::Revert(job, how) => write!(formatter, "revert job {job}{how}"),
            Self::Patch(id, fields, end) => write!(formatter, "patch account {id}: {fields:?}{end}"),
            Self::Update(id, fields, end) => write!(formatter, "update account {id}: {fields:?}{end}"),
            Self::Pause(seconds) => write!(formatter, "pause for {seconds} s"),
            Self::Restart => write!(formatter, "another process"),
        }
    }
}

impl fmt::Display for How {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let conflict = if self.overwrite { ", overwriting" } else { "" };
        let unknown = if self.clear_unknown { ", clearing unknown members" } else { "" };
        let twice = if self.is_twice { ", by two runs at the same time" } else { "" };
        let log = match self.recovery_dies_at {
            Some(step) if self.loses_log => format!(" and loses its log, and the recovery is killed at step {step}"),
            _ if self.loses_log => " and loses its log".to_owned(),
            _ => String::new(),
        };
        let of = if self.of == 0 { String::new() } else { format!(", its file {}", self.of) };
        let part = if self.part.is_whole() { String::new() } else { format!(", {}", self.part) };
        write!(formatter, "{of}, {} at once{conflict}{unknown}{twice}{part}{}{log}", self.concurrency, self.end)
    }
}

impl fmt::Display for Part {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows: Vec<u64> = (0..64).filter(|row| self.has(*row)).collect();
        match self.limit {
            Some(limit) if self.rows.is_none() => write!(formatter, "at most {limit} rows"),
            Some(limit) => write!(formatter, "at most {limit} of the rows {rows:?}"),
            None => write!(formatter, "the rows {rows:?}"),
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ItsOwn => Ok(()),
            Self::Stop(after, grace) => {
                write!(formatter, ", stopped after {after} ms and abandoned {grace} ms later")
            }
            Self::Cancel(after) => write!(formatter, ", cancelled after {after} ms"),
            Self::Kill(after) => write!(formatter, ", killed after {after} ms"),
            Self::KillAtStep(step) => write!(formatter, ", killed at step {step}"),
            Self::DiskFails(write) => write!(formatter, ", the disk fails at write {write}"),
        }
    }
}

impl fmt::Display for Sheet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.fields.iter().map(|field| field.name()).collect();
        let (mode, nulls, by) = (self.mode.as_str(), self.nulls.as_str(), self.match_on.as_str());
        writeln!(formatter, "mode={mode} nulls={nulls} match_on={by} columns={}", names.join(", "))?;
        for (number, row) in self.rows.iter().enumerate() {
            writeln!(formatter, "    row {number}: {:?} {:?}", row.key, row.cells)?;
        }
        Ok(())
    }
}
