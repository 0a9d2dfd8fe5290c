//! The rules of `ARCHITECTURE.md`, enforced: who may know whom, and what pure files may not do.

mod floors;
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use source::rust_files;

/// A part of the tree, and words that no line of code in it may contain.
struct Rule {
    because: &'static str,
    paths: &'static [&'static str],
    forbidden: &'static [&'static str],
}

const IMPURE: &[&str] = &[
    "std::fs",
    "std::net",
    "std::process",
    "std::thread",
    "Instant::now",
    "SystemTime",
    "Utc::now",
    "Local::now",
    "println!",
    "eprintln!",
    "ureq",
];

const RULES: &[Rule] = &[
    Rule {
        because: "pure files read no clock, file, socket or process, and print nothing",
        paths: &[
            "xtask/src/cli.rs",
            "xtask/src/tasks/worker/config.rs",
            "xtask/src/tasks/worker/plan.rs",
            "xtask/src/tasks/worker/record",
            "xtask/src/tasks/worker/net/sse.rs",
            "xtask/src/tasks/worker/target/dialect",
        ],
        forbidden: IMPURE,
    },
    Rule {
        because: "nothing above the target spells a path of the contract",
        paths: &[
            "xtask/src/tasks/worker/mode",
            "xtask/src/tasks/worker/plan.rs",
        ],
        forbidden: &["\"/v1/", "heartbeat/workers"],
    },
    Rule {
        because: "routes know no tensor library",
        paths: &[
            "bin/30_llm_worker_rbee/src/routes",
            "bin/30_llm_worker_rbee/src/server",
        ],
        forbidden: &["candle", "tokenizers"],
    },
    Rule {
        because: "the engine knows no HTTP",
        paths: &["bin/llm_engine/src"],
        forbidden: &["axum", "hyper", "http::", "heartbeat"],
    },
    Rule {
        because: "the heartbeat knows neither tensors nor routes",
        paths: &["bin/30_llm_worker_rbee/src/heartbeat"],
        forbidden: &["candle", "tokenizers", "axum", "engine"],
    },
];

