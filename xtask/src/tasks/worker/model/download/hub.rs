//! Files of the Hugging Face Hub: from its cache on this machine, or over HTTP with resumption.
//!
//! Whether the bytes are right is not decided here: `part` holds them to the catalog.

use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};

use super::http::{Answer, Fetcher, Passing};
use super::part::Part;
use super::progress::Progress;
use crate::tasks::worker::process::stop::StopFlag;

/// A try that brought at least this much doesn't count against the limit.
const WORTHWHILE_BYTES: u64 = 1 << 20;

/// The longest that a server may make us wait between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The hub as this user has configured it.
#[derive(Clone)]
pub struct Hub {
    /// `HF_ENDPOINT`, without a slash at its end.
    pub endpoint: String,
    /// `HF_TOKEN`. Never shown, and for the endpoint alone.
    pub token: Option<String>,
    /// `HF_HUB_OFFLINE`: the cache, or nothing.
    pub offline: bool,
    /// `HF_HUB_CACHE`, or the folder below `HF_HOME` or the user's cache folder.
    pub cache: Option<PathBuf>,
    /// How often a failure that may pass is tried again.
    pub tries: u32,
    /// The pause before the second try; each further one is twice as long.
    pub first_pause: Duration,
}

/// One file there.
#[derive(Debug, Clone, Copy)]
pub struct HubFile<'a> {
    /// "organisation/name".
    pub repository: &'a str,
    /// A commit.
    pub revision: &'a str,
    /// The path inside the repository.
    pub file: &'a str,
}

impl Hub {
    /// The hub that the environment names.
    pub fn from_env() -> Hub {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let folder = |name: &str| set(name).map(PathBuf::from);
        let user_cache = || {
            let home = std::env::home_dir().map(|home| home.join(".cache"));
            folder("XDG_CACHE_HOME").or(home)
        };
        let home = folder("HF_HOME").or_else(|| Some(user_cache()?.join("huggingface")));
        let endpoint = set("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".into());
        let truthy =
            |value: String| ["1", "ON", "YES", "TRUE"].contains(&value.to_uppercase().as_str());
        Hub {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            token: set("HF_TOKEN").map(|token| token.trim().to_owned()),
            offline: set("HF_HUB_OFFLINE").is_some_and(truthy),
            cache: folder("HF_HUB_CACHE").or_else(|| Some(home?.join("hub"))),
            tries: 5,
            first_pause: Duration::from_millis(500),
        }
    }

    /// Fills `part` with the file, from the cache where it is there, else from the server.
    pub fn fetch(&self, file: HubFile, part: &mut Part, fetcher: &Fetcher) -> Result<()> {
        if let Some(cached) = self.cached(file, part, &fetcher.stop)? {
            return copy(&cached, part, fetcher);
        }
        ensure!(
            !self.offline,
            "HF_HUB_OFFLINE is set, and the Hugging Face cache does not have the file\n  try: unset HF_HUB_OFFLINE"
        );
        let url = self.url(file);
        let mut failures = 0;
        loop {
            let before = part.len();
            let error = match self.try_once(&url, part, fetcher) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            let Some(passing) = error.downcast_ref::<Passing>() else {
                return Err(error);
            };
            failures = match part.len().saturating_sub(before) {
                WORTHWHILE_BYTES.. => 1,
                _ => failures + 1,
            };
            if failures >= self.tries {
                let kept = part.len();
                return Err(anyhow!(
                    "{error:#}; gave up after {failures} tries in a row, {kept} bytes are kept\n  try: the same command later; check the network, the proxy and HF_ENDPOINT"
                ));
            }
            let pause = passing
                .retry_after
                .unwrap_or(self.first_pause * 2_u32.pow(failures - 1))
                .min(LONGEST_PAUSE);
            eprintln!("  {error:#}; trying again in {:.1} s", pause.as_secs_f64());
            let began = std::time::Instant::now();
            fetcher
                .stop
                .wait_for("the pause between two tries", Duration::MAX, || {
                    Ok((began.elapsed() >= pause).then_some(()))
                })?;
        }
    }

    /// Where the file is asked for.
    fn url(&self, file: HubFile) -> String {
        let HubFile {
            repository,
            revision,
            file,
        } = file;
        format!("{}/{repository}/resolve/{revision}/{file}", self.endpoint)
    }

    /// The file in the Hugging Face cache, if it is there and right.
    fn cached(&self, file: HubFile, part: &Part, stop: &StopFlag) -> Result<Option<PathBuf>> {
        let Some(cache) = &self.cache else {
            return Ok(None);
        };
        let folder = format!("models--{}", file.repository.replace('/', "--"));
        let path = cache
            .join(folder)
            .join("snapshots")
            .join(file.revision)
            .join(file.file);
        if !path.is_file() {
            return Ok(None);
        }
        if part.is_matched_by(&path, stop)? {
            return Ok(Some(path));
        }
        println!("{} is damaged: it is passed over", path.display());
        Ok(None)
    }

