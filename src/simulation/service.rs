//! The model of the service: its accounts with their complete history, its list, its quota and its answers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use serde_json::{Map, Value as Json, json};

use super::dice::Dice;
use super::world::{Fault, Order, Trait, World};
use crate::account::{CompanySize, Field, Kind};
use crate::plan::Value;

/// Writable members that the client does not know.
pub(super) const UNKNOWN_MEMBERS: [&str; 2] = ["annualRevenue", "tier"];

/// Returns the one of them that can have a value in an account.
fn unknown_member_of(id: i64) -> &'static str {
    let [even, odd] = UNKNOWN_MEMBERS;
    if id % 2 == 0 { even } else { odd }
}
/// The users of the team. Only they can own accounts.
pub(super) const TEAM: [i64; 3] = [41, 42, 43];
/// The stages of the team. An update that resets the stage sets the first one.
const STAGES: [i64; 3] = [1, 2, 3];
/// A company size that the service knows, but the client does not.
pub(super) const NEW_SIZE: &str = "20001+";
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

/// The author of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Author {
    /// The initial version.
    Start,
    Colleague,
    /// The client, with the request of this number.
    Put(usize),
}

/// The values of an account's writable fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Values(Vec<Value>);

impl Values {
    pub(super) fn get(&self, field: Field) -> &Value {
        &self.0[field as usize]
    }

    pub(super) fn set(&mut self, field: Field, value: Value) {
        self.0[field as usize] = value;
    }
}

/// The version of an account from a moment on.
#[derive(Debug, Clone)]
pub(super) struct Version {
    pub(super) at: Duration,
    pub(super) by: Author,
    /// `None` after the account is deleted.
    pub(super) values: Option<Arc<Values>>,
    pub(super) unknown_member: Option<String>,
    pub(super) stage: Option<i64>,
}

/// The history of an account.
#[derive(Debug, Clone)]
pub(super) struct Account {
    pub(super) id: i64,
    pub(super) versions: Vec<Version>,
}

impl Account {
    pub(super) fn now(&self) -> &Version {
        &self.versions[self.versions.len() - 1]
    }

    /// Returns its version at a moment; `None` before it was created.
    fn at(&self, moment: Duration) -> Option<&Version> {
        self.versions.iter().rfind(|version| version.at <= moment)
    }

    /// Returns whether it always had the same stage.
    pub(super) fn has_one_stage(&self) -> bool {
        let stage = self.now().stage;
        self.versions.iter().all(|version| version.stage == stage)
    }

    /// Returns its versions at any moment of a period.
    pub(super) fn during(&self, from: Duration, to: Duration) -> impl Iterator<Item = &Version> {
        let next = self.versions.iter().skip(1).map(|next| Some(next.at)).chain([None]);
        let periods = self.versions.iter().zip(next);
        periods
            .filter(move |(version, next)| version.at <= to && next.is_none_or(|next| next >= from))
            .map(|(it, _)| it)
    }

    /// Returns whether it did not exist at some moment of a period.
    pub(super) fn was_missing(&self, from: Duration, to: Duration) -> bool {
        let created = self.versions.first().is_none_or(|first| first.by == Author::Colleague && first.at >= from);
        created || self.during(from, to).any(|version| version.values.is_none())
    }
}

/// A request.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Asked {
    Get(i64),
    List { top: u64, skip: u64 },
    Put(i64, Map<String, Json>),
    Other,
}

impl Asked {
    /// Returns the account of a request for one.
    pub(super) const fn id(&self) -> Option<i64> {
        match self {
            Self::Get(id) | Self::Put(id, _) => Some(*id),
            Self::List { .. } | Self::Other => None,
        }
    }
}

/// An answer.
#[derive(Debug, Clone)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

/// The true outcome of an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing was written.
    None,
    /// It was accepted and ignored.
    Ignored,
    /// It was written.
    Written,
}

/// A request that the quota counted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hit {
    pub(super) at: Duration,
    /// The process that sent it, or `None` for another program.
    pub(super) process: Option<usize>,
}

