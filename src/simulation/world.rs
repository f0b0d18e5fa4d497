//! The service and its environment in one seed. Plain data, so that it can be shortened.

use std::time::Duration;

use super::dice::Dice;
use super::permission::Permissions;
use super::texts::Texts;
use super::turns;
use crate::account::Field;
use crate::quota::Quota;

enumerated! {
    /// The faults of single requests, each with its chance in a thousand.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
    pub(super) enum Fault {
        /// The connection fails.
        NoConnection,
        /// The connection breaks before the service gets the request.
        RequestLost,
        /// The service executes the request, and the connection breaks before the answer.
        AnswerLost,
        /// The same, but a part of the answer has arrived.
        AnswerCut,
        /// The answer is complete, but its JSON is not.
        AnswerTruncated,
        /// The service receives the request after the client has given up.
        Late,
        /// No answer arrives, and nothing happens.
        Silence,
        /// A 5xx, and nothing happens.
        ServerError,
        /// A 5xx, although the service executes the request.
        ServerErrorApplied,
        /// A 5xx that asks to wait.
        Busy,
        /// A 429 that the quota does not explain, as other programs of the user cause it.
        Throttled,
        /// A 404 from a proxy, which may replace the answer of the service.
        GatewayNotFound,
        /// A 403 without a code from a proxy, which may replace the answer of the service.
        GatewayForbidden,
        /// A 200 with an HTML page, or a redirect to one, from a proxy, which may replace the answer of the service.
        LoginPage,
        /// The answer is about another account.
        OtherAccount,
        /// A 200, and the update is ignored.
        Ignored,
        /// A page of the list begins where the previous page began.
        PageRepeats,
        /// A page of the list is empty, and claims that more follow.
        PageEmpty,
    }
}

enumerated! {
    /// The properties of the service in one seed.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
    pub(super) enum Trait {
        /// Items of the list lack a member.
        ItemsLack,
        /// Items of the list have only the beginning of a long text.
        ItemsCut,
        /// An item of the list does not match the API contract.
        ItemUnreadable,
        /// One account is unreadable in every way.
        AccountUnreadable,
        /// Accounts have a member that the client does not know and that an update can include.
        UnknownMember,
        /// Accounts have a stage, which updates keep.
        StageKept,
        /// Accounts have a stage, and every update resets it to the first one.
        StageReset,
        /// Accounts have a stage, and items of the list do not show it.
        StageUnlisted,
        /// Accounts have a member with the time of their last change.
        MemberComputed,
        /// The service trims what it stores.
        Trims,
        /// The service stores phone numbers in its own form.
        TidiesPhones,
        /// Answers contain empty texts as `""`.
        EmptyAsText,
        /// `GET` shows an account without a company size as `Empty`, and the list as `null`.
        SizeOfNone,
        /// Answers omit empty members.
        EmptyLeftOut,
        /// One account must not be updated, and the service refuses it.
        OneForbidden,
        /// One account is answered with a 403 that has no code.
        OneForbiddenWithoutCode,
        /// The service accepts the key only as a bearer token.
        BearerOnly,
        /// The key is revoked for a while.
        KeyRevoked,
        /// The windows of the quota begin again each minute and hour, instead of sliding.
        FixedWindows,
        /// For some time, a proxy answers everything with a 200 and an HTML page.
        LoginWall,
        /// Every page of the list is the first one, and claims that more follow.
        ListRepeats,
    }
}

/// The order of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Id,
    Name,
    /// The last updated account comes first, so every update moves the list.
    LastWritten,
    /// Another order for each page.
    None,
}

