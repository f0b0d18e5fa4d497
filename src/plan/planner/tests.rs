use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use serde_json::{Value as Json, json};

use super::*;
use crate::plan::{Change, Value};

/// A service that returns a list of items, and accounts read one by one.
struct Service {
    items: Vec<Item>,
    accounts: BTreeMap<i64, ContactAccount>,
    pages: u64,
    singles: Vec<i64>,
    /// An account that `GET` refuses.
    refused: Option<i64>,
}

fn account(members: &Json) -> ContactAccount {
    serde_json::from_value(members.clone()).unwrap()
}

/// A complete account with this id and the city Oslo.
fn whole(id: i64) -> Json {
    let mut members = json!({"id": id, "ownerUserId": 42, "name": format!("Company {id}"), "city": "Oslo",
        "domainName": format!("company{id}.example")});
    for field in Field::ALL {
        if members.get(field.wire()).is_none() {
            members[field.wire()] = Json::Null;
        }
    }
    members
}

fn without(mut members: Json, wire: &str) -> Json {
    members.as_object_mut().unwrap().remove(wire).unwrap();
    members
}

fn unreadable(id: Option<i64>) -> Item {
    Item::Unreadable { id, reason: "/ownerUserId must be an integer".to_owned() }
}

impl Service {
    fn of(count: i64) -> Self {
        let accounts: BTreeMap<i64, ContactAccount> = (1..=count).map(|id| (id, account(&whole(id)))).collect();
        let items = accounts.values().cloned().map(Item::Account).collect();
        Self { items, accounts, pages: 0, singles: Vec::new(), refused: None }
    }

    /// What the list contains instead of the account with this id.
    fn showing(mut self, id: i64, item: Item) -> Self {
        let place = self.items.iter().position(|item| item.id() == Some(id)).unwrap();
        self.items[place] = item;
        self
    }

    fn without_member(mut self, wire: &str) -> Self {
        for item in &mut self.items {
            *item = Item::Account(account(&without(whole(item.id().unwrap()), wire)));
        }
        self
    }

    fn page(&mut self, top: u32, skip: u64) -> (Vec<Item>, bool) {
        self.pages += 1;
        let (top, skip) = (top as usize, usize::try_from(skip).unwrap());
        let page = self.items.iter().skip(skip).take(top).cloned().collect();
        (page, skip + top < self.items.len())
    }

    fn plan(&mut self, table: &Table, options: &Options) -> Result<BTreeMap<u64, PlannedRow>, String> {
        self.plan_with(table, options, Self::page)
    }

    fn plan_with(
        &mut self,
        table: &Table,
        options: &Options,
        mut page: impl FnMut(&mut Self, u32, u64) -> (Vec<Item>, bool),
    ) -> Result<BTreeMap<u64, PlannedRow>, String> {
        let mut rows = BTreeMap::new();
        let mut give = |row: PlannedRow| {
            let number = row.row;
            if rows.insert(number, row).is_some() { Err(format!("row {number} came twice")) } else { Ok(()) }
        };
        let mut planner = Planner::new(table, options, &mut give)?;
        loop {
            match planner.next_step() {
                Step::Done => break,
                Step::Refused(incomplete) => return Err(incomplete.reason),
                Step::Page { top, skip } => {
                    let (items, has_more) = page(self, top, skip);
                    planner.page(skip, &items, has_more, &mut give)?;
                }
                Step::Account { id } => {
                    self.singles.push(id);
                    if self.refused == Some(id) {
                        planner.unreadable("refused", &mut give)?;
                    } else {
                        planner.single(self.accounts.get(&id), &mut give)?;
                    }
                }
            }
            assert!(self.pages + self.singles.len() as u64 <= 10_000, "no end");
        }
        planner.finish(&mut give)?;
        assert_eq!(rows.len() as u64, table.len(), "a row is lost");
        Ok(rows)
    }
}

fn by_id(ids: impl IntoIterator<Item = i64>) -> (Table, Options) {
    table("id", Arc::new(ids.into_iter().collect::<Int64Array>()), Options::default())
}