pub(super) struct Service {
    seed: u64,
    world: World,
    pub(super) accounts: BTreeMap<i64, Account>,
    pub(super) hits: Vec<Hit>,
    pages: u64,
    key_is_revoked: Option<(Duration, Duration)>,
    login_wall: Option<(Duration, Duration)>,
    /// Whether faults and other people's changes have ended.
    pub(super) is_calm: bool,
}

impl Service {
    pub(super) fn new(seed: u64, world: &World) -> Self {
        let mut dice = Dice::new(seed, "service", 0);
        let from = Duration::from_secs(dice.between(1, 600));
        let until = from + Duration::from_secs(dice.between(30, 3_000));
        let mut service = Self {
            seed,
            world: world.clone(),
            accounts: BTreeMap::new(),
            hits: Vec::new(),
            pages: 0,
            key_is_revoked: world.is(Trait::KeyRevoked).then_some((from, until)),
            login_wall: world.is(Trait::LoginWall).then_some((from, until + until.saturating_sub(from))),
            is_calm: false,
        };
        for id in 1..=world.accounts {
            service.create(id as i64, Duration::ZERO, Author::Start);
        }
        service
    }

    fn create(&mut self, id: i64, at: Duration, by: Author) {
        let dice = &mut Dice::new(self.seed, "account", id as u64);
        let mut values = Values(vec![Value::Null; Field::ALL.len()]);
        for field in Field::ALL {
            if dice.chance(600) || !field.nullable() {
                values.set(*field, self.world.texts.value(dice, *field, id));
            }
        }
        let unknown_member = (self.world.is(Trait::UnknownMember) && dice.chance(500)).then(|| "12 million".to_owned());
        let stage = self.world.has_stages().then(|| dice.pick(&STAGES));
        let version = Version { at, by, values: Some(Arc::new(values)), unknown_member, stage };
        self.accounts.insert(id, Account { id, versions: vec![version] });
    }

    /// Someone else changes, creates or deletes an account.
    pub(super) fn colleague(&mut self, now: Duration, dice: &mut Dice) -> Option<String> {
        let id = self.accounts.keys().copied().nth(dice.index(self.accounts.len()));
        let exists = |id: &i64| self.accounts[id].now().values.is_some();
        match (id.filter(exists), dice.between(0, 19)) {
            (_, 0) | (None, _) if self.accounts.len() < 40 => {
                let id = self.accounts.keys().last().copied().unwrap_or_default() + 1;
                self.create(id, now, Author::Colleague);
                Some(format!("a colleague creates account {id}"))
            }
            (Some(id), 1) => {
                let version =
                    Version { at: now, by: Author::Colleague, values: None, unknown_member: None, stage: None };
                self.accounts.get_mut(&id)?.versions.push(version);
                Some(format!("a colleague deletes account {id}"))
            }
            (Some(id), 2..5) if self.world.has_stages() => {
                let account = self.accounts.get_mut(&id)?;
                let stage = dice.pick(&STAGES);
                let version = Version { at: now, by: Author::Colleague, stage: Some(stage), ..account.now().clone() };
                account.versions.push(version);
                Some(format!("a colleague moves account {id} to stage {stage}"))
            }
            (Some(id), _) => {
                let account = self.accounts.get_mut(&id)?;
                let before = account.now().clone();
                let mut values = Values::clone(before.values.as_ref()?);
                let (field, value) = self.world.texts.written(dice, &values, id);
                values.set(field, value);
                let text = format!("a colleague writes {field:?} = {:?} into account {id}", values.get(field));
                account.versions.push(Version {
                    at: now,
                    by: Author::Colleague,
                    values: Some(Arc::new(values)),
                    ..before
                });
                Some(text)
            }
            (None, _) => None,
        }
    }

