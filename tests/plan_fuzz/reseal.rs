//! Computes the checksums of a changed plan again, as somebody does who means harm. Said here once more, so that the
//! test does not use what it tests.

use crc32fast::Hasher;
use rusqlite::types::Value;
use rusqlite::{Connection, params};

fn add(sum: &mut Hasher, value: &Value) {
    match value {
        Value::Null => sum.update(b"n"),
        Value::Integer(number) => {
            sum.update(b"i");
            sum.update(&number.to_le_bytes());
        }
        Value::Text(text) => add_bytes(sum, text.as_bytes()),
        Value::Real(_) | Value::Blob(_) => add_bytes(sum, b"neither integer nor text"),
    }
}

fn add_bytes(sum: &mut Hasher, text: &[u8]) {
    sum.update(b"t");
    sum.update(&(text.len() as u64).to_le_bytes());
    sum.update(text);
}

fn read(connection: &Connection, query: &str) -> Vec<Vec<Value>> {
    let Ok(mut select) = connection.prepare(query) else { return Vec::new() };
    let columns = select.column_count();
    let rows = select.query_map([], |row| (0..columns).map(|index| row.get(index)).collect());
    rows.map(|rows| rows.take(10_000).flatten().collect()).unwrap_or_default()
}

fn seal(connection: &Connection, query: &str, update: &str, keys: usize, of: impl Fn(&[Value]) -> u32) {
    for row in read(connection, query) {
        let mut bound: Vec<Value> = row[..keys].to_vec();
        bound.push(Value::Integer(i64::from(of(&row))));
        let _ = connection.execute(update, rusqlite::params_from_iter(bound));
    }
}

fn plain(prefix: &'static str) -> impl Fn(&[Value]) -> u32 {
    move |row| {
        let mut sum = Hasher::new();
        if !prefix.is_empty() {
            add_bytes(&mut sum, prefix.as_bytes());
        }
        for value in row {
            add(&mut sum, value);
        }
        sum.finalize()
    }
}

fn edit(row: &[Value]) -> u32 {
    let mut sum = Hasher::new();
    for value in &row[..4] {
        add(&mut sum, value);
    }
    match &row[4] {
        Value::Null => sum.update(b"n"),
        answered => {
            add_bytes(&mut sum, b"answered");
            add(&mut sum, if *answered == Value::Blob(Vec::new()) { &Value::Null } else { answered });
        }
    }
    add(&mut sum, &row[5]);
    sum.finalize()
}

/// Makes every checksum and every count right again.
pub(crate) fn reseal(connection: &Connection) {
    seal(
        connection,
        "SELECT row, account_id, matched_by, status, error, position, weight, listed, repeated, \
         stored_otherwise, can_overwrite, finished_at_ms FROM rows",
        "UPDATE rows SET checksum = ?2 WHERE row = ?1",
        1,
        plain(""),
    );
    let query = "SELECT row, field, before, after, answered, planned FROM edits";
    seal(connection, query, "UPDATE edits SET checksum = ?3 WHERE row = ?1 AND field = ?2", 2, edit);
    let update = "UPDATE state SET checksum = ?2 WHERE key = ?1";
    seal(connection, "SELECT key, value FROM state", update, 1, plain(""));
    seal(
        connection,
        "SELECT present FROM log",
        "UPDATE log SET checksum = ?2 WHERE present IS ?1",
        1,
        plain("log present"),
    );
    let update = "UPDATE requests SET checksum = ?2 WHERE number = ?1";
    seal(connection, "SELECT number, sent_at FROM requests", update, 1, plain(""));
    for (key, query) in [
        ("rows", "SELECT count(*) FROM rows"),
        ("edits", "SELECT count(*) FROM edits WHERE planned"),
        ("cleared", "SELECT count(*) FROM edits WHERE planned AND (after IS NULL OR after = '')"),
    ] {
        let _ = connection.execute(&format!("UPDATE plan SET value = ({query}) WHERE key = ?1"), [key]);
    }
    let mut sum = Hasher::new();
    for pair in read(connection, "SELECT key, value FROM plan WHERE key <> 'sealed' ORDER BY key") {
        for value in &pair {
            add(&mut sum, value);
        }
    }
    let _ = connection.execute("UPDATE plan SET value = ?1 WHERE key = 'sealed'", params![i64::from(sum.finalize())]);
}