#[test]
fn every_part_knows_only_what_it_may() {
    let mut broken = Vec::new();
    for rule in RULES {
        for file in rule
            .paths
            .iter()
            .flat_map(|path| rust_files(&root().join(path)))
            .filter(|file| is_code(file))
        {
            for (number, line) in code_lines(&file) {
                for word in rule.forbidden.iter().filter(|word| line.contains(**word)) {
                    let file = file.strip_prefix(root()).unwrap().display();
                    broken.push(format!("{file}:{number}: `{word}`, but {}", rule.because));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// Systems differ in one folder. Reporters know nothing of it: one marks a script as one, one asks
/// what a terminal can show.
#[test]
fn only_the_platform_folder_is_compiled_for_one_system_and_not_for_another() {
    let may = [
        "xtask/src/tasks/worker/process/platform",
        "xtask/src/tasks/worker/reporter/file.rs",
        "xtask/src/tasks/worker/reporter/human/style.rs",
    ];
    let mut broken = Vec::new();
    let mut allowed = 0;
    for file in rust_files(&root().join("xtask/src"))
        .into_iter()
        .filter(|file| is_code(file))
    {
        let found = questions_about_the_system(&without_tests(&fs::read_to_string(&file).unwrap()));
        let name = file.strip_prefix(root()).unwrap().to_string_lossy();
        if may.iter().any(|part| name.starts_with(part)) {
            allowed += found.len();
        } else {
            broken.extend(
                found
                    .into_iter()
                    .map(|question| format!("{name}: {question}")),
            );
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    assert!(allowed > 5, "the rule sees no such line: {allowed}");
}

/// Each `cfg` of a text that asks for a system, whether an attribute or an expression.
fn questions_about_the_system(text: &str) -> Vec<String> {
    let systems = ["unix", "windows", "target_os", "target_family"];
    let tokens = source::tokens(text);
    let mut found = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        if token != "cfg" && token != "cfg_attr" {
            continue;
        }
        let rest = &tokens[at..];
        let mut depth = 0;
        let end = rest.iter().position(|token| {
            depth += i32::from(token == "(") - i32::from(token == ")");
            token == ")" && depth == 0
        });
        let question = &rest[..end.map_or(rest.len(), |end| end + 1)];
        let asks = question.iter().any(|word| systems.contains(&word.as_str()));
        if asks {
            found.push(question.join(" "));
        }
    }
    found
}

#[test]
fn questions_about_the_system_are_found_wherever_they_stand() {
    let found = |code| questions_about_the_system(code).len();
    assert_eq!(found("#[cfg(test)] mod a {} #[cfg(unix)] fn b() {}"), 1);
    assert_eq!(
        found("fn a() { if cfg!(not(target_os = \"macos\")) {} }"),
        1
    );
    assert_eq!(found("#[cfg_attr(windows, path = \"a.rs\")] mod a;"), 1);
    assert_eq!(found("#[cfg(debug_assertions)] fn a() {}"), 0);
}

#[test]
fn every_rule_guards_something() {
    for rule in RULES {
        let files: usize = rule
            .paths
            .iter()
            .map(|path| rust_files(&root().join(path)).len())
            .sum();
        assert!(files > 0, "no file is guarded by: {}", rule.because);
    }
}

#[test]
fn every_file_opens_with_what_lives_in_it() {
    let files = ["xtask", "bin"]
        .iter()
        .flat_map(|path| rust_files(&root().join(path)));
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        assert!(
            text.starts_with("//!"),
            "{} does not open with //!",
            file.display()
        );
    }
}

/// So that a search for a name finds one thing. What each system has of its own is called the same on
/// purpose.
#[test]
fn no_two_types_have_one_name() {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let krate = source::Crate::read(&root().join("xtask/src"));
    for file in krate.files().values() {
        let name = file.strip_prefix(root()).unwrap().to_string_lossy();
        if !name.contains("process/platform/") {
            for defined in types_of(&fs::read_to_string(file).unwrap()) {
                places.entry(defined).or_default().push(name.to_string());
            }
        }
    }
    assert!(places.len() > 200, "only {} types were found", places.len());
    places.retain(|_, files| files.len() > 1);
    assert!(places.is_empty(), "{places:#?}");
}

/// The types that a text defines, those of its functions included. What stands in an `impl` or a
/// trait (`type Item = ...`) is no type of its own.
fn types_of(text: &str) -> Vec<String> {
    let tokens = source::tokens(text);
    let named = tokens.windows(2).filter(|pair| {
        matches!(pair[0].as_str(), "struct" | "enum" | "trait" | "union")
            && pair[1].starts_with(char::is_uppercase)
    });
    let aliases = text.lines().filter_map(|line| {
        let line = line.strip_prefix("pub ").unwrap_or(line);
        let name = line.strip_prefix("type ")?;
        name.split(|c: char| !c.is_alphanumeric()).next()
    });
    let named = named.map(|pair| pair[1].clone());
    named.chain(aliases.map(str::to_owned)).collect()
}

#[test]
fn types_are_found_wherever_they_are_defined() {
    let found = types_of(
        "pub type A<'t> = B;\nimpl I for A {\n    type Item = C;\n}\nfn f() {\n    struct D;\n}\npub(crate) enum E {}\n",
    );
    assert_eq!(found, ["D", "E", "A"]);
}

/// By the lock file, which knows what every system needs and asks no registry.
#[test]
fn the_xtask_builds_without_async_tensors_or_the_worker() {
    let lock = fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let lock: toml::Table = lock.parse().unwrap();
    let packages = lock["package"].as_array().unwrap();
    let dependencies = |name: &str| -> Vec<&str> {
        let of_that_name = packages
            .iter()
            .filter(|package| package["name"].as_str() == Some(name));
        let lists = of_that_name.filter_map(|package| package.get("dependencies")?.as_array());
        let entries = lists.flatten().filter_map(|entry| entry.as_str());
        // "name", or "name version" where there are several.
        entries
            .map(|entry| entry.split(' ').next().unwrap())
            .collect()
    };
    let (mut needed, mut ahead) = (BTreeSet::new(), vec!["xtask"]);
    while let Some(name) = ahead.pop() {
        ahead.extend(
            dependencies(name)
                .into_iter()
                .filter(|name| needed.insert(*name)),
        );
    }
    assert!(needed.contains("clap"), "the lock file was misread");
    for heavy in [
        "llm-worker-rbee",
        "tokio",
        "hyper",
        "axum",
        "candle-core",
        "tokenizers",
    ] {
        assert!(!needed.contains(heavy), "the xtask depends on {heavy}");
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Whether this isn't a file that only tests have.
fn is_code(file: &Path) -> bool {
    let is_of_tests = |part: &OsStr| part == "tests" || part == "tests.rs";
    !file.iter().any(is_of_tests)
}

/// Lines that are neither comments nor tests.
fn code_lines(file: &Path) -> Vec<(usize, String)> {
    let text = without_tests(&fs::read_to_string(file).unwrap());
    let numbered = text
        .lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line.to_owned()));
    numbered
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .collect()
}

/// The text with an empty line for each line of an item that only tests have. Items are laid out as
/// rustfmt does it: the brace that closes one stands below its first word.
fn without_tests(text: &str) -> String {
    let mut kept = String::new();
    let mut indent: Option<(usize, bool)> = None;
    for line in text.lines() {
        let depth = line.len() - line.trim_start().len();
        match &mut indent {
            None if line.trim_start().starts_with("#[cfg(test)]")
                || line.trim_start().starts_with("#[cfg(all(test") =>
            {
                indent = Some((depth, false));
            }
            None => kept += line,
            Some((outer, has_begun)) if depth == *outer && !line.is_empty() => {
                let is_attribute = line.trim_start().starts_with("#[");
                let is_end = line.ends_with(';') || line.trim_start().starts_with('}');
                if is_end || (*has_begun && !is_attribute && line.ends_with('}')) {
                    indent = None;
                } else {
                    *has_begun |= !is_attribute;
                }
            }
            Some(_) => {}
        }
        kept.push('\n');
    }
    kept
}

#[test]
fn only_what_tests_alone_have_is_left_out() {
    let text = "#[cfg(test)]\nmod a;\nb\n#[cfg(test)]\nmod c {\n    d\n}\ne\n    #[cfg(all(test, f))]\n    fn g(\n        h,\n    ) {\n    }\ni\n";
    let kept: Vec<&str> = without_tests(text).leak().split_whitespace().collect();
    assert_eq!(kept, ["b", "e", "i"]);
}
