//! Who may import whom: the arrows of `docs/design/2026-11-24-the-house.md`, held to the source.
#![expect(clippy::unwrap_used, reason = "a helper of tests may fail as a test may")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

type Arrows = BTreeMap<String, BTreeSet<String>>;

/// Not held to arrows: the list of the rooms, what only tests, fuzzing and the simulation see, and the binding, which may
/// import any. The core calls the simulation behind its feature alone, which no release has.
const FREE: [&str; 5] = ["fuzzing", "lib", "properties", "python", "simulation"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn note() -> String {
    fs::read_to_string(root().join("docs/design/2026-11-24-the-house.md")).unwrap()
}

fn allowed(note: &str) -> Arrows {
    let arrow = |line: &str| {
        let (room, imports) = line.split_once('→')?;
        Some((room.trim().to_owned(), imports.split_whitespace().map(ToOwned::to_owned).collect()))
    };
    note.lines().skip_while(|line| *line != "```").skip(1).take_while(|line| *line != "```").filter_map(arrow).collect()
}

/// Every Rust file below a folder, with the room that it belongs to.
fn files(folder: &Path, room: Option<&str>) -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let room = room.unwrap_or(&name);
        if path.is_dir() {
            found.extend(files(&path, Some(room)));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push((room.to_owned(), path.clone()));
        }
    }
    found
}

/// The code of a file: no comments, and nothing that only its tests see.
fn code(text: &str) -> String {
    let lines = text.lines().take_while(|line| !line.starts_with("#[cfg(test)]"));
    lines.map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// The rooms that code names behind `crate::`, in a list with braces too.
fn imports(code: &str) -> BTreeSet<String> {
    let word = |text: &str| {
        text.chars().take_while(|character| character.is_ascii_alphanumeric() || *character == '_').collect::<String>()
    };
    let mut found = BTreeSet::new();
    for (start, _) in code.match_indices("crate::") {
        let rest = code.get(start + "crate::".len()..).unwrap_or_default();
        match rest.strip_prefix('{') {
            Some(list) => {
                let list = list.split(['}', ';']).next().unwrap_or_default();
                found.extend(list.split(',').map(|part| word(part.trim())));
            }
            None => drop(found.insert(word(rest))),
        }
    }
    found.remove("");
    found
}

fn actual() -> Arrows {
    let mut arrows = Arrows::new();
    for (room, path) in files(&root().join("src"), None) {
        if FREE.contains(&room.as_str()) {
            continue;
        }
        let named = imports(&code(&fs::read_to_string(path).unwrap()));
        arrows
            .entry(room.clone())
            .or_default()
            .extend(named.into_iter().filter(|other| *other != room && other != "simulation"));
    }
    arrows
}

#[test]
fn every_room_imports_just_what_the_note_says() {
    let (allowed, actual) = (allowed(&note()), actual());
    assert!(actual.len() > 10, "the rooms were not found: {actual:?}");
    for (room, imports) in &actual {
        let named = allowed.get(room).cloned().unwrap_or_default();
        let (new, gone) = (imports - &named, &named - imports);
        assert!(new.is_empty(), "{room} must not import {new:?}; if it should, say why in the note");
        assert!(gone.is_empty(), "{room} no longer imports {gone:?}; the note still says so");
    }
    assert_eq!(allowed.keys().collect::<Vec<_>>(), actual.keys().collect::<Vec<_>>());
}

#[test]
fn the_arrows_make_no_circle() {
    let mut left = allowed(&note());
    while !left.is_empty() {
        let leaves: Vec<String> =
            left.iter().filter(|(_, imports)| imports.is_empty()).map(|(room, _)| room.clone()).collect();
        assert!(!leaves.is_empty(), "a circle in {left:?}");
        left.retain(|room, _| !leaves.contains(room));
        for imports in left.values_mut() {
            imports.retain(|import| !leaves.contains(import));
        }
    }
}

#[test]
fn reqwest_is_known_in_one_room_and_python_in_another() {
    for (room, path) in files(&root().join("src"), None) {
        let code = code(&fs::read_to_string(&path).unwrap());
        for (library, homes) in [
            ("reqwest::", &["transport"][..]),
            ("pyo3::", &["python"]),
            ("pythonize::", &["python"]),
            ("arrow_", &["plan", "python"]),
            ("rusqlite::", &["plan"]),
        ] {
            assert!(homes.contains(&room.as_str()) || !code.contains(library), "{} names {library}", path.display());
        }
    }
}

#[test]
fn an_import_is_seen_however_it_is_written() {
    let text = "use crate::account::{A, B};\nuse crate::{error, quota::Quota};\n// crate::commented\nfn f() { crate::merge::f() }\n\
        #[cfg(test)]\nmod tests { use crate::tested; }\n";
    let expected = ["account", "error", "merge", "quota"].map(ToOwned::to_owned);
    assert_eq!(imports(&code(text)), BTreeSet::from(expected));
}
