//! Questions that are asked again and again while something else goes on.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::generator::{LoadGenerator, Next, Turn};
use crate::tasks::worker::net::client::{Client, NoAnswer, Request, Response};
use crate::tasks::worker::process::lock::lock;
use crate::tasks::worker::process::stop::StopFlag;
use crate::tasks::worker::record::bench::Load;

/// One question and what came.
#[derive(Debug)]
pub struct Question {
    /// Just before it was sent.
    pub asked: Instant,
    /// When the answer was whole, or when we gave up.
    pub answered: Instant,
    /// The answer, or why there was none.
    pub response: Result<Response, String>,
}

/// Questions that go on being asked until this is dropped.
#[derive(Debug)]
pub struct Poll {
    load: LoadGenerator,
    questions: Arc<Mutex<Vec<Question>>>,
    limit: Duration,
}

/// Asks once.
pub fn ask(client: &Client, request: &Request, limit: Duration) -> Question {
    let asked = Instant::now();
    let response = client.send(request, limit);
    Question {
        asked,
        answered: Instant::now(),
        response: response.map_err(|error| match error.downcast::<NoAnswer>() {
            Ok(no_answer) => no_answer.cause,
            Err(error) => error.to_string(),
        }),
    }
}

impl Poll {
    /// Asks with a pause after each answer.
    pub fn start(
        client: &Client,
        request: Request,
        pause: Duration,
        limit: Duration,
    ) -> Result<Self> {
        let questions = Arc::new(Mutex::new(Vec::new()));
        let (client, sink) = (client.clone(), Arc::clone(&questions));
        let job = move |_: Turn| {
            let question = ask(&client, &request, limit);
            lock(&sink).push(question);
            Next::After(pause)
        };
        Ok(Self {
            load: LoadGenerator::start(Load::Closed { streams: 1 }, &Arc::new(job))?,
            questions,
            limit,
        })
    }

    /// Ends it, and gives all questions.
    pub fn end(self, stop: &StopFlag) -> Result<Vec<Question>> {
        self.load.end();
        self.load.settle(self.limit * 2, stop, || Ok(()))?;
        Ok(std::mem::take(&mut *lock(&self.questions)))
    }
}
