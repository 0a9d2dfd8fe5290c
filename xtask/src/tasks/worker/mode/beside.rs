//! Checks whose workers are their own, tried beside whatever else goes on, and told in their turn.

use std::collections::{HashMap, VecDeque};
use std::num::NonZero;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{Scope, available_parallelism};
use std::time::{Duration, Instant};

use super::tried::{Judged, began, over, tried_quietly};
use crate::tasks::worker::check::row::ApartRun;
use crate::tasks::worker::process::lock::lock;
use crate::tasks::worker::process::stop::Interrupted;
use crate::tasks::worker::record::backend::Backend;
use crate::tasks::worker::record::event::{EventKind, Outcome};
use crate::tasks::worker::record::facts::TimedLine;
use crate::tasks::worker::target::Subject;
use crate::tasks::worker::target::auxiliary::Auxiliaries;

/// Workers that answer a short request within this time are so quick, and their models so small, that
/// several of them take less from each other than every check allows a busy machine.
const QUICK: Duration = Duration::from_millis(250);

/// How many are tried at once on each core: they wait more than they work.
const PER_CORE: NonZero<usize> = NonZero::new(2).unwrap();

/// Never more than so many at once.
const MOST: NonZero<usize> = NonZero::new(8).unwrap();

/// What is to be tried.
#[derive(Debug, Clone, Copy)]
pub struct ApartCheck {
    /// Its id.
    pub id: &'static str,
    /// How it is tried.
    pub run: ApartRun,
}

/// Those that are under way, or have been.
#[derive(Debug, Default)]
pub struct Beside {
    news: HashMap<&'static str, Receiver<News>>,
    is_over: Arc<AtomicBool>,
}

/// What is heard of a check.
#[derive(Debug)]
enum News {
    Began(Instant),
    Ended(Box<Judged>, Vec<TimedLine>),
}

type Queue = Mutex<VecDeque<(ApartCheck, Sender<News>)>>;

impl Drop for Beside {
    /// What has not begun by now isn't wanted any more.
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

impl Beside {
    /// Begins with these, so many at once, in their order.
    pub fn start<'scope, 'run: 'scope>(
        &mut self,
        scope: &'scope Scope<'scope, '_>,
        auxiliaries: &Auxiliaries<'run>,
        checks: Vec<ApartCheck>,
        at_once: NonZero<usize>,
    ) {
        let mut queue = VecDeque::new();
        for check in checks {
            let (sender, news) = channel();
            self.news.insert(check.id, news);
            queue.push_back((check, sender));
        }
        let queue: Arc<Queue> = Arc::new(Mutex::new(queue));
        for _ in 0..at_once.get() {
            let (auxiliaries, is_over) = (auxiliaries.clone(), Arc::clone(&self.is_over));
            let queue = Arc::clone(&queue);
            scope.spawn(move || {
                let next = || lock(&queue).pop_front();
                while let Some((check, sender)) = next() {
                    if is_over.load(Ordering::Relaxed) {
                        return;
                    }
                    // Nobody listens any more where the run was interrupted.
                    let _ = sender.send(News::Began(Instant::now()));
                    let (tried, log) = try_apart(&auxiliaries, check);
                    let _ = sender.send(News::Ended(Box::new(tried), log));
                }
            });
        }
    }

    /// Tells what came of a check, which is tried now where that has not begun.
    ///
    /// Fails only when the run is interrupted.
    pub fn tell(
        &mut self,
        auxiliaries: &Auxiliaries<'_>,
        check: ApartCheck,
    ) -> Result<Outcome, Interrupted> {
        let context = auxiliaries.context;
        context.stop.check()?;
        let tell_begin = |at| began(context.journal, check.id, at);
        let (tried, lines) = match self.news.remove(check.id) {
            Some(news) => loop {
                match news.recv().expect("a check that was begun ends") {
                    News::Began(at) => tell_begin(at),
                    News::Ended(tried, lines) => break (*tried, lines),
                }
            },
            None => {
                tell_begin(Instant::now());
                try_apart(auxiliaries, check)
            }
        };
        if !lines.is_empty() {
            let id = check.id.to_owned();
            context.journal.emit(EventKind::LogOfCheck { id, lines });
        }
        over(context, check.id, tried)
    }
}

/// Tries one, and gives what its workers wrote where it didn't pass.
fn try_apart(auxiliaries: &Auxiliaries<'_>, check: ApartCheck) -> (Judged, Vec<TimedLine>) {
    let auxiliaries = auxiliaries.of_check(check.id);
    let mut lines = Vec::new();
    let tried = tried_quietly(|| {
        let began = Instant::now();
        auxiliaries.context.config.time_limit.ensure_not_over()?;
        let judged = (check.run)(&auxiliaries);
        if judged.is_err() {
            lines = auxiliaries.log_since(began);
        }
        judged
    });
    (tried, lines)
}

/// How many can be tried at once: beside the worker under test one after the other, and several where
/// nothing else goes on. None where they would be in each other's way.
pub fn at_once(subject: &Subject<'_>, is_alone: bool) -> Option<NonZero<usize>> {
    let is_cpu = subject.worker.launch().backend == Backend::Cpu;
    let is_quick = || {
        let reference = subject.reference();
        reference.is_ok_and(|reference| reference.took <= QUICK)
    };
    if !(is_cpu && is_quick()) {
        return None;
    }
    let cores = available_parallelism().unwrap_or(NonZero::<usize>::MIN);
    let several = cores.saturating_mul(PER_CORE).min(MOST);
    Some(if is_alone {
        several
    } else {
        NonZero::<usize>::MIN
    })
}
