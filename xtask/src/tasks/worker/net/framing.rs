//! HTTP's framing: where an answer begins and ends among bytes that come as they come. Pure.

/// The longest head, interim answers before it included, and the longest line of a chunk's size.
const HEAD_BYTES: usize = 256 << 10;

/// Status and headers of an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Head {
    /// The HTTP status.
    pub status: u16,
    /// Names in lower case, in the order of their arrival.
    pub headers: Vec<(String, String)>,
}

/// Takes one answer apart, in whatever pieces its bytes come. Interim answers are passed over.
#[derive(Debug, Default)]
pub struct AnswerParser {
    state: FramingState,
    /// The head that is under way, or a line between chunks.
    line: Vec<u8>,
    /// Bytes of interim answers before the head.
    interim: usize,
    head: Option<Head>,
    /// Whether the connection may be used for another request.
    keeps_open: bool,
    /// Whether the answer ends with its head, whatever that says of a body.
    is_bodiless: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum FramingState {
    #[default]
    Head,
    Counted(usize),
    UntilEnd,
    ChunkSize,
    Chunk(usize),
    /// The line end after a chunk.
    AfterChunk,
    Trailers,
    Whole,
    /// Not an answer of HTTP.
    Broken,
}

impl AnswerParser {
    /// For the answer to a HEAD request, which has no body (RFC 9110, 9.3.2).
    pub fn without_body() -> Self {
        Self {
            is_bodiless: true,
            ..Self::default()
        }
    }

    /// Takes more bytes and hands those of the body to `body`; gives how many belong to the answer.
    pub fn push(&mut self, bytes: &[u8], mut body: impl FnMut(&[u8])) -> usize {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            at += match self.state {
                FramingState::Head => self.take_head(rest),
                FramingState::Counted(left) => {
                    let count = left.min(rest.len());
                    body(&rest[..count]);
                    self.state = match left - count {
                        0 => FramingState::Whole,
                        left => FramingState::Counted(left),
                    };
                    count
                }
                FramingState::UntilEnd => {
                    body(rest);
                    rest.len()
                }
                FramingState::Chunk(left) => {
                    let count = left.min(rest.len());
                    body(&rest[..count]);
                    self.state = match left - count {
                        0 => FramingState::AfterChunk,
                        left => FramingState::Chunk(left),
                    };
                    count
                }
                FramingState::ChunkSize | FramingState::AfterChunk | FramingState::Trailers => {
                    self.take_line(rest)
                }
                FramingState::Whole | FramingState::Broken => return at,
            };
        }
        at
    }

    /// Says that no more bytes come: an answer without a length ends here.
    pub fn end(&mut self) {
        if self.state == FramingState::UntilEnd {
            self.state = FramingState::Whole;
        }
    }

    /// Status and headers, once they are there.
    pub fn head(&self) -> Option<&Head> {
        self.head.as_ref()
    }

    /// Whether the answer has ended.
    pub fn is_whole(&self) -> bool {
        self.state == FramingState::Whole
    }

    /// Whether it is no answer of HTTP, or one with a head that is too long.
    pub fn is_broken(&self) -> bool {
        self.state == FramingState::Broken
    }

    /// Whether the connection may be used for another request after this answer.
    pub fn keeps_open(&self) -> bool {
        self.keeps_open
    }

    fn take_head(&mut self, bytes: &[u8]) -> usize {
        let Some(count) = self.take_until(bytes, b"\r\n\r\n") else {
            return bytes.len();
        };
        let text = String::from_utf8_lossy(&self.line).into_owned();
        self.interim += self.line.len();
        self.line.clear();
        self.state = match parse_head(&text) {
            None => FramingState::Broken,
            Some(head) if (100..200).contains(&head.status) => FramingState::Head,
            Some(head) => {
                let state = match self.is_bodiless {
                    true => FramingState::Whole,
                    false => framing(&head),
                };
                self.keeps_open = keeps_open(&text, &head);
                self.head = Some(head);
                self.interim = 0;
                state
            }
        };
        count
    }

    fn take_line(&mut self, bytes: &[u8]) -> usize {
        let Some(count) = self.take_until(bytes, b"\r\n") else {
            return bytes.len();
        };
        let line = self.line.strip_suffix(b"\r\n").unwrap_or(&self.line);
        self.state = match (self.state, line) {
            (FramingState::ChunkSize, line) => match chunk_size(line) {
                None => FramingState::Broken,
                Some(0) => FramingState::Trailers,
                Some(size) => FramingState::Chunk(size),
            },
            (FramingState::AfterChunk, []) => FramingState::ChunkSize,
            (FramingState::AfterChunk, _) => FramingState::Broken,
            (_, []) => FramingState::Whole,
            (_, _) => FramingState::Trailers,
        };
        self.line.clear();
        count
    }

    /// Adds bytes to the line up to and with its end, and gives how many; `None` where the end
    /// isn't there yet.
    fn take_until(&mut self, bytes: &[u8], end: &[u8]) -> Option<usize> {
        let before = self.line.len();
        let room = HEAD_BYTES.saturating_sub(before + self.interim);
        self.line.extend_from_slice(&bytes[..bytes.len().min(room)]);
        // The end may have begun in what was there before.
        let from = before.saturating_sub(end.len() - 1);
        let found = find(&self.line[from..], end);
        let Some(length) = found.map(|at| from + at + end.len()) else {
            if bytes.len() > room {
                self.state = FramingState::Broken;
            }
            return None;
        };
        self.line.truncate(length);
        Some(length - before)
    }
}

impl Head {
    /// The first header of that name (in lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(n, _)| n == name);
        found.map(|(_, value)| value.as_str())
    }
}

