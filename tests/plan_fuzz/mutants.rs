//! What somebody may do to a plan.

use std::path::Path;

use fastrand::Rng;
use rusqlite::Connection;
use rusqlite::config::DbConfig;

use super::plans::{Plan, ROWS};
use super::reseal::reseal;

const TABLES: [(&str, &str, &[&str]); 6] = [
    ("plan", "key", &["key", "value", "value", "value"]),
    ("state", "key", &["key", "value", "value", "value", "checksum"]),
    ("log", "number", &["number", "present", "written", "checksum"]),
    (
        "rows",
        "row",
        &[
            "row",
            "account_id",
            "matched_by",
            "status",
            "status",
            "error",
            "position",
            "weight",
            "listed",
            "repeated",
            "stored_otherwise",
            "can_overwrite",
            "finished_at_ms",
            "checksum",
        ],
    ),
    ("edits", "row", &["row", "field", "field", "before", "after", "after", "answered", "planned", "checksum"]),
    ("requests", "number", &["number", "sent_at", "checksum"]),
];

const VALUES: [&str; 48] = [
    "NULL",
    "0",
    "1",
    "-1",
    "2",
    "7",
    "23",
    "255",
    "4294967295",
    "4294967296",
    "9007199254740993",
    "-2147483648",
    "9223372036854775807",
    "-9223372036854775808",
    "1.5",
    "1e300",
    "-0.0",
    "9e999",
    "x''",
    "x'00'",
    "x'ff'",
    "zeroblob(100000)",
    "''",
    "' '",
    "'pending'",
    "'unknown'",
    "'changed'",
    "'failed'",
    "'conflict'",
    "'Pending'",
    "'id'",
    "'replace'",
    "'fill'",
    "'city'",
    "'name'",
    "'owner_user_id'",
    "'company_size'",
    "'1'",
    "'planned'",
    "char(27) || ']0;owned' || char(7, 0x9b, 0x202e, 0xe0041)",
    "'a' || char(0) || 'b'",
    "CAST(x'ff80' AS TEXT)",
    "'[\"a\", \"b\"]'",
    "'[' || replace(printf('%.*c', 5000, '['), ' ', '[')",
    "printf('%.*c', 5000, 'x')",
    "printf('%.*c', 200000, 'x')",
    "printf('%.*c', 3000000, 'x')",
    "hex(zeroblob(16))",
];

const DEFINITIONS: [&str; 34] = [
    "CREATE TRIGGER t AFTER UPDATE ON rows BEGIN UPDATE edits SET after = 'mine'; END",
    "CREATE TRIGGER t AFTER UPDATE ON state BEGIN DELETE FROM rows; END",
    "CREATE INDEX i ON rows (abs(account_id))",
    "CREATE INDEX i ON rows (status)",
    "CREATE UNIQUE INDEX i ON edits (row)",
    "CREATE INDEX i ON rows (row) WHERE status = 'pending'",
    "ALTER TABLE rows ADD COLUMN more",
    "ALTER TABLE rows ADD COLUMN more AS (hex(zeroblob(1000000)))",
    "ALTER TABLE edits RENAME COLUMN after TO later",
    "ALTER TABLE rows DROP COLUMN error",
    // The SQLite of replyio has no such table; another program's has it.
    "PRAGMA writable_schema=ON; \
     INSERT INTO sqlite_schema VALUES ('table', 'v', 'v', 0, 'CREATE VIRTUAL TABLE v USING fts5(a)')",
    "DROP TABLE log; PRAGMA writable_schema=ON; INSERT INTO sqlite_schema VALUES ('table', 'log', 'log', 0, \
     'CREATE VIRTUAL TABLE log USING fts5(number, present, written, checksum)')",
    "DROP VIEW changes",
    "DROP VIEW progress; CREATE TABLE progress (status, rows)",
    "DROP TABLE requests",
    "ALTER TABLE rows RENAME TO r; CREATE VIEW rows AS SELECT * FROM r",
    "ALTER TABLE edits RENAME TO e; CREATE VIEW edits AS SELECT row, field, before, 'mine', answered, planned, \
     checksum FROM e",
    "DROP TABLE state; CREATE TABLE state (key TEXT PRIMARY KEY, value CHECK (value <> randomblob(9)), \
     checksum INTEGER)",
    "ALTER TABLE plan RENAME TO p; CREATE VIEW plan AS WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) \
     SELECT 'sealed' AS key, x AS value FROM c WHERE x < 0",
    "CREATE TABLE sqlite_stat1(tbl,idx,stat)",
    "ANALYZE",
    "REINDEX",
    "VACUUM",
    "PRAGMA page_size=512; VACUUM",
    "PRAGMA page_size=65536; VACUUM",
    "PRAGMA auto_vacuum=FULL; VACUUM",
    "PRAGMA auto_vacuum=INCREMENTAL; VACUUM",
    "PRAGMA application_id=0",
    "PRAGMA application_id=-1",
    "PRAGMA user_version=4",
    "PRAGMA user_version=6",
    "PRAGMA user_version=-2",
    "PRAGMA schema_version=2147483647",
    "PRAGMA journal_mode=WAL",
];