fn by_text(match_on: MatchOn, texts: &[&str]) -> (Table, Options) {
    let options = Options { match_on, ..Options::default() };
    table(match_on.as_str(), Arc::new(StringArray::from(texts.to_vec())), options)
}

/// Every row changes its company's city to Bergen.
fn table(key: &str, keys: ArrayRef, options: Options) -> (Table, Options) {
    let cities = Arc::new(StringArray::from(vec!["Bergen"; keys.len()]));
    let batch = RecordBatch::try_from_iter([(key, keys), ("city", cities as ArrayRef)]).unwrap();
    (Table::from_batches(&batch.schema(), vec![batch], &options).unwrap(), options)
}

fn statuses(rows: &BTreeMap<u64, PlannedRow>) -> Vec<Status> {
    rows.values().map(|row| row.status).collect()
}

#[test]
fn a_row_is_never_compared_with_a_member_that_its_item_lacks() {
    let (table, options) = by_id(1..=20);
    let mut service = Service::of(20).without_member("city");
    service.accounts.get_mut(&7).unwrap().city = Some("Bergen".into());
    let rows = service.plan(&table, &options).unwrap();
    assert_eq!((service.pages, service.singles.len()), (1, 20));
    let before = Change::new(Field::City, Value::Text("Oslo".into()), Value::Text("Bergen".into()));
    for row in rows.values() {
        let is_done = row.account_id == Some(7);
        assert_eq!(row.status, if is_done { Status::Unchanged } else { Status::Pending });
        assert_eq!(row.changes, if is_done { Vec::new() } else { vec![before.clone()] });
    }
}

#[test]
fn a_row_whose_item_lacks_another_member_is_planned_but_not_written_from_a_page() {
    let (table, options) = by_id(1..=20);
    let mut service = Service::of(20).without_member("phone");
    let rows = service.plan(&table, &options).unwrap();
    assert_eq!((service.pages, service.singles.as_slice()), (1, [].as_slice()));
    assert!(rows.values().all(|row| row.status == Status::Pending && row.position.is_none()));
    let rows = Service::of(20).plan(&table, &options).unwrap();
    assert!(rows.values().all(|row| row.position == Some(row.row)));
}

#[test]
fn to_replace_an_account_every_member_must_be_known() {
    let (table, options) = by_id(1..=20);
    let options = Options { mode: Mode::Replace, ..options };
    let mut service = Service::of(20).without_member("phone");
    let rows = service.plan(&table, &options).unwrap();
    assert_eq!(service.singles.len(), 20);
    assert!(rows.values().all(|row| row.status == Status::Pending));
}

#[test]
fn an_account_that_cannot_be_read_holds_up_no_other_row() {
    let (table, options) = by_id(10..=19);
    for item in [unreadable(Some(7)), unreadable(None)] {
        let mut service = Service::of(30).showing(7, item);
        let rows = service.plan(&table, &options).unwrap();
        assert_eq!((service.pages, service.singles.as_slice()), (1, [].as_slice()));
        assert_eq!(statuses(&rows), [Status::Pending; 10]);
    }
}

#[test]
fn an_account_that_its_item_hides_is_read_by_itself() {
    let (table, options) = by_id(10..=19);
    for item in [unreadable(Some(15)), unreadable(None)] {
        let mut service = Service::of(30).showing(15, item);
        let rows = service.plan(&table, &options).unwrap();
        assert_eq!(service.singles, [15]);
        assert_eq!(statuses(&rows), [Status::Pending; 10]);
        assert_eq!((rows[&5].account_id, rows[&5].position), (Some(15), None));
    }
}

