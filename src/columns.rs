//! Parses a page of accounts into columns: Arrow arrays, without an object for each account.
//!
//! A million accounts fit into memory only as columns. A page that does not parse in one pass is parsed as accounts, so
//! that [`crate::answer`] alone decides what a page and an account are.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arrow_array::builder::{Int64Builder, StringBuilder, TimestampMicrosecondBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef};
use arrow_schema::DataType;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::account::{
    CompanySize, ContactAccount, ContactAccountStage, DateTime, Field, Kind, MEMBERS, Member, MemberValue, place_of,
    respelled,
};
use crate::answer::{Answer, Item};
use crate::error::Failure;
use crate::timestamp;

type OpenMembers = Map<String, Value>;

/// The room for a text while a page is parsed, in bytes. Most are shorter.
const USUAL_TEXT: usize = 64;

/// The length of a short item of a page, in bytes.
const USUAL_ITEM: usize = 500;

/// One page of a list, as columns.
#[derive(Debug)]
pub(crate) struct ColumnPage {
    /// The accounts, if all items are readable.
    pub(crate) accounts: Result<Columns, UnreadableItem>,
    /// Whether there are more pages.
    pub(crate) has_more: bool,
}

/// The first item of a page that is not an account.
#[derive(Debug)]
pub(crate) struct UnreadableItem {
    /// Its position on the page.
    pub(crate) index: usize,
    /// Its id, if that is readable.
    pub(crate) id: Option<i64>,
    /// See [`Item::Unreadable`].
    pub(crate) reason: String,
}

/// Accounts as columns: consecutive rows of a page.
#[derive(Debug, Clone)]
pub(crate) struct Columns {
    page: Arc<Arrays>,
    first: usize,
    length: usize,
}

#[derive(Debug)]
struct Arrays {
    /// In the order of [`MEMBERS`]. The array of the stage has its id.
    members: Vec<ArrayRef>,
    stage_name: ArrayRef,
    stage_color: ArrayRef,
    /// What the columns cannot contain, by row.
    extra: HashMap<usize, OpenMembers>,
    stage_extra: HashMap<usize, OpenMembers>,
}

impl Columns {
    /// Returns no accounts.
    pub(crate) fn none() -> Self {
        Builder::new(0).finish()
    }

    pub(crate) const fn len(&self) -> usize {
        self.length
    }

    /// Returns the id of each account.
    pub(crate) fn ids(&self) -> Vec<Option<i64>> {
        let ids = self.array("id");
        ids.iter().flat_map(|ids| ids.as_primitive::<Int64Type>().values().iter().copied().map(Some)).collect()
    }

    /// Returns the column of a member that is one value, or one of the three of the stage; nothing for another name.
    pub(crate) fn array(&self, name: &str) -> Option<ArrayRef> {
        let array = match name {
            "stage_name" => &self.page.stage_name,
            "stage_color_id" => &self.page.stage_color,
            _ => {
                let name = if name == "stage_id" { STAGE } else { name };
                self.page.members.get(MEMBERS.iter().position(|member| member.name == name)?)?
            }
        };
        Some(array.slice(self.first, self.length))
    }

    /// Returns consecutive rows, without copying them.
    pub(crate) fn slice(&self, first: usize, length: usize) -> Self {
        let first = first.min(self.length);
        let length = length.min(self.length - first);
        Self { page: Arc::clone(&self.page), first: self.first + first, length }
    }

    /// Returns the rows to keep: one part for each sequence of them.
    pub(crate) fn kept(&self, keep: &[bool]) -> Vec<Self> {
        let mut parts = Vec::new();
        let mut first = 0;
        for rows in keep.chunk_by(|left, right| left == right) {
            if rows.first() == Some(&true) {
                parts.push(self.slice(first, rows.len()));
            }
            first += rows.len();
        }
        parts
    }