const REPLACED: [(&str, &str); 16] = [
    ("checksum INTEGER NOT NULL", "checksum INTEGER NOT NULL CHECK (1)"),
    ("checksum INTEGER", "checksum AS (1)"),
    ("value", "value DEFAULT (randomblob(1000000))"),
    ("value", "value COLLATE nocase"),
    (" TEXT", " BLOB"),
    (" INTEGER PRIMARY KEY", " INT PRIMARY KEY"),
    (" WITHOUT ROWID", ""),
    (" WITHOUT ROWID", " WITHOUT ROWID, STRICT"),
    ("CREATE TABLE", "CREATE TEMP TABLE"),
    ("CREATE TABLE", "CREATE VIEW"),
    ("CREATE VIEW", "CREATE TABLE"),
    ("SELECT", "SELECT DISTINCT"),
    ("rows", "edits"),
    ("edits", "rows"),
    ("after", "before"),
    (" ", "  "),
];

/// A plan and what was done to it, up to five times.
pub(crate) fn mutant(chance: &mut Rng, plans: &[Plan], folder: &Path) -> Plan {
    let mut plan = chance.choice(plans).unwrap().clone();
    let way = chance.u8(..100);
    if way < 80 {
        plan = with_sql(chance, &plan, folder, way < 45, way >= 35);
    }
    if !(8..72).contains(&way) {
        for _ in 0..chance.usize(1..5) {
            with_bytes(chance, plan.file.as_mut(), true);
        }
    }
    if !plan.log.is_empty() && chance.bool() {
        for _ in 0..chance.usize(1..4) {
            with_bytes(chance, plan.log.as_mut(), false);
        }
    }
    if way > 96 {
        plan.log.clone_from(&chance.choice(plans).unwrap().log);
    }
    if way == 50 {
        plan.journal = journal(chance, &plan);
    }
    plan
}

fn with_sql(chance: &mut Rng, plan: &Plan, folder: &Path, rows: bool, schema: bool) -> Plan {
    let path = folder.join("scratch");
    plan.put(&path);
    let mut changed = || -> rusqlite::Result<()> {
        let connection = Connection::open(&path)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, false)?;
        connection.execute_batch("PRAGMA synchronous=OFF; PRAGMA locking_mode=EXCLUSIVE; PRAGMA cache_size=-20000")?;
        let journal = if plan.log.is_empty() { "MEMORY" } else { "DELETE" };
        let _ = connection.execute_batch(&format!("PRAGMA journal_mode={journal}"));
        if rows {
            for _ in 0..chance.usize(1..4) {
                let _ = connection.execute_batch(&of_rows(chance));
            }
            if chance.u8(..10) > 0 {
                reseal(&connection);
            }
        }
        if schema {
            for _ in 0..chance.usize(1..3) {
                if chance.bool() {
                    let _ = connection.execute_batch(chance.choice(DEFINITIONS).unwrap());
                } else {
                    connection.execute_batch("PRAGMA writable_schema=ON")?;
                    let _ = connection.execute_batch(&of_schema(chance));
                }
            }
            if chance.bool() {
                reseal(&connection);
            }
        }
        Ok(())
    };
    let _ = changed();
    Plan::of(&path)
}

