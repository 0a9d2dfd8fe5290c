//! Lines for a shell that show a promise by hand: `curl` against a worker at its usual place, and
//! the worker's own command line.

use super::generation::InferenceRequest;
use super::openai::OpenAi;
use super::protocol::{BadInput, Dialect};
use crate::tasks::worker::config::target::ProfileName;
use crate::tasks::worker::net::client::Request;

/// A longer body isn't shown; what it is filled up with are spaces.
const SHOWN_BYTES: usize = 1000;

/// The worker's options in their usual order; a model, a hive and a port have to be filled in.
const WORKER: [(&str, &str); 7] = [
    ("--worker-id", "w"),
    ("--model", "M.gguf"),
    ("--model-ref", "hf:m"),
    ("--backend", "cpu"),
    ("--device", "0"),
    ("--port", ""),
    ("--hive-url", ""),
];

/// Writes such lines in a dialect.
#[derive(Debug, Clone, Copy)]
pub struct ByHand {
    /// How requests are spelled.
    pub dialect: &'static dyn Dialect,
    /// Where the worker listens.
    pub port: u16,
    /// Where the hive listens.
    pub hive_port: u16,
}

impl ByHand {
    /// Asks for health, with these options of `curl`.
    pub fn health(&self, options: &str) -> String {
        self.curl(options, "", &self.dialect.health_request())
    }

    /// Asks for readiness.
    pub fn ready(&self, options: &str) -> String {
        self.curl(options, "", &self.dialect.ready_request())
    }

    /// Asks for a whole answer.
    pub fn infer(&self, options: &str, request: &InferenceRequest) -> String {
        self.curl(options, "", &self.dialect.inference_request(request, false))
    }

    /// Says something in a chat, which only OpenAI's protocol has.
    pub fn chat(&self, options: &str, words: &str, stream: bool) -> String {
        let request = InferenceRequest {
            as_chat: true,
            ..InferenceRequest::greedy(words, 20)
        };
        let dialect = OpenAi::new(ProfileName::Openai, "m", None);
        self.curl(options, "", &dialect.inference_request(&request, stream))
    }

    /// Asks for a streamed answer.
    pub fn stream(&self, options: &str, request: &InferenceRequest) -> String {
        self.curl(options, "", &self.dialect.inference_request(request, true))
    }

    /// Asks for eight answers at once.
    pub fn infer_beside(&self, request: &InferenceRequest) -> String {
        let options = "-s --parallel --parallel-immediate";
        self.curl(
            options,
            "?n=[1-8]",
            &self.dialect.inference_request(request, false),
        )
    }

    /// Sends the bad request of this name, or else the first of its kind.
    pub fn bad(&self, kind: BadInput, name: &str) -> String {
        let all = self.dialect.bad_requests(kind);
        let found = all.iter().find(|bad| bad.name == name).or(all.first());
        found.map_or_else(String::new, |bad| match kind {
            // What curl would mend.
            BadInput::Host => self.netcat(&bad.bytes),
            _ => self.curl_raw(&bad.bytes),
        })
    }

    /// Sends the broken framing of this name, or else the first.
    pub fn framing(&self, name: &str) -> String {
        let all = self.dialect.broken_framing();
        let found = all.iter().find(|(known, _)| *known == name).or(all.first());
        found.map_or_else(String::new, |(_, bytes)| self.netcat(bytes))
    }

    /// Sends a request of which half the body never comes.
    pub fn half_a_request(&self) -> String {
        self.netcat(&self.dialect.half_a_request())
    }

    /// Sends the begin of a request line and leaves.
    pub fn half_a_line(&self) -> String {
        let request = self.dialect.half_a_request();
        let line = request
            .split(|&byte| byte == b'\r')
            .next()
            .unwrap_or_default();
        self.netcat(&line[..line.len() / 2])
    }

    /// Sends bytes as they are.
    fn netcat(&self, bytes: &[u8]) -> String {
        let text = String::from_utf8_lossy(bytes);
        let text = text.replace('%', "%%").replace('\\', "\\\\");
        let text = text
            .replace('\r', "\\r")
            .replace('\n', "\\n")
            .replace('\'', "'\\''");
        format!("printf '{text}' | nc -q 3 127.0.0.1 {}", self.port)
    }