    /// Passes an account to a function: the values of its members in the order of [`MEMBERS`], and its other members.
    pub(crate) fn with_account<T>(
        &self,
        row: usize,
        read: impl FnOnce(&[MemberValue<'_>; MEMBERS.len()], &OpenMembers) -> T,
    ) -> T {
        let (page, row) = (&*self.page, self.first + row);
        let none = OpenMembers::new();
        let (mut size, mut stage) = (None, None);
        for (member, array) in MEMBERS.iter().zip(&page.members) {
            match member.kind {
                Kind::CompanySize => size = text(array, row).map(CompanySize::tolerantly),
                Kind::Stage => {
                    stage = integer(array, row).map(|id| ContactAccountStage {
                        id,
                        name: text(&page.stage_name, row).unwrap_or_default().to_owned(),
                        color_id: integer(&page.stage_color, row),
                        extra: page.stage_extra.get(&row).cloned().unwrap_or_default(),
                    });
                }
                Kind::Text | Kind::Integer | Kind::DateTime => {}
            }
        }
        let mut values = [MemberValue::Nothing; MEMBERS.len()];
        for ((member, array), value) in MEMBERS.iter().zip(&page.members).zip(&mut values) {
            let found = match member.kind {
                Kind::Text => text(array, row).map(MemberValue::Text),
                Kind::CompanySize => size.as_ref().map(MemberValue::CompanySize),
                Kind::Integer => integer(array, row).map(MemberValue::Integer),
                Kind::DateTime => moment(array, row).map(MemberValue::DateTime),
                Kind::Stage => stage.as_ref().map(MemberValue::Stage),
            };
            *value = found.unwrap_or(MemberValue::Nothing);
        }
        read(&values, page.extra.get(&row).unwrap_or(&none))
    }
}

/// The name of the member that is three columns.
const STAGE: &str = "stage";

/// Returns a value of a column.
pub(crate) fn value_of(array: &ArrayRef, row: usize) -> MemberValue<'_> {
    let found = match array.data_type() {
        DataType::Utf8 => text(array, row).map(MemberValue::Text),
        DataType::Int64 => integer(array, row).map(MemberValue::Integer),
        _ => moment(array, row).map(MemberValue::DateTime),
    };
    found.unwrap_or(MemberValue::Nothing)
}

fn text(array: &ArrayRef, row: usize) -> Option<&str> {
    array.is_valid(row).then(|| array.as_string::<i32>().value(row))
}

fn integer(array: &ArrayRef, row: usize) -> Option<i64> {
    array.is_valid(row).then(|| array.as_primitive::<Int64Type>().value(row))
}

fn moment(array: &ArrayRef, row: usize) -> Option<DateTime> {
    array.is_valid(row).then(|| DateTime::of_microsecond(array.as_primitive::<TimestampMicrosecondType>().value(row)))
}

impl Answer {
    /// Parses a page of accounts as columns.
    pub(crate) fn columns(&self) -> Result<ColumnPage, Failure> {
        if let Some((columns, has_more)) = self.columns_at_once() {
            return Ok(ColumnPage { accounts: Ok(columns), has_more });
        }
        let page = self.page()?;
        let mut builder = Builder::new(page.items.len());
        let mut accounts = Ok(());
        for (index, item) in page.items.into_iter().enumerate() {
            match item {
                Item::Account(account) => builder.push(account),
                Item::Unreadable { id, reason } => {
                    accounts = Err(UnreadableItem { index, id, reason });
                    break;
                }
            }
        }
        Ok(ColumnPage { accounts: accounts.map(|()| builder.finish()), has_more: page.has_more })
    }

    /// Parses a page in one pass. Returns `None` if that is impossible, for whatever reason.
    fn columns_at_once(&self) -> Option<(Columns, bool)> {
        let body = std::str::from_utf8(self.json()).ok()?;
        let mut builder = Builder::new(body.len() / USUAL_ITEM);
        let mut json = serde_json::Deserializer::from_str(body);
        let has_more = PageSeed(&mut builder).deserialize(&mut json).ok()?;
        json.end().ok()?;
        Some((builder.finish(), has_more))
    }
}

/// The columns during parsing.
struct Builder {
    /// In the order of [`MEMBERS`].
    columns: Vec<Column>,
    rows: usize,
    extra: HashMap<usize, OpenMembers>,
    stage_extra: HashMap<usize, OpenMembers>,
}

enum Column {
    Text(StringBuilder),
    CompanySize(StringBuilder),
    Integer(Int64Builder),
    DateTime(TimestampMicrosecondBuilder),
    Stage(Box<StageColumns>),
}

struct StageColumns {
    id: Int64Builder,
    name: StringBuilder,
    color_id: Int64Builder,
}

impl Column {
    fn new(kind: Kind, rows: usize) -> Self {
        let texts = || StringBuilder::with_capacity(rows, rows * USUAL_TEXT);
        let integers = || Int64Builder::with_capacity(rows);
        match kind {
            Kind::Text => Self::Text(texts()),
            Kind::CompanySize => Self::CompanySize(texts()),
            Kind::Integer => Self::Integer(integers()),
            Kind::DateTime => Self::DateTime(TimestampMicrosecondBuilder::with_capacity(rows).with_timezone("UTC")),
            Kind::Stage => Self::Stage(Box::new(StageColumns { id: integers(), name: texts(), color_id: integers() })),
        }
    }

