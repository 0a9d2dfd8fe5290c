//! Taken ports, ports that are taken in between, and strangers that answer on ours.

use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crate::run::{Plan, Run, Worker, event, events, outcome, pause, python};

/// Answers health and readiness like a worker.
const STRANGER: &str = r#"
import http.server, json, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"status": "healthy", "model_loaded": True, "worker_id": sys.argv[2], "ready": True}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
print("up", flush=True)
server.serve_forever()
"#;

/// The beginning of a worker that can ask for a stranger on its port: what it started itself would be
/// no stranger.
const ASKS_FOR_STRANGER: &str = r#"
import os, sys, time
def start_stranger(port, worker_id):
    with open(os.path.join(here, "wanted.part"), "w") as file:
        file.write(port + " " + worker_id)
    os.rename(os.path.join(here, "wanted.part"), os.path.join(here, "wanted"))
    while not os.path.exists(os.path.join(here, "up")):
        time.sleep(0.01)
    os.remove(os.path.join(here, "up"))
port, worker_id = sys.argv[sys.argv.index("--port") + 1], sys.argv[sys.argv.index("--worker-id") + 1]
here = os.path.dirname(os.path.abspath(__file__))
def go_on():
    worker = os.path.join(os.environ["TESTS"], "faulty_worker.py")
    os.execv(sys.executable, [sys.executable, worker] + sys.argv[1:])
"#;

fn script(end: &str) -> Worker {
    Worker::Script(Box::leak(
        format!("{ASKS_FOR_STRANGER}\n{end}").into_boxed_str(),
    ))
}

/// Starts processes of the test's own on ports that a run's workers were to have.
struct Strangers {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Strangers {
    /// One for each worker of the run that asks for it, until this is dropped.
    fn beside(run: &Run) -> Self {
        let (folder, over) = (run.folder().to_owned(), Arc::new(AtomicBool::new(false)));
        let ends = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            let (wanted, mut strangers) = (folder.join("wanted"), Vec::new());
            while !ends.load(Ordering::Relaxed) {
                if let Ok(arguments) = fs::read_to_string(&wanted) {
                    fs::remove_file(&wanted).unwrap();
                    strangers.push(start_stranger(&arguments));
                    fs::write(folder.join("up"), "").unwrap();
                }
                pause();
            }
            for mut stranger in strangers {
                stranger.kill().unwrap();
                stranger.wait().unwrap();
            }
        });
        let thread = Some(thread);
        Self { over, thread }
    }
}

impl Drop for Strangers {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let joined = self.thread.take().map(JoinHandle::join);
        assert!(matches!(joined, Some(Ok(()))) || std::thread::panicking());
    }
}

/// Comes back when it listens.
fn start_stranger(arguments: &str) -> Child {
    let mut command = Command::new(python());
    command.args(["-c", STRANGER]).args(arguments.split(' '));
    let mut stranger = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut up = [0; 3];
    stranger.stdout.take().unwrap().read_exact(&mut up).unwrap();
    stranger
}

/// A port that nobody gets by asking for any: those that systems hand out lie above.
fn free_port() -> String {
    let first = 20_000 + (std::process::id() % 10_000) as u16;
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let port = (first..32_000).find(is_free).expect("a free port");
    port.to_string()
}

#[test]
fn a_taken_port_is_refused_before_anything_starts() {
    let holder = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = holder.local_addr().unwrap().port().to_string();
    for (option, other) in [("--port", "--hive-port"), ("--hive-port", "--port")] {
        let plan = Plan::bare(Worker::Good).args(&[option, &port, other, "0"]);
        let mut run = plan.args(&["--format", "json"]).start();
        let (code, output) = run.finish();
        run.assert_gone();
        assert_eq!(code, Some(3), "{output}");
        let events = events(&output);
        let message = event(&events, "troubled")["message"].as_str().unwrap();
        let taken = format!("port {port} is taken");
        let held_by = format!("(pid {})", std::process::id());
        let way_out = format!("try: {option} 0");
        for part in [&taken, &held_by, &way_out] {
            assert!(message.contains(part), "{message}");
        }
        let started = |name: &str| events.iter().any(|event| event["event"] == name);
        assert!(
            !started("hive_starting") && !started("worker_starting"),
            "{output}"
        );
    }
}

