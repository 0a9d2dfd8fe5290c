//! What is judged of several workers under load at once.

use super::row::Check;
use crate::tasks::worker::record::check::Phase;
use crate::tasks::worker::target::dialect::{ByHand, InferenceRequest};

/// How a health answer under load is looked at by hand.
const HEALTH: fn(&ByHand) -> String = |by| by.health("-s -w '%{time_total}\\n'");

/// How a load by hand begins.
const STREAM: fn(&ByHand) -> String = |by| by.stream("-sN", &InferenceRequest::greedy("Hello", 20));

/// What is seen of several workers under load.
pub const CHECKS: &[Check] = &[
    Check::stress("stress.ready")
        .promise("becomes ready beside the others")
        .explanation("Starts all workers together; fails if one isn't ready within --timeout, or ends.")
        .by_hand(|by| by.ready("-i")),
    Check::stress("stress.alive")
        .promise("survives the load")
        .quote("200 as long as the worker lives.")
        .explanation("Fails if a process ends under load without being asked to.")
        .by_hand(HEALTH),
    Check::stress("stress.answers")
        .promise("answers every request by a valid stream, with the text that it gives alone")
        .quote("The same seed, prompt and options give the same text, alone or beside other requests.")
        .explanation("Fails if a request gets no answer, a stream is invalid, or a text differs from the one given alone; a full queue is no failure.")
        .by_hand(STREAM),
    Check::stress("stress.health")
        .promise("answers health within 250 ms, under its own name, while all are under load")
        .quote("In under 250 ms while generation runs at full load.")
        .explanation("Fails on another worker_id or status, or if more than a tenth of the answers, spread over the load, are slow and our own scheduling jitter doesn't explain it.")
        .by_hand(HEALTH),
    Check::stress("stress.beats")
        .promise("sends heartbeats on time, under its own name and sequence, while all are under load")
        .quote("Under full generation load a beat is late by less than a tenth of the interval, or 100 ms where that is more.")
        .explanation("Fails on a heartbeat of an unknown worker, a sequence that doesn't rise by one, or repeatedly late heartbeats.")
        .by_hand(STREAM),
    Check::stress("stress.fair")
        .promise("generates at least half as many tokens/s as the fastest worker")
        .explanation("Counts tokens while all workers are up; fails on less than half of the fastest worker's.")
        .by_hand(STREAM),
    Check::stress("stress.killed")
        .promise("recovers after being killed, without affecting other workers")
        .explanation("Kills one worker under load and starts it again; fails if it isn't ready, answers wrongly, doesn't count its heartbeats from 1, or another worker's request fails; --kill-one only.")
        .by_hand(|_| String::from("kill -KILL PID")),
    Check::stress("stress.leaks")
        .promise("doesn't leak memory, open files or threads")
        .explanation("Fits samples of each against requests and tokens answered; fails if the 99 % interval of a slope lies above the floor.")
        .by_hand(|_| String::from("grep -E 'VmRSS|Threads' /proc/PID/status; ls /proc/PID/fd | wc -l")),
];

/// The end of all workers, after the first has been found alive.
pub const AFTERWARDS: &[Check] = &[Check::stress("stress.gone")
    .at(Phase::End)
    .promise("stops when it is asked to, exits with 0, and leaves nothing behind")
    .quote("Exit status 0.")
    .explanation("Stops each worker as an orchestrator would; fails if an exit status isn't 0, a process outlives the drain time, or something is left behind.")
    .by_hand(|_| String::from("kill -TERM PID"))];