    /// Answers a request that has arrived, and executes it.
    pub(super) fn handle(
        &mut self,
        now: Duration,
        number: usize,
        process: usize,
        asked: &Asked,
        headers: &HeaderMap,
        fault: Option<Fault>,
    ) -> (Reply, Effect) {
        let none = |reply| (reply, Effect::None);
        let seconds = Dice::new(self.seed, "wait", number as u64).between(1, 90);
        match fault {
            Some(Fault::ServerError) => return none(problem(503, None)),
            Some(Fault::Busy) => return none(with(problem(502, None), RETRY_AFTER, &seconds.to_string())),
            Some(Fault::Throttled) => return none(with(problem(429, None), RETRY_AFTER, &seconds.to_string())),
            Some(fault @ (Fault::GatewayNotFound | Fault::GatewayForbidden | Fault::LoginPage)) => {
                let mut dice = Dice::new(self.seed, "gateway", number as u64);
                let reply = match fault {
                    Fault::GatewayNotFound => html(404),
                    Fault::GatewayForbidden => problem(403, None),
                    _ if dice.chance(500) => with(plain(302, Vec::new()), LOCATION, "https://login.example/"),
                    _ => html(200),
                };
                let is_passed_on = dice.chance(500);
                let passed_on = is_passed_on.then(|| self.handle(now, number, process, asked, headers, None));
                return (reply, passed_on.map_or(Effect::None, |(_, effect)| effect));
            }
            _ => {}
        }
        if self.login_wall.is_some_and(|(from, until)| (from..until).contains(&now)) && !self.is_calm {
            return none(html(200));
        }
        if let Some(wait) = self.over_quota(now) {
            return none(with(problem(429, None), RETRY_AFTER, &wait.to_string()));
        }
        self.hits.push(Hit { at: now, process: Some(process) });
        let bearer = headers.contains_key(http::header::AUTHORIZATION);
        let is_revoked = self.key_is_revoked.is_some_and(|(from, until)| (from..until).contains(&now)) && !self.is_calm;
        if is_revoked || (self.world.is(Trait::BearerOnly) && !bearer) {
            return none(with(plain(401, Vec::new()), WWW_AUTHENTICATE, "Bearer"));
        }
        match asked {
            Asked::Get(id) => none(self.get(*id, self.read_at(now, number), fault)),
            Asked::List { top, skip } => none(self.list(*top, *skip, self.read_at(now, number), fault)),
            Asked::Put(id, body) => {
                let (reply, effect) = self.put(now, number, *id, body, fault);
                (if fault == Some(Fault::ServerErrorApplied) { problem(500, None) } else { reply }, effect)
            }
            Asked::Other => none(problem(404, None)),
        }
    }

    /// Another program of the same user sends a request.
    pub(super) fn other_program(&mut self, now: Duration) {
        if self.over_quota(now).is_none() {
            self.hits.push(Hit { at: now, process: None });
        }
    }

    /// Returns the start of the current window of a length.
    pub(super) fn window(&self, now: Duration, length: Duration) -> Duration {
        if self.world.is(Trait::FixedWindows) {
            let phase = Dice::new(self.seed, "window", 0).between(0, 59);
            let shifted = now.as_millis() as u64 + phase * 1_000;
            let into = Duration::from_millis(shifted % length.as_millis() as u64);
            return now.saturating_sub(into);
        }
        (now + Duration::from_millis(1)).saturating_sub(length)
    }

    /// Returns the seconds that a caller has to wait if the quota is used up.
    fn over_quota(&self, now: Duration) -> Option<u64> {
        let (per_minute, per_hour) = self.world.limits;
        let wait = |length: Duration, limit: u32| {
            let from = self.window(now, length);
            let counted = self.hits.iter().rev().take_while(|hit| hit.at >= from);
            let first = counted.clone().last()?;
            let opens = if self.world.is(Trait::FixedWindows) { from + length } else { first.at + length };
            let wait = opens.saturating_sub(now).as_secs_f64().ceil() as u64;
            (counted.count() >= limit as usize).then_some(wait.max(1))
        };
        wait(MINUTE, per_minute).max(wait(HOUR, per_hour))
    }

    /// Returns the moment whose accounts a read shows: it may be answered from a copy that is behind.
    fn read_at(&self, now: Duration, number: usize) -> Duration {
        if self.world.lag_ms == 0 || self.is_calm {
            return now;
        }
        let mut dice = Dice::new(self.seed, "behind", number as u64);
        let is_behind = dice.chance(600);
        now.saturating_sub(Duration::from_millis(if is_behind { dice.between(0, self.world.lag_ms) } else { 0 }))
    }