#[test]
fn a_name_is_not_matched_in_a_list_that_hides_an_account() {
    let (names, by_name) = by_text(MatchOn::Name, &["Company 15"]);
    let (domains, by_domain) = by_text(MatchOn::DomainName, &["company15.example"]);
    for item in [unreadable(Some(7)), unreadable(None)] {
        for (table, options) in [(&names, &by_name), (&domains, &by_domain)] {
            let reason = Service::of(30).showing(7, item.clone()).plan(table, options).unwrap_err();
            assert!(reason.starts_with("item 6 of the list"), "{reason}");
            assert_eq!(reason.contains("account 7"), item.id().is_some(), "{reason}");
            assert!(reason.contains("match on id"), "{reason}");
        }
    }
    // A plan with such an id could never be opened again.
    let zero = Item::Account(account(&whole(0)));
    let reason = Service::of(30).showing(7, zero).plan(&names, &by_name).unwrap_err();
    assert!(reason.contains("/id must be 1 or greater"), "{reason}");
    let lacking = Item::Account(account(&without(whole(7), "domainName")));
    let reason = Service::of(30).showing(7, lacking.clone()).plan(&domains, &by_domain).unwrap_err();
    assert!(reason.contains("account 7") && reason.contains("/domainName is missing"), "{reason}");
    let rows = Service::of(30).showing(7, lacking).plan(&names, &by_name).unwrap();
    assert_eq!(statuses(&rows), [Status::Pending]);
}

#[test]
fn an_account_found_by_name_is_read_by_itself_where_its_item_lacks_what_is_compared() {
    let (table, options) = by_text(MatchOn::Name, &["Company 3", "Company 9", "Company 5", "Company 4"]);
    let mut service = Service::of(5).without_member("city");
    service.accounts.get_mut(&4).unwrap().name = "Company 9".into();
    service.accounts.remove(&5);
    let rows = service.plan(&table, &options).unwrap();
    // Account 4 has changed its name since the page, to the name that row 1 matches.
    assert_eq!(statuses(&rows), [Status::Pending, Status::Pending, Status::NotFound, Status::NotFound]);
    assert_eq!(rows[&1].account_id, Some(4));
    assert_eq!((rows[&0].account_id, rows[&0].changes.len()), (Some(3), 1));
    assert_eq!(service.singles, [3, 5, 4]);
}

#[test]
fn a_row_knows_what_the_list_showed_also_if_its_account_is_read_by_itself() {
    let is_listed = |rows: &BTreeMap<u64, PlannedRow>, row: u64, field| rows[&row].listed.contains(field);
    // By itself, because the item lacks what is compared.
    let shows_phone = |id: i64| {
        let mut members = without(whole(id), "city");
        members["phone"] = "1".into();
        Item::Account(account(&members))
    };
    for (table, options) in [by_id(1..=3), by_text(MatchOn::Name, &["Company 1", "Company 2", "Company 3"])] {
        let mut service = Service::of(3).showing(2, shows_phone(2));
        let rows = service.plan(&table, &options).unwrap();
        assert_eq!(service.singles, [2]);
        assert_eq!((rows[&1].position, rows[&1].changes.len()), (None, 1));
        assert!(is_listed(&rows, 1, Field::Phone) && !is_listed(&rows, 0, Field::Phone));
        assert!(is_listed(&rows, 0, Field::City) && !is_listed(&rows, 1, Field::City));
    }
    // By itself, because the list may have cut its name.
    let (table, options) = by_text(MatchOn::Name, &["The longest name of all companies"]);
    let mut members: Json =
        serde_json::from_str(&whole(2).to_string().replace("Company 2", "The longest name of all companies")).unwrap();
    let real = account(&members);
    members["phone"] = "1".into();
    let mut service = Service::of(3).showing(2, Item::Account(account(&members)));
    service.accounts.insert(2, real);
    let rows = service.plan(&table, &options).unwrap();
    assert_eq!(service.singles, [2]);
    assert!(is_listed(&rows, 0, Field::Phone));
}

#[test]
fn a_second_candidate_is_found_before_any_account_is_read_by_itself() {
    let (table, options) = by_text(MatchOn::Name, &["Company 3"]);
    let mut service = Service::of(5).without_member("city");
    let twin = without(whole(6), "city").to_string().replace("Company 6", "Company 3");
    service.items.push(Item::Account(serde_json::from_str(&twin).unwrap()));
    let rows = service.plan(&table, &options).unwrap();
    assert_eq!((statuses(&rows), service.singles.len()), (vec![Status::Ambiguous], 0));
}

