//! Rust source, read just well enough to tell which file imports which: no comments, no literals,
//! and every path of it resolved to the file that it names.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A module of the crate, as its path from the crate's root: `["tasks", "worker", "plan"]`.
pub type Module = Vec<String>;

/// All files of a crate, by the module that each of them is.
#[derive(Debug)]
pub struct Crate {
    files: BTreeMap<Module, PathBuf>,
}

/// Which module imports which, and by which path.
pub type Imports = BTreeMap<(Module, Module), String>;

impl Crate {
    /// The crate whose `main.rs` is in this folder.
    pub fn read(source: &Path) -> Crate {
        let mut files = BTreeMap::new();
        for file in rust_files(source) {
            let relative = file.strip_prefix(source).unwrap().with_extension("");
            let mut module: Module = relative
                .iter()
                .map(|part| part.to_str().unwrap().to_owned())
                .collect();
            if module.last().is_some_and(|last| last == "mod") || module == ["main"] {
                module.pop();
            }
            files.insert(module, file);
        }
        Crate { files }
    }

    /// The files, by their modules.
    pub fn files(&self) -> &BTreeMap<Module, PathBuf> {
        &self.files
    }

    /// Who imports whom. A declaration (`mod x;`) is no import, and neither is what a file takes from
    /// itself.
    pub fn imports(&self) -> Imports {
        let mut imports = Imports::new();
        for (module, file) in &self.files {
            let text = fs::read_to_string(file).unwrap();
            for path in self.paths(module, &tokens(&text)) {
                let Some(target) = self.file_of(&path) else {
                    continue;
                };
                if target != *module {
                    imports
                        .entry((module.clone(), target))
                        .or_insert_with(|| path.join("::"));
                }
            }
        }
        imports
    }

    /// The module in whose file the item of this path stands.
    fn file_of(&self, path: &[String]) -> Option<Module> {
        let lengths = (1..=path.len()).rev();
        let mut prefixes = lengths.map(|length| path[..length].to_vec());
        prefixes.find(|prefix| self.files.contains_key(prefix))
    }

    /// Every path in a file that begins in this crate, from the crate's root.
    fn paths(&self, module: &Module, tokens: &[String]) -> BTreeSet<Vec<String>> {
        let mut reader = Reader {
            krate: self,
            file: module,
            nested: Vec::new(),
            aliases: BTreeMap::new(),
            found: BTreeSet::new(),
        };
        reader.read(tokens);
        reader.found
    }
}

/// Goes through the tokens of a file.
struct Reader<'c> {
    krate: &'c Crate,
    file: &'c Module,
    /// The modules written within the file (`mod tests { ... }`) that we are in, and how deep.
    nested: Vec<(String, usize)>,
    /// Modules that the file has a short name for.
    aliases: BTreeMap<String, Vec<String>>,
    found: BTreeSet<Vec<String>>,
}

impl Reader<'_> {
    fn read(&mut self, tokens: &[String]) {
        let (mut at, mut depth) = (0, 0);
        while at < tokens.len() {
            let rest = &tokens[at..];
            match rest[0].as_str() {
                "{" => depth += 1,
                "}" => {
                    depth -= 1;
                    self.nested.retain(|(_, opened)| *opened <= depth);
                }
                "use" => {
                    let end = rest.iter().position(|token| token == ";").unwrap();
                    self.read_tree(&rest[1..end], &[]);
                    at += end;
                }
                "mod" if rest.get(2).is_some_and(|token| token == "{") => {
                    self.nested.push((rest[1].clone(), depth + 1));
                    at += 1;
                }
                "mod" if rest.get(2).is_some_and(|token| token == ";") => {
                    let path = [self.here(), vec![rest[1].clone()]].concat();
                    self.aliases.insert(rest[1].clone(), path);
                    at += 1;
                }
                _ if at == 0 || tokens[at - 1] != "::" => {
                    let path = leading_path(rest);
                    if path.len() > 1
                        && let Some(path) = self.rooted(&path)
                    {
                        self.found.insert(path);
                    }
                }
                _ => {}
            }
            at += 1;
        }
    }

    /// A tree of `use`: `a::{self, b as c, d::{e, f}}`.
    fn read_tree(&mut self, tokens: &[String], before: &[String]) {
        let mut path = before.to_vec();
        let mut at = 0;
        while at < tokens.len() {
            match tokens[at].as_str() {
                "{" => {
                    for part in split_at_commas(&tokens[at + 1..tokens.len() - 1]) {
                        self.read_tree(part, &path);
                    }
                    return;
                }
                "as" => {
                    self.take(&path, Some(&tokens[at + 1]));
                    return;
                }
                "::" => {}
                "self" if !path.is_empty() => {}
                name => path.push(name.to_owned()),
            }
            at += 1;
        }
        self.take(&path, None);
    }

    fn take(&mut self, path: &[String], name: Option<&String>) {
        let Some(path) = self.rooted(path) else {
            return;
        };
        if self.krate.files.contains_key(&path)
            && let Some(name) = name.or(path.last())
        {
            self.aliases.insert(name.clone(), path.clone());
        }
        self.found.insert(path);
    }

    /// A path of this crate from its root; `None` for others.
    fn rooted(&self, path: &[String]) -> Option<Vec<String>> {
        let first = path.first()?.as_str();
        let mut base = match first {
            "crate" => Vec::new(),
            "self" | "super" => self.here(),
            alias => self.aliases.get(alias)?.clone(),
        };
        let mut rest = &path[1..];
        if first == "super" {
            base.pop();
            while rest.first().is_some_and(|part| part == "super") {
                base.pop();
                rest = &rest[1..];
            }
        }
        base.extend(rest.iter().filter(|part| *part != "*").cloned());
        Some(base)
    }

    fn here(&self) -> Vec<String> {
        let nested = self.nested.iter().map(|(name, _)| name.clone());
        self.file.iter().cloned().chain(nested).collect()
    }
}