    /// The worker's command line with these options changed or added.
    pub fn worker(&self, changes: &[(&str, &str)]) -> String {
        let (port, hive) = (
            self.port.to_string(),
            format!("http://127.0.0.1:{}", self.hive_port),
        );
        let mut options = WORKER.map(|(name, value)| (name, value)).to_vec();
        options[5].1 = &port;
        options[6].1 = &hive;
        for change in changes {
            match options.iter_mut().find(|(name, _)| *name == change.0) {
                Some(option) => option.1 = change.1,
                None => options.push(*change),
            }
        }
        let words: Vec<String> = options
            .iter()
            .map(|(name, value)| format!("{name} {value}"))
            .collect();
        format!("llm-worker-rbee {}", words.join(" "))
    }

    fn curl(&self, options: &str, query: &str, request: &Request) -> String {
        let url = format!("http://127.0.0.1:{}{}{query}", self.port, request.path);
        let url = if query.is_empty() { url } else { quoted(&url) };
        let mut line = format!("curl {options} {url}");
        if let Some((content_type, body)) = &request.body {
            line += &format!(" -H 'Content-Type: {content_type}' -d ");
            line += &quoted(&String::from_utf8_lossy(body));
        }
        line
    }

    /// The same request as these bytes, as far as `curl` sends it.
    fn curl_raw(&self, bytes: &[u8]) -> String {
        let text = String::from_utf8_lossy(bytes);
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let mut lines = head.split("\r\n");
        let mut words = lines.next().unwrap_or_default().split(' ');
        let (method, path) = (
            words.next().unwrap_or_default(),
            words.next().unwrap_or_default(),
        );
        let mut line = String::from("curl -i");
        if !["GET", "POST"].contains(&method) || (method == "POST" && body.is_empty()) {
            line += &format!(" -X {method}");
        }
        line += &format!(" http://127.0.0.1:{}{path}", self.port);
        let tells = |line: &&str| {
            line.starts_with("Content-Type")
                || (line.starts_with("Host: ") && *line != "Host: 127.0.0.1")
        };
        for header in lines.filter(tells) {
            line += &format!(" -H {}", quoted(header));
        }
        if body.len() > SHOWN_BYTES {
            return format!(
                "printf '%{}s' | {line} -H 'Expect:' --data-binary @-",
                body.len()
            );
        }
        if !body.is_empty() {
            line += &format!(" -d {}", quoted(body));
        }
        line
    }
}

/// One word for a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::worker::target::dialect::native::Native;
    use crate::tasks::worker::target::dialect::protocol::Promise;

    const BY_HAND: ByHand = ByHand {
        dialect: &Native,
        port: 18081,
        hive_port: 19200,
    };

    #[test]
    fn requests_are_lines_of_a_shell() {
        assert_eq!(
            BY_HAND.health("-i"),
            "curl -i http://127.0.0.1:18081/v1/health"
        );
        let request = InferenceRequest::greedy("It's", 2);
        assert_eq!(
            BY_HAND.infer("-s", &request),
            r#"curl -s http://127.0.0.1:18081/v1/inference -H 'Content-Type: application/json' -d '{"prompt":"It'\''s","max_tokens":2,"temperature":0.0}'"#
        );
    }

    #[test]
    fn bad_requests_are_sent_as_they_are() {
        assert_eq!(
            BY_HAND.bad(BadInput::Malformed, "a comma too many"),
            r#"curl -i http://127.0.0.1:18081/v1/inference -H 'Content-Type: application/json' -d '{"prompt":"Hello",}'"#
        );
        let long = BY_HAND.bad(BadInput::TooLarge, "a body of 1 MiB and a byte");
        assert!(long.starts_with("printf '%1048577s' | curl -i "), "{long}");
        let raw = BY_HAND.netcat(b"GET / HTTP/1.1\r\n\r\n");
        assert_eq!(
            raw,
            r"printf 'GET / HTTP/1.1\r\n\r\n' | nc -q 3 127.0.0.1 18081"
        );
        assert!(Native.promises(Promise::Heartbeats));
    }

    #[test]
    fn the_workers_options_are_changed_or_added() {
        let line = BY_HAND.worker(&[("--device", "7"), ("--ctx-size", "64")]);
        assert_eq!(
            line,
            "llm-worker-rbee --worker-id w --model M.gguf --model-ref hf:m --backend cpu --device 7 --port 18081 --hive-url http://127.0.0.1:19200 --ctx-size 64"
        );
    }
}
