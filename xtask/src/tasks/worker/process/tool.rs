//! Short-lived programs that answer a question, within a deadline.

use std::io::{self, Read};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use super::group::ProcessGroup;
use super::identity::Role;
use super::wait::wait_until;

const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// The longest that a question to the system may take.
const QUESTION_LIMIT: Duration = Duration::from_secs(5);

/// What a short-lived program says; `None` where it isn't there, fails or takes too long.
pub fn answer(program: &str, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new(program);
    command.args(arguments);
    let (status, answer) = ask(command, QUESTION_LIMIT).ok()?;
    status.success().then_some(answer)
}

/// How a program ended, and what it had to say on its standard output.
///
/// Fails where it can't be started or takes longer than `limit`; then it is ended.
pub fn ask(mut command: Command, limit: Duration) -> io::Result<(ExitStatus, String)> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let group = ProcessGroup::spawn(command, Role::Tool, Duration::ZERO)?;
    let output = group.take_pipes().1;
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut output) = output {
            let _ = output.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).trim().to_owned()
    });
    wait_until(limit, POLL_INTERVAL, || {
        reader.is_finished() && !matches!(group.try_wait(), Ok(None))
    });
    let Some(status) = group.try_wait()?.filter(|_| reader.is_finished()) else {
        let limit_s = limit.as_secs_f64();
        return Err(io::Error::other(format!("no answer within {limit_s} s")));
    };
    let answer = reader.join();
    Ok((status, answer.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(120);

    #[test]
    fn an_answer_comes_with_the_exit_status() {
        // The one program that is there on every system.
        let ourselves = std::env::current_exe().unwrap();
        let mut command = Command::new(&ourselves);
        command.args(["--list", "--exact", "no::such::test"]);
        let (status, answer) = ask(command, LIMIT).unwrap();
        assert!(status.success() && answer.contains("0 tests"), "{answer}");
        let mut command = Command::new(&ourselves);
        command.arg("--no-such-option");
        assert!(!ask(command, LIMIT).unwrap().0.success());
    }

    #[cfg(unix)]
    #[test]
    fn who_does_not_answer_is_ended() {
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 1000"]);
        let error = ask(command, Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.to_string(), "no answer within 0.05 s");
    }
}
