//! The start: how soon it answers, when it is ready, and who can reach it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};
use std::time::Duration;

use anyhow::Result;

use super::judge::{Evidence, ensure_kept};
use super::other_start::OtherStart;
use super::row::{Check, Need};
use crate::tasks::worker::net::raw::RawConnection;
use crate::tasks::worker::process::port;
use crate::tasks::worker::record::check::Phase;
use crate::tasks::worker::record::event::Mismatch;
use crate::tasks::worker::target::Subject;
use crate::tasks::worker::target::auxiliary::Auxiliaries;
use crate::tasks::worker::target::dialect::Promise;

/// The start: first of all.
pub const CHECKS: &[Check] = &[
    Check::isolation("start.answers", answers_soon)
        .promise("answers HTTP within a second of its start, even while the model is loading")
        .holds(&["S1", "C7"])
        .explanation("Polls health every few milliseconds from the start; fails if the first answer takes more than a second.")
        .by_hand(|by| by.health("-i"))
        .needs(&[Need::Promised(Promise::EarlyPort)])
        .at(Phase::Start),
    Check::isolation("start.ready", becomes_ready)
        .promise("becomes ready in time, with correct answers on the way")
        .holds(&["H4", "H5", "H9", "H10", "H11", "C1"])
        .explanation("Fails if the worker isn't ready within --timeout, exits early, or gives a malformed answer on the way.")
        .by_hand(|by| by.ready("-i"))
        .at(Phase::Start),
    Check::isolation("start.loopback_only", loopback_only)
        .promise("listens on loopback only unless it was told otherwise")
        .holds(&["C10", "S17"])
        .explanation("Requests health at this machine's other addresses from a worker without --host; fails if it answers there.")
        .by_hand(|by| by.health("-i -m 1 --connect-to 127.0.0.1:18081:127.0.0.2:18081"))
        .needs(&[Need::Ready, Need::Promised(Promise::Loopback)])
        .at(Phase::Start),
];

/// What other hosts than the usual one mean.
pub const HOSTS: &[Check] = &[Check::contract_apart("start.localhost", on_localhost)
    .promise("answers at both addresses of localhost when it is asked to listen there")
    .holds(&["C9"])
    .explanation("Starts a worker with --host localhost; fails if health isn't answered at 127.0.0.1 or, where the machine has it, at ::1.")
    .by_hand(|by| by.worker(&[("--host", "localhost")]))
    .needs(&[Need::Ready, Need::Promised(Promise::CommandLine)])];

/// How soon the port has to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);

/// How long a connection to another address may take: it is this machine's own.
const ELSEWHERE_LIMIT: Duration = Duration::from_millis(300);

/// How long an answer about health may take there.
const HEALTH_LIMIT: Duration = Duration::from_secs(2);

fn on_localhost(auxiliaries: &Auxiliaries) -> Result<Evidence> {
    let mut auxiliary = auxiliaries.start("localhost", |launch| {
        launch.set(&[("--host", "localhost")]);
    })?;
    auxiliary.wait_until_ready()?;
    let has_ipv6 = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    let addresses: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    let addresses = &addresses[..1 + usize::from(has_ipv6)];
    let (port, stop) = (auxiliary.worker.launch().port, auxiliaries.context.stop);
    for address in addresses {
        let ask = || {
            let mut connection = RawConnection::open_at(*address, port, HEALTH_LIMIT, stop)?;
            connection.send_request(&auxiliaries.dialect().health_request(), HEALTH_LIMIT)?;
            connection.read_answer("health", HEALTH_LIMIT)
        };
        let answer = ask().map_err(|error| auxiliary.worker.blame(error));
        let place = format!("health at {address} of a worker with --host localhost");
        let answer = answer.map_err(|error| match error.downcast::<Mismatch>() {
            Ok(mismatch) => Mismatch { place, ..mismatch }.into(),
            Err(error) => error,
        })?;
        auxiliaries.dialect().read_health(&answer)?;
    }
    let seen = addresses.iter().map(ToString::to_string);
    Ok(format!(
        "answers at {}",
        seen.collect::<Vec<_>>().join(" and ")
    ))
}

fn answers_soon(subject: &Subject) -> Result<Evidence> {
    let place = "start of the worker";
    let Some(first_answer) = subject.start_up.first_answer else {
        let mismatch = subject.not_ready.clone();
        let none = || Mismatch::new(place, "an answer within 1 s", "none");
        return Err(mismatch.unwrap_or_else(none).into());
    };
    let first_answer_ms = first_answer.as_millis();
    let started = subject.worker.started();
    if subject.jitter.excess(started, first_answer) <= ANSWER_LIMIT {
        return Ok(format!("after {first_answer_ms} ms"));
    }
    let again = OtherStart::of(subject)?
        .first_answer
        .unwrap_or(first_answer);
    let again_ms = again.as_millis();
    ensure_kept(
        again <= ANSWER_LIMIT,
        place,
        "an answer within 1 s",
        format!(
            "the first after {first_answer_ms} ms, and after {again_ms} ms in the best of other starts"
        ),
    )?;
    Ok(format!("after {again_ms} ms, at another start"))
}

fn becomes_ready(subject: &Subject) -> Result<Evidence> {
    if let Some(mismatch) = &subject.not_ready {
        return Err(mismatch.clone().into());
    }
    if let Some(mismatch) = &subject.start_up.mismatch {
        return Err(mismatch.clone().into());
    }
    let ready_ms = subject.start_up.ready.unwrap_or_default().as_millis();
    Ok(format!("after {ready_ms} ms"))
}

fn loopback_only(subject: &Subject) -> Result<Evidence> {
    let (port, stop) = (subject.worker.launch().port, subject.context.stop);
    let addresses = port::other_addresses();
    for address in &addresses {
        let Ok(mut connection) =
            RawConnection::open_at((*address).into(), port, ELSEWHERE_LIMIT, stop)
        else {
            stop.check()?;
            continue;
        };
        connection.send_request(&subject.dialect().health_request(), HEALTH_LIMIT)?;
        let answer = connection.read_answer("health", HEALTH_LIMIT);
        let is_ours = answer
            .and_then(|answer| Ok(subject.dialect().read_health(&answer)?))
            .is_ok_and(|health| {
                let named = health.worker_id.as_ref();
                named.is_none_or(|id| *id == subject.worker.launch().worker_id)
            });
        ensure_kept(
            !is_ours,
            &format!("health at {address}"),
            "no answer except on 127.0.0.1",
            "the worker's",
        )?;
    }
    Ok(format!("{} other addresses tried", addresses.len()))
}
