//! One GET at a time, over Python's standard library: the project needs Python anyway, and a TLS
//! of our own would cost a C compiler and half of the xtask's build time again.
//!
//! What an answer means is decided elsewhere; here lie redirects, and what follows them.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::Deserialize;
use serde_json::json;
use ureq::http::Uri;

use crate::tasks::worker::process::group::{ProcessGroup, Role};
use crate::tasks::worker::process::python::Python;
use crate::tasks::worker::process::stop::StopFlag;

/// The helper that speaks HTTP and TLS.
const FETCH: &str = include_str!("fetch.py");

/// The longest silence of a server, while connecting and between two bytes.
const SILENCE_LIMIT: Duration = Duration::from_secs(30);

/// How long the helper itself may take to start, beyond what the server may.
const HELPER_LIMIT: Duration = Duration::from_secs(60);

/// How long the helper may take to stop: it has nothing to put away.
const GRACE_PERIOD: Duration = Duration::from_millis(500);

/// How often a wait for bytes looks at the stop flag.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

const CHUNK_BYTES: usize = 64 << 10;
const CHUNKS_IN_FLIGHT: usize = 16;

/// More hops than any hub has.
const REDIRECT_LIMIT: usize = 10;

/// Headers that are for the server they were meant for, and for no other.
const FOR_ONE_HOST: [&str; 2] = ["authorization", "cookie"];

/// A failure that the next try may not see: a reset, a silence, a server in trouble.
#[derive(Debug)]
pub struct Passing {
    /// What happened.
    pub cause: String,
    /// How long the server asks to be left alone.
    pub retry_after: Option<Duration>,
}

/// Asks servers.
#[derive(Debug, Clone)]
pub struct Fetcher {
    /// What speaks HTTP.
    pub python: Python,
    /// Ends every wait.
    pub stop: StopFlag,
}

/// An answer whose body is still to be read. Dropping it ends the connection.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    headers: Vec<(String, String)>,
    chunks: Receiver<Vec<u8>>,
    errors: Receiver<String>,
    group: ProcessGroup,
    stop: StopFlag,
    /// The helper ends when this closes, should we be killed.
    _leash: ChildStdin,
}

#[derive(Debug, Deserialize)]
struct Head {
    #[serde(default)]
    status: u16,
    #[serde(default)]
    headers: Vec<(String, String)>,
    error: Option<String>,
    #[serde(default)]
    lasting: bool,
}

impl Fetcher {
    /// Sends a GET and follows redirects, until there is an answer that is none.
    pub fn get(&self, url: &str, headers: &[(String, String)]) -> Result<Answer> {
        let mut url = parse(url)?;
        let mut headers = headers.to_vec();
        for _ in 0..=REDIRECT_LIMIT {
            let answer = self
                .ask(&url, &headers)
                .with_context(|| format!("asking {}", origin(&url)))?;
            let location = match answer.status {
                301 | 302 | 303 | 307 | 308 => answer.header("location"),
                _ => return Ok(answer),
            };
            let location = location.context("a redirect that does not say where to")?;
            let next = resolve(&url, location)?;
            ensure!(
                url.scheme() == next.scheme() || next.scheme_str() == Some("https"),
                "{} redirects from https to {}, which is not safe to follow",
                origin(&url),
                origin(&next)
            );
            if origin(&url) != origin(&next) {
                headers.retain(|(name, _)| !FOR_ONE_HOST.contains(&name.to_lowercase().as_str()));
            }
            url = next;
        }
        bail!(
            "more than {REDIRECT_LIMIT} redirects, the last one to {}",
            origin(&url)
        )
    }

    /// One request on a connection of its own.
    fn ask(&self, url: &Uri, headers: &[(String, String)]) -> Result<Answer> {
        let mut command = self.python.command();
        command
            .args(["-I", "-c", FETCH])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let group = ProcessGroup::spawn(command, Role::Tool, GRACE_PERIOD)
            .with_context(|| format!("cannot start {}", self.python))?;
        let (input, output) = group.take_pipes();
        let (mut input, output) = (
            input.context("no standard input")?,
            output.context("no standard output")?,
        );
        let stderr = group.take_stderr().context("no standard error")?;
        // The request goes in over a pipe: a token on a command line is everybody's.
        let headers: serde_json::Map<_, _> = headers
            .iter()
            .map(|(name, value)| (name.clone(), json!(value)))
            .collect();
        let timeout_s = SILENCE_LIMIT.as_secs();
        let request = json!({"url": url.to_string(), "headers": headers, "timeout_s": timeout_s});
        writeln!(input, "{request}").context("Python does not read its input")?;
        let (head_sender, head) = sync_channel(1);
        let (chunk_sender, chunks) = sync_channel(CHUNKS_IN_FLIGHT);
        let (error_sender, errors) = sync_channel(1);
        std::thread::spawn(move || read_output(output, &head_sender, &chunk_sender));
        std::thread::spawn(move || {
            let mut text = Vec::new();
            let _ = BufReader::new(stderr).read_to_end(&mut text);
            let _ = error_sender.send(String::from_utf8_lossy(&text).trim().to_owned());
        });
        let limit = SILENCE_LIMIT + HELPER_LIMIT;
        let head = self.stop.wait_for("the server's answer", limit, || {
            Ok(match head.try_recv() {
                Ok(line) => Some(Some(line)),
                Err(std::sync::mpsc::TryRecvError::Empty) => None,
                Err(std::sync::mpsc::TryRecvError::Disconnected) => Some(None),
            })
        })?;
        let Some(head) = head.and_then(|line: String| serde_json::from_str::<Head>(&line).ok())
        else {
            bail!(
                "{} broke off: {}",
                self.python,
                errors.recv().unwrap_or_default()
            );
        };
        if let Some(cause) = head.error {
            return Err(match head.lasting {
                true => anyhow!(
                    "{cause}\n  try: check the network, the proxy, the certificates and HF_ENDPOINT"
                ),
                false => Passing::new(cause).into(),
            });
        }
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            chunks,
            errors,
            group,
            stop: self.stop.clone(),
            _leash: input,
        })
    }
}