#[test]
fn a_row_is_found_by_a_name_that_the_list_cuts() {
    let cut = |mut service: Service, ids: &[i64]| {
        for item in &mut service.items {
            let Item::Account(account) = item else { continue };
            account.name.truncate(9);
            account.domain_name = account.domain_name.take().map(|domain| domain[..9].to_owned());
        }
        service.items.retain(|item| item.id().is_some_and(|id| ids.is_empty() || ids.contains(&id)));
        service
    };
    for (match_on, texts) in [
        (MatchOn::Name, ["Company 11", "Company 2", "Company 40"]),
        (MatchOn::DomainName, ["COMPANY11.example", "company2.example", "company40.example"]),
    ] {
        let (table, options) = by_text(match_on, &texts);
        let rows = cut(Service::of(12), &[]).plan(&table, &options).unwrap();
        assert_eq!(statuses(&rows), [Status::Pending, Status::Pending, Status::NotFound], "{match_on:?}");
        assert_eq!((rows[&0].account_id, rows[&1].account_id), (Some(11), Some(2)));
    }
    // Two accounts of one name, both cut, and one that cannot be read.
    let (table, options) = by_text(MatchOn::Name, &["Company 11"]);
    let mut service = cut(Service::of(12), &[]);
    service.accounts.get_mut(&12).unwrap().name = "Company 11".to_owned();
    assert_eq!(statuses(&service.plan(&table, &options).unwrap()), [Status::Ambiguous]);
}

/// A service whose accounts have these texts, of which the list shows at most this many characters.
fn cutting(match_on: MatchOn, limit: usize, texts: &[&str]) -> Service {
    let mut service = Service::of(i64::try_from(texts.len()).unwrap());
    let set = |account: &mut ContactAccount, text: &str| match match_on {
        MatchOn::DomainName => account.domain_name = Some(text.to_owned()),
        _ => account.name = text.to_owned(),
    };
    for ((account, item), text) in service.accounts.values_mut().zip(&mut service.items).zip(texts) {
        set(account, text);
        let Item::Account(item) = item else { continue };
        set(item, &text[..limit.min(text.len())]);
    }
    service
}

/// The cut text, a longer one, and another longer one.
const LONG: [(MatchOn, usize, [&str; 3]); 2] = [
    (
        MatchOn::Name,
        40,
        [
            "International Shipping Group Holdings of",
            "International Shipping Group Holdings of Norway",
            "International Shipping Group Holdings of Spain",
        ],
    ),
    (
        MatchOn::DomainName,
        44,
        [
            "https://www.international-shipping-group.com",
            "https://www.international-shipping-group.com.au",
            "https://www.international-shipping-group.company",
        ],
    ),
];

#[test]
fn a_row_matches_what_get_shows_of_accounts_with_the_same_text_in_the_list() {
    for (match_on, limit, [cut, norway, spain]) in LONG {
        for (texts, status, id, read) in [
            (vec![cut, norway], Status::Pending, Some(1), 2),
            (vec![norway, cut, spain], Status::Pending, Some(2), 3),
            (vec![norway, spain, norway], Status::NotFound, None, 3),
            (vec![norway, cut, spain, cut], Status::Ambiguous, None, 4),
            // The other reads cannot matter.
            (vec![cut; 9], Status::Ambiguous, None, 2),
        ] {
            let (table, options) = by_text(match_on, &[cut]);
            let mut service = cutting(match_on, limit, &texts);
            let rows = service.plan(&table, &options).unwrap();
            assert_eq!((rows[&0].status, rows[&0].account_id), (status, id), "{texts:?}");
            assert_eq!(service.singles.len(), read, "{texts:?}");
        }
        // Another row may match what they really have.
        let (table, options) = by_text(match_on, &[cut, norway, spain]);
        let mut service = cutting(match_on, limit, &[cut, cut, norway, spain]);
        let rows = service.plan(&table, &options).unwrap();
        assert_eq!(statuses(&rows), [Status::Ambiguous, Status::Pending, Status::Pending]);
        assert_eq!((rows[&1].account_id, rows[&2].account_id, service.singles.len()), (Some(3), Some(4), 4));
        assert_eq!(rows[&0].error.as_deref(), Some("row 0 matches accounts 1 and 2; match on id instead"));
    }
}

