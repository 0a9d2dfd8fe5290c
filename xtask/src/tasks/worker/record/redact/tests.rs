//! Properties of the redactor over made-up texts, and examples.

use std::time::{Duration, Instant};

use serde_json::json;

use super::*;
use crate::tasks::worker::record::random::Random;

const SECRET: &str = "hf_aBcD+/x9z";

fn redactor() -> Redactor {
    Redactor::new([SECRET.to_owned(), String::from("x")])
}

#[test]
fn known_secrets_and_credentials_are_taken_out() {
    let redactor = redactor();
    for (text, expected) in [
        ("token hf_aBcD+/x9z!", "token [redacted]!"),
        ("x stays", "x stays"),
        (
            "-H 'Authorization: Bearer s3cret' -d x",
            "-H 'Authorization: Bearer [redacted]' -d x",
        ),
        (
            "-H 'Authorization: Custom s3cret' -d x",
            "-H 'Authorization: [redacted]' -d x",
        ),
        (
            "authorization=Basic dXNlcjpw\nnext",
            "authorization=Basic [redacted]\nnext",
        ),
        (
            "> Authorization: Hmac a, b=c\r\n> Accept: d",
            "> Authorization: [redacted]\r\n> Accept: d",
        ),
        (
            "headers: {'host': 'h', 'authorization': 'Custom abc def', 'accept': 'x'}",
            "headers: {'host': 'h', 'authorization': '[redacted]', 'accept': 'x'}",
        ),
        (
            r#"{\"authorization\":\"Custom abc\",\"accept\":1}"#,
            r#"{\"authorization\":\"[redacted]\",\"accept\":1}"#,
        ),
        (
            "[(b'authorization', b'Bearer abc'), (b'x-api-key', b'k')]",
            "[(b'authorization', b'Bearer [redacted]'), (b'x-api-key', b'[redacted]')]",
        ),
        ("X-Api-Key: 12345, next", "X-Api-Key: [redacted], next"),
        (
            "sent x-api-key: 12345, next",
            "sent x-api-key: [redacted], next",
        ),
        (
            "serve --api-key s3cret -m x --admin-api-key=t0p --api_key 'ab c' --api-key-env K",
            "serve --api-key [redacted] -m x --admin-api-key=[redacted] --api_key '[redacted]' --api-key-env K",
        ),
        ("the api-key is wrong", "the api-key is wrong"),
        (
            "GET http://me:s3cret@host:80/path?a=b@c and https://h/@x",
            "GET http://[redacted]@host:80/path?a=b@c and https://h/@x",
        ),
        (
            "BEARER abc.def, bearer ghi",
            "BEARER [redacted], bearer [redacted]",
        ),
        ("the bearer of news", "the bearer [redacted] news"),
        ("no authorization", "no authorization"),
        ("authorization failed", "authorization failed"),
    ] {
        assert_eq!(redactor.clean(text), expected, "{text}");
        assert_eq!(redactor.suspects(text), text != expected, "{text}");
    }
}

#[test]
fn secrets_that_overlap_are_taken_out_together() {
    let redactor = Redactor::new(["abcdef".to_owned(), "defghijk".to_owned()]);
    assert_eq!(redactor.clean("-abcdefghijk-"), "-[redacted]-");
    assert_eq!(
        redactor.clean("bearer abcdefghijk z"),
        "bearer [redacted] z"
    );
}

#[test]
fn headers_and_fields_are_known_by_their_names() {
    let mut value = json!({
        "headers": [["authorization", "Custom abc"], ["accept", "x"]],
        "Authorization": "zzz",
        "X-API-Key": 5,
        "log": ["Bearer abc"],
        "command": ["serve", "--api-key", "s3cret", "-m", "x", "--api-key-env", "K"],
    });
    Redactor::default().clean_value(&mut value);
    let expected = json!({
        "headers": [["authorization", "[redacted]"], ["accept", "x"]],
        "Authorization": "[redacted]",
        "X-API-Key": "[redacted]",
        "log": ["Bearer [redacted]"],
        "command": ["serve", "--api-key", "[redacted]", "-m", "x", "--api-key-env", "K"],
    });
    assert_eq!(value, expected);
}

