//! The folders of `src/` follow the way of a request: a module imports only from modules below it.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// From the top to the bottom. Modules on one line do not import from each other.
const LEVELS: &[&[&str]] = &[
    &["lib", "manual", "fuzzing", "testing"],
    &["datagram"],
    &["extract", "tunnel"],
    &["websocket"],
    &["client"],
    &["http3"],
    &["layer"],
    &["govern"],
    &["decide"],
    &["commit"],
    &["handler"],
    &["session"],
    &["message"],
    &["io"],
    &["metrics"],
    &["negotiate"],
    &[
        "error", "frames", "panic", "service", "sync", "time", "trace",
    ],
];

#[test]
fn modules_import_only_from_modules_below() {
    let mut wrong = Vec::new();
    for file in files(Path::new("src")) {
        let from = module(&file);
        let source = fs::read_to_string(&file).expect("a source file");
        for to in imports(&source) {
            if from != to && from != "lib" && level(&to) <= level(&from) {
                wrong.push(format!("{}: {to}", file.display()));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "imports from a module that is not below:\n{}",
        wrong.join("\n")
    );
}

/// Returns the index of the level, counted from the top.
fn level(module: &str) -> usize {
    let level = LEVELS.iter().position(|modules| modules.contains(&module));
    level.unwrap_or_else(|| {
        panic!("`{module}` is not in `LEVELS`: import from modules, not from the crate's root")
    })
}

/// The top-level module that a file belongs to.
fn module(file: &Path) -> String {
    let top = file.iter().nth(1).expect("a file in src");
    let top = Path::new(top).file_stem().expect("a name");
    top.to_str().expect("UTF-8").to_owned()
}

/// The top-level modules that follow `crate::` in code, also in a list in braces.
fn imports(source: &str) -> BTreeSet<String> {
    let code: String = source
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect();
    let mut found = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        match rest.strip_prefix('{') {
            Some(list) => found.extend(list_of(list)),
            None => found.extend(name(rest)),
        }
    }
    found
}

/// The first segments of the paths in a list, up to its closing brace.
fn list_of(list: &str) -> Vec<String> {
    let mut depth = 0_usize;
    let mut names = Vec::new();
    let mut at_path = true;
    for (index, char) in list.char_indices() {
        match char {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => at_path = true,
            _ if at_path && !char.is_whitespace() => {
                names.extend(name(&list[index..]));
                at_path = false;
            }
            _ => {}
        }
    }
    names
}

fn name(path: &str) -> Option<String> {
    let end = path.find(|char: char| !(char.is_alphanumeric() || char == '_'))?;
    (end > 0).then(|| path[..end].to_owned())
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder of sources");
    entries
        .flat_map(|entry| {
            let path = entry.expect("an entry").path();
            match path.is_dir() {
                true => files(&path),
                false => vec![path],
            }
        })
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect()
}
