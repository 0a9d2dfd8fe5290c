//! The tests' own Python environment, with packages that judge what this repository writes.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

/// What the tests read reports, schemas and manifests with.
const PACKAGES: [&str; 4] = [
    "jsonschema",
    "junitparser",
    "PyYAML",
    // Carries the schemas of Kubernetes itself, so that nothing is fetched when it judges.
    "kubernetes-validate==1.37.0",
];

/// Runs a program in it; it is made where it isn't there, or has other packages.
pub fn python(program: &str, arguments: &[&Path]) -> Output {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
    let environment = target.join("test-python");
    fs::create_dir_all(&target).unwrap();
    let lock = fs::File::create(target.join("test-python.lock")).unwrap();
    lock.lock().unwrap();
    let bin = environment.join(if cfg!(windows) { "Scripts" } else { "bin" });
    let interpreter = bin.join("python");
    let (complete, packages) = (environment.join("complete"), PACKAGES.join(" "));
    if fs::read_to_string(&complete).unwrap_or_default() != packages {
        let system = if cfg!(windows) { "python" } else { "python3" };
        run(Command::new(system)
            .args(["-m", "venv", "--clear"])
            .arg(&environment));
        let mut pip = Command::new(&interpreter);
        run(pip.args(["-m", "pip", "install", "--quiet"]).args(PACKAGES));
        fs::write(&complete, packages).unwrap();
    }
    drop(lock);
    run(Command::new(&interpreter)
        .args(["-c", program])
        .args(arguments))
}

/// Runs a command that has to succeed.
fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let said = text(&output.stdout) + &text(&output.stderr);
    assert!(output.status.success(), "{command:?}\n{said}");
    output
}
