//! Facts about the machine, the requests and the worker's needs, as events carry them.

use serde::{Deserialize, Serialize};

/// Where a run took place. What the system doesn't tell is `None`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    /// The machine's name.
    pub host: Option<String>,
    /// "Debian GNU/Linux 12 (bookworm)".
    pub os: String,
    /// The kernel's release.
    pub kernel: Option<String>,
    /// "x86_64".
    pub architecture: String,
    /// The processor's model.
    pub cpu: Option<String>,
    /// How many threads can run at once.
    pub cores: Option<usize>,
    /// Main memory.
    pub memory_bytes: Option<u64>,
    /// GPUs, as their driver names them.
    pub gpus: Vec<Gpu>,
    /// Version of this tool.
    pub xtask: String,
    /// "rustc 1.95.0 (...)".
    pub rustc: Option<String>,
    /// The revision of the workspace.
    pub git_revision: Option<String>,
    /// Whether tracked files differ from it.
    pub git_dirty: Option<bool>,
}

/// A GPU.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Gpu {
    /// "NVIDIA H100 80GB HBM3".
    pub name: String,
    /// Its memory.
    pub memory: String,
    /// The driver's version.
    pub driver: String,
}

/// A request that is about to be sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RequestSent {
    /// Pairs it with what became of it.
    pub number: u64,
    /// The check that asks.
    pub id: String,
    /// The name of the worker that is asked, where it isn't the one under test.
    #[serde(alias = "companion", default, skip_serializing_if = "Option::is_none")]
    pub auxiliary: Option<String>,
    /// "GET /v1/health".
    pub request: String,
    /// The whole address.
    pub url: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body as text, cut where it is long.
    pub body: Option<String>,
    /// The body's whole length.
    pub body_bytes: u64,
    /// How long the answer may take.
    pub limit_ms: u64,
}

/// The parts of an inference, as the worker tells them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Phases {
    /// Until the request was taken up.
    pub queue_ms: f64,
    /// Until the first token.
    pub prefill_ms: f64,
    /// From there to the last token.
    pub decode_ms: f64,
}

/// What came with an answer besides its body.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct AnswerMeta {
    /// The number of its [`RequestSent`]; 0 where there was none.
    pub number: u64,
    /// When the request was sent, on the run's axis.
    pub sent_ms: f64,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The parts of the time that it took.
    pub phases: Option<Phases>,
    /// Arrivals of a stream's tokens, in milliseconds since the request was sent.
    pub tokens_ms: Vec<f64>,
}

/// What the worker's processes use at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Vitals {
    /// Share of one core since the sample before; 100 is one core.
    pub cpu_percent: f64,
    /// Resident memory.
    pub rss_bytes: u64,
    /// Threads.
    pub threads: u64,
    /// Open files and sockets; `None` where the system doesn't tell.
    pub open_files: Option<u64>,
}

/// A line of a log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TimedLine {
    /// When its end was read, on the run's axis.
    pub at_ms: f64,
    /// The name of the worker that wrote it, where it isn't the one under test.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
    /// The line, made safe to print.
    pub text: String,
}

/// What a worker goes on with, greedily, after each prefix of some texts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Greedy {
    /// The texts, each with the answers.
    pub texts: Vec<GreedyText>,
}

/// One text: the teacher's continuation of a prompt, and what a worker goes on with on the way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GreedyText {
    /// What was continued.
    pub prompt: String,
    /// The teacher's tokens, as texts.
    pub tokens: Vec<String>,
    /// The next token after the prompt and the first k of those, from k = 0 on; `None` where the
    /// text ends there. Shorter than the text where the time was up.
    pub next: Vec<Option<String>>,
}

impl GreedyText {
    /// The prompt and the first `position` tokens of the teacher.
    pub fn prefix(&self, position: usize) -> String {
        let told = self.tokens.iter().take(position).map(String::as_str);
        [self.prompt.as_str()].into_iter().chain(told).collect()
    }
}

/// `text`, or its beginning and a word about how much was cut.
pub fn cut(text: &str, limit_bytes: usize) -> String {
    if text.len() <= limit_bytes {
        return text.to_owned();
    }
    let mut end = limit_bytes;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}… ({} bytes cut)", &text[..end], text.len() - end)
}

#[cfg(test)]
mod tests {
    use super::cut;

    #[test]
    fn long_text_is_cut_between_characters() {
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("äöü", 3), "ä… (4 bytes cut)");
    }
}