    fn answers(&self, id: i64, at: Duration) -> Result<(&Account, &Version), Reply> {
        let missing = || problem(404, Some("contactAccount.notFound"));
        let account = self.accounts.get(&id).and_then(|account| Some((account, account.at(at)?)));
        let account = account.filter(|(_, version)| version.values.is_some()).ok_or_else(missing)?;
        if id == 2 && self.world.is(Trait::OneForbiddenWithoutCode) {
            return Err(problem(403, None));
        }
        Ok(account)
    }

    fn get(&self, id: i64, at: Duration, fault: Option<Fault>) -> Reply {
        match self.answers(id, at) {
            Ok((account, version)) => {
                let other = self.other(id).filter(|_| fault == Some(Fault::OtherAccount));
                let (id, version) = other.map_or((account.id, version), |other| (other.id, other.now()));
                json_reply(&self.shown(id, version, true))
            }
            Err(reply) => reply,
        }
    }

    fn other(&self, id: i64) -> Option<&Account> {
        self.accounts.values().find(|other| other.id != id && other.now().values.is_some())
    }

    /// Returns whether there is another account.
    pub(super) fn has_other(&self, id: i64) -> bool {
        self.other(id).is_some()
    }

    fn list(&mut self, top: u64, skip: u64, at: Duration, fault: Option<Fault>) -> Reply {
        if top == 0 || top > u64::from(crate::paging::LONGEST_PAGE) {
            return problem(400, Some("contactAccount.invalidPagination"));
        }
        self.pages += 1;
        let existing = self.accounts.values().filter_map(|account| Some((account.id, account.at(at)?)));
        let mut listed: Vec<(i64, &Version)> = existing.filter(|(_, version)| version.values.is_some()).collect();
        match self.world.order {
            Order::Id => {}
            Order::Name => listed.sort_by_key(|(_, version)| {
                format!("{:?}", version.values.as_ref().map(|it| it.get(Field::Name).clone()))
            }),
            Order::LastWritten => listed.sort_by_key(|(id, version)| std::cmp::Reverse((version.at, *id))),
            Order::None if self.is_calm => {}
            Order::None => {
                let mut dice = Dice::new(self.seed, "order", self.pages);
                // Mostly sorted, because nothing can be found in an unsorted list.
                if dice.chance(300) && listed.len() > 1 {
                    let (one, other) = (dice.index(listed.len()), dice.index(listed.len()));
                    listed.swap(one, other);
                }
            }
        }
        let repeats = self.world.is(Trait::ListRepeats) && !self.is_calm;
        let skip = if fault == Some(Fault::PageRepeats) || repeats { 0 } else { skip as usize };
        let page = listed.iter().skip(skip).take(if fault == Some(Fault::PageEmpty) { 0 } else { top as usize });
        let items: Vec<Json> = page.map(|(id, version)| self.item(*id, version)).collect();
        let has_more = fault == Some(Fault::PageEmpty) || repeats || skip + items.len() < listed.len();
        json_reply(&json!({"items": items, "hasMore": has_more}))
    }

    fn item(&self, id: i64, version: &Version) -> Json {
        let mut item = self.shown(id, version, false);
        let Some(members) = item.as_object_mut() else { return item };
        if self.world.is(Trait::ItemsLack) {
            let mut dice = Dice::new(self.seed, "lacking", 0);
            let nullable: Vec<Field> = Field::ALL.iter().copied().filter(|field| field.nullable()).collect();
            let field = dice.pick(&nullable);
            if dice.chance(700) || id % 3 == 0 {
                members.remove(field.wire());
            }
        }
        if self.world.is(Trait::ItemsCut) {
            for field in Field::ALL.iter().filter(|field| field.kind() == Kind::Text) {
                let text = members.get(field.wire()).and_then(Json::as_str);
                if let Some(cut) = text.map(|text| self.world.texts.shown(text)) {
                    members.insert(field.wire().to_owned(), cut.into());
                }
            }
        }
        if self.world.is(Trait::ItemUnreadable) && id == 3 {
            members.insert("linkedProspectsCount".to_owned(), "many".into());
        }
        item
    }

