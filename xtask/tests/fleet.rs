//! What is handed to other people's engines is valid where it is handed to: the Kubernetes manifest,
//! the workflow of `docs/fleet.md`, and the commands in both.

#[path = "support/asked.rs"]
mod asked;
#[path = "support/python.rs"]
mod python;

use std::path::Path;
use std::process::Command;

use asked::{Needs, is_asked_for};
use python::python;

const MANIFEST: &str = "deploy/kubernetes/worker-test-job.yaml";
const PAGE: &str = "docs/fleet.md";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn said(program: &str, arguments: &[&Path]) -> String {
    String::from_utf8(python(program, arguments).stdout).unwrap()
}

/// The oldest version that has `backoffLimitPerIndex` switched on, and the newest one that is known.
/// The strict schemas refuse fields that nobody knows, too. Breaking the manifest in three ways shows
/// that they look at it.
#[test]
fn network_the_manifest_fits_the_schema_of_kubernetes() {
    if !is_asked_for(Needs::PackageIndex) {
        return;
    }
    let program = "import copy, sys, yaml, kubernetes_validate as kv
job = yaml.safe_load(open(sys.argv[1], encoding='utf-8'))
def fits(job, version):
    try:
        kv.validate(job, version, strict=True)
        return True
    except kv.ValidationError:
        return False
def broken(change):
    other = copy.deepcopy(job)
    change(other)
    return other
for version in ('1.29', kv.latest_version()):
    print(fits(job, version),
        fits(broken(lambda job: job['spec'].update(completions='four')), version),
        fits(broken(lambda job: job['spec'].update(completionmode='Indexed')), version),
        fits(broken(lambda job: job['spec']['template']['spec'].pop('containers')), version))
spec = job['spec']
print(spec['completionMode'], spec['completions'] == spec['parallelism'], spec['template']['spec']['restartPolicy'])";
    let told = said(program, &[&root().join(MANIFEST)]);
    let fits = "True False False False\n";
    assert_eq!(told, format!("{fits}{fits}Indexed True Never\n"));
}

/// Every block of YAML on the page, as whoever copies it gets it.
#[test]
fn network_the_workflow_on_the_page_is_one() {
    if !is_asked_for(Needs::PackageIndex) {
        return;
    }
    let program = "import re, sys, yaml
page = open(sys.argv[1], encoding='utf-8').read()
blocks = [yaml.safe_load(block) for block in re.findall(r'```yaml\\n(.*?)```', page, re.S)]
workflow, = blocks
jobs = workflow['jobs']
for machine in jobs['test']['strategy']['matrix']['include']:
    assert set(machine) == {'machine', 'runs-on', 'require'}, machine
print(jobs['merge']['needs'], jobs['merge']['if'])
for name, job in jobs.items():
    for step in job['steps']:
        assert ('uses' in step) != ('run' in step), (name, step)";
    let told = said(program, &[&root().join(PAGE)]);
    assert_eq!(told, "test always()\n");
}

/// The script of the manifest's first container.
#[cfg(target_os = "linux")]
fn script_of_the_manifest() -> String {
    let manifest = std::fs::read_to_string(root().join(MANIFEST)).unwrap();
    let (_, rest) = manifest.split_once("            - |\n").unwrap();
    let lines = rest
        .lines()
        .take_while(|line| line.starts_with("              "));
    lines.map(|line| line.trim().to_owned() + "\n").collect()
}

/// Ends with the test, and all that is in its namespace.
#[cfg(target_os = "linux")]
struct Job(std::process::Child);

