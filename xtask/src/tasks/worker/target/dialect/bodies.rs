//! Bodies that every protocol of completions has to cope with: not JSON, absurd, or with a length that
//! lies. All have a `prompt` and `max_tokens`, which these protocols call alike.

use super::post::Post;

/// A good request, short enough for everything.
pub const GOOD: &[u8] = br#"{"prompt":"Hello","max_tokens":1,"temperature":0}"#;

/// The depth that ends parsers which recurse without a limit.
const DEEP: usize = 100_000;

/// Bodies that aren't JSON.
pub const MALFORMED: [(&str, &[u8]); 18] = [
    ("an empty body", b""),
    ("a body of spaces", b"   \r\n\t "),
    ("a word", b"hello"),
    ("a cut object", br#"{"prompt":"Hello""#),
    ("a cut string", br#"{"prompt":"Hel"#),
    ("a cut key", br#"{"pro"#),
    ("a comma too many", br#"{"prompt":"Hello",}"#),
    ("single quotes", b"{'prompt':'Hello'}"),
    ("a key without quotes", br#"{prompt:"Hello"}"#),
    (
        "something after the object",
        br#"{"prompt":"Hello","max_tokens":1} {"#,
    ),
    (
        "two objects",
        br#"{"prompt":"Hello","max_tokens":1}{"prompt":"Hello"}"#,
    ),
    (
        "NaN",
        br#"{"prompt":"Hello","max_tokens":1,"temperature":NaN}"#,
    ),
    (
        "Infinity",
        br#"{"prompt":"Hello","max_tokens":1,"temperature":Infinity}"#,
    ),
    (
        "a number with a leading zero",
        br#"{"prompt":"Hello","max_tokens":01}"#,
    ),
    (
        "invalid UTF-8",
        b"{\"prompt\":\"Hel\xff\xfelo\",\"max_tokens\":1}",
    ),
    (
        "UTF-8 cut in a character",
        b"{\"prompt\":\"caf\xc3\",\"max_tokens\":1}",
    ),
    (
        "a NUL in a string",
        b"{\"prompt\":\"Hel\0lo\",\"max_tokens\":1}",
    ),
    (
        "a line feed in a string",
        b"{\"prompt\":\"Hel\nlo\",\"max_tokens\":1}",
    ),
];

/// What is JSON, or nearly, and what no client sends: each one's name, the body, and whether it may be
/// taken for what it is.
pub fn absurd() -> Vec<(&'static str, String, bool)> {
    let digits = "9".repeat(1000);
    vec![
        (
            "deep nesting",
            format!(r#"{{"prompt":{}{}}}"#, "[".repeat(DEEP), "]".repeat(DEEP)),
            false,
        ),
        (
            "deep nesting of objects",
            r#"{"prompt":"#.repeat(DEEP),
            false,
        ),
        (
            "deep nesting in an unknown field",
            format!(
                r#"{{"prompt":"Hello","max_tokens":1,"x":{}1{}}}"#,
                r#"{"x":"#.repeat(DEEP / 2),
                "}".repeat(DEEP / 2)
            ),
            false,
        ),
        ("a thousand digits", without_bound(&digits), false),
        (
            "a thousand digits below zero",
            without_bound(&format!("-{digits}")),
            false,
        ),
        ("max_tokens 1e400", without_bound("1e400"), false),
        ("max_tokens 2^32", without_bound("4294967296"), false),
        (
            "max_tokens 2^63",
            without_bound("9223372036854775808"),
            false,
        ),
        (
            "temperature 1e400",
            String::from(r#"{"prompt":"Hello","max_tokens":1,"temperature":1e400}"#),
            false,
        ),
        (
            "temperature of a thousand digits",
            format!(r#"{{"prompt":"Hello","max_tokens":1,"temperature":{digits}}}"#),
            false,
        ),
        (
            "max_tokens twice",
            String::from(r#"{"prompt":"Hello","max_tokens":1,"max_tokens":2}"#),
            false,
        ),
        (
            "prompt twice",
            String::from(r#"{"prompt":"Hello","max_tokens":1,"prompt":"Bye"}"#),
            false,
        ),
        (
            "a seed of 2^64",
            String::from(r#"{"prompt":"Hello","max_tokens":1,"seed":18446744073709551616}"#),
            true,
        ),
        (
            "a lone surrogate",
            String::from(r#"{"prompt":"Hel\ud800lo","max_tokens":1}"#),
            false,
        ),
        (
            "surrogates in the wrong order",
            String::from(r#"{"prompt":"\udc00\ud800","max_tokens":1}"#),
            false,
        ),
        (
            "an escaped NUL",
            String::from(r#"{"prompt":"Hel\u0000lo","max_tokens":1}"#),
            true,
        ),
        (
            "a prompt of spaces",
            String::from(r#"{"prompt":"   ","max_tokens":1}"#),
            true,
        ),
        (
            "an empty stop string",
            String::from(r#"{"prompt":"Hello","max_tokens":1,"stop":""}"#),
            true,
        ),
        (
            "an array for an object",
            String::from(r#"[{"prompt":"Hello"}]"#),
            false,
        ),
        ("a string for an object", String::from(r#""Hello""#), false),
        ("a number for an object", String::from("5"), false),
        ("null for an object", String::from("null"), false),
        ("a thousand unknown fields", many_fields(), false),
    ]
}

/// A number of tokens that bounds nothing; where it is taken, nearly any text ends by one of these.
fn without_bound(max_tokens: &str) -> String {
    format!(r#"{{"prompt":"Hello","max_tokens":{max_tokens},"stop":["e","a"," ","\n"]}}"#)
}

/// Bodies whose length is missing or wrong, and chunks that aren't: whoever is lied to may hang up,
/// or answer whatever says that the client is to blame.
pub fn framing(post: &Post) -> Vec<(&'static str, Vec<u8>)> {
    let json = Some("application/json");
    vec![
        ("no Content-Length", post.framed(json, "", GOOD)),
        (
            "a Content-Length that is no number",
            post.framed(json, "Content-Length: many\r\n", GOOD),
        ),
        (
            "a negative Content-Length",
            post.framed(json, "Content-Length: -5\r\n", GOOD),
        ),
        (
            "a Content-Length beyond every number",
            post.framed(json, "Content-Length: 99999999999999999999999\r\n", GOOD),
        ),
        (
            "two Content-Lengths",
            post.framed(json, "Content-Length: 5\r\nContent-Length: 49\r\n", GOOD),
        ),
        (
            "a Content-Length that is too short",
            post.framed(json, "Content-Length: 20\r\n", GOOD),
        ),
        (
            "a chunk size that is no number",
            post.framed(
                json,
                "Transfer-Encoding: chunked\r\n",
                b"zz\r\n{}\r\n0\r\n\r\n",
            ),
        ),
        (
            "a chunk longer than its size",
            post.framed(
                json,
                "Transfer-Encoding: chunked\r\n",
                b"2\r\n{\"prompt\":\"x\"}\r\n0\r\n\r\n",
            ),
        ),
        (
            "a chunk beyond every number",
            post.framed(
                json,
                "Transfer-Encoding: chunked\r\n",
                b"ffffffffffffffffff\r\n{}\r\n0\r\n\r\n",
            ),
        ),
        ("no HTTP", b"hello worker\r\n\r\n".to_vec()),
        (
            "binary noise",
            vec![
                0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03, 13, 10, 13, 10,
            ],
        ),
    ]
}

/// A good request of which only half the body ever comes.
pub fn half_a_request(post: &Post) -> Vec<u8> {
    let whole = post.body(GOOD);
    whole[..whole.len() - GOOD.len() / 2].to_vec()
}

fn many_fields() -> String {
    let fields: Vec<String> = (0..1000)
        .map(|number| format!(r#""x{number}":{number}"#))
        .collect();
    format!(
        r#"{{"prompt":"Hello","max_tokens":1,{}}}"#,
        fields.join(",")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_body_leaves_the_length_of_its_answer_to_the_server() {
        for (name, body, _) in absurd() {
            let is_a_prompt = body.starts_with(r#"{"prompt":"Hello""#);
            assert!(!is_a_prompt || body.contains("max_tokens"), "{name}");
        }
    }
}
