//! The house rules: who may import whom, who may touch what, how long a file may be.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::files_below;

/// Rooms from the ground up.
const LAYERS: [(&str, u8); 14] = [
    ("base", 0),
    ("format", 1),
    ("mail", 1),
    ("chunk", 1),
    ("crypto", 1),
    ("compress", 1),
    ("store", 2),
    ("index", 2),
    ("repo", 3),
    ("source", 3),
    ("ops", 4),
    ("host", 4),
    ("watch", 5),
    ("cli", 6),
];

/// Imports within one layer that are allowed.
const SIDEWAYS: [(&str, &str); 5] = [
    ("chunk", "mail"),
    ("chunk", "format"),
    ("crypto", "format"),
    ("compress", "format"),
    // The letter stream is a form of `mail::letter`.
    ("format", "mail"),
];

/// Longest file, lines.
const LINES_MAX: usize = 600;

/// What only one room may name; text, room, and files that have a reason of their own.
const OWNED: [(&str, &str, &[&str]); 23] = [
    ("clap", "cli", &[]),
    ("clap_complete", "cli", &[]),
    ("clap_mangen", "cli", &[]),
    ("indicatif", "cli", &[]),
    ("rusqlite", "index", &[]),
    ("fuser", "ops", &[]),
    ("aes_gcm", "crypto", &[]),
    ("argon2", "crypto", &[]),
    ("x25519_dalek", "crypto", &[]),
    ("ed25519_dalek", "crypto", &[]),
    ("getrandom", "base", &[]),
    ("libc", "source", &[]),
    ("zstd", "compress", &[]),
    ("reed_solomon_simd", "repo", &[]),
    // Test vectors, compiled for tests only, print themselves for the format document.
    ("println!", "cli", &["crypto/vectors.rs"]),
    ("eprintln!", "cli", &[]),
    ("print!", "cli", &[]),
    ("eprint!", "cli", &[]),
    ("std::env", "cli", &[]),
    ("process::exit", "cli", &[]),
    ("SystemTime::now", "base", &[]),
    ("Instant::now", "base", &[]),
    ("Timestamp::now", "base", &[]),
];

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Every source file: path below `src`, room, and its lines of code (no comments, no text).
fn files() -> Vec<(PathBuf, String, String)> {
    let all =
        files_below(&source()).into_iter().filter(|path| path.extension().is_some_and(|end| end == "rs"));
    all.map(|path| {
        let code = code_of(&fs::read_to_string(&path).unwrap());
        let path = path.strip_prefix(source()).unwrap().to_owned();
        let room = path.components().next().unwrap().as_os_str().to_str().unwrap();
        let room = room.trim_end_matches(".rs").to_owned();
        (path, room, code)
    })
    .collect()
}

/// Drops line comments and what stands between quotes.
fn code_of(text: &str) -> String {
    let without_comments = text.lines().map(|line| {
        let comment = line.find("//").filter(|&at| line[..at].matches('"').count() % 2 == 0);
        &line[..comment.unwrap_or(line.len())]
    });
    let text = without_comments.collect::<Vec<_>>().join("\n");
    text.split('"').step_by(2).collect::<Vec<_>>().join("\"\"")
}