fn of_rows(chance: &mut Rng) -> String {
    let (table, key, columns) = chance.choice(TABLES).unwrap();
    let column = *chance.choice(columns).unwrap();
    let value = chance.choice(VALUES).unwrap();
    let one = format!("{key} = (SELECT {key} FROM {table} LIMIT 1 OFFSET {})", chance.u64(..ROWS));
    match chance.u8(..16) {
        0 => format!("UPDATE {table} SET {column} = {value}"),
        1 => format!("DELETE FROM {table} WHERE {one}"),
        2 => format!("DELETE FROM {table}"),
        3 => format!("INSERT INTO plan VALUES ('{}', {value})", chance.choice(["more", "zz", "name", ""]).unwrap()),
        4 => format!("INSERT INTO state VALUES ({value}, {value}, 0)"),
        5 => format!(
            "INSERT INTO rows SELECT {value}, account_id, matched_by, status, error, position, weight, listed, \
             repeated, stored_otherwise, can_overwrite, finished_at_ms, checksum FROM rows WHERE {}",
            if table == "rows" { one } else { "row = 0".to_owned() }
        ),
        6 => format!(
            "INSERT INTO edits SELECT {value}, field, before, after, answered, planned, checksum FROM edits \
             WHERE row = {}",
            chance.u64(..ROWS)
        ),
        7 => format!("UPDATE {table} SET {column} = {value} WHERE {key} % 3 = {}", chance.u8(..3)),
        8 => format!("UPDATE OR REPLACE edits SET field = (SELECT field FROM edits LIMIT 1 OFFSET 1), after = {value}"),
        9 => format!("INSERT INTO requests VALUES ({value}, {value}, 0)"),
        _ => format!("UPDATE OR REPLACE {table} SET {column} = {value} WHERE {one}"),
    }
}

fn of_schema(chance: &mut Rng) -> String {
    let one = format!("rowid = {}", chance.u8(1..10));
    let value = chance.choice(VALUES).unwrap();
    match chance.u8(..12) {
        0 => format!("UPDATE sqlite_schema SET rootpage = {} WHERE {one}", chance.u8(..14)),
        1 => format!(
            "UPDATE sqlite_schema SET rootpage = (SELECT rootpage FROM sqlite_schema WHERE rowid = {}) WHERE {one}",
            chance.u8(1..10)
        ),
        2 => format!("UPDATE sqlite_schema SET rootpage = {value} WHERE {one}"),
        3 => {
            let types = ["table", "view", "index", "trigger", "TABLE", "", "x"];
            format!("UPDATE sqlite_schema SET type = '{}' WHERE {one}", chance.choice(types).unwrap())
        }
        4 => {
            let (column, name) = (chance.choice(["name", "tbl_name"]).unwrap(), chance.choice(TABLES).unwrap().0);
            format!("UPDATE sqlite_schema SET {column} = '{name}' WHERE {one}")
        }
        5 => format!(
            "UPDATE sqlite_schema SET {} = {value} WHERE {one}",
            chance.choice(["name", "sql", "type"]).unwrap()
        ),
        6 => {
            let kind = chance.choice(["table", "view", "index", "trigger", "x"]).unwrap();
            let name = chance.choice(["rows", "sqlite_autoindex_plan_1", "sqlite_autoindex_rows_1", "t", ""]).unwrap();
            format!("INSERT INTO sqlite_schema VALUES ('{kind}', '{name}', 'rows', {}, NULL)", chance.u8(..12))
        }
        7 => format!("DELETE FROM sqlite_schema WHERE {one}"),
        8 => format!("UPDATE sqlite_schema SET rowid = rowid + {} WHERE {one}", chance.u8(..20)),
        9 => "INSERT INTO sqlite_schema SELECT type, name, tbl_name, rootpage, sql FROM sqlite_schema".to_owned(),
        _ => {
            let (from, to) = chance.choice(REPLACED).unwrap();
            format!("UPDATE sqlite_schema SET sql = replace(sql, '{from}', '{to}') WHERE {one}")
        }
    }
}

