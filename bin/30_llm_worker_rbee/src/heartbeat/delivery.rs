//! One POST to the hive, with its deadline. A hive can answer anything or nothing; all that comes
//! of it is a line in the log.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{self, HeaderValue};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::BeatCounts;
use crate::hive_url::HiveUrl;
use crate::log;

/// How long the hive may take, from the connection to the end of its answer.
const LIMIT: Duration = Duration::from_secs(5);
/// More of an answer than this isn't read.
const ANSWER_LIMIT_BYTES: usize = 64 << 10;

/// The way to the hive. Clones share what they know about its health.
#[derive(Clone)]
pub struct Delivery {
    target: Arc<Target>,
}

struct Target {
    hive: HiveUrl,
    path: String,
    authority: HeaderValue,
    /// Beats lost since the last one that arrived: the log tells the first, and the recovery.
    lost: AtomicU64,
    counts: Arc<BeatCounts>,
}

impl Delivery {
    /// The way to this hive.
    pub fn new(hive: &HiveUrl, counts: Arc<BeatCounts>) -> Self {
        let target = Target {
            hive: hive.clone(),
            path: format!("{}/heartbeat/workers", hive.base_path),
            authority: HeaderValue::from_str(&hive.authority())
                .expect("the parts of a parsed URL fit into a header"),
            lost: AtomicU64::new(0),
            counts,
        };
        Self {
            target: Arc::new(target),
        }
    }

    /// Tries once. A beat that is lost is not sent again: the next one says more.
    pub async fn deliver(&self, body: Vec<u8>) {
        let outcome = match tokio::time::timeout(LIMIT, self.post(body)).await {
            Ok(Ok(status)) if status.is_success() => Ok(()),
            // Redirects included: a hive that moved is configured anew.
            Ok(Ok(status)) => Err(format!("it answered {status}")),
            Ok(Err(cause)) => Err(cause),
            Err(_) => Err(format!("no answer within {} s", LIMIT.as_secs())),
        };
        self.note(outcome);
    }

    async fn post(&self, body: Vec<u8>) -> Result<StatusCode, String> {
        let Target {
            hive,
            path,
            authority,
            ..
        } = &*self.target;
        let stream = TcpStream::connect((hive.host.as_str(), hive.port))
            .await
            .map_err(|error| error.to_string())?;
        let _ = stream.set_nodelay(true);
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| error.to_string())?;
        // Dropped with this future, so that a beat that took too long leaves no connection behind.
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        let request = Request::post(path)
            .header(header::HOST, authority)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::CONNECTION, "close")
            .header(
                header::USER_AGENT,
                concat!("llm-worker-rbee/", env!("CARGO_PKG_VERSION")),
            )
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| error.to_string())?;
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| cause(&error))?;
        let status = response.status();
        read_politely(response.into_body()).await;
        Ok(status)
    }

    fn note(&self, outcome: Result<(), String>) {
        let hive = self.target.hive.authority();
        let counts = &self.target.counts;
        let count = if outcome.is_ok() {
            &counts.sent
        } else {
            &counts.failed
        };
        count.fetch_add(1, Ordering::Relaxed);
        match outcome {
            Ok(()) => match self.target.lost.swap(0, Ordering::Relaxed) {
                0 => {}
                lost => log::info(&format!(
                    "Hive {hive} answers again after {lost} lost beats"
                )),
            },
            Err(cause) => {
                if self.target.lost.fetch_add(1, Ordering::Relaxed) == 0 {
                    log::warn(&format!(
                        "Heartbeat to {hive} failed: {cause}; the next ones are tried on time"
                    ));
                }
            }
        }
    }
}

/// Reads the answer to its end, so that a hive that is still writing isn't reset.
async fn read_politely(mut body: hyper::body::Incoming) {
    let mut read_bytes = 0;
    while let Some(Ok(frame)) = body.frame().await {
        read_bytes += frame.data_ref().map_or(0, Bytes::len);
        if read_bytes > ANSWER_LIMIT_BYTES {
            return;
        }
    }
}

/// The library's own words leave the reason out.
fn cause(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
