//! Every check of every kind of run, in the order in which they are tried. To add one: write a
//! function and its row in the file of its area.

use super::row::Check;
use super::{
    accepts, against, answers, bench, chat, clients, connections, device, drain, freeze, greedy,
    health, heartbeat, hive, inference, leave, lifecycle, load, loading, logs, matrix, model,
    options, queue, ready, refusals, shutdown, start, start_errors, streaming, streams, stress,
    token,
};
use crate::tasks::worker::config::WorkerTestConfig;
use crate::tasks::worker::record::check::CheckInfo;
use crate::tasks::worker::target::dialect::{ByHand, native};

/// The tables of the areas, in the order in which their checks are tried.
const AREAS: &[&[Check]] = &[
    start::CHECKS,
    health::CHECKS,
    ready::CHECKS,
    inference::CHECKS,
    streaming::CHECKS,
    chat::CHECKS,
    device::CHECKS,
    heartbeat::AT_ITS_START,
    loading::CHECKS,
    answers::FIRST,
    refusals::CHECKS,
    accepts::CHECKS,
    model::CHECKS,
    options::CHECKS,
    // Each of these has workers of its own, and is begun with the first check of the contract: by now
    // they have ended, and what is timed has the machine to itself.
    start_errors::CHECKS,
    start::HOSTS,
    token::CHECKS,
    logs::CHECKS,
    hive::NAMES,
    model::TIMES,
    answers::CHECKS,
    streams::CHECKS,
    // By now there are beats enough, so that nobody waits for them.
    heartbeat::CHECKS,
    load::CHECKS,
    heartbeat::TO_THE_END,
    // Those that wait for longest are begun first.
    queue::CHECKS,
    hive::CHECKS,
    freeze::CHECKS,
    leave::CHECKS,
    clients::CHECKS,
    drain::CHECKS,
    bench::CHECKS,
    against::CHECKS,
    stress::CHECKS,
    connections::TO_THE_END,
    lifecycle::TO_THE_END,
    stress::AFTERWARDS,
    logs::TO_THE_END,
    shutdown::CHECKS,
    lifecycle::AFTERWARDS,
    device::AFTERWARDS,
    matrix::CHECKS,
    greedy::CHECKS,
];

/// Every check.
pub fn checks() -> impl Iterator<Item = &'static Check> {
    AREAS.iter().copied().flatten()
}

/// What is known of each check without running it.
pub fn rows() -> Vec<&'static CheckInfo> {
    checks().map(|check| &check.info).collect()
}

/// The line for a shell that shows a check by hand, with worker and hive in their usual places.
pub fn by_hand(row: &CheckInfo) -> String {
    let usual = WorkerTestConfig::default();
    let by = ByHand {
        dialect: native(),
        port: usual.port,
        hive_port: usual.hive_port,
    };
    find(row.id).map_or_else(String::new, |check| (check.by_hand)(&by))
}

/// The row of a check, whose name may have the `*` of its row filled in.
pub fn find(id: &str) -> Option<&'static Check> {
    checks().find(|check| check.info.covers(id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::worker::record::contract;
    use crate::tasks::worker::record::event::Suite;
    use std::collections::HashSet;

    #[test]
    fn ids_are_unique_and_name_their_area() {
        let ids: HashSet<_> = rows().iter().map(|row| row.id).collect();
        assert_eq!(ids.len(), checks().count());
        for id in ids {
            let plain = |c: char| c.is_ascii_lowercase() || "_.*".contains(c);
            assert!(id.chars().all(plain), "{id}");
            assert_eq!(id.matches('.').count(), 1, "{id}");
        }
    }

    #[test]
    fn phases_come_in_their_order() {
        assert!(rows().is_sorted_by_key(|row| row.phase));
    }

    #[test]
    fn promises_complete_the_sentence() {
        for check in rows() {
            let first = check.promise.chars().next();
            assert!(first.is_some_and(char::is_lowercase), "{}", check.id);
            assert!(!check.promise.ends_with('.'), "{}", check.id);
        }
    }

    #[test]
    fn every_check_is_documented_and_can_be_tried_by_hand() {
        for check in rows() {
            let id = check.id;
            let is_of_the_contract = !matches!(
                check.suite,
                Suite::Benchmark | Suite::Stress | Suite::Matrix
            );
            assert!(
                !is_of_the_contract || !check.holds.is_empty(),
                "{id} holds no promise"
            );
            assert!(
                check.explanation.ends_with('.'),
                "{id}: {}",
                check.explanation
            );
            assert!(!check.explanation.contains('\n'), "{id}");
            let line = by_hand(check);
            let programs = [
                "curl ",
                "llm-worker-rbee ",
                "printf ",
                "cargo ",
                "kill ",
                "grep ",
                "WORKER_API_TOKEN=",
            ];
            let known = programs.iter().any(|program| line.starts_with(program));
            assert!(known && !line.contains('\n'), "{id}: {line}");
        }
    }

    #[test]
    fn what_a_check_holds_stands_in_the_contract() {
        for check in rows() {
            for number in check.holds {
                assert!(contract::find(number).is_some(), "{}: {number}", check.id);
            }
            let unique: HashSet<_> = check.holds.iter().collect();
            assert_eq!(unique.len(), check.holds.len(), "{}", check.id);
        }
    }
}