/// The rooms that some code names through `crate::`, braces unfolded.
fn imports(code: &str) -> BTreeSet<String> {
    let mut rooms = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        if code[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_' || before == '$') {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        let name = |text: &str| -> String {
            text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
        };
        match rest.strip_prefix('{') {
            None => drop(rooms.insert(name(rest))),
            Some(list) => {
                let mut depth = 0;
                let mut begins = true;
                for (place, letter) in list.char_indices() {
                    match letter {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => begins = true,
                        letter if begins && !letter.is_whitespace() => {
                            rooms.insert(name(&list[place..]));
                            begins = false;
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    rooms.remove("");
    rooms
}

fn layer(room: &str) -> Option<u8> {
    LAYERS.iter().find(|(name, _)| *name == room).map(|(_, layer)| *layer)
}

#[test]
fn imports_go_down_only() {
    let mut wrong = Vec::new();
    for (path, room, code) in files() {
        if room == "lib" || room == "main" {
            continue;
        }
        let own = layer(&room).unwrap_or_else(|| panic!("{} stands in no layer", path.display()));
        for other in imports(&code).into_iter().filter(|other| *other != room) {
            let allowed = match layer(&other) {
                Some(layer) if layer < own => true,
                Some(layer) if layer == own => SIDEWAYS.contains(&(&room, &other)),
                _ => false,
            };
            if !allowed {
                wrong.push(format!("{}: {room} -> {other}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "edges up or sideways:\n{}", wrong.join("\n"));
}

#[test]
fn verbs_do_not_import_each_other() {
    let mut wrong = Vec::new();
    for (path, _, code) in files().into_iter().filter(|(_, room, _)| room == "ops") {
        let Some(verb) = path.components().nth(1).map(|part| part.as_os_str().to_str().unwrap().to_owned())
        else {
            continue;
        };
        // Not `std::ops::`, which is a room of somebody else's house.
        let named = code.match_indices("ops::").filter(|(at, _)| !code[..*at].ends_with("std::"));
        let named = named.map(|(at, _)| &code[at + 5..]);
        let others = named.filter(|rest| !rest.starts_with(verb.trim_end_matches(".rs")));
        wrong.extend(
            others.map(|rest| format!("{}: {}", path.display(), rest.lines().next().unwrap_or_default())),
        );
    }
    assert!(wrong.is_empty(), "verbs that import verbs:\n{}", wrong.join("\n"));
}

#[test]
fn every_thing_has_its_room() {
    let mut wrong = Vec::new();
    for (path, room, code) in files() {
        // What stands below is tested code's own business.
        let code = code.split("#[cfg(test)]\nmod tests {").next().unwrap();
        let shown = path.display().to_string();
        if room == "main" || shown.contains("tests") {
            continue;
        }
        for (text, owner, exempt) in OWNED.iter().filter(|(_, owner, _)| *owner != room) {
            let names = code.match_indices(text).any(|(at, _)| {
                let before = code[..at].chars().next_back().unwrap_or(' ');
                let after = code[at + text.len()..].chars().next().unwrap_or(' ');
                let crate_name = !text.contains(['!', ':']);
                let part_of_name = |letter: char| letter.is_alphanumeric() || matches!(letter, '_' | '.');
                // A crate is named where its path begins, anything else where it stands alone.
                let whole = !part_of_name(before) && !part_of_name(after);
                let path = code[at + text.len()..].starts_with("::") && !code[..at].ends_with("::");
                whole && (path || !crate_name)
            });
            if names && !exempt.contains(&shown.as_str()) {
                wrong.push(format!("{shown}: {text} belongs to {owner}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn one_file_is_unsafe() {
    let wrong = |code: &str| code.contains("unsafe_code") || code.contains("unsafe {");
    let found = files().into_iter().filter(|(_, _, code)| wrong(code)).map(|(path, ..)| path);
    assert_eq!(found.collect::<Vec<_>>(), [Path::new("source/fanotify.rs")]);
}

#[test]
fn files_are_short() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut long = Vec::new();
    for folder in ["src", "tests", "benches"] {
        for path in files_below(&root.join(folder)) {
            if path.extension().is_some_and(|end| end == "rs") {
                let lines = fs::read_to_string(&path).unwrap().lines().count();
                if lines > LINES_MAX {
                    long.push(format!("{}: {lines} lines", path.display()));
                }
            }
        }
    }
    assert!(long.is_empty(), "over {LINES_MAX} lines:\n{}", long.join("\n"));
}

#[test]
fn this_scan_sees_what_it_should() {
    let code = code_of(
        "use crate::base::x; // crate::cli\nlet t = \"crate::repo\"; use crate::{mail::{a, ops}, store};",
    );
    assert_eq!(imports(&code).into_iter().collect::<Vec<_>>(), ["base", "mail", "store"]);
}
