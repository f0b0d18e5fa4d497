//! The texts of accounts and tables, and what a list that cuts long texts shows of them.

use super::dice::Dice;
use super::service::{NEW_SIZE, TEAM, Values};
use crate::account::{Field, Kind};
use crate::plan::Value;

/// How texts are drawn and cut in one seed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Texts {
    /// The most characters of a text in a list that cuts texts, or the most bytes.
    cut_at: usize,
    counts_bytes: bool,
    /// What the list adds to a text that it has cut.
    mark: &'static str,
    /// How many texts in a thousand have about as many characters as such a list shows.
    long_per_mille: u32,
    /// How many of these in a thousand have more, so that a run may compare several and find none that is cut.
    longer_per_mille: u32,
    /// Whether all other texts are short, and colleagues mostly change the long ones.
    pub(super) are_the_subject: bool,
}

/// Every text of these is the beginning of the longer ones, as texts of people who add to them are.
const ASCII: &str = "a description that people have made longer and longer, and then a bit longer";
const OTHER: &str = "en beskrivelse på \u{e5}tte sider, \u{e6}rlig talt \u{65e5}\u{672c}\u{8a9e}, \
    og den blir lengre og lengre, og lengre";
/// The characters of a text that is longer than any list shows.
const LONGEST: usize = 60;

impl Texts {
    /// The texts of most seeds: few are long.
    pub(super) fn few(dice: &mut Dice) -> Self {
        Self::draw(dice, &[12, 12, 34, 40], &[0, 100], false)
    }

    /// Texts that are about as long as the shortest that the product takes for possibly cut, and a little longer.
    pub(super) fn many(dice: &mut Dice) -> Self {
        Self::draw(dice, &[34, 40], &[8, 60, 300, 900], true)
    }

    fn draw(dice: &mut Dice, cut_at: &[usize], long_per_mille: &[u32], are_the_subject: bool) -> Self {
        Self {
            cut_at: dice.pick(cut_at),
            counts_bytes: dice.chance(250),
            mark: dice.pick(&["", "", "", "...", "\u{2026}"]),
            long_per_mille: dice.pick(long_per_mille),
            longer_per_mille: if are_the_subject { dice.pick(&[30, 350]) } else { 350 },
            are_the_subject,
        }
    }

    pub(super) const fn has_mark(&self) -> bool {
        !self.mark.is_empty()
    }

    /// Returns what a list that cuts texts shows of a text.
    pub(super) fn shown(&self, text: &str) -> String {
        let length = |text: &str| if self.counts_bytes { text.len() } else { text.chars().count() };
        if length(text) <= self.cut_at {
            return text.to_owned();
        }
        let most = self.cut_at - length(self.mark);
        let ends = text.char_indices().map(|(end, _)| end);
        let end = ends.take_while(|end| length(&text[..*end]) <= most).last().unwrap_or_default();
        format!("{}{}", &text[..end], self.mark)
    }

    /// The same for any value of a field.
    pub(super) fn shown_value(&self, field: Field, value: &Value) -> Value {
        match value {
            Value::Text(text) if field != Field::CompanySize => Value::Text(self.shown(text)),
            other => other.clone(),
        }
    }

    /// Returns a random value of a field. There are few, so that people often write the same.
    pub(super) fn value(&self, dice: &mut Dice, field: Field, id: i64) -> Value {
        match field {
            Field::OwnerUserId => Value::Integer(dice.pick(&TEAM)),
            Field::CompanySize => Value::Text(dice.pick(&["2-10", "11-50", "51-200", "Empty", NEW_SIZE]).to_owned()),
            Field::Name | Field::DomainName => {
                let id = if dice.chance(900) { id } else { dice.between(1, 6) as i64 };
                let is_name = field == Field::Name;
                Value::Text(if is_name { self.key(field, id) } else { self.written_domain(dice, id) })
            }
            _ => Value::Text(self.text(dice, field)),
        }
    }

    /// Returns the key of an account.
    pub(super) fn key(&self, field: Field, id: i64) -> String {
        if field == Field::DomainName {
            return format!("company{id}.example");
        }
        let name = format!("Company {id}");
        // The list shows the whole name, and the beginning of a name that people have made longer looks the same.
        if self.long_per_mille < 300 { name } else { format!("{name} {}", "x".repeat(self.cut_at - name.len() - 1)) }
    }

    /// The domain of an account in one of the ways that people write it, or another site or page that looks like it.
    pub(super) fn written_domain(&self, dice: &mut Dice, id: i64) -> String {
        let domain = self.key(Field::DomainName, id);
        match dice.between(0, 11) {
            0 => domain.to_uppercase(),
            1 => format!("https://www.{domain}/"),
            2 => format!("www.{domain}."),
            3 => format!(" http://{domain}:8080/about "),
            4 => format!("shop.{domain}"),
            5 => format!("{domain}/oslo"),
            _ => domain,
        }
    }

    /// A text that is not blank.
    fn text(&self, dice: &mut Dice, field: Field) -> String {
        if dice.chance(self.long_per_mille) {
            let lengths = if dice.chance(self.longer_per_mille) {
                [self.cut_at + 1, self.cut_at + 1, LONGEST]
            } else {
                [self.cut_at, self.cut_at, self.cut_at - 1]
            };
            let length = dice.pick(&lengths);
            let whole = if dice.chance(150) { OTHER } else { ASCII };
            let end = if dice.chance(50) { "..." } else { "" };
            return whole.chars().take(length - end.len()).chain(end.chars()).collect();
        }
        if field == Field::Phone {
            return dice.pick(&["+47 22 33 44", "22-33-44", "+4722334455", "0800 1234"]).to_owned();
        }
        let texts = [
            "red",
            "green",
            "blue",
            " blue",
            "a & b",
            "Ærø",
            "a text that is long enough to be cut by a list",
            "a text that is long",
        ];
        let few = if self.are_the_subject { texts.len() - 2 } else { texts.len() };
        dice.pick(&texts[..few]).to_owned()
    }

    /// Returns a field that someone else writes, and the value: often the present text with more behind it.
    pub(super) fn written(&self, dice: &mut Dice, values: &Values, id: i64) -> (Field, Value) {
        if dice.chance(if self.are_the_subject { 800 } else { 100 }) {
            let text_of = |field: &Field| match values.get(*field) {
                Value::Text(text) if field.kind() == Kind::Text && *field != Field::DomainName => Some((*field, text)),
                _ => None,
            };
            let mut all: Vec<(Field, &String)> = Field::ALL.iter().filter_map(text_of).collect();
            if all.iter().any(|(_, text)| text.chars().count() >= self.cut_at) {
                all.retain(|(_, text)| text.chars().count() >= self.cut_at);
            }
            // The name is always there.
            let (field, text) = dice.pick(&all);
            let added = Value::Text(format!("{text} -- {}", dice.pick(&["a note", "another note"])));
            return (field, if dice.chance(700) { added } else { self.value(dice, field, id) });
        }
        let field = dice.pick(Field::ALL);
        let is_emptied = field.nullable() && dice.chance(150);
        (field, if is_emptied { Value::Null } else { self.value(dice, field, id) })
    }
}
