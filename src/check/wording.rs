//! Describes what a reading found. Pure.

use std::collections::BTreeSet;

use crate::account::Field;
use crate::client::Client;

use super::facts::{Compared, DateForm, EmptyForm, Facts};
use super::{Finding, Key, Tried, Verdict, said};

/// The most names to show. The rest is a number.
const MOST_NAMES: usize = 12;

/// Returns the findings of a reading, in a fixed order.
pub(super) fn reading(key: Key, facts: &Facts, failure: Option<&str>, client: &Client) -> Vec<Finding> {
    let mut findings = vec![self::key(key), works(facts, failure)];
    if facts.items + facts.wholes > 0 {
        findings.extend([list_items(facts), dates(facts), empty_values(facts), members(facts, client)]);
    }
    findings.push(rate_limit_headers(facts, client));
    findings
}

fn finding(topic: &'static str, found: String, follows: &str, verdict: impl Into<Verdict>) -> Finding {
    Finding { topic, found, follows: follows.to_owned(), verdict: verdict.into() }
}

fn key(key: Key) -> Finding {
    let other = if key.is_chosen { " The auth= setting allows no other header." } else { "" };
    let (found, follows, differs) = match (key.api_key_header, key.bearer) {
        (Tried::Accepted, Tried::Accepted) => (
            "The service accepts the key in X-API-Key and in Authorization: Bearer.".to_owned(),
            "Either setting of auth= works.",
            false,
        ),
        (Tried::Accepted, Tried::Refused) => (
            "The service accepts the key in X-API-Key. It refuses it in Authorization: Bearer.".to_owned(),
            "The default works. Do not set auth=\"bearer\".",
            false,
        ),
        (Tried::Accepted, Tried::Untold) => {
            (format!("The service accepts the key in X-API-Key.{other}"), "This setting works.", false)
        }
        (Tried::Refused, Tried::Accepted) => (
            "The service refuses the key in X-API-Key and accepts it in Authorization: Bearer.".to_owned(),
            "The default works, but each new client sends one extra request. Set auth=\"bearer\" to avoid that \
            request.",
            true,
        ),
        (_, Tried::Accepted) => {
            (format!("The service accepts the key in Authorization: Bearer.{other}"), "This setting works.", false)
        }
        (Tried::Refused, Tried::Refused) => (
            "The service refuses the key in X-API-Key and in Authorization: Bearer (401).".to_owned(),
            "No call works. Check the key in Settings > API Key, and act_as= and team_id= if they are set.",
            true,
        ),
        (Tried::Refused, Tried::Untold) | (Tried::Untold, Tried::Refused) => (
            format!("The service refuses the key (401).{other}"),
            "No call works. Check the key in Settings > API Key, and act_as= and team_id= if they are set.",
            true,
        ),
        (Tried::Untold, Tried::Untold) => (
            "The check cannot tell whether the service accepts the key.".to_owned(),
            "Run the check again when reading works.",
            true,
        ),
    };
    finding("key", found, follows, differs)
}

fn works(facts: &Facts, failure: Option<&str>) -> Finding {
    let unreadable: usize = facts.unreadable.values().sum();
    let read = format!(
        "The list returned {}, and {} read one by one.",
        counted(facts.items, "account"),
        if facts.wholes == 1 { "1 account was".to_owned() } else { format!("{} accounts were", facts.wholes) },
    );
    match failure {
        Some(failure) if facts.items + facts.wholes == 0 => finding(
            "reading",
            format!("Reading failed: {failure}."),
            "The check cannot tell what accounts look like. Correct this first, then run the check again.",
            true,
        ),
        Some(failure) => finding(
            "reading",
            format!("{read} A request failed: {failure}."),
            "The other findings are based on the other requests. Run the check again. If it reports this again, look \
            for a newer version of replyio, or report this.",
            true,
        ),
        None if unreadable > 0 => {
            let reasons: Vec<&str> = facts.unreadable.keys().map(String::as_str).take(MOST_NAMES).collect();
            let them = if unreadable == 1 { "it" } else { "them" };
            finding(
                "reading",
                format!("{read} This version cannot read {unreadable} of them: {}.", reasons.join("; ")),
                &format!(
                    "list_contact_accounts() raises UnexpectedResponseError. A plan that matches on id reads {them} \
                     one by one. Look for a newer version of replyio, or report this."
                ),
                true,
            )
        }
        None if facts.items == 0 => finding(
            "reading",
            "Reading works. The list returned no account.".to_owned(),
            "The check cannot tell what accounts look like. Run it with an account that has values.",
            Verdict::NotKnown,
        ),
        None => finding("reading", format!("Reading works. {read}"), "Every read call works.", false),
    }
}