#[test]
fn a_text_that_the_list_cannot_have_cut_needs_no_read_beside_one_that_it_may_have_cut() {
    let [cut, longer, _] = LONG[1].2;
    let (table, options) = by_text(MatchOn::DomainName, &[cut]);
    let whole = "international-shipping-group.com";
    for (texts, status, id, read) in [
        (vec![longer, whole], Status::Pending, Some(2), vec![1, 2]),
        (vec![whole, longer], Status::Pending, Some(1), vec![2]),
        (vec![whole, longer, cut], Status::Ambiguous, None, vec![2, 3]),
        (vec![longer, whole, whole, cut], Status::Ambiguous, None, vec![]),
    ] {
        let mut service = cutting(MatchOn::DomainName, 44, &texts);
        let rows = service.plan(&table, &options).unwrap();
        assert_eq!((rows[&0].status, rows[&0].account_id), (status, id), "{texts:?}");
        assert_eq!(service.singles, read, "{texts:?}");
    }
}

#[test]
fn an_account_whose_item_lacks_a_field_and_may_be_cut_is_read_once() {
    let (match_on, limit, [cut, norway, _]) = LONG[0];
    for texts in [vec![norway], vec![cut]] {
        let (table, options) = by_text(match_on, &[cut, norway]);
        let mut service = cutting(match_on, limit, &texts);
        for item in &mut service.items {
            let Item::Account(shown) = item else { continue };
            *shown = account(&without(serde_json::to_value(&*shown).unwrap(), "city"));
        }
        let rows = service.plan(&table, &options).unwrap();
        assert_eq!(service.singles, [1]);
        let found = usize::from(texts[0] == norway);
        let mut expected = [Status::NotFound; 2];
        expected[found] = Status::Pending;
        assert_eq!(statuses(&rows), expected);
    }
}

#[test]
fn an_account_that_get_refuses_fails_only_the_rows_that_may_match_it() {
    for (match_on, limit, [cut, norway, spain]) in LONG {
        let other = if match_on == MatchOn::Name { "Acme" } else { "acme.com" };
        let (table, options) = by_text(match_on, &[norway, other, spain, cut, "elsewhere"]);
        let mut service = cutting(match_on, limit, &[norway, other, spain]);
        service.refused = Some(1);
        let rows = service.plan(&table, &options).unwrap();
        let [failed, pending] = [Status::Failed, Status::Pending];
        assert_eq!(statuses(&rows), [failed, pending, failed, failed, Status::NotFound]);
        let error = format!(
            "row 0: the list may have truncated the {} of account 1, so this row may match it; plan this row again, \
             or match on id instead. Reading the account failed: refused",
            match_on.as_str()
        );
        assert_eq!(rows[&0].error.as_ref(), Some(&error));
        // Two accounts match the row, whatever the third one has.
        let (table, options) = by_text(match_on, &[cut]);
        let mut service = cutting(match_on, limit, &[norway, cut, cut]);
        service.refused = Some(1);
        assert_eq!(statuses(&service.plan(&table, &options).unwrap()), [Status::Ambiguous]);
        let mut service = cutting(match_on, limit, &[norway]);
        service.refused = Some(1);
        let rows = service.plan(&table, &options).unwrap();
        assert_eq!((rows[&0].status, rows[&0].error.as_deref()), (failed, Some("row 0: refused")));
    }
}

#[test]
fn a_plan_is_refused_if_every_row_may_match_an_account_that_get_refuses() {
    let (table, options) = by_text(MatchOn::DomainName, &["acme.com", "b.example"]);
    // What follows can change the key of the whole label.
    let mut service = with_domains(&["m\u{fc}ller-international-shipping-and-trade", "acme.com"]);
    service.refused = Some(1);
    let reason = service.plan(&table, &options).unwrap_err();
    assert!(reason.contains("domain_name of account 1") && reason.contains("any row may match"), "{reason}");
}