    fn shown(&self, id: i64, version: &Version, whole: bool) -> Json {
        let mut members = Map::new();
        members.insert("id".to_owned(), id.into());
        for field in Field::ALL {
            let value = version.values.as_ref().map_or(&Value::Null, |values| values.get(*field));
            if let Some(shown) = self.shown_value(*field, value, whole) {
                members.insert(field.wire().to_owned(), shown);
            }
        }
        members.insert("linkedProspectsCount".to_owned(), 3.into());
        members.insert("createdDate".to_owned(), "2026-01-02T03:04:05Z".into());
        members.insert("lastActivityDate".to_owned(), "2026-01-02T03:04:05.25+00:00".into());
        let stage = version.stage.filter(|_| whole || !self.world.is(Trait::StageUnlisted));
        let stage = stage.map_or(Json::Null, |id| json!({"id": id, "name": format!("Stage {id}"), "colorId": null}));
        members.insert("stage".to_owned(), stage);
        if self.world.is(Trait::MemberComputed) {
            let seconds = version.at.as_secs();
            let time = format!(
                "2026-{:02}-{:02}T{:02}:{:02}:{:02}Z",
                1 + seconds / 86_400 / 28,
                1 + seconds / 86_400 % 28,
                seconds / 3_600 % 24,
                seconds / 60 % 60,
                seconds % 60
            );
            members.insert("modifiedDate".to_owned(), time.into());
        }
        if whole {
            members.insert("emailProvider".to_owned(), Json::Null);
        }
        if self.world.is(Trait::UnknownMember) {
            members.extend(UNKNOWN_MEMBERS.map(|name| (name.to_owned(), Json::Null)));
            let value = version.unknown_member.clone().map_or(Json::Null, Json::from);
            members.insert(unknown_member_of(id).to_owned(), value);
        }
        if self.world.is(Trait::AccountUnreadable) && id == 4 {
            members.insert("ownerUserId".to_owned(), "invalid".into());
        }
        Json::Object(members)
    }

    fn shown_value(&self, field: Field, value: &Value, whole: bool) -> Option<Json> {
        let value = if whole { self.answered_value(field, value) } else { value };
        match value {
            Value::Null if whole && field == Field::CompanySize && self.world.is(Trait::SizeOfNone) => {
                Some(Json::from("Empty"))
            }
            _ if !matches!(value, Value::Null) || !field.nullable() => Some(match value {
                Value::Null => Json::Null,
                Value::Text(text) => Json::from(text.as_str()),
                Value::Integer(number) => Json::from(*number),
            }),
            // A size is one of a list that does not contain "".
            _ if self.world.is(Trait::EmptyAsText) && field.kind() == Kind::Text => Some(Json::from("")),
            _ if self.world.is(Trait::EmptyLeftOut) => None,
            _ => Some(Json::Null),
        }
    }

    fn put(
        &mut self,
        now: Duration,
        number: usize,
        id: i64,
        body: &Map<String, Json>,
        fault: Option<Fault>,
    ) -> (Reply, Effect) {
        let before = match self.answers(id, now) {
            Ok((_, version)) => version.clone(),
            Err(reply) => return (reply, Effect::None),
        };
        if id == 3 && self.world.is(Trait::OneForbidden) {
            return (problem(403, Some("contactAccount.forbidden")), Effect::None);
        }
        let Some(old) = before.values.as_ref() else { return (problem(404, None), Effect::None) };
        let values = match self.read(body, old) {
            Ok(values) => values,
            Err(reply) => return (reply, Effect::None),
        };
        let effect = if fault == Some(Fault::Ignored) { Effect::Ignored } else { Effect::Written };
        if effect == Effect::Written {
            let unknown_member = body.get(unknown_member_of(id)).and_then(Json::as_str).map(str::to_owned);
            let stage = before.stage.map(|stage| if self.world.is(Trait::StageReset) { STAGES[0] } else { stage });
            let by = Author::Put(number);
            let version = Version { at: now, by, values: Some(Arc::new(values)), unknown_member, stage };
            if let Some(account) = self.accounts.get_mut(&id) {
                account.versions.push(version);
            }
        }
        (self.get(id, now, fault), effect)
    }