#[cfg(target_os = "linux")]
impl Drop for Job {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Kubernetes asks the first process of a container to stop, and a shell that is one ignores that
/// unless it was told otherwise.
#[test]
#[cfg(target_os = "linux")]
fn a_job_that_is_asked_to_stop_leaves_its_report_and_its_code() {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::time::{Duration, Instant};

    const PATIENCE: Duration = Duration::from_secs(180);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("job-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let out = folder.to_str().unwrap();
    let stubborn = root().join("xtask/src/tasks/worker/self_test/stubborn_worker.py");
    // In place of the image's cargo: this xtask, over a worker that never answers an inference.
    let cargo = format!(
        "#!/bin/sh\nshift\nexec '{}' \"$@\" --model tiny --worker-bin '{out}/worker' --worker-env \
         STUBBORN_POLITE=1 --worker-env STUBBORN_FLOOD_MB=0 --worker-env 'STUBBORN_NOTE={out}/asked'\n",
        env!("CARGO_BIN_EXE_xtask"),
    );
    let worker = format!("#!/bin/sh\nexec python3 '{}' \"$@\"\n", stubborn.display());
    for (name, text) in [("cargo", cargo), ("worker", worker)] {
        fs::write(folder.join(name), text).unwrap();
        fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let script = script_of_the_manifest().replace("/out/", &format!("{out}/"));
    let path = std::env::var("PATH").unwrap();
    let mut shell = Command::new("unshare");
    shell.args([
        "-Urpf",
        "--mount-proc",
        "--kill-child",
        "/bin/sh",
        "-c",
        &script,
    ]);
    let allowed = Command::new("unshare")
        .args(["-Urpf", "--mount-proc", "true"])
        .status();
    if !allowed.is_ok_and(|status| status.success()) {
        println!("not in a PID namespace, which isn't allowed here: the shell is no first process");
        shell = Command::new("/bin/sh");
        shell.args(["-c", &script]);
    }
    let job = shell.env("PATH", format!("{out}:{path}")).spawn();
    let mut job = Job(job.unwrap());
    let began = Instant::now();
    let wait_for = |name: &str, is_so: &mut dyn FnMut() -> bool| {
        while !is_so() {
            assert!(began.elapsed() < PATIENCE, "no {name}");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    wait_for("request", &mut || folder.join("asked").exists());
    // The shell is what `unshare` has started, or what we have.
    let children = format!("/proc/{0}/task/{0}/children", job.0.id());
    let inner = fs::read_to_string(children).unwrap_or_default();
    let shell = match shell.get_program().to_str() {
        Some("unshare") => inner.trim().to_owned(),
        _ => job.0.id().to_string(),
    };
    assert!(
        Command::new("kill")
            .args(["-TERM", &shell])
            .status()
            .unwrap()
            .success()
    );
    wait_for("end", &mut || job.0.try_wait().unwrap().is_some());
    assert_eq!(fs::read_to_string(folder.join("code")).unwrap(), "143\n");
    let report = fs::read_to_string(folder.join("report.json")).unwrap();
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["exit_code"], 143);
    fs::remove_dir_all(folder).unwrap();
}

/// Options that are only told of don't exist: the xtask itself takes each of these lines.
#[test]
fn every_command_told_is_one_that_the_command_line_takes() {
    let mut count = 0;
    for file in [MANIFEST, PAGE] {
        let text = std::fs::read_to_string(root().join(file)).unwrap();
        // A line goes on after a backslash, and in folded YAML with the next option.
        let text = text.replace("\\\n", " ").replace("\n          --", " --");
        let text = text.replace("${{ matrix.require }}", "cuda");
        let text = text.replace("${{ matrix.machine }}", "machine");
        for command in text.split("cargo xtask ").skip(1) {
            let line = command.split(['\n', '\'', '`', '&']).next().unwrap();
            assert_is_taken(line);
            count += 1;
        }
    }
    assert_eq!(count, 8);
}

/// Wrong options are complained of in their order: one before the last would be named instead.
fn assert_is_taken(line: &str) {
    let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(line.split_whitespace())
        .arg("--the-last-option")
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{line}\n{errors}");
    assert!(errors.contains("'--the-last-option'"), "{line}\n{errors}");
}