fn with_domain(id: i64, domain: &str) -> Json {
    let mut members = whole(id);
    members["domainName"] = json!(domain);
    members
}

fn with_domains(domains: &[&str]) -> Service {
    let mut service = Service::of(0);
    for (id, domain) in (1..).zip(domains) {
        let account = account(&with_domain(id, domain));
        service.items.push(Item::Account(account.clone()));
        service.accounts.insert(id, account);
    }
    service
}

#[test]
fn a_row_finds_its_account_however_the_domain_is_written() {
    let texts = ["https://www.acme.com/", "GLOBEX.com.", " bücher.example ", "http://initech.com:8080/about"];
    let (table, options) = by_text(MatchOn::DomainName, &texts);
    let mut service = with_domains(&["initech.com", "www.globex.com", "xn--bcher-kva.example", "acme.com"]);
    let rows = service.plan(&table, &options).unwrap();
    assert_eq!(statuses(&rows), [Status::Pending; 4]);
    let ids: Vec<_> = rows.values().map(|row| row.account_id).collect();
    assert_eq!(ids, [Some(4), Some(2), Some(3), Some(1)]);
    assert_eq!(rows[&0].key.as_deref(), Some("https://www.acme.com/"), "the file has what the row says");
    for (account, row) in service.accounts.values().zip([3, 1, 2, 0]) {
        assert!(MatchOn::DomainName.still_matches(texts[row], account), "{account:?}");
    }
}

#[test]
fn accounts_or_rows_of_one_domain_are_ambiguous_however_it_is_written() {
    // One account has just what the row says. The other one is the same site, and may be the one that is meant.
    let (table, options) = by_text(MatchOn::DomainName, &["acme.com", "globex.com"]);
    let rows = with_domains(&["acme.com", "globex.com", "https://www.acme.com"]).plan(&table, &options).unwrap();
    assert_eq!(statuses(&rows), [Status::Ambiguous, Status::Pending]);
    let (table, options) = by_text(MatchOn::DomainName, &["acme.com", "globex.com", "WWW.ACME.COM"]);
    let rows = with_domains(&["acme.com", "globex.com"]).plan(&table, &options).unwrap();
    assert_eq!(statuses(&rows), [Status::Ambiguous, Status::Pending, Status::Ambiguous]);
}

#[test]
fn an_invalid_row_makes_another_row_of_its_account_ambiguous() {
    let cities: ArrayRef = Arc::new(StringArray::from(vec!["#REF!", "Bergen", "Bergen", "#REF!"]));
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 1, 3]));
    for (match_on, keys) in [
        (MatchOn::Id, ids),
        (MatchOn::Name, Arc::new(StringArray::from(vec!["Company 1", "Company 2", "Company 1", "Company 3"]))),
        (
            MatchOn::DomainName,
            Arc::new(StringArray::from(vec![
                "company1.example",
                "company2.example",
                "COMPANY1.example",
                "company3.example",
            ])),
        ),
    ] {
        let options = Options { match_on, ..Options::default() };
        let batch = RecordBatch::try_from_iter([(match_on.as_str(), keys), ("city", Arc::clone(&cities))]).unwrap();
        let table = Table::from_batches(&batch.schema(), vec![batch], &options).unwrap();
        let mut service = Service::of(3);
        let rows = service.plan(&table, &options).unwrap();
        assert_eq!(statuses(&rows), [Status::Invalid, Status::Pending, Status::Ambiguous, Status::Invalid]);
        let error = "rows 0, 2 match the same account; keep only one of them";
        assert_eq!((rows[&2].error.as_deref(), service.singles.is_empty()), (Some(error), match_on != MatchOn::Id));
    }
}

#[test]
fn a_name_that_is_not_found_is_said_to_be_compared_exactly() {
    let (table, options) = by_text(MatchOn::Name, &["Company 1 ", "company 1"]);
    let rows = Service::of(2).plan(&table, &options).unwrap();
    let expected = "no account has exactly this name, letter case and spaces included";
    let ends = "; this text has white space at its beginning or end";
    assert_eq!(rows[&0].error.as_deref(), Some(format!("row 0: {expected}{ends}").as_str()));
    assert_eq!(rows[&1].error.as_deref(), Some(format!("row 1: {expected}").as_str()));
}