#[test]
fn a_secret_that_json_escapes_is_suspected() {
    let redactor = Redactor::new([String::from("pass\"word")]);
    assert!(redactor.suspects(r#""pass\"word""#));
    let redactor = Redactor::new([String::from("password")]);
    assert!(redactor.suspects(r#""password""#));
    assert!(!redactor.suspects(r#""harmless""#));
}

#[test]
fn variables_with_secrets_are_known_by_their_names() {
    for name in [
        "HF_TOKEN",
        "aws_secret_access_key",
        "GITHUB_TOKEN",
        "X_PASSWORD",
        "OPENAI_API_KEY",
    ] {
        assert!(names_secret(name), "{name}");
    }
    for name in ["PATH", "TOKENIZERS_PARALLELISM", "MONKEY", "GITHUB_ACTIONS"] {
        assert!(!names_secret(name), "{name}");
    }
}

/// Text between what has to go.
const FILLERS: &[&str] = &[
    " ",
    "\n",
    "a",
    "é",
    "://",
    "bearer",
    "autho",
    "rization",
    "hf_aB",
    "aGZf",
    "\"",
    "'",
    ": ",
    ",",
    "\\",
    "@",
    "a longer piece of text that says nothing at all",
];

/// A text with secrets in it, none of which may be left of it: with line ends, or on one line.
fn text_with_secrets(random: &mut Random, has_lines: bool) -> Vec<u8> {
    let mut text = Vec::new();
    for _ in 0..random.index(30) {
        let filler = FILLERS[random.index(FILLERS.len())];
        text.extend_from_slice(filler.repeat(random.index(4)).as_bytes());
        match random.index(9) {
            0 => text.extend_from_slice(SECRET.as_bytes()),
            1 => {
                let around = &b"user:pass:word"[random.index(11)..];
                let mut plain = around[..random.index(4)].to_vec();
                plain.extend_from_slice(SECRET.as_bytes());
                plain.extend_from_slice(&around[..random.index(3)]);
                text.extend(base64::encode_standard(&plain));
            }
            2 => text.extend_from_slice(b" bearer TOPSECRET "),
            3 => text.extend_from_slice(b" x-api-key: TOPSECRET "),
            4 if has_lines => text.extend_from_slice(b"\nAuthorization: New TOPSECRET TOPSECRET\n"),
            4 => text.extend_from_slice(b" Authorization: Basic TOPSECRET "),
            5 => text.extend_from_slice(b" http://TOPSECRET:TOPSECRET@h/ "),
            6 => text.extend_from_slice(b" {\"authorization\":\"New TOPSECRET\"} "),
            7 => text.push(random.bits() as u8),
            _ => {}
        }
    }
    text
}

fn assert_clean(text: &[u8], cleaned: &[u8]) {
    let shown = String::from_utf8_lossy(cleaned).into_owned();
    let mut left = base64::forms(SECRET.as_bytes());
    left.extend([SECRET.as_bytes().to_vec(), b"TOPSECRET".to_vec()]);
    for secret in left {
        let found = cleaned.windows(secret.len()).any(|window| window == secret);
        let secret = String::from_utf8_lossy(&secret).into_owned();
        assert!(
            !found,
            "{secret} is left of {:?}: {shown:?}",
            String::from_utf8_lossy(text)
        );
    }
}

#[test]
fn no_secret_is_left_of_any_text_and_nothing_else_is_lost() {
    let (redactor, mut random) = (redactor(), Random::new(12));
    for _ in 0..3_000 {
        let text = text_with_secrets(&mut random, true);
        let cleaned = redactor.clean_bytes(&text);
        assert_clean(&text, &cleaned);
        // What isn't masked is there, in its order.
        let mut rest = text.as_slice();
        let kept = String::from_utf8_lossy(&cleaned).replace(MASK, "\0");
        for piece in kept.split(['\0', char::REPLACEMENT_CHARACTER]) {
            let piece = piece.as_bytes();
            let at = rest
                .windows(piece.len().max(1))
                .position(|window| window == piece);
            let at = if piece.is_empty() { Some(0) } else { at };
            rest = &rest[at.expect("a piece of the text") + piece.len()..];
        }
    }
}

#[test]
fn no_secret_is_left_of_a_text_that_is_told_in_parts() {
    let (redactor, mut random) = (redactor(), Random::new(13));
    for _ in 0..1_000 {
        let text = text_with_secrets(&mut random, false);
        // One line: ends of lines are where parts end otherwise.
        let text: Vec<u8> = text
            .into_iter()
            .map(|byte| if byte == b'\n' { b' ' } else { byte })
            .collect();
        let text = [
            text,
            b"x".repeat(2 * redactor.scanner.longest() + 2 * ANNOUNCEMENT_BYTES),
        ]
        .concat();
        let (mut at, mut end, mut told) = (0, 0, Vec::new());
        while end < text.len() {
            end = (end + 500 + random.index(100)).min(text.len());
            let part = redactor.clean_part(&text[at..end]);
            assert!(!part.within_secret || part.taken == end - at);
            if part.within_secret {
                // What follows is the secret's, up to the end of its word.
                let rest = text[end..].iter().position(|&byte| ends_word(byte));
                end += rest.unwrap_or(text.len() - end);
                at = end;
            } else {
                at += part.taken;
            }
            told.extend(part.cleaned);
        }
        told.extend_from_slice(&redactor.clean_bytes(&text[at..]));
        assert_clean(&text, &told);
    }
}

/// Sixty-four kilobytes of the first took two thirds of a second once, and four times that for twice as
/// many: a megabyte would take minutes.
#[test]
fn what_looks_like_a_credential_over_and_over_costs_one_pass() {
    let redactor = redactor();
    for part in [
        "bearer ",
        "authorization: ",
        "https://u@",
        "x-api-key=",
        "aB3/",
        "=",
        "a:b@",
        "\"",
    ] {
        let text = part.repeat((1 << 20) / part.len());
        let began = Instant::now();
        redactor.clean(&text);
        let took = began.elapsed();
        assert!(took < Duration::from_secs(20), "`{part}`: {took:?}");
    }
}