    fn push_nothing(&mut self) {
        match self {
            Self::Text(texts) | Self::CompanySize(texts) => texts.append_null(),
            Self::Integer(integers) => integers.append_null(),
            Self::DateTime(moments) => moments.append_null(),
            Self::Stage(stages) => {
                stages.id.append_null();
                stages.name.append_null();
                stages.color_id.append_null();
            }
        }
    }
}

impl Builder {
    fn new(rows: usize) -> Self {
        Self {
            columns: MEMBERS.iter().map(|member| Column::new(member.kind, rows)).collect(),
            rows: 0,
            extra: HashMap::new(),
            stage_extra: HashMap::new(),
        }
    }

    /// Adds an account.
    fn push(&mut self, account: ContactAccount) {
        for (column, value) in self.columns.iter_mut().zip(account.members()) {
            match (column, value) {
                (Column::Text(texts), MemberValue::Text(text)) => texts.append_value(text),
                (Column::CompanySize(texts), MemberValue::CompanySize(size)) => texts.append_value(size.as_str()),
                (Column::Integer(integers), MemberValue::Integer(integer)) => integers.append_value(integer),
                (Column::DateTime(moments), MemberValue::DateTime(moment)) => {
                    moments.append_value(moment.as_microsecond());
                }
                (Column::Stage(stages), MemberValue::Stage(stage)) => {
                    stages.id.append_value(stage.id);
                    stages.name.append_value(&stage.name);
                    stages.color_id.append_option(stage.color_id);
                }
                (column, _) => column.push_nothing(),
            }
        }
        let stage_extra = account.stage.map(|stage| stage.extra).unwrap_or_default();
        self.end_row(account.extra, stage_extra);
    }

    fn end_row(&mut self, extra: OpenMembers, stage_extra: OpenMembers) {
        if !extra.is_empty() {
            self.extra.insert(self.rows, extra);
        }
        if !stage_extra.is_empty() {
            self.stage_extra.insert(self.rows, stage_extra);
        }
        self.rows += 1;
    }

    fn finish(self) -> Columns {
        // A builder has more memory than it needs, and a list keeps its pages: a copy has as much as it needs.
        let nothing: ArrayRef = Arc::new(Int64Builder::new().finish());
        let (mut stage_name, mut stage_color) = (Arc::clone(&nothing), nothing);
        let finished = |column: Column| -> ArrayRef {
            match column {
                Column::Text(texts) | Column::CompanySize(texts) => Arc::new(texts.finish_cloned()),
                Column::Integer(integers) => Arc::new(integers.finish_cloned()),
                Column::DateTime(moments) => Arc::new(moments.finish_cloned()),
                Column::Stage(stages) => {
                    stage_name = Arc::new(stages.name.finish_cloned());
                    stage_color = Arc::new(stages.color_id.finish_cloned());
                    Arc::new(stages.id.finish_cloned())
                }
            }
        };
        let members = self.columns.into_iter().map(finished).collect();
        let (extra, stage_extra) = (self.extra, self.stage_extra);
        let page = Arrays { members, stage_name, stage_color, extra, stage_extra };
        Columns { page: Arc::new(page), first: 0, length: self.rows }
    }
}

/// Parses a page. Returns whether there are more.
struct PageSeed<'a>(&'a mut Builder);

impl<'de> DeserializeSeed<'de> for PageSeed<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for PageSeed<'_> {
    type Value = bool;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a page of accounts")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        enum Key {
            Items,
            HasMore,
            #[serde(other)]
            Other,
        }
        let (mut has_items, mut has_more) = (false, None);
        while let Some(key) = map.next_key()? {
            match key {
                Key::Items if has_items => return Err(A::Error::duplicate_field("items")),
                Key::Items => {
                    map.next_value_seed(ItemsSeed(&mut *self.0))?;
                    has_items = true;
                }
                Key::HasMore if has_more.is_some() => return Err(A::Error::duplicate_field("hasMore")),
                Key::HasMore => has_more = Some(map.next_value()?),
                Key::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        if !has_items {
            return Err(A::Error::missing_field("items"));
        }
        has_more.ok_or_else(|| A::Error::missing_field("hasMore"))
    }
}

/// Parses the items of a page.
struct ItemsSeed<'a>(&'a mut Builder);

impl<'de> DeserializeSeed<'de> for ItemsSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for ItemsSeed<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list of accounts")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(AccountSeed(&mut *self.0))?.is_some() {}
        Ok(())
    }
}

/// Parses an account.
struct AccountSeed<'a>(&'a mut Builder);