#[test]
fn a_page_of_a_site_is_not_the_company_that_has_the_site() {
    let texts = ["https://www.hotels.com/oslo", "shop.acme.com", "acme.com.au", "info@globex.com"];
    let (table, options) = by_text(MatchOn::DomainName, &texts);
    let rows = with_domains(&["hotels.com", "acme.com", "globex.com"]).plan(&table, &options).unwrap();
    assert_eq!(statuses(&rows), [Status::NotFound; 4]);
    let error = |row: u64| rows[&row].error.clone().unwrap();
    assert!(error(0).contains("use only the domain"), "{}", error(0));
    assert_eq!(error(1), "row 1: no account has this domain_name");
    let (table, options) = by_text(MatchOn::DomainName, &["hotels.com"]);
    let mut service = with_domains(&["hotels.com/oslo", "https://hotels.com/bergen"]);
    assert_eq!(statuses(&service.plan(&table, &options).unwrap()), [Status::NotFound]);
}

#[test]
fn a_domain_that_the_list_cuts_is_read_by_itself_before_it_matches() {
    let long = "https://www.acme-trading-company.com.au/kontakt";
    let cut = &long[..36];
    assert_eq!(domain::domain_key(cut), "acme-trading-company.com");
    for (row, found) in [("acme-trading-company.com", None), ("acme-trading-company.com.au/kontakt", Some(1))] {
        let (table, options) = by_text(MatchOn::DomainName, &[row]);
        let mut service = with_domains(&[long, "globex.com"]).showing(1, Item::Account(account(&with_domain(1, cut))));
        let rows = service.plan(&table, &options).unwrap();
        assert_eq!((rows[&0].account_id, service.singles.as_slice()), (found, [1].as_slice()), "{row}");
        assert_eq!(rows[&0].status, if found.is_some() { Status::Pending } else { Status::NotFound });
    }
    // Nothing of these is left that tells which row they are for.
    let (table, options) = by_text(MatchOn::DomainName, &["acme.com", "xn--bcher-kva.example", "nowhere.example"]);
    let mut service = with_domains(&["https://www.acme.com", "https://büch", "https://www.bücher.example"]);
    for (id, cut) in [(1, "https://www."), (3, "https://www.")] {
        service = service.showing(id, Item::Account(account(&with_domain(id, cut))));
    }
    let rows = service.plan(&table, &options).unwrap();
    assert_eq!(statuses(&rows), [Status::Pending, Status::Pending, Status::NotFound]);
    assert_eq!((rows[&0].account_id, rows[&1].account_id), (Some(1), Some(3)));
}

#[test]
fn a_whole_name_that_begins_like_another_one_takes_no_request() {
    let (table, options) = by_text(MatchOn::Name, &["Company 11 AS"]);
    let mut service = Service::of(12);
    let long = whole(13).to_string().replace("Company 13", "The longest name of all companies");
    service.items.push(Item::Account(serde_json::from_str(&long).unwrap()));
    assert_eq!(statuses(&service.plan(&table, &options).unwrap()), [Status::NotFound]);
    assert_eq!(service.singles, [0_i64; 0]);
}

#[test]
fn an_account_that_moves_to_pages_that_were_read_is_found_by_name() {
    let (table, options) = by_text(MatchOn::Name, &["Company 2000"]);
    let mut service = Service::of(2_500);
    let page = |service: &mut Service, top, skip| {
        if service.pages == 1 {
            let last = service.items.remove(1_999);
            service.items.insert(0, last);
        }
        service.page(top, skip)
    };
    let rows = service.plan_with(&table, &options, page).unwrap();
    assert_eq!((statuses(&rows), rows[&0].account_id), (vec![Status::Pending], Some(2_000)));
}

