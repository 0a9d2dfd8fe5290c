//! HTTP's framing: where an answer begins and ends among bytes that came as they came. Pure but for
//! the moment at which an answer is said to have come.

use std::ops::Range;
use std::time::Instant;

use super::client::Response;

/// The status of an answer that is under way, and as much of its body as is there.
pub fn so_far(bytes: &[u8]) -> Option<(u16, Vec<u8>)> {
    let (answer, head_length) = parse_head(bytes)?;
    let rest = &bytes[head_length..];
    let body = match framing(&answer) {
        Framing::Chunked => dechunk(rest).0,
        Framing::Counted(length) => rest[..rest.len().min(length)].to_vec(),
        Framing::UntilEnd => rest.to_vec(),
    };
    Some((answer.status, body))
}

/// Where the bytes of an answer's body lie among all that came.
#[derive(Debug)]
pub struct Pieces {
    /// Where the body begins.
    pub begin: usize,
    pieces: Vec<Range<usize>>,
}

/// The body of an answer, as far as it is there; `None` without a head.
pub fn pieces(bytes: &[u8]) -> Option<Pieces> {
    let (answer, begin) = parse_head(bytes)?;
    let mut pieces = Vec::new();
    match framing(&answer) {
        Framing::Chunked => {
            take_chunks(&bytes[begin..], &mut pieces);
            for piece in &mut pieces {
                *piece = piece.start + begin..piece.end + begin;
            }
        }
        Framing::Counted(length) => {
            pieces.push(begin..bytes.len().min(begin.saturating_add(length)))
        }
        Framing::UntilEnd => pieces.push(begin..bytes.len()),
    }
    Some(Pieces { begin, pieces })
}

impl Pieces {
    /// The body's bytes from one offset among all bytes up to another.
    pub fn between(&self, from: usize, to: usize) -> impl Iterator<Item = Range<usize>> {
        let first = self.pieces.partition_point(|piece| piece.end <= from);
        let rest = self.pieces[first..].iter();
        let inside = rest.take_while(move |piece| piece.start < to);
        inside.map(move |piece| piece.start.max(from)..piece.end.min(to))
    }
}

/// Whether an answer begins with status 200, as far as can be seen.
pub fn is_success(bytes: &[u8]) -> bool {
    let status = bytes.get(9..12);
    bytes.starts_with(b"HTTP/1.") && status.is_none_or(|status| status == b"200")
}

/// Whether a whole answer is there whose length its framing tells.
pub fn is_whole(bytes: &[u8]) -> bool {
    parse(bytes, false).is_some()
}

/// The first whole answer in these bytes, and how many of them it takes.
pub fn parse(bytes: &[u8], at_end: bool) -> Option<(Response, usize)> {
    let (mut answer, head_length) = parse_head(bytes)?;
    let rest = &bytes[head_length..];
    let length = match framing(&answer) {
        Framing::Chunked => {
            let (body, length) = dechunk(rest);
            answer.body = body;
            length?
        }
        Framing::Counted(length) => {
            answer.body = rest.get(..length)?.to_vec();
            length
        }
        Framing::UntilEnd if at_end => {
            answer.body = rest.to_vec();
            rest.len()
        }
        Framing::UntilEnd => return None,
    };
    Some((answer, head_length + length))
}

/// The first head that isn't one of an interim answer, without a body, and where its body begins.
fn parse_head(bytes: &[u8]) -> Option<(Response, usize)> {
    let head_length = find(bytes, b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&bytes[..head_length]);
    let mut lines = head.split("\r\n");
    let status: u16 = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    if (100..200).contains(&status) {
        let (answer, length) = parse_head(&bytes[head_length..])?;
        return Some((answer, head_length + length));
    }
    let headers = lines.filter_map(|line| line.split_once(':'));
    let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()));
    let now = Instant::now();
    let answer = Response {
        request: String::new(),
        status,
        headers: headers.collect(),
        body: Vec::new(),
        sent: now,
        received: now,
    };
    Some((answer, head_length))
}

