//! A model that nobody may open yet takes for ever to load.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

use crate::Scratch;
use crate::running::tiny_model;

/// Whoever opens the file waits until the lease is given back, at the latest when its holder ends.
/// Linux alone has that, and Rust's library no call for it.
const HOLDER: &str = "\
import fcntl, os, signal, sys
signal.signal(signal.SIGIO, lambda *_: print('wanted', flush=True))
file = os.open(sys.argv[1], os.O_RDWR)
fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
print('held', flush=True)
sys.stdin.read()
";

/// A copy of the embedded model, and who keeps everybody from opening it.
pub struct Lease {
    model: Scratch,
    holder: Child,
    said: BufReader<ChildStdout>,
}

impl Lease {
    pub fn hold() -> Self {
        // Other tests have one at the same time.
        let thread = std::thread::current().id();
        let model = Scratch::new(&format!("leased-{thread:?}.gguf"));
        std::fs::copy(tiny_model(), &model.0).unwrap();
        let mut holder = Command::new("python3")
            .args(["-c", HOLDER])
            .arg(&model.0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(holder.stdout.take().unwrap());
        let mut lease = Self {
            model,
            holder,
            said,
        };
        lease.until_said("held");
        lease
    }

    pub fn model(&self) -> PathBuf {
        self.model.0.clone()
    }

    /// Until somebody has a descriptor for the file, and waits for leave to open it.
    pub fn until_wanted(&mut self) {
        self.until_said("wanted");
    }

    fn until_said(&mut self, word: &str) {
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        assert_eq!(line.trim(), word);
    }

    pub fn give_back(mut self) {
        drop(self.holder.stdin.take());
        assert!(self.holder.wait().unwrap().success());
    }
}