    /// One request: the rest of the file if the server still has the same, else all of it.
    fn try_once(&self, url: &str, part: &mut Part, fetcher: &Fetcher) -> Result<()> {
        let resumed_etag = part.resumable_at(url).map(str::to_owned);
        if resumed_etag.is_some() && part.missing() == 0 {
            return Ok(());
        }
        let mut headers = vec![
            (
                "User-Agent".to_owned(),
                "cargo-xtask-worker-download-model".to_owned(),
            ),
            ("Accept-Encoding".to_owned(), "identity".to_owned()),
        ];
        if let Some(token) = &self.token {
            headers.push(("Authorization".to_owned(), format!("Bearer {token}")));
        }
        if let Some(etag) = &resumed_etag {
            headers.push(("Range".to_owned(), format!("bytes={}-", part.len())));
            headers.push(("If-Range".to_owned(), etag.clone()));
        }
        let answer = fetcher.get(url, &headers)?;
        match (answer.status, resumed_etag) {
            (206, Some(etag)) if continues(&answer, part, &etag) => {}
            (200, _) => {
                let length = answer.header("content-length").and_then(|n| n.parse().ok());
                expect_size(length, part)?;
                part.restart(url, strong_etag(&answer))?;
            }
            // What is there is no beginning of what the server has now: ask for all of it.
            (206 | 416, Some(_)) => {
                part.restart(url, None)?;
                return self.try_once(url, part, fetcher);
            }
            _ => return Err(refusal(&answer)),
        }
        read_body(answer, part)
    }
}

impl std::fmt::Debug for Hub {
    /// Says whether there is a token, and never which.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub")
            .field("endpoint", &self.endpoint)
            .field("token", &self.token.as_ref().map(|_| "..."))
            .field("offline", &self.offline)
            .field("cache", &self.cache)
            .finish_non_exhaustive()
    }
}

fn read_body(mut answer: Answer, part: &mut Part) -> Result<()> {
    let mut progress = Progress::start("downloading", Some(part.expected()), part.len());
    while let Some(chunk) = answer.next_chunk()? {
        part.append(&chunk)?;
        progress.at(part.len());
    }
    match part.missing() {
        0 => Ok(()),
        _ => Err(Passing::new(format!(
            "the server hung up after {} of {} bytes",
            part.len(),
            part.expected()
        ))
        .into()),
    }
}

/// Whether a 206 brings exactly what follows on what is there, of the very same entity.
fn continues(answer: &Answer, part: &Part, etag: &str) -> bool {
    let expected = format!(
        "bytes {}-{}/{}",
        part.len(),
        part.expected() - 1,
        part.expected()
    );
    answer.header("content-range") == Some(&expected) && strong_etag(answer) == Some(etag)
}

/// A size that can't be right is refused before anything is written.
fn expect_size(announced: Option<u64>, part: &Part) -> Result<()> {
    match announced {
        Some(announced) if announced != part.expected() => bail!(
            "the server offers a file of {announced} bytes, and the catalog names {}: it is another file",
            part.expected()
        ),
        _ => Ok(()),
    }
}

/// An ETag that promises the same bytes; a weak one doesn't.
fn strong_etag(answer: &Answer) -> Option<&str> {
    answer
        .header("etag")
        .filter(|etag| etag.starts_with('"') && etag.len() > 2)
}

/// What a status other than success means for the user. Only 5xx may pass.
fn refusal(answer: &Answer) -> anyhow::Error {
    let status = answer.status;
    let asked_to_wait = answer.header("retry-after");
    let said = match answer.header("x-error-message") {
        Some(message) => format!("the server answered {status}: {message}"),
        None => format!("the server answered {status}"),
    };
    match status {
        500..=599 => {
            let seconds = asked_to_wait.and_then(|text| text.parse().ok());
            let retry_after = seconds.map(Duration::from_secs);
            Passing {
                cause: said,
                retry_after,
            }
            .into()
        }
        401 | 403 => anyhow!(
            "{said}: it asks for permission\n  try: set HF_TOKEN to a token that may read this repository"
        ),
        404 => anyhow!(
            "{said}: it does not have this file\n  try: check HF_ENDPOINT and .test-models/catalog.toml"
        ),
        429 => match asked_to_wait {
            Some(wait) => anyhow!(
                "{said}: too many requests\n  try: again after {wait} (its Retry-After, in seconds or as a date)"
            ),
            None => anyhow!(
                "{said}: too many requests\n  try: again later, or set HF_TOKEN for a higher limit"
            ),
        },
        _ => anyhow!("{said}, which is no file"),
    }
}

/// Takes a copy of the cached file; its hash is checked like that of any other.
fn copy(from: &std::path::Path, part: &mut Part, fetcher: &Fetcher) -> Result<()> {
    println!(
        "Copying it from the Hugging Face cache ({})",
        from.display()
    );
    let context = || format!("cannot read {}", from.display());
    let mut file = std::fs::File::open(from).with_context(context)?;
    part.restart("", None)?;
    let mut progress = Progress::start("copying", Some(part.expected()), 0);
    let mut buffer = vec![0; 1 << 20];
    loop {
        fetcher.stop.check()?;
        match file.read(&mut buffer).with_context(context)? {
            0 => return Ok(()),
            count => part.append(&buffer[..count])?,
        }
        progress.at(part.len());
    }
}