fn parse_head(text: &str) -> Option<Head> {
    let mut lines = text.split("\r\n");
    let first = lines.next()?;
    let version = first.strip_prefix("HTTP/1.")?;
    let status = version.split(' ').nth(1)?.parse().ok()?;
    let headers = lines.filter_map(|line| line.split_once(':'));
    let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()));
    Some(Head {
        status,
        headers: headers.collect(),
    })
}

/// Whether the connection may be used for another request after this answer (RFC 9112, 9.3).
fn keeps_open(text: &str, head: &Head) -> bool {
    let says = |option: &str| {
        let options = head.header("connection").unwrap_or_default().split(',');
        let mut options = options.map(str::trim);
        options.any(|word| word.eq_ignore_ascii_case(option))
    };
    let is_old = text.starts_with("HTTP/1.0");
    framing(head) != FramingState::UntilEnd && !says("close") && (!is_old || says("keep-alive"))
}

/// What tells where the body ends.
fn framing(head: &Head) -> FramingState {
    let length = head.header("content-length").map(str::parse);
    match (head.header("transfer-encoding"), length) {
        (Some(coding), _) if coding.eq_ignore_ascii_case("chunked") => FramingState::ChunkSize,
        (_, Some(Ok(0))) => FramingState::Whole,
        (_, Some(Ok(length))) => FramingState::Counted(length),
        _ => FramingState::UntilEnd,
    }
}

fn chunk_size(line: &[u8]) -> Option<usize> {
    let line = std::str::from_utf8(line).ok()?;
    usize::from_str_radix(line.split(';').next()?.trim(), 16).ok()
}

/// Where these bytes first stand.
pub fn find(bytes: &[u8], pattern: &[u8]) -> Option<usize> {
    bytes
        .windows(pattern.len())
        .position(|window| window == pattern)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Status, body and length of the answer in these pieces.
    fn parse(pieces: &[&[u8]], at_end: bool) -> (AnswerParser, String, usize) {
        let mut parser = AnswerParser::default();
        let (mut body, mut length) = (Vec::new(), 0);
        for piece in pieces {
            length += parser.push(piece, |bytes| body.extend_from_slice(bytes));
        }
        if at_end {
            parser.end();
        }
        (parser, String::from_utf8(body).unwrap(), length)
    }

    #[test]
    fn a_head_says_whether_another_request_may_follow() {
        for (head, keeps_open) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 2", true),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked", true),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: x, Close",
                false,
            ),
            ("HTTP/1.1 200 OK", false),
            ("HTTP/1.0 200 OK\r\nContent-Length: 2", false),
            (
                "HTTP/1.0 200 OK\r\nContent-Length: 2\r\nConnection: Keep-Alive",
                true,
            ),
        ] {
            let (parser, _, _) = parse(&[head.as_bytes(), b"\r\n\r\n"], false);
            assert_eq!(parser.keeps_open(), keeps_open, "{head}");
        }
    }

    #[test]
    fn an_answer_is_whole_at_its_last_byte_and_not_before() {
        let counted: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
        let chunked: &[u8] =
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;x=y\r\nh\r\n1\r\ni\r\n0\r\n\r\n";
        let trailed: &[u8] =
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\na: b\r\n\r\n";
        let continued: &[u8] =
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
        for whole in [counted, chunked, trailed, continued] {
            for cut in 0..whole.len() {
                assert!(!parse(&[&whole[..cut]], true).0.is_whole(), "cut at {cut}");
                let (parser, body, length) =
                    parse(&[&whole[..cut], &whole[cut..], b"HTTP/1.1 ..."], false);
                assert!(parser.is_whole(), "cut at {cut}");
                assert_eq!((body.as_str(), length), ("hi", whole.len()), "cut at {cut}");
            }
        }
    }

    #[test]
    fn an_answer_without_a_length_ends_with_the_connection() {
        let bytes = b"HTTP/1.1 200 OK\r\n\r\nhi";
        assert!(!parse(&[bytes], false).0.is_whole());
        let (parser, body, length) = parse(&[bytes], true);
        assert!(parser.is_whole());
        assert_eq!((body.as_str(), length), ("hi", bytes.len()));
    }

    #[test]
    fn a_body_that_is_under_way_is_read_as_far_as_it_is_there() {
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhell\r\n9\r\no";
        let (parser, body, _) = parse(&[chunked], true);
        assert_eq!(parser.head().unwrap().status, 200);
        assert_eq!(body, "hello");
        assert!(!parser.is_whole() && !parser.is_broken());
        assert!(parse(&[&chunked[..20]], false).0.head().is_none());
    }

    #[test]
    fn nonsense_is_no_answer() {
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        for bytes in [
            String::from("hello\r\n\r\n"),
            String::from("HTTP/1.1 OK\r\n\r\n"),
            format!("{chunked}fffffffffffffffff\r\nx"),
            format!("{chunked}zz\r\nx\r\n"),
            format!("{chunked}1\r\nxyz\r\n"),
        ] {
            assert!(parse(&[bytes.as_bytes()], true).0.is_broken(), "{bytes}");
        }
    }

    #[test]
    fn endless_heads_are_given_up() {
        for part in ["HTTP/1.1 100 Continue\r\n\r\n", "a: b\r\n"] {
            let mut parser = AnswerParser::default();
            parser.push(b"HTTP/1.1 100 Continue\r\n", |_| {});
            let mut pushed = 0;
            while !parser.is_broken() {
                parser.push(part.as_bytes(), |_| {});
                pushed += part.len();
                assert!(pushed < 2 * HEAD_BYTES, "{part}");
            }
        }
        let mut parser = AnswerParser::default();
        parser.push(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            |_| {},
        );
        parser.push(&vec![b'1'; 2 * HEAD_BYTES], |_| {});
        assert!(parser.is_broken());
    }
}