/// `a::b::c` at the beginning of the tokens.
fn leading_path(tokens: &[String]) -> Vec<String> {
    let mut path = Vec::new();
    let mut rest = tokens;
    while let [name, after @ ..] = rest {
        if !name.starts_with(|c: char| c.is_alphabetic() || c == '_') {
            break;
        }
        path.push(name.clone());
        match after {
            [colons, next @ ..] if colons == "::" => rest = next,
            _ => break,
        }
    }
    path
}

fn split_at_commas(tokens: &[String]) -> Vec<&[String]> {
    let mut depth = 0;
    let parts = tokens.split(|token| {
        match token.as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        depth == 0 && token == ","
    });
    parts.filter(|part| !part.is_empty()).collect()
}

/// Words and signs, without comments; a literal is one token, `""`.
pub fn tokens(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (token, length) = token_of(rest, first);
        tokens.extend(token.map(str::to_owned));
        rest = &rest[length..];
    }
    tokens
}

/// The first token of a text, if it isn't nothing, and its length.
fn token_of(text: &str, first: char) -> (Option<&str>, usize) {
    let until = |end: &str, from: usize| {
        let found = text[from..].find(end);
        found.map_or(text.len(), |at| from + at + end.len())
    };
    if text.starts_with("//") {
        return (None, until("\n", 0));
    }
    if text.starts_with("/*") {
        return (None, until("*/", 2));
    }
    if let Some(length) = literal(text) {
        return (Some("\"\""), length);
    }
    let word = |c: char| c.is_alphanumeric() || c == '_';
    if word(first) {
        let length = text.find(|c| !word(c)).unwrap_or(text.len());
        return (Some(&text[..length]), length);
    }
    if text.starts_with("::") {
        return (Some("::"), 2);
    }
    let length = first.len_utf8();
    ((!first.is_whitespace()).then_some(&text[..length]), length)
}

/// The length of the string, raw string or character that a text begins with.
fn literal(text: &str) -> Option<usize> {
    let after = text.strip_prefix(['b', 'c']).unwrap_or(text);
    let prefix = text.len() - after.len();
    if let Some(raw) = after.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw[hashes..].starts_with('"') {
            let end = format!("\"{}", "#".repeat(hashes));
            let from = hashes + 1;
            let at = raw[from..].find(&end)?;
            return Some(prefix + 1 + from + at + end.len());
        }
        return None;
    }
    let quote = after.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let mut characters = after.char_indices().skip(1);
    // A lifetime has no second quote: 'a, or '_.
    if quote == '\'' {
        let mut ahead = after.chars().skip(1);
        let (one, two) = (ahead.next()?, ahead.next()?);
        if one != '\\' && two != '\'' {
            return None;
        }
    }
    while let Some((at, c)) = characters.next() {
        if c == '\\' {
            characters.next();
        } else if c == quote {
            return Some(prefix + at + 1);
        }
    }
    None
}

/// The file `path` (or `path.rs`), and all Rust files below the folder `path`.
pub fn rust_files(path: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for candidate in [path.to_owned(), path.with_extension("rs")] {
        if candidate.is_file() && !files.contains(&candidate) {
            files.push(candidate);
        }
    }
    if let Ok(entries) = fs::read_dir(path) {
        for entry in entries.map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                files.extend(rust_files(&path));
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files
}

#[test]
fn literals_and_comments_are_no_code() {
    let code = "a('b', '\\'', \"use c::d; \\\" //\", r#\"\"e\"#, b'f'); // g\n/* h */ fn i<'j>()";
    let expected = r#"a ( "" , "" , "" , "" , "" ) ; fn i < ' j > ( )"#;
    assert_eq!(tokens(code).join(" "), expected);
}

#[test]
fn paths_are_resolved_from_where_they_stand() {
    let modules = ["", "a", "a::b", "a::c", "a::c::d", "e"];
    let module = |path: &str| -> Module {
        let parts = path.split("::").filter(|part| !part.is_empty());
        parts.map(str::to_owned).collect()
    };
    let krate = Crate {
        files: modules.map(|path| (module(path), PathBuf::new())).into(),
    };
    let code = "mod d; use super::{b::{self, X}, Y}; use std::fmt; use crate::e as f;
        fn g() { d::h(); f::i(); super::super::e::j(); k::l(); }
        mod tests { use super::*; fn m() { super::d::n(); } }";
    let paths = krate.paths(&module("a::c"), &tokens(code));
    let mut files: Vec<String> = paths
        .iter()
        .filter_map(|path| krate.file_of(path))
        .map(|file| file.join("::"))
        .collect();
    files.sort();
    files.dedup();
    assert_eq!(files, ["a", "a::b", "a::c", "a::c::d", "e"]);
}