/// What tells where a body ends.
enum Framing {
    Chunked,
    Counted(usize),
    UntilEnd,
}

fn framing(answer: &Response) -> Framing {
    let coding = answer.header("transfer-encoding");
    let length = answer.header("content-length").map(str::parse);
    match (coding, length) {
        (Some(coding), _) if coding.eq_ignore_ascii_case("chunked") => Framing::Chunked,
        (_, Some(Ok(length))) => Framing::Counted(length),
        _ => Framing::UntilEnd,
    }
}

/// The bytes of a body in chunks as far as they are there, and how many bytes it takes if it is whole.
fn dechunk(bytes: &[u8]) -> (Vec<u8>, Option<usize>) {
    let mut pieces = Vec::new();
    let length = take_chunks(bytes, &mut pieces);
    let body = pieces.into_iter().flat_map(|piece| bytes[piece].to_vec());
    (body.collect(), length)
}

/// Where a body's own bytes lie between what frames them; and its length if it is whole.
fn take_chunks(bytes: &[u8], pieces: &mut Vec<Range<usize>>) -> Option<usize> {
    let mut at = 0;
    loop {
        let line_length = find(&bytes[at..], b"\r\n")?;
        let line = std::str::from_utf8(&bytes[at..at + line_length]).ok()?;
        let size = usize::from_str_radix(line.split(';').next()?.trim(), 16).ok()?;
        at += line_length + 2;
        if size == 0 {
            // Trailers, if any, up to an empty line.
            let rest = &bytes[at..];
            let trailers = if rest.starts_with(b"\r\n") {
                2
            } else {
                find(rest, b"\r\n\r\n")? + 4
            };
            return Some(at + trailers);
        }
        let there = bytes.len() - at;
        pieces.push(at..at + size.min(there));
        // The chunk, and the line end after it.
        at = at.checked_add(size)?.checked_add(2)?;
        bytes.get(at - 1)?;
    }
}

fn find(bytes: &[u8], pattern: &[u8]) -> Option<usize> {
    bytes
        .windows(pattern.len())
        .position(|window| window == pattern)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(bytes: &[u8], at_end: bool) -> Option<(String, usize)> {
        let (answer, length) = parse(bytes, at_end)?;
        Some((String::from_utf8(answer.body).unwrap(), length))
    }

    #[test]
    fn an_answer_is_whole_at_its_last_byte_and_not_before() {
        let counted: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
        let chunked: &[u8] =
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;x=y\r\nh\r\n1\r\ni\r\n0\r\n\r\n";
        let continued: &[u8] =
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
        for whole in [counted, chunked, continued] {
            for cut in 0..whole.len() {
                assert_eq!(body(&whole[..cut], true), None, "cut at {cut}");
            }
            let followed = [whole, b"HTTP/1.1 ..."].concat();
            let expected = Some((String::from("hi"), whole.len()));
            assert_eq!(body(&followed, false), expected);
        }
    }

    #[test]
    fn an_answer_without_a_length_ends_with_the_connection() {
        let bytes = b"HTTP/1.1 200 OK\r\n\r\nhi";
        assert_eq!(body(bytes, false), None);
        assert_eq!(body(bytes, true), Some((String::from("hi"), bytes.len())));
    }

    #[test]
    fn a_body_that_is_under_way_is_read_as_far_as_it_is_there() {
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhell\r\n9\r\no";
        assert_eq!(so_far(chunked), Some((200, b"hello".to_vec())));
        assert_eq!(so_far(&chunked[..20]), None);
        let plain = b"HTTP/1.0 200 OK\r\n\r\nhel";
        assert_eq!(so_far(plain), Some((200, b"hel".to_vec())));
    }

    #[test]
    fn nonsense_is_no_answer() {
        for bytes in [
            &b"hello\r\n\r\n"[..],
            b"HTTP/1.1 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nx",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nx\r\n",
        ] {
            assert_eq!(body(bytes, true), None);
        }
    }
}
