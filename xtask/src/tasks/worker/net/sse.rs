//! Server-sent events: bytes in, events out. Pure.
//!
//! Follows the WHATWG HTML standard, section 9.2.6, as far as the contract uses it: `event` and
//! `data` fields, comments, and line ends of `\n`, `\r\n` or `\r`.

/// One event of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SseEvent {
    /// The event's type; `message` where the stream named none.
    pub event: String,
    /// Its data lines, joined by line feeds. Broken UTF-8 stays broken: it is for the caller to see.
    pub data: Vec<u8>,
}

/// Collects bytes into events.
#[derive(Debug, Default)]
pub struct SseParser {
    line: Vec<u8>,
    after_carriage_return: bool,
    event: Option<String>,
    data: Option<Vec<u8>>,
}

impl SseParser {
    /// Takes more bytes and hands each event that they complete to `sink`.
    pub fn push(&mut self, bytes: &[u8], sink: &mut impl FnMut(SseEvent)) {
        for &byte in bytes {
            match byte {
                b'\n' if self.after_carriage_return => self.after_carriage_return = false,
                b'\n' | b'\r' => {
                    self.after_carriage_return = byte == b'\r';
                    self.end_line(sink);
                }
                _ => {
                    self.after_carriage_return = false;
                    self.line.push(byte);
                }
            }
        }
    }

    /// Whether bytes came that belong to no whole event: the stream was cut.
    pub fn has_remainder(&self) -> bool {
        !self.line.is_empty() || self.event.is_some() || self.data.is_some()
    }

    fn end_line(&mut self, sink: &mut impl FnMut(SseEvent)) {
        if self.line.is_empty() {
            let event = self.event.take();
            if let Some(data) = self.data.take() {
                let event = event.unwrap_or_else(|| String::from("message"));
                sink(SseEvent { event, data });
            }
            return;
        }
        let colon = self.line.iter().position(|&byte| byte == b':');
        let (name, value) = match colon {
            Some(at) => (&self.line[..at], &self.line[at + 1..]),
            None => (&self.line[..], &[][..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match name {
            b"event" => self.event = Some(String::from_utf8_lossy(value).into_owned()),
            b"data" => match &mut self.data {
                Some(data) => {
                    data.push(b'\n');
                    data.extend_from_slice(value);
                }
                none => *none = Some(value.to_vec()),
            },
            _ => {}
        }
        self.line.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pieces: &[&[u8]]) -> (Vec<(String, String)>, bool) {
        let mut parser = SseParser::default();
        let mut events = Vec::new();
        for piece in pieces {
            parser.push(piece, &mut |event| {
                let data = String::from_utf8_lossy(&event.data).into_owned();
                events.push((event.event, data));
            });
        }
        (events, parser.has_remainder())
    }

    fn event(name: &str, data: &str) -> (String, String) {
        (name.to_owned(), data.to_owned())
    }

    #[test]
    fn any_cut_of_the_bytes_gives_the_same_events() {
        let bytes = b"event: token\r\ndata: {\"a\":1}\r\n\r\n: comment\n\ndata:x\ndata: y\r\revent:end\ndata\n\n";
        let expected = vec![
            event("token", "{\"a\":1}"),
            event("message", "x\ny"),
            event("end", ""),
        ];
        for cut in 0..=bytes.len() {
            let (events, remainder) = parse(&[&bytes[..cut], &bytes[cut..]]);
            assert_eq!(events, expected, "cut at {cut}");
            assert!(!remainder, "cut at {cut}");
        }
    }

    #[test]
    fn a_cut_stream_has_a_remainder() {
        assert_eq!(parse(&[b"event: end\ndata: {}"]), (vec![], true));
        assert_eq!(parse(&[b"event: end\ndata: {}\n"]), (vec![], true));
        assert!(!parse(&[b"event: end\ndata: {}\n\n"]).1);
    }
}