fn list_items(facts: &Facts) -> Finding {
    let union = |of: fn(&Compared) -> &BTreeSet<&'static str>| -> BTreeSet<&'static str> {
        facts.compared.iter().flat_map(|compared| of(compared).iter().copied()).collect()
    };
    let (lacks, cut) = (union(|compared| &compared.lacks), union(|compared| &compared.cut));
    let (differ, only) = (union(|compared| &compared.differ), union(|compared| &compared.only_in_list));
    let lacks: BTreeSet<&str> = lacks.union(&facts.items_lack).copied().collect();
    // Without a single read, a member that an item lacks may be one that the account lacks too.
    if facts.compared.is_empty() {
        let found = "No list item was compared with its account.".to_owned();
        return finding(
            "list_items",
            found,
            "The check cannot tell whether list items are complete.",
            Verdict::NotKnown,
        );
    }
    if facts.compared.iter().all(Compared::is_equal) && facts.items_lack.is_empty() {
        let compared = if facts.compared.len() == 1 { "1 list item has" } else { "2 list items have" };
        return finding(
            "list_items",
            format!("{compared} every value that GET returns, in full."),
            "A plan can read accounts from list pages, 1,000 per request.",
            false,
        );
    }
    let mut found = Vec::new();
    let mut say = |what: &str, names: &BTreeSet<&str>| {
        if !names.is_empty() {
            found.push(format!("{what} {}.", joined(names.iter().copied())));
        }
    };
    say("List items lack", &lacks);
    say("List items cut the text of", &cut);
    say("List items and GET differ in", &differ);
    say("GET lacks values that list items have:", &only);
    let follows = if only.is_empty() {
        "Where the list is not enough, a plan reads the accounts one by one, with one extra request per row. An \
        account that someone changes during the check can differ too; run the check again to be sure."
    } else {
        "Someone may have changed an account during the check; run the check again to be sure. If the result is the \
        same, do not update accounts with this version: an update that is based on GET clears what GET lacks. A plan \
        stops before it updates such an account, unless you allow it to clear members. A patch reads no list, so it \
        clears the value."
    };
    finding("list_items", found.join(" "), follows, true)
}

fn dates(facts: &Facts) -> Finding {
    let forms = facts.dates.iter().map(|(form, number)| {
        let form = match form {
            DateForm::Utc => "with Z",
            DateForm::Offset => "with a numeric offset",
            DateForm::Local => "without an offset",
            DateForm::DateOnly => "without a time",
            DateForm::Other => "in another form",
            DateForm::Null => "null",
            DateForm::Missing => "missing",
        };
        format!("{number} {form}")
    });
    let found = format!("Dates: {}.", forms.collect::<Vec<_>>().join(", "));
    let differs = facts.dates.keys().any(|form| !form.is_readable());
    let follows = if differs {
        "created_date or last_activity_date is None for these accounts. If there is a value, extra keeps the original."
    } else if facts.dates.contains_key(&DateForm::Local) {
        "This version reads them all. It reads a date without an offset as UTC."
    } else {
        "This version reads them all."
    };
    finding("dates", found, follows, differs)
}