impl<'de> DeserializeSeed<'de> for AccountSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for AccountSeed<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an account")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut answered = [false; MEMBERS.len()];
        let (mut extra, mut stage_extra) = (OpenMembers::new(), OpenMembers::new());
        while let Some(key) = map.next_key_seed(TextSeed(Key::of))? {
            match key {
                Key::Member(place) => {
                    let (Some(member), Some(column)) = (MEMBERS.get(place), self.0.columns.get_mut(place)) else {
                        return Err(A::Error::custom("a member without a column"));
                    };
                    match answered.get_mut(place) {
                        Some(is_answered @ false) => *is_answered = true,
                        _ => return Err(A::Error::duplicate_field(member.wire)),
                    }
                    map.next_value_seed(ValueSeed {
                        column,
                        member,
                        extra: &mut extra,
                        stage_extra: &mut stage_extra,
                    })?;
                }
                Key::Unknown(name) => {
                    if extra.insert(name, map.next_value()?).is_some() {
                        return Err(A::Error::custom("an unknown member twice"));
                    }
                }
            }
        }
        let has = |field: Field| place_of(field.wire()).and_then(|place| answered.get(place)) == Some(&true);
        if respelled(&extra, has).is_some() {
            return Err(A::Error::custom("a field in another spelling"));
        }
        for ((member, column), is_answered) in MEMBERS.iter().zip(&mut self.0.columns).zip(answered) {
            if is_answered {
                continue;
            }
            if member.is_needed() && member.always_answered {
                return Err(A::Error::missing_field(member.wire));
            }
            column.push_nothing();
        }
        self.0.end_row(extra, stage_extra);
        Ok(())
    }
}

enum Key {
    /// By its place in [`MEMBERS`].
    Member(usize),
    Unknown(String),
}

impl Key {
    fn of(name: &str) -> Self {
        place_of(name).map_or_else(|| Self::Unknown(name.to_owned()), Self::Member)
    }
}

/// Passes a text that must be there to a function, without copying it.
struct TextSeed<F>(F);

impl<'de, T, F: FnOnce(&str) -> T> DeserializeSeed<'de> for TextSeed<F> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<T, F: FnOnce(&str) -> T> Visitor<'_> for TextSeed<F> {
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a string")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        Ok((self.0)(text))
    }
}

/// Parses the value of a member into its column.
struct ValueSeed<'a> {
    column: &'a mut Column,
    member: &'static Member,
    extra: &'a mut OpenMembers,
    stage_extra: &'a mut OpenMembers,
}

impl<'de> DeserializeSeed<'de> for ValueSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.member.is_needed() && self.member.always_answered {
            self.visit_some(deserializer)
        } else {
            deserializer.deserialize_option(self)
        }
    }
}

impl<'de> Visitor<'de> for ValueSeed<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.member.kind.expected())
    }

    fn visit_none<E: Error>(self) -> Result<(), E> {
        self.column.push_nothing();
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.visit_none()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.column {
            Column::Integer(integers) => {
                integers.append_value(i64::deserialize(deserializer)?);
                Ok(())
            }
            Column::Stage(_) => deserializer.deserialize_map(self),
            Column::Text(_) | Column::CompanySize(_) | Column::DateTime(_) => deserializer.deserialize_str(self),
        }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        match self.column {
            Column::Text(texts) => texts.append_value(text),
            Column::CompanySize(texts) => {
                let size = CompanySize::tolerantly(text);
                texts.append_option((!size.is_blank()).then(|| size.as_str()));
            }
            Column::DateTime(moments) => {
                let moment = timestamp::parse(text);
                moments.append_option(moment.map(|moment| DateTime(moment).as_microsecond()));
                if moment.is_none() {
                    self.extra.insert(self.member.wire.to_owned(), text.into());
                }
            }
            Column::Integer(_) | Column::Stage(_) => return Err(E::custom("a text in another column")),
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Column::Stage(stages) = self.column else { return Err(A::Error::custom("an object in another column")) };
        let (mut has_name, mut id, mut color_id) = (false, None, None);
        while let Some(name) = map.next_key()? {
            match name {
                StageKey::Id if id.is_none() => id = Some(map.next_value::<i64>()?),
                StageKey::Name if !has_name => {
                    map.next_value_seed(TextSeed(|name: &str| stages.name.append_value(name)))?;
                    has_name = true;
                }
                StageKey::ColorId if color_id.is_none() => color_id = Some(map.next_value::<Option<i64>>()?),
                StageKey::Other(name) => drop(self.stage_extra.insert(name, map.next_value()?)),
                StageKey::Id | StageKey::Name | StageKey::ColorId => return Err(A::Error::custom("a member twice")),
            }
        }
        let (Some(id), true) = (id, has_name) else { return Err(A::Error::custom("a member is missing")) };
        stages.id.append_value(id);
        stages.color_id.append_option(color_id.flatten());
        Ok(())
    }
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "camelCase")]
enum StageKey {
    Id,
    Name,
    ColorId,
    Other(String),
}

#[cfg(test)]
mod tests;