/// Where the header of a database says something, and how many bytes of it.
const HEADER: [(usize, usize); 18] = [
    (0, 16),
    (16, 2),
    (18, 1),
    (19, 1),
    (20, 1),
    (21, 3),
    (24, 4),
    (28, 4),
    (32, 4),
    (36, 4),
    (40, 4),
    (44, 4),
    (48, 4),
    (52, 4),
    (56, 4),
    (60, 4),
    (64, 4),
    (92, 8),
];

fn with_bytes(chance: &mut Rng, bytes: &mut Vec<u8>, is_database: bool) {
    if bytes.len() < 200 {
        bytes.extend_from_slice(&[0; 200]);
    }
    let page = 4_096;
    let pages = bytes.len().div_ceil(page);
    let small = |chance: &mut Rng| chance.u32(..pages as u32 + 3).to_be_bytes();
    let at = match chance.u8(..8) {
        0 if is_database => {
            let (at, length) = chance.choice(HEADER).unwrap();
            let number = if chance.bool() { small(chance) } else { chance.u32(..).to_be_bytes() };
            let field: Vec<u8> = number.iter().rev().copied().cycle().take(length).collect();
            bytes[at..at + length].iter_mut().zip(field.iter().rev()).for_each(|(byte, new)| *byte = *new);
            return;
        }
        // The head of a page, and its pointers to cells.
        1..=3 => {
            let begin = chance.usize(..pages) * page + if is_database { 0 } else { 32 };
            let reach = if chance.bool() { 12 } else { 60 };
            (if begin == 0 { 100 } else { begin }) + chance.usize(..reach)
        }
        _ => chance.usize(..bytes.len()),
    };
    let at = at.min(bytes.len() - 10);
    match chance.u8(..9) {
        0 => bytes[at] = chance.u8(..),
        1 => bytes[at] ^= 1 << chance.u8(..8),
        2 => bytes[at..at + 4].copy_from_slice(&small(chance)),
        3 => bytes[at..at + 9].fill(0xff),
        4 => bytes[at..at + 2].copy_from_slice(&(chance.u16(..4_096)).to_be_bytes()),
        5 => bytes[at] = chance.choice([0, 1, 2, 5, 10, 13, 0x7f, 0x80, 0x81, 0xff]).unwrap(),
        6 => {
            let (from, to) = (chance.usize(..pages) * page, chance.usize(..pages) * page);
            let whole: Vec<u8> = bytes.iter().skip(from).take(page).copied().collect();
            bytes.iter_mut().skip(to).zip(whole).for_each(|(byte, new)| *byte = new);
        }
        7 if chance.bool() => bytes.truncate(at + 10),
        7 => bytes.extend(std::iter::repeat_n(0, chance.usize(1..3) * page)),
        _ => {
            let end = bytes.len().min(at + chance.usize(1..64));
            bytes[at..end].iter_mut().for_each(|byte| *byte = chance.u8(..));
        }
    }
}

/// A journal of SQLite that takes a page of the file back, with bytes that are not as they should be.
fn journal(chance: &mut Rng, plan: &Plan) -> Vec<u8> {
    let mut journal = vec![0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];
    let pages = (plan.file.len() / 4_096) as u32;
    let nonce = chance.u32(..);
    for number in [1, nonce, pages, 512, 4_096] {
        journal.extend_from_slice(&number.to_be_bytes());
    }
    journal.resize(512, 0);
    let number = chance.u32(1..=pages.max(1));
    journal.extend_from_slice(&number.to_be_bytes());
    let page: Vec<u8> = plan.file.iter().skip((number as usize - 1) * 4_096).take(4_096).copied().collect();
    let sum = (1..=20).map(|step| 4_096 - 200 * step).filter_map(|at: usize| page.get(at));
    let sum = sum.fold(nonce, |sum, byte| sum.wrapping_add(u32::from(*byte)));
    journal.extend_from_slice(&page);
    journal.extend_from_slice(&sum.to_be_bytes());
    if chance.bool() {
        with_bytes(chance, &mut journal, false);
    }
    journal
}
