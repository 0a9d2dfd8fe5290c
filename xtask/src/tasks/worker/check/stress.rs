//! What is judged of several workers under load at once.

use super::row::Check;
use crate::tasks::worker::record::check::Phase;

/// How a health answer under load is looked at by hand.
const HEALTH: &str = "curl -s -w '%{time_total}\\n' http://127.0.0.1:18081/v1/health";

/// How a load by hand begins.
const STREAM: &str = r#"curl -sN http://127.0.0.1:18081/v1/inference -H 'Content-Type: application/json' -d '{"prompt":"Hello","max_tokens":20,"temperature":0,"stream":true}'"#;

/// What is seen of several workers under load.
pub const CHECKS: &[Check] = &[
    Check::stress("stress.ready")
        .promise("becomes ready beside the others")
        .explanation("All workers are started together; one that isn't ready within --timeout, or ends, fails it.")
        .by_hand("curl -i http://127.0.0.1:18081/v1/ready"),
    Check::stress("stress.alive")
        .promise("lives through the load")
        .quote("200 as long as the process lives.")
        .explanation("A process that ends under load without being asked to fails it.")
        .by_hand(HEALTH),
    Check::stress("stress.answers")
        .promise("answers every request by the rules of streams, with the text that each of them gives alone")
        .quote("The same seed, prompt and options give the same text, alone or beside other requests.")
        .explanation("A request without an answer, a broken stream, or a text other than the worker gave alone fails it; a full queue does not.")
        .by_hand(STREAM),
    Check::stress("stress.health")
        .promise("says within 250 ms, under its own name, that it is healthy while all are under load")
        .quote("In under 250 ms while generation runs at full load.")
        .explanation("Another worker_id or status fails it, and so do more than a tenth of slow answers, spread over the load, that our own lateness doesn't explain.")
        .by_hand(HEALTH),
    Check::stress("stress.beats")
        .promise("beats on time under its own name and with a sequence of its own while all are under load")
        .quote("Under full generation load a beat is late by less than a tenth of the interval, or 100 ms where that is more.")
        .explanation("A beat of nobody's, a sequence that doesn't rise by one, or beats that are late again and again fail it.")
        .by_hand(STREAM),
    Check::stress("stress.fair")
        .promise("generates at least half as many tokens a second as the fastest of them")
        .explanation("Tokens are counted while all workers are there; less than half of the fastest worker's fails it.")
        .by_hand(STREAM),
    Check::stress("stress.killed")
        .promise("comes back after it was killed, and no other worker minds")
        .explanation("One worker is killed under load and started again: not being ready, a wrong answer, no heartbeats from 1 on, or a failed request of another worker fails it; --kill-one only.")
        .by_hand("kill -KILL PID"),
    Check::stress("stress.leaks")
        .promise("needs no more memory, files and threads the more it has done")
        .explanation("Samples over the load are held against the requests and tokens that were answered; a slope whose 99 % interval is above the floor fails it.")
        .by_hand("grep -E 'VmRSS|Threads' /proc/PID/status; ls /proc/PID/fd | wc -l"),
];

/// The end of all workers, after the first has been found alive.
pub const AFTERWARDS: &[Check] = &[Check::stress("stress.gone")
    .at(Phase::End)
    .promise("stops when it is asked to, exits with 0, and leaves nothing behind")
    .quote("Exit status 0.")
    .explanation("Each worker is asked to stop as an orchestrator would; another exit status, no end within the drain time, or a process left behind fails it.")
    .by_hand("kill -TERM PID")];
