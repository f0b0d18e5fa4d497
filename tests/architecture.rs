//! Checks the source against the imports that `docs/design/2026-11-24-module-imports.md` lists, and what every entry
//! point of the binding must do.
#![expect(clippy::unwrap_used, reason = "a helper of tests may fail as a test may")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

type Graph = BTreeMap<String, BTreeSet<String>>;

/// The modules of the core whose imports are not checked: the list of the modules, those that only tests, fuzzing and
/// the simulation use, and the binding, whose own modules have a list. The core names the simulation only behind its
/// feature.
const FREE: [&str; 5] = ["fuzzing", "lib", "properties", "python", "simulation"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn note() -> String {
    fs::read_to_string(root().join("docs/design/2026-11-24-module-imports.md")).unwrap()
}

/// Returns the imports that one block of the note lists: the first is the core's, the second the binding's.
fn allowed(note: &str, block: usize) -> Graph {
    let imports_of = |line: &str| {
        let (module, imports) = line.split_once('→')?;
        Some((module.trim().to_owned(), imports.split_whitespace().map(ToOwned::to_owned).collect()))
    };
    let blocks = note.split("```").skip(1).step_by(2);
    blocks.skip(block).take(1).flat_map(str::lines).filter_map(imports_of).collect()
}

/// Returns every Rust file below a folder, with the module that it belongs to.
fn files(folder: &Path, module: Option<&str>) -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let module = module.unwrap_or(&name);
        if path.is_dir() {
            found.extend(files(&path, Some(module)));
        } else if path.extension().is_some_and(|extension| extension == "rs") && name != "tests" {
            found.push((module.to_owned(), path.clone()));
        }
    }
    found
}