/// The environment of the client.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct World {
    /// The initial number of accounts.
    pub(super) accounts: u64,
    /// The requests that the service allows per minute and per hour.
    pub(super) limits: (u32, u32),
    /// The quota of the client.
    pub(super) quota: Option<Quota>,
    /// The shortest and the longest latency of a request or an answer, in milliseconds.
    pub(super) latency_ms: (u64, u64),
    pub(super) order: Order,
    pub(super) faults: Vec<(Fault, u32)>,
    pub(super) traits: Vec<Trait>,
    pub(super) texts: Texts,
    /// The average time until someone else changes an account, in seconds.
    pub(super) colleague_s: Option<u64>,
    /// The average time until another program of the same user sends a request, in seconds.
    pub(super) other_program_s: Option<u64>,
    /// The average time until the machine sleeps, in seconds.
    pub(super) sleep_s: Option<u64>,
    /// By how many milliseconds at most some of the reads are older than the accounts; 0 if none is.
    pub(super) lag_ms: u64,
    /// The function of the quota that grants each request.
    pub(super) permissions: Option<Permissions>,
    /// The field that `GET` and the answers to updates show as empty, and the list does not. No table has it.
    pub(super) hidden: Option<Field>,
    /// Whether the client's processes wait for each other before they change an account.
    pub(super) shares_turns: bool,
}

/// The fewest accounts of a large world.
const LARGE: u64 = 30;
/// Large worlds take more time than others.
const LARGE_PER_MILLE: u32 = 60;
/// The fields of which one may be shown by the list only.
const HIDEABLE: [Field; 5] = [Field::CompanySize, Field::Phone, Field::City, Field::Description, Field::LinkedInUrl];
/// How many worlds in a thousand have a field that only the list shows.
const HIDDEN_PER_MILLE: u32 = 60;
/// How many worlds in a thousand answer reads from copies of the accounts that are behind.
const LAG_PER_MILLE: u32 = 80;
/// How many of them have many texts that a list may have cut.
const LONG_PER_MILLE: u32 = 500;

impl World {
    /// Returns the world of a seed. One in four has no faults at all, and most have few.
    pub(super) fn draw(seed: u64) -> Self {
        let dice = &mut Dice::new(seed, "world", 0);
        let (most_faults, most_per_mille, most_traits) = match dice.between(0, 99) {
            0..25 => (0, 0, 0),
            25..50 => (2, 40, 1),
            50..80 => (4, 120, 2),
            80..94 => (7, 250, 3),
            _ => (14, 350, 5),
        };
        let faults = distinct(dice, Fault::ALL, most_faults);
        let faults = faults.into_iter().map(|fault| (fault, dice.between(5, most_per_mille.max(5)) as u32)).collect();
        let mut traits = distinct(dice, Trait::ALL, most_traits);
        let per_minute = dice.between(3, 30) as u32;
        let per_hour = per_minute * dice.between(2, 40) as u32;
        let quota = match dice.between(0, 9) {
            0 => None,
            // The limit of the service, or a little less.
            1..4 => Some(Quota { per_minute, per_hour }),
            _ => Some(Quota { per_minute: (per_minute * 19 / 20).max(2), per_hour: (per_hour * 29 / 30).max(2) }),
        };
        let slow = if dice.chance(200) { 4_000 } else { 300 };
        let accounts = if dice.chance(100) { dice.between(0, 2) } else { dice.between(2, 22) };
        let large = &mut Dice::new(seed, "large", 0);
        let lag = &mut Dice::new(seed, "lag", 0);
        let sleep = &mut Dice::new(seed, "how often it sleeps", 0);
        let hidden = &mut Dice::new(seed, "hidden", 0);
        let colleague_s = (most_faults > 0 && dice.chance(500)).then(|| dice.between(2, 300));
        let accounts = if large.chance(LARGE_PER_MILLE) { large.between(LARGE, 2 * LARGE) } else { accounts };
        let texts = &mut Dice::new(seed, "texts", 0);
        // Only a run that reads accounts by pages has to decide whether the list cuts texts.
        let has_long_texts = accounts >= LARGE && texts.chance(LONG_PER_MILLE);
        if has_long_texts && texts.chance(800) {
            traits.push(Trait::ItemsCut);
            traits.sort();
            traits.dedup();
        }
        Self {
            accounts,
            limits: (per_minute, per_hour),
            quota,
            latency_ms: (dice.between(1, 100), dice.between(100, slow)),
            order: dice.pick(&[Order::Id, Order::Id, Order::Name, Order::LastWritten, Order::None]),
            faults,
            traits,
            texts: if has_long_texts { Texts::many(texts) } else { Texts::few(texts) },
            colleague_s: if has_long_texts { Some(texts.between(2, 30)) } else { colleague_s },
            other_program_s: (most_faults > 0 && dice.chance(300)).then(|| dice.between(2, 120)),
            sleep_s: (most_faults > 0 && sleep.chance(150)).then(|| sleep.between(5, 300)),
            permissions: Permissions::draw(&mut Dice::new(seed, "permissions", 0)).filter(|_| most_faults > 0),
            hidden: (most_traits > 0 && hidden.chance(HIDDEN_PER_MILLE)).then(|| hidden.pick(&HIDEABLE)),
            shares_turns: turns::are_shared(seed),
            lag_ms: if most_faults > 0 && lag.chance(LAG_PER_MILLE) { lag.between(500, 30_000) } else { 0 },
        }
    }