fn empty_values(facts: &Facts) -> Finding {
    let forms: Vec<String> = facts
        .empty
        .iter()
        .map(|(form, number)| {
            let form = match form {
                EmptyForm::Null => "null",
                EmptyForm::Text => "\"\"",
                EmptyForm::Missing => "missing",
            };
            format!("{number} {form}")
        })
        .collect();
    let found = match forms.as_slice() {
        [] => "No optional field is empty.".to_owned(),
        forms => format!("Optional fields that are empty: {}.", forms.join(", ")),
    };
    let (follows, verdict) = if forms.is_empty() {
        ("The check cannot tell which form an empty field has.", Verdict::NotKnown)
    } else {
        let follows = "This version treats null, \"\" and a missing member as empty in every comparison.";
        (follows, Verdict::AsExpected)
    };
    finding("empty_values", found, follows, verdict)
}

fn members(facts: &Facts, client: &Client) -> Finding {
    let mut found = Vec::new();
    let mut follows = Vec::new();
    if !facts.unknown.is_empty() {
        found.push(format!(
            "The accounts have members that this version does not know: {}.",
            shown(&facts.unknown, client)
        ));
        follows.push(
            "extra keeps them, but an update cannot include them and may clear them. patch_contact_account() warns, \
            and a run stops at the first such row. Look for a newer version before you update accounts.",
        );
    }
    if !facts.other_type.is_empty() {
        found.push(format!("These members have an unexpected type: {}.", joined(facts.other_type.iter().copied())));
        follows.push("They are None, and extra keeps the original value.");
    }
    if facts.other_sizes > 0 {
        found.push(format!("companySize is not one of the ten documented values, {} times.", facts.other_sizes));
        follows.push("The value stays plain text. update_contact_account() refuses to send it.");
    }
    if found.is_empty() {
        let found = "The accounts have no member that this version does not know.".to_owned();
        return finding("members", found, "An update includes every field that it must keep.", false);
    }
    finding("members", found.join(" "), &follows.join(" "), true)
}

fn rate_limit_headers(facts: &Facts, client: &Client) -> Finding {
    if facts.limits.is_empty() {
        return finding(
            "rate_limit_headers",
            "No answer has rate-limit headers.".to_owned(),
            "The client counts the requests of this machine. It learns about other requests of this user only from a \
            429.",
            false,
        );
    }
    finding(
        "rate_limit_headers",
        format!("Answers have rate-limit headers: {}.", shown(&facts.limits, client)),
        "The API contract documents none. The client reads those that it knows, and lowers its remaining quota if \
        they say so.",
        true,
    )
}

/// Returns why an account must not be updated if its list item contradicts `GET`.
pub(super) fn contradiction(compared: &Compared) -> Option<String> {
    let is_writable = |name: &&str| Field::ALL.iter().any(|field| field.wire() == *name);
    let differ: Vec<&str> = compared.differ.iter().copied().filter(is_writable).collect();
    if !compared.only_in_list.is_empty() {
        let names = joined(compared.only_in_list.iter().copied());
        return Some(format!(
            "its list item has values that GET lacks ({names}), and an update built on GET would clear them"
        ));
    }
    (!differ.is_empty()).then(|| {
        let names = joined(differ.into_iter());
        format!(
            "its list item and GET differ ({names}), and an update built on the wrong one would write a wrong value"
        )
    })
}

/// Returns why an account must not be updated if it cannot be compared with its list item.
pub(super) fn not_compared(why: &str) -> String {
    format!(
        "{why}, so the check cannot tell whether GET has all its values, and an update would clear those that GET lacks"
    )
}

/// Returns names from the service: those that look like names, and the number of others.
pub(super) fn shown(names: &BTreeSet<String>, client: &Client) -> String {
    let plain: Vec<&str> =
        names.iter().map(String::as_str).filter(|name| said::is_plain(name, client)).take(MOST_NAMES).collect();
    let others = names.len() - plain.len();
    match (plain.is_empty(), others) {
        (_, 0) => plain.join(", "),
        (is_all, _) => {
            let plain = if is_all { String::new() } else { format!("{}, and ", plain.join(", ")) };
            let (names, are) = if others == 1 { ("name", "is") } else { ("names", "are") };
            format!("{plain}{others} whose {names} {are} not shown")
        }
    }
}

pub(super) fn joined<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}

fn counted(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}
