//! Two things wrong at once: the contract checks from the outside in, and names the first.

use super::post::{BODY_LIMIT_BYTES, POST};
use crate::tasks::worker::target::dialect::protocol::BadRequest;

/// The rows of the error table that one request alone can break, in their order.
const ROWS: [(Wrong, u16, &str); 7] = [
    (Wrong::Path, 404, "not_found"),
    (Wrong::Method, 405, "method_not_allowed"),
    (Wrong::Type, 415, "unsupported_media_type"),
    (Wrong::Size, 413, "body_too_large"),
    (Wrong::Json, 400, "malformed_json"),
    (Wrong::Field, 422, "invalid_field"),
    (Wrong::Context, 422, "context_length_exceeded"),
];

/// What is wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrong {
    Path,
    Method,
    Type,
    Size,
    Json,
    Field,
    Context,
}

/// Every row together with every later one.
pub fn pairs() -> Vec<BadRequest> {
    let with_later = |(number, first): (usize, &(Wrong, u16, &'static str))| {
        let (first, status, code) = *first;
        let later = ROWS[number + 1..].iter();
        later
            .map(move |(second, ..)| {
                let name = format!("{first:?} and {second:?} wrong").to_lowercase();
                BadRequest::new(name, request([first, *second]), status, code)
            })
            .collect::<Vec<_>>()
    };
    ROWS.iter().enumerate().flat_map(with_later).collect()
}

fn request(wrongs: [Wrong; 2]) -> Vec<u8> {
    let is = |wrong| wrongs.contains(&wrong);
    let pick = |wrong, bad: &'static str, good| if is(wrong) { bad } else { good };
    let mut body = format!(
        r#"{{"prompt":"Hello","max_tokens":{},"top_p":{}}}"#,
        pick(Wrong::Context, "100000000", "1"),
        pick(Wrong::Field, "9", "1"),
    );
    body += pick(Wrong::Json, "}", "");
    if is(Wrong::Size) {
        body += &" ".repeat(BODY_LIMIT_BYTES);
    }
    let kind = pick(Wrong::Type, "text/plain", "application/json");
    POST.sent(
        pick(Wrong::Method, "PUT", "POST"),
        if is(Wrong::Path) {
            "/v1/nothing"
        } else {
            POST.path
        },
        kind,
        body.as_bytes(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_meets_every_later_one() {
        let pairs = pairs();
        assert_eq!(pairs.len(), 21);
        let shown = |number: usize| String::from_utf8_lossy(&pairs[number].bytes).into_owned();
        assert_eq!(pairs[0].name, "path and method wrong");
        assert!(shown(0).starts_with("PUT /v1/nothing HTTP/1.1\r\n"));
        assert_eq!(pairs[20].name, "field and context wrong");
        assert!(shown(20).ends_with(r#"{"prompt":"Hello","max_tokens":100000000,"top_p":9}"#));
        assert_eq!(pairs[20].right, [(422, "invalid_field")]);
    }
}