/// Returns the code of a file: no comments, and no module of tests at its end.
fn code(text: &str) -> String {
    let end = text.rfind("\n#[cfg(test)]\n").unwrap_or(text.len());
    let lines = text.get(..end).unwrap_or_default().lines();
    lines.map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// Returns the modules that code names behind `crate::` or `super::`, in a list with braces too.
fn imports(code: &str, behind: &str) -> BTreeSet<String> {
    let word = |text: &str| {
        text.chars().take_while(|character| character.is_ascii_alphanumeric() || *character == '_').collect::<String>()
    };
    let mut found = BTreeSet::new();
    for (start, _) in code.match_indices(behind) {
        let rest = code.get(start + behind.len()..).unwrap_or_default();
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

fn graph_of(files: Vec<(String, PathBuf)>, behind: &str) -> Graph {
    let mut graph = Graph::new();
    for (module, path) in files {
        let named = imports(&code(&fs::read_to_string(path).unwrap()), behind);
        graph
            .entry(module.clone())
            .or_default()
            .extend(named.into_iter().filter(|other| *other != module && other != "simulation"));
    }
    graph
}

/// Returns the imports in the source, of the core and of the binding.
fn actual() -> [Graph; 2] {
    let core = files(&root().join("src"), None).into_iter().filter(|(module, _)| !FREE.contains(&module.as_str()));
    [graph_of(core.collect(), "crate::"), graph_of(files(&root().join("src/python"), None), "super::")]
}

#[test]
fn every_module_imports_exactly_what_the_note_says() {
    for (block, actual) in actual().into_iter().enumerate() {
        let allowed = allowed(&note(), block);
        assert!(actual.len() > 10, "the modules were not found: {actual:?}");
        for (module, imports) in &actual {
            let named = allowed.get(module).cloned().unwrap_or_default();
            let (new, gone) = (imports - &named, &named - imports);
            assert!(new.is_empty(), "{module} must not import {new:?}; if it should, say why in the note");
            assert!(gone.is_empty(), "{module} no longer imports {gone:?}; the note still says so");
        }
        assert_eq!(allowed.keys().collect::<Vec<_>>(), actual.keys().collect::<Vec<_>>());
    }
}

#[test]
fn the_imports_have_no_cycle() {
    for block in 0..2 {
        let mut left = allowed(&note(), block);
        while !left.is_empty() {
            let leaves: Vec<String> =
                left.iter().filter(|(_, imports)| imports.is_empty()).map(|(module, _)| module.clone()).collect();
            assert!(!leaves.is_empty(), "an import cycle in {left:?}");
            left.retain(|module, _| !leaves.contains(module));
            for imports in left.values_mut() {
                imports.retain(|import| !leaves.contains(import));
            }
        }
    }
}

/// Returns the functions of a file that Python can call, each with its body.
fn entry_points(code: &str) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    for block in code.split("#[pymethods]").skip(1) {
        let block = block.split("\n}").next().unwrap_or_default();
        for line in block.lines() {
            let name = line.strip_prefix("    fn ").or_else(|| line.strip_prefix("    pub(super) fn "));
            match (name, found.last_mut()) {
                (Some(name), _) => {
                    let name = name.split(['(', '<']).next().unwrap_or_default();
                    found.push((name.to_owned(), line.to_owned()));
                }
                (None, Some((_, body))) => *body = format!("{body}\n{line}"),
                (None, None) => {}
            }
        }
    }
    found
}

#[test]
fn every_function_that_python_can_call_is_guarded() {
    let mut seen = 0;
    for (_, path) in files(&root().join("src/python"), None) {
        for (name, body) in entry_points(&code(&fs::read_to_string(&path).unwrap())) {
            seen += 1;
            // The garbage collector calls it, and it must call nothing of Python's.
            let exempt = name == "__traverse__";
            assert!(exempt || body.contains("guarded("), "{} of {} is not guarded", name, path.display());
        }
    }
    assert!(seen > 30, "only {seen} functions were found");
}

#[test]
fn the_interpreter_is_released_and_taken_in_one_place_each() {
    for (module, path) in files(&root().join("src/python"), None) {
        let code = code(&fs::read_to_string(&path).unwrap());
        for (call, only, instead) in [
            (".detach(", "exit", "exit::detached, which counts the thread and parks it when the interpreter exits"),
            ("Python::attach(", "lane", "a result that is converted by whoever holds the interpreter"),
            ("new_closure(", "hooks", "a method of a class, which is seen to be guarded"),
        ] {
            assert!(module == only || !code.contains(call), "{} calls {call}..): use {instead}", path.display());
        }
    }
}

#[test]
fn an_entry_point_is_found_however_it_is_declared() {
    let text = "#[pymethods]\nimpl A {\n    #[new]\n    fn new(py: Python<'_>) -> Self {\n        guarded(py)\n    }\n\
        \n    fn get<'py>(\n        &self,\n    ) {\n        naked()\n    }\n}\nfn other() {}\n";
    let found = entry_points(text);
    let names: Vec<_> = found.iter().map(|(name, body)| (name.as_str(), body.contains("guarded("))).collect();
    assert_eq!(names, [("new", true), ("get", false)]);
}

#[test]
fn each_library_is_used_in_its_own_modules_only() {
    for (module, path) in files(&root().join("src"), None) {
        let code = code(&fs::read_to_string(&path).unwrap());
        for (library, users) in [
            ("reqwest::", &["transport"][..]),
            ("pyo3::", &["python"]),
            ("pythonize::", &["python"]),
            ("arrow_", &["columns", "plan", "python"]),
            ("rusqlite::", &["plan"]),
        ] {
            assert!(users.contains(&module.as_str()) || !code.contains(library), "{} names {library}", path.display());
        }
    }
}

#[test]
fn an_import_is_seen_however_it_is_written() {
    let text = "use crate::account::{A, B};\nuse crate::{error, quota::Quota};\n// crate::commented\n\
        fn f() { crate::merge::f() }\n#[cfg(test)]\nmod tests { use crate::tested; }\n";
    let expected = ["account", "error", "merge", "quota"].map(ToOwned::to_owned);
    assert_eq!(imports(&code(text), "crate::"), BTreeSet::from(expected));
}