#[test]
fn pages_that_bring_nothing_new_leave_rows_by_id_to_single_reads() {
    let (table, options) = by_id(1..=40);
    let page = |service: &mut Service, _, _| {
        service.pages += 1;
        (service.items[..10].to_vec(), true)
    };
    let mut service = Service::of(40);
    let rows = service.plan_with(&table, &options, page).unwrap();
    assert_eq!(statuses(&rows), [Status::Pending; 40]);
    assert!(service.pages <= 5 && service.singles.len() == 30);
    for (match_on, text) in [(MatchOn::Name, "Company 1"), (MatchOn::DomainName, "elsewhere.example")] {
        let (table, options) = by_text(match_on, &[text]);
        let mut service = Service::of(40);
        let reason = service.plan_with(&table, &options, page).unwrap_err();
        assert!(reason.contains("had no new account") && service.pages <= 5, "{reason}");
    }
}

#[test]
fn an_account_whose_domain_or_name_has_changed_no_longer_matches_its_row() {
    let account = account(&whole(1));
    for (match_on, key, expected) in [
        (MatchOn::DomainName, "company1.example", true),
        (MatchOn::DomainName, "COMPANY1.Example", true),
        (MatchOn::DomainName, "company2.example", false),
        (MatchOn::DomainName, "", false),
        (MatchOn::Name, "Company 1", true),
        (MatchOn::Name, "company 1", false),
        (MatchOn::Id, "whatever", true),
    ] {
        assert_eq!(match_on.still_matches(key, &account), expected, "{match_on:?} {key}");
    }
    for no_domain in [Json::Null, json!("")] {
        let mut members = whole(1);
        members["domainName"] = no_domain;
        assert!(!MatchOn::DomainName.still_matches("company1.example", &self::account(&members)));
    }
    assert!(!MatchOn::DomainName.still_matches("company1.example", &self::account(&without(whole(1), "domainName"))));
}

#[test]
fn ids_that_no_page_has_are_asked_for_since_a_page_can_miss_an_account() {
    let (table, options) = by_id(2_991..=3_010);
    let mut service = Service::of(3_000);
    // It moved to the front during the reading of the list.
    service.items.retain(|item| item.id() != Some(3_000));
    let rows = service.plan(&table, &options).unwrap();
    assert_eq!(statuses(&rows), [[Status::Pending; 10], [Status::NotFound; 10]].concat());
    assert_eq!((service.pages, service.singles.len()), (3, 11));
}

#[test]
fn planning_costs_at_most_twice_the_fewest_requests_that_tell_every_row() {
    for count in [0_i64, 1, 999, 1_000, 2_500] {
        for (present, absent) in [(1, 0), (2, 0), (3, 1), (5, 30), (200, 0), (0, 40), (200, 900)] {
            let first = (count - present + 1).max(1);
            let ids = (first..first + present).chain(100_000..100_000 + absent);
            let (table, options) = by_id(ids.clone());
            let mut service = Service::of(count);
            service.plan(&table, &options).unwrap();
            // This many pages, and a `GET` for every row that they do not contain.
            let fewest = (0..=count / 1_000 + 1)
                .map(|pages| {
                    pages + i64::try_from(ids.clone().filter(|id| *id > count.min(pages * 1_000)).count()).unwrap()
                })
                .min();
            let sent = i64::try_from(service.pages).unwrap() + i64::try_from(service.singles.len()).unwrap();
            assert!(sent <= 2 * fewest.unwrap(), "{count} accounts, {present} + {absent} rows: {sent}, {fewest:?}");
        }
    }
}

#[test]
fn a_pending_row_weighs_what_its_account_has_in_text() {
    let (table, options) = by_id([1, 2]);
    let mut service = Service::of(2);
    let Item::Account(longer) = &mut service.items[1] else { panic!() };
    longer.description = Some("ü".repeat(200));
    longer.city = Some("Bergen".into());
    longer.country = Some("Norway".into());
    let rows = service.plan(&table, &options).unwrap();
    let text = "Company 1".len() + "company1.example".len() + "Oslo".len();
    assert_eq!((rows[&0].weight, rows[&0].status), (text as u64, Status::Pending));
    assert_eq!((rows[&1].weight, rows[&1].status), (0, Status::Unchanged));
}