impl Answer {
    /// The first header of that name (in lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self
            .headers
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.trim())
    }

    /// The next bytes of the body; none at its end. A break is [`Passing`].
    pub fn next_chunk(&mut self) -> Result<Option<Vec<u8>>> {
        loop {
            self.stop.check()?;
            match self.chunks.recv_timeout(POLL_INTERVAL) {
                Ok(chunk) => return Ok(Some(chunk)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        let status = self
            .stop
            .wait_for("the end of the answer", SILENCE_LIMIT, || {
                Ok(self.group.try_wait()?)
            })?;
        if status.success() {
            return Ok(None);
        }
        let cause = self.errors.recv().unwrap_or_default();
        Err(Passing::new(format!("the connection broke: {cause}")).into())
    }
}

impl Passing {
    /// Something that may be over soon.
    pub fn new(cause: impl Into<String>) -> Self {
        Self {
            cause: cause.into(),
            retry_after: None,
        }
    }
}

impl std::fmt::Display for Passing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.cause)
    }
}

impl std::error::Error for Passing {}

/// The first line, then the rest as it comes, until nobody listens.
fn read_output(output: impl Read, head: &SyncSender<String>, chunks: &SyncSender<Vec<u8>>) {
    let mut output = BufReader::with_capacity(CHUNK_BYTES, output);
    let mut line = String::new();
    if output.read_line(&mut line).is_err() || head.send(line).is_err() {
        return;
    }
    let mut buffer = vec![0; CHUNK_BYTES];
    while let Ok(count @ 1..) = output.read(&mut buffer) {
        if chunks.send(buffer[..count].to_vec()).is_err() {
            return;
        }
    }
}

/// Scheme, host and port: whom we talk to. Never the path or the query, which may be signed.
pub fn origin(url: &Uri) -> String {
    let scheme = url.scheme_str().unwrap_or_default();
    let host = url.host().unwrap_or_default().to_lowercase();
    let port = url
        .port_u16()
        .unwrap_or(if scheme == "https" { 443 } else { 80 });
    match (scheme, port) {
        ("https", 443) | ("http", 80) => format!("{scheme}://{host}"),
        _ => format!("{scheme}://{host}:{port}"),
    }
}

fn parse(url: &str) -> Result<Uri> {
    let parsed: Uri = url
        .parse()
        .with_context(|| format!("`{url}` is not a URL"))?;
    ensure!(
        matches!(parsed.scheme_str(), Some("http" | "https")) && parsed.host().is_some(),
        "`{url}` is not an http or https URL"
    );
    Ok(parsed)
}

/// What a `Location` means, seen from `base`.
fn resolve(base: &Uri, location: &str) -> Result<Uri> {
    let scheme = base.scheme_str().unwrap_or_default();
    let first = location.split(['/', '?', '#']).next().unwrap_or_default();
    let absolute = match location {
        _ if first.ends_with(':') => location.to_owned(),
        _ if location.starts_with("//") => format!("{scheme}:{location}"),
        _ if location.starts_with('/') => {
            let authority = base.authority().map_or("", |authority| authority.as_str());
            format!("{scheme}://{authority}{location}")
        }
        _ => {
            let authority = base.authority().map_or("", |authority| authority.as_str());
            let folder = base
                .path()
                .rsplit_once('/')
                .map_or("", |(folder, _)| folder);
            format!("{scheme}://{authority}{folder}/{location}")
        }
    };
    parse(&absolute)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_are_resolved_like_links() {
        let base = parse("https://hub.example/a/b?c=d").unwrap();
        let to = |location| resolve(&base, location).unwrap().to_string();
        assert_eq!(to("/x?y"), "https://hub.example/x?y");
        assert_eq!(to("//cdn.example/x"), "https://cdn.example/x");
        assert_eq!(to("http://cdn.example:8/x"), "http://cdn.example:8/x");
        assert_eq!(to("x?u=http://y"), "https://hub.example/a/x?u=http://y");
        assert!(resolve(&base, "ftp://cdn.example/x").is_err());
    }

    #[test]
    fn an_origin_has_no_path_and_no_default_port() {
        let of = |url| origin(&parse(url).unwrap());
        assert_eq!(
            of("https://Hub.example:443/a?token=b"),
            "https://hub.example"
        );
        assert_ne!(of("http://hub.example"), of("https://hub.example"));
        assert_ne!(of("http://hub.example:1"), of("http://hub.example:2"));
    }
}