#[test]
fn a_free_port_that_somebody_takes_in_between_is_replaced_once() {
    let thief = script(
        r#"
if not os.path.exists(os.path.join(here, "stolen")):
    open(os.path.join(here, "stolen"), "w").close()
    start_stranger(port, "stranger")
    sys.exit("error: cannot listen: port taken")
go_on()
"#,
    );
    let plan = Plan::over(thief).args(&["--format", "json", "--check", "health.*"]);
    let mut run = plan.start();
    let _strangers = Strangers::beside(&run);
    let (code, output) = run.finish();
    assert_eq!(code, Some(0), "{output}");
    let events = events(&output);
    let ports: Vec<_> = events
        .iter()
        .filter(|event| event["event"] == "worker_starting")
        .map(|event| event["port"].clone())
        .collect();
    assert_eq!(ports.len(), 2, "{output}");
    assert_ne!(ports[0], ports[1]);
    // Named as the holder or as who answers, whichever is seen first.
    let message = event(&events, "noted")["message"].as_str().unwrap();
    assert!(message.contains("python"), "{message}");
}

/// A worker that was killed comes back on another port where its own was taken meanwhile.
#[test]
fn the_port_of_a_killed_worker_that_somebody_takes_is_replaced() {
    let thief = script(
        r#"
starts = os.path.join(here, "starts" + worker_id[-2:])
with open(starts, "a") as file:
    file.write(port + "\n")
if worker_id.endswith("-2") and len(open(starts).readlines()) == 2:
    start_stranger(port, "stranger")
    sys.exit("error: cannot listen: port taken")
go_on()
"#,
    );
    let mut run = Plan::of_killed_worker(thief)
        .args(&["--format", "json"])
        .start();
    let _strangers = Strangers::beside(&run);
    let (_, output) = run.finish();
    let ports = fs::read_to_string(run.folder().join("starts-2")).unwrap();
    let ports: Vec<&str> = ports.lines().collect();
    assert_eq!(ports.len(), 3, "{output}");
    assert_eq!(ports[0], ports[1]);
    assert_ne!(ports[1], ports[2]);
    let events = events(&output);
    let message = event(&events, "noted")["message"].as_str().unwrap();
    assert!(
        message.contains("python") && message.contains(ports[1]),
        "{message}"
    );
    let killed = outcome(&events, "stress.killed");
    assert_eq!(killed["outcome"], "passed", "{killed}");
}

#[test]
fn a_chosen_port_that_somebody_takes_in_between_is_nobody_s_fault() {
    let thief = script(
        r#"
start_stranger(port, "stranger")
sys.exit("error: cannot listen: port taken")
"#,
    );
    let plan = Plan::bare(thief).args(&["--port", &free_port(), "--hive-port", "0"]);
    let mut run = plan.args(&["--format", "json"]).start();
    let _strangers = Strangers::beside(&run);
    let (code, output) = run.finish();
    assert_eq!(code, Some(3), "{output}");
    let events = events(&output);
    let message = event(&events, "troubled")["message"].as_str().unwrap();
    // Named as the holder or as who answers, whichever is seen first.
    assert!(message.contains("python"), "{message}");
    assert_eq!(outcome(&events, "start.ready"), &serde_json::Value::Null);
}

#[test]
fn a_stranger_that_answers_is_not_taken_for_our_worker() {
    // One under a name of its own, and one that even knows ours.
    for name in ["'stranger'", "worker_id"] {
        let silent = script(&format!(
            "
start_stranger(port, {name})
time.sleep(600)
"
        ));
        let mut run = Plan::over(silent).args(&["--format", "json"]).start();
        let _strangers = Strangers::beside(&run);
        let (code, output) = run.finish();
        assert_eq!(code, Some(3), "{output}");
        let events = events(&output);
        let message = event(&events, "troubled")["message"].as_str().unwrap();
        assert!(
            message.contains("not by the worker that was started"),
            "{message}"
        );
        assert!(message.contains("is answered by python"), "{message}");
        assert!(outcome(&events, "health.answers").is_null());
    }
}

#[test]
fn our_own_worker_under_a_wrong_name_breaks_a_promise() {
    let plan = Plan::over(Worker::Good).env("WORKER_FAULT", "start.health_wrong_worker_id");
    let plan = plan.args(&["--check", "health.*", "--check", "start.*"]);
    let mut run = plan.args(&["--format", "json"]).start();
    let (code, output) = run.finish();
    run.assert_gone();
    assert_eq!(code, Some(1), "{output}");
    assert_eq!(
        outcome(&events(&output), "health.answers")["outcome"],
        "failed"
    );
}
