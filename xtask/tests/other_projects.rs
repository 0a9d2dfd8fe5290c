//! What other projects' pipelines run: the steps' own commands, as `action.yml` has them.

#[path = "support/scratch.rs"]
mod scratch;
#[path = "support/xtask.rs"]
mod xtask;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use scratch::Scratch;
use xtask::FAULTY_WORKER;

const ACTION: &str = include_str!("../../action.yml");
const SCRIPT: &str = include_str!("../../scripts/run_in_ci.sh");

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

/// The action's one command, without the quotes that YAML wants around it.
fn command_of_the_action() -> &'static str {
    let mut commands = ACTION
        .lines()
        .filter_map(|line| line.trim().strip_prefix("run: "));
    let command = commands.next().expect("a step that runs something");
    assert_eq!(commands.next(), None);
    command.trim_matches('\'')
}

/// The variables that its step sets, and nothing else of it.
fn variables_of_the_action() -> Vec<&'static str> {
    let lines = ACTION.lines().map(str::trim);
    let variables = lines.filter_map(|line| Some(line.split_once(": ${{ ")?.0));
    variables
        .filter(|name| name.starts_with("WORKER_TEST_"))
        .collect()
}

fn run(folder: &Path, fault: &str) -> Output {
    let command = command_of_the_action();
    Command::new("bash")
        .args(["-c", command])
        .current_dir(folder)
        .env("GITHUB_ACTION_PATH", root())
        .env("GITHUB_ACTIONS", "true")
        .env("GITHUB_STEP_SUMMARY", folder.join("step summary.md"))
        .env("WORKER_TEST_XTASK", env!("CARGO_BIN_EXE_xtask"))
        .env("WORKER_TEST_WORKER_CMD", worker_command())
        .env("WORKER_TEST_MODEL", "tiny")
        .env("WORKER_TEST_SUITE", "isolation")
        .env(
            "WORKER_TEST_ARGS",
            "--check health.answers --check inference.* --worker-env WORKER_FAULT",
        )
        .env("WORKER_TEST_ARTIFACTS", folder.join("the evidence"))
        .env("WORKER_FAULT", fault)
        .output()
        .unwrap()
}

/// A command line of its own, with all that a worker of this protocol has to be told.
fn worker_command() -> String {
    format!(
        "python3 '{FAULTY_WORKER}' --worker-id {{worker_id}} --model {{model}} --model-ref {{model_ref}} \
         --backend {{backend}} --device {{device}} --port {{port}} --hive-url {{hive_url}} \
         --heartbeat-interval {{heartbeat_interval}}"
    )
}

#[test]
fn the_script_knows_what_the_action_sets() {
    let variables = variables_of_the_action();
    assert!(variables.len() >= 9, "{variables:?}");
    for variable in variables {
        assert!(SCRIPT.contains(variable), "{variable}");
    }
}

#[test]
fn a_pipeline_of_another_project_gets_verdict_summary_and_evidence() {
    let folder = Scratch::new("other-projects");
    for (fault, code, title) in [
        ("", 0, "passed"),
        ("start.health_wrong_status", 1, "failed"),
    ] {
        let output = run(&folder.0, fault);
        let shown = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(code), "{shown}");
        assert_eq!(
            shown.contains("::error title=health.answers"),
            code == 1,
            "{shown}"
        );
        let summary = folder.file("step summary.md");
        let summary = std::fs::read_to_string(summary).unwrap().to_lowercase();
        assert!(summary.contains(title), "{summary}");
        let evidence = folder.file("the evidence/latest/junit.xml");
        assert!(evidence.is_file());
    }
}
