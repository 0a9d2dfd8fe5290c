//! The rules of `ARCHITECTURE.md`, enforced: who may know whom, and what pure files may not do.

mod floors;
mod source;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

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
        because: "the record is the ground: it stands on nothing",
        paths: &["xtask/src/tasks/worker/record"],
        forbidden: &[
            "::target",
            "reporter",
            "::check",
            "::mode",
            "::plan",
            "::journal",
        ],
    },
    Rule {
        because: "reporters know only the record",
        paths: &["xtask/src/tasks/worker/reporter"],
        forbidden: &[
            "::target",
            "::check::",
            "::mode",
            "::plan",
            "::journal",
            "::model",
        ],
    },
    Rule {
        because: "checks and modes know no reporter",
        paths: &[
            "xtask/src/tasks/worker/check",
            "xtask/src/tasks/worker/mode",
        ],
        forbidden: &["reporter"],
    },
    Rule {
        because: "the subject is touched by checks and modes, and knows neither",
        paths: &["xtask/src/tasks/worker/target"],
        forbidden: &["worker::check", "worker::mode", "worker::plan", "reporter"],
    },
    Rule {
        because: "nothing above the subject spells a path of the contract",
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
        paths: &["bin/30_llm_worker_rbee/src/engine"],
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

/// Systems differ in one folder. Reporters know nothing of it, and one of them marks a script as one.
#[test]
fn only_the_platform_folder_is_compiled_for_one_system_and_not_for_another() {
    let may = [
        "xtask/src/tasks/worker/process/platform",
        "xtask/src/tasks/worker/reporter/file.rs",
    ];
    let systems = ["unix", "windows", "target_os", "target_family"];
    let asks_for_a_system = |line: &str| {
        let line = line.trim_start();
        let is_for_tests = line.contains("test");
        line.starts_with("#[cfg")
            && !is_for_tests
            && systems.iter().any(|system| line.contains(system))
    };
    let mut broken = Vec::new();
    let mut allowed = 0;
    for file in rust_files(&root().join("xtask/src")) {
        let lines = code_lines(&file).into_iter();
        let found = lines.filter(|(_, line)| asks_for_a_system(line));
        let name = file.strip_prefix(root()).unwrap().to_string_lossy();
        if may.iter().any(|part| name.starts_with(part)) {
            allowed += found.count();
        } else {
            broken.extend(found.map(|(number, line)| format!("{name}:{number}: {line}")));
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    assert!(allowed > 5, "the rule sees no such line: {allowed}");
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

#[test]
fn the_xtask_builds_without_async_tensors_or_the_worker() {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--offline",
            "--package",
            "xtask",
            "--edges",
            "normal,build",
        ])
        .args(["--prefix", "none", "--target", "all", "--format", "{p}"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let tree = String::from_utf8(output.stdout).unwrap();
    let mut packages = BTreeMap::new();
    for line in tree.lines() {
        let name = line.split(' ').next().unwrap_or_default();
        *packages.entry(name.to_owned()).or_insert(0) += 1;
    }
    assert!(
        packages.contains_key("clap"),
        "cargo tree did not list the dependencies"
    );
    for heavy in [
        "llm-worker-rbee",
        "tokio",
        "hyper",
        "axum",
        "candle-core",
        "tokenizers",
    ] {
        assert!(
            !packages.contains_key(heavy),
            "the xtask depends on {heavy}"
        );
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Lines that aren't comments.
fn code_lines(file: &Path) -> Vec<(usize, String)> {
    let text = fs::read_to_string(file).unwrap();
    let numbered = text
        .lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line.to_owned()));
    numbered
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .collect()
}
