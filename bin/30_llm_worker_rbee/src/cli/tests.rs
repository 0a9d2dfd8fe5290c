//! Command lines, good and bad.

use super::*;

const GOOD: [&str; 14] = [
    "--worker-id",
    "w",
    "--model",
    "m.gguf",
    "--model-ref",
    "hf:m",
    "--backend",
    "cpu",
    "--device",
    "0",
    "--port",
    "18081",
    "--hive-url",
    "http://127.0.0.1:19200",
];

fn parsed(more: &[&str], token: Option<&str>) -> Result<Config, NoConfig> {
    let args = ["llm-worker-rbee"].iter().chain(&GOOD).chain(more);
    parse(args.map(OsString::from), token.map(OsString::from))
}

fn refusal(more: &[&str], token: Option<&str>) -> String {
    match parsed(more, token) {
        Err(NoConfig::Wrong(error)) => format!("{error:#}"),
        Err(NoConfig::Answered(text)) => panic!("answered with {text}"),
        Ok(_) => panic!("{more:?} was taken"),
    }
}

#[test]
fn the_contracts_arguments_are_enough() {
    let config = parsed(&[], None).ok().unwrap();
    assert_eq!(config.addresses, ["127.0.0.1:18081".parse().unwrap()]);
    assert_eq!(config.heartbeat_interval, Duration::from_secs(30));
    assert_eq!(config.drain_timeout, Duration::from_secs(10));
    assert_eq!(config.backend, Backend::Cpu);
    assert!(config.token.is_none());
}

#[test]
fn a_wrong_command_line_is_one_line_that_names_it() {
    let cases: [(&[&str], &str); 9] = [
        (&["--backend", "tpu"], "tpu"),
        (&["--device", "-1"], "-1"),
        (&["--port", "70000"], "70000"),
        (&["--hive-url", "hive"], "hive"),
        (&["--host", "example.org"], "example.org"),
        (&["--heartbeat-interval", "0"], "0.1"),
        (&["--drain-timeout", "-3"], "-3"),
        (&["--max-queue", "0"], "max-queue"),
        (&["--callback-url", "x"], "--callback-url"),
    ];
    for (more, named) in cases {
        // The last of two equal arguments would be refused for being there twice.
        let args: Vec<&str> = match GOOD.iter().position(|arg| *arg == more[0]) {
            Some(at) => [&GOOD[..at], &GOOD[at + 2..], more].concat(),
            None => [&GOOD[..], more].concat(),
        };
        let args = std::iter::once("llm-worker-rbee")
            .chain(args)
            .map(OsString::from);
        let Err(NoConfig::Wrong(error)) = parse(args, None) else {
            panic!("{more:?} was taken");
        };
        let line = format!("{error:#}");
        assert!(line.contains(named) && !line.contains('\n'), "{line}");
    }
}

#[test]
fn each_argument_that_is_needed_is_named_when_it_is_missing() {
    for at in (0..GOOD.len()).step_by(2) {
        let args = [&GOOD[..at], &GOOD[at + 2..]].concat();
        let args = std::iter::once("llm-worker-rbee")
            .chain(args)
            .map(OsString::from);
        let Err(NoConfig::Wrong(error)) = parse(args, None) else {
            panic!("{} was not missed", GOOD[at]);
        };
        assert!(format!("{error:#}").contains(GOOD[at]), "{error:#}");
    }
}

#[test]
fn other_hosts_than_loopback_need_a_token() {
    for host in ["0.0.0.0", "::", "192.168.1.1"] {
        assert!(refusal(&["--host", host], None).contains(TOKEN_VARIABLE));
        assert!(refusal(&["--host", host], Some("")).contains(TOKEN_VARIABLE));
        assert!(parsed(&["--host", host], Some("s3cret")).is_ok());
    }
    for host in ["127.0.0.2", "::1", "[::1]", "localhost", "::ffff:127.0.0.1"] {
        assert!(parsed(&["--host", host], None).is_ok(), "{host}");
    }
}

#[test]
fn the_token_never_shows_in_a_message() {
    let message = refusal(&[], Some("s3cret with spaces"));
    assert!(message.contains(TOKEN_VARIABLE) && !message.contains("s3cret"));
}

#[test]
fn help_is_an_answer_and_not_an_error() {
    let help = parse(["llm-worker-rbee", "--help"].map(OsString::from), None);
    assert!(matches!(help, Err(NoConfig::Answered(text)) if text.contains("--hive-url")));
}