    /// Applies a body to an account: clears each missing field except the owner.
    fn read(&self, body: &Map<String, Json>, old: &Values) -> Result<Values, Reply> {
        let invalid = |pointer: &str| {
            let errors =
                json!({"title": "Validation", "status": 400, "errors": [{"pointer": pointer, "detail": "Invalid."}]});
            problem_reply(400, &errors)
        };
        let is_known = |name: &str| Field::from_wire(name).is_some() || UNKNOWN_MEMBERS.contains(&name);
        if let Some(name) = body.keys().find(|name| !is_known(name)) {
            return Err(invalid(&format!("/{name}")));
        }
        let mut values = Values(vec![Value::Null; Field::ALL.len()]);
        for field in Field::ALL {
            let value = match (field, body.get(field.wire())) {
                (Field::OwnerUserId, None) => old.get(Field::OwnerUserId).clone(),
                (Field::OwnerUserId, Some(owner)) => match owner.as_i64() {
                    Some(owner) if TEAM.contains(&owner) => Value::Integer(owner),
                    _ => return Err(problem(400, Some("contactAccount.invalidInput"))),
                },
                (Field::Name, name) if name.and_then(Json::as_str).is_none_or(|name| name.trim().is_empty()) => {
                    return Err(invalid("/name"));
                }
                (Field::CompanySize, Some(Json::String(size)))
                    if size != NEW_SIZE && !CompanySize::DOCUMENTED.contains(&size.as_str()) =>
                {
                    return Err(invalid("/companySize"));
                }
                (_, Some(Json::String(text))) => Value::Text(self.stored(*field, text)),
                (_, None | Some(Json::Null)) => Value::Null,
                _ => return Err(invalid(&format!("/{}", field.wire()))),
            };
            values.set(*field, value);
        }
        Ok(values)
    }

    /// Returns a value as an item of the list shows it.
    pub(super) fn listed_value(&self, field: Field, value: &Value) -> Value {
        if self.world.is(Trait::ItemsCut) { self.world.texts.shown_value(field, value) } else { value.clone() }
    }

    /// Returns a value as `GET` and the answers to updates show it.
    pub(super) fn answered_value<'a>(&self, field: Field, value: &'a Value) -> &'a Value {
        if self.world.hidden == Some(field) { &Value::Null } else { value }
    }

    /// Returns the form in which the service stores a text.
    pub(super) fn stored(&self, field: Field, text: &str) -> String {
        let trimmed = if self.world.is(Trait::Trims) { text.trim() } else { text };
        if field == Field::Phone && self.world.is(Trait::TidiesPhones) {
            return trimmed.chars().filter(|character| character.is_ascii_digit() || *character == '+').collect();
        }
        trimmed.to_owned()
    }

    /// The same for any value.
    pub(super) fn stored_value(&self, field: Field, value: &Value) -> Value {
        match value {
            Value::Text(text) => Value::Text(self.stored(field, text)),
            other => other.clone(),
        }
    }
}

fn plain(status: u16, body: Vec<u8>) -> Reply {
    Reply { status, headers: HeaderMap::new(), body }
}

fn with(mut reply: Reply, name: HeaderName, value: &str) -> Reply {
    reply.headers.extend(HeaderValue::from_str(value).ok().map(|value| (name, value)));
    reply
}

fn json_reply(body: &Json) -> Reply {
    with(plain(200, body.to_string().into_bytes()), CONTENT_TYPE, "application/json")
}

fn problem_reply(status: u16, body: &Json) -> Reply {
    with(plain(status, body.to_string().into_bytes()), CONTENT_TYPE, "application/problem+json")
}

fn problem(status: u16, code: Option<&str>) -> Reply {
    let mut body = json!({"title": "Problem", "status": status, "detail": "It did not work.", "extensions": {}});
    if let (Some(code), Some(members)) = (code, body.as_object_mut()) {
        members.insert("code".to_owned(), code.into());
    }
    problem_reply(status, &body)
}

fn html(status: u16) -> Reply {
    with(plain(status, b"<html><body>Please log in</body></html>".to_vec()), CONTENT_TYPE, "text/html")
}