    pub(super) fn is(&self, what: Trait) -> bool {
        self.traits.contains(&what)
    }

    /// Returns whether accounts have a stage.
    pub(super) fn has_stages(&self) -> bool {
        [Trait::StageKept, Trait::StageReset, Trait::StageUnlisted].iter().any(|what| self.is(*what))
    }

    /// Returns whether an update loses members that it cannot include, empties a phone number without digits, or may
    /// clear a field that only the list shows.
    pub(super) fn loses_members(&self) -> bool {
        self.hidden.is_some()
            || [Trait::UnknownMember, Trait::StageReset, Trait::TidiesPhones].iter().any(|what| self.is(*what))
    }

    /// Returns whether tables have a row for most accounts. A run then reads accounts by pages, and compares only some
    /// of them with what a `GET` shows.
    pub(super) fn is_large(&self) -> bool {
        self.accounts >= LARGE
    }

    /// Returns the most accounts on a page, and how many of them may have moved: small, so that a few accounts fill
    /// several pages.
    pub(super) fn page_and_slack(&self) -> (u32, u64) {
        if self.is_large() { (16, 2) } else { (8, 1) }
    }

    /// Returns whether nothing can fail, and no one else changes accounts.
    pub(super) fn is_quiet(&self) -> bool {
        let is_alone = self.colleague_s.is_none() && self.other_program_s.is_none() && self.sleep_s.is_none();
        is_alone
            && self.hidden.is_none()
            && self.lag_ms == 0
            && self.permissions.is_none()
            && self.faults.is_empty()
            && self.traits.is_empty()
    }

    pub(super) fn latency(&self, dice: &mut Dice) -> Duration {
        Duration::from_millis(dice.between(self.latency_ms.0, self.latency_ms.1))
    }
}

fn distinct<T: Clone + Ord>(dice: &mut Dice, all: &[T], most: u64) -> Vec<T> {
    let count = dice.between(0, most);
    let mut found: Vec<T> = (0..count).map(|_| dice.pick(all)).collect();
    found.sort();
    found.dedup();
    found
}

impl std::fmt::Display for World {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (per_minute, per_hour) = self.limits;
        writeln!(formatter, "{} accounts, in the order of {:?}; {:?}", self.accounts, self.order, self.traits)?;
        writeln!(formatter, "{:?}", self.texts)?;
        let quota = self.quota.map(|quota| (quota.per_minute, quota.per_hour));
        writeln!(formatter, "{per_minute} requests a minute, {per_hour} an hour; the client knows {quota:?}")?;
        writeln!(formatter, "latency {:?} ms; faults in a thousand requests: {:?}", self.latency_ms, self.faults)?;
        let (colleague, program) = (self.colleague_s, self.other_program_s);
        writeln!(formatter, "a colleague every {colleague:?} s, another program every {program:?} s")?;
        writeln!(formatter, "sleep every {:?} s; reads are up to {} ms behind", self.sleep_s, self.lag_ms)?;
        if let Some(field) = self.hidden {
            writeln!(formatter, "only the list shows {}", field.name())?;
        }
        let turns = if self.shares_turns { "one after another" } else { "at the same time" };
        writeln!(formatter, "processes change an account {turns}")?;
        self.permissions.map_or(Ok(()), |permissions| writeln!(formatter, "{permissions:?}"))
    }
}
