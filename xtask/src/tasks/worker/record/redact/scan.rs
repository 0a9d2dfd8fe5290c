//! Finds secrets and credentials in one pass, however many secrets there are. Pure.

use std::collections::HashMap;
use std::ops::Range;

/// Names of headers that carry credentials.
pub const HEADERS: &[&str] = &[
    "authorization",
    "proxy-authorization",
    "x-api-key",
    "api-key",
];

/// What announces a credential.
const ANNOUNCEMENTS: &[(&str, Kind)] = &[
    ("authorization", Kind::Header),
    ("api-key", Kind::Header),
    ("api_key", Kind::Header),
    ("bearer ", Kind::Scheme),
];

/// Words that stand before the secret in such a header: schemes of HTTP authentication.
const SCHEMES: &[&[u8]] = &[b"bearer ", b"basic ", b"token ", b"apikey "];

/// What a search goes by: the first bytes of what is searched for, in lower case.
const HEAD_BYTES: usize = 4;

/// How far before a header's name the beginning of its line, or of its word, is looked for.
const MARGIN_BYTES: usize = 8;

/// A stretch that has to be masked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Where what announces it begins: the stretch itself, or a word before it.
    pub announced: usize,
    /// Where it begins.
    pub start: usize,
    /// Where it ends.
    pub end: usize,
}

/// What is searched for.
#[derive(Debug, Clone)]
pub struct Scanner {
    patterns: Vec<Pattern>,
    /// Which patterns begin with these bytes, the longest first.
    by_head: HashMap<u32, Vec<usize>>,
    /// A bit for each hash of a head: most places of a text are settled by it.
    heads: [u64; 64],
}

#[derive(Debug, Clone)]
struct Pattern {
    bytes: Vec<u8>,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// It is itself what has to be masked, in this spelling.
    Secret,
    /// A header's name: its value has to be masked.
    Header,
    /// A scheme: the word behind it has to be masked.
    Scheme,
}

impl Scanner {
    /// Searches for these values, each at least [`HEAD_BYTES`] long, and for credentials by their look.
    pub fn new(secrets: &[Vec<u8>]) -> Self {
        let secrets = secrets.iter().map(|bytes| (bytes.clone(), Kind::Secret));
        let words = ANNOUNCEMENTS.iter();
        let words = words.map(|(word, kind)| (word.as_bytes().to_vec(), *kind));
        let mut patterns: Vec<Pattern> = secrets
            .chain(words)
            .map(|(bytes, kind)| Pattern { bytes, kind })
            .collect();
        patterns.sort_by_key(|pattern| std::cmp::Reverse(pattern.bytes.len()));
        let mut by_head: HashMap<u32, Vec<usize>> = HashMap::new();
        let mut heads = [0; 64];
        for (number, pattern) in patterns.iter().enumerate() {
            if let Some(head) = head(&pattern.bytes, 0) {
                by_head.entry(head).or_default().push(number);
                let (word, bit) = place(head);
                heads[word] |= 1 << bit;
            }
        }
        Self {
            patterns,
            by_head,
            heads,
        }
    }

    /// The length of the longest of them.
    pub fn longest(&self) -> usize {
        let lengths = self.patterns.iter().map(|pattern| pattern.bytes.len());
        lengths.max().unwrap_or_default()
    }

    /// Whether there is anything to mask.
    pub fn finds_any(&self, text: &[u8]) -> bool {
        let mut found = false;
        self.scan(text, |span| {
            found = span.start < span.end;
            found
        });
        found
    }

    /// What has to be masked, in order. The last may be empty: then it begins behind the text's end.
    pub fn spans(&self, text: &[u8]) -> Vec<Span> {
        let (mut spans, mut open): (Vec<Span>, Option<Span>) = (Vec::new(), None);
        self.scan(text, |span| {
            match spans.last_mut() {
                _ if span.start == span.end => open = open.or(Some(span)),
                Some(last) if span.start <= last.end => last.end = last.end.max(span.end),
                _ => spans.push(span),
            }
            false
        });
        spans.extend(open);
        spans
    }

    /// Hands over what it finds, until `is_enough`.
    fn scan(&self, text: &[u8], mut is_enough: impl FnMut(Span) -> bool) {
        // Where a credential begins inside of what is masked already nobody looks for its end, so that
        // no byte is looked at more than a few times; secrets are looked for, as they may overlap.
        let mut masked = 0;
        for at in 0..text.len() {
            let Some(span) = self.look_at(text, at, masked) else {
                continue;
            };
            if span.start < span.end {
                masked = masked.max(span.end);
            }
            if is_enough(span) {
                return;
            }
        }
    }

    fn look_at(&self, text: &[u8], at: usize, masked: usize) -> Option<Span> {
        if text[at] == b':' && at >= masked && text[at..].starts_with(b"://") {
            return user_info(text, at);
        }
        let head = head(text, at)?;
        let (word, bit) = place(head);
        if self.heads[word] >> bit & 1 == 0 {
            return None;
        }
        let candidates = self.by_head.get(&head)?;
        candidates.iter().find_map(|&number| {
            let Pattern { bytes, kind } = &self.patterns[number];
            let end = at + bytes.len();
            let found = text.get(at..end)?;
            let span = |found: Range<usize>| Span {
                announced: at,
                start: found.start,
                end: found.end,
            };
            match kind {
                Kind::Secret => (found == bytes).then(|| span(at..end)),
                _ if !found.eq_ignore_ascii_case(bytes) => None,
                Kind::Header => value(text, at..end, masked).map(span),
                Kind::Scheme => (end >= masked).then(|| span(token(text, end))),
            }
        })
    }
}

fn head(text: &[u8], at: usize) -> Option<u32> {
    let head = text.get(at..at + HEAD_BYTES)?.first_chunk()?;
    // Makes capital letters small ones; what else it changes is compared byte by byte later.
    Some(u32::from_le_bytes(*head) | 0x2020_2020)
}

/// The place of a head among the bits.
fn place(head: u32) -> (usize, u32) {
    let hash = head.wrapping_mul(0x9e37_79b1) >> 20;
    ((hash >> 6) as usize, hash & 63)
}

/// The word that begins here, behind spaces.
fn word_at(text: &[u8], at: usize) -> Range<usize> {
    let start = skip(text, at, |byte| byte == b' ');
    start..skip(text, start, |byte| !ends_word(byte))
}

/// What stands behind a scheme, however often that is said.
fn token(text: &[u8], at: usize) -> Range<usize> {
    let mut token = word_at(text, at);
    let mut word = token.clone();
    while text[word.clone()].eq_ignore_ascii_case(b"bearer") {
        word = word_at(text, word.end);
        token.end = word.end;
    }
    token
}

/// Whether a word ends before this byte.
pub fn ends_word(byte: u8) -> bool {
    byte.is_ascii_whitespace() || matches!(byte, b'"' | b'\'' | b',' | b';' | b'\\')
}

/// The value of a header whose name stands at `name`, without its scheme; none that begins before
/// `masked`.
fn value(text: &[u8], name: Range<usize>, masked: usize) -> Option<Range<usize>> {
    let mut start = name.end;
    let mut gap = Gap::default();
    while let Some(&byte) = text.get(start) {
        match byte {
            b' ' | b'\\' | b'[' | b'(' => {}
            b':' | b'=' | b',' => {
                gap.separates = true;
                gap.has_colon |= byte == b':';
            }
            b'"' | b'\'' => {
                gap.separates = true;
                gap.quote = Some(byte);
            }
            // As Python shows bytes.
            b'b' if matches!(text.get(start + 1), Some(b'"' | b'\'')) => {}
            _ => break,
        }
        start += 1;
    }
    let scheme = SCHEMES.iter().find(|scheme| {
        let word = text.get(start..start + scheme.len());
        word.is_some_and(|word| word.eq_ignore_ascii_case(scheme))
    });
    let is_announced = gap.separates || scheme.is_some() || is_option(text, name.start);
    if start == name.end || !is_announced {
        return None;
    }
    start += scheme.map_or(0, |scheme| scheme.len());
    if start < masked {
        return None;
    }
    let before = name.start.checked_sub(1).map(|at| text[at]);
    // A quote that the name closed says nothing of its value.
    let quote = match before {
        Some(quote @ (b'"' | b'\'')) if text.get(name.end) != Some(&quote) => Some(quote),
        _ => gap
            .quote
            .filter(|_| text.get(start.wrapping_sub(1)) != Some(&b':')),
    };
    let end = match quote {
        Some(quote) => skip(text, start, |byte| {
            byte != quote && byte != b'\\' && !is_line_end(byte)
        }),
        None if begins_line(text, name.start) => skip(text, start, |byte| !is_line_end(byte)),
        None => {
            let word = word_at(text, start);
            // A scheme that we don't know has its secret behind it.
            let is_scheme = gap.has_colon
                && scheme.is_none()
                && text[word.clone()].iter().all(u8::is_ascii_alphabetic)
                && text.get(word.end) == Some(&b' ');
            match is_scheme {
                true => skip(text, start, |byte| !is_line_end(byte)),
                false => token(text, start).end,
            }
        }
    };
    Some(start..end)
}

/// What stands between a header's name and its value.
#[derive(Debug, Default)]
struct Gap {
    separates: bool,
    has_colon: bool,
    quote: Option<u8>,
}

fn is_line_end(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n')
}

/// Whether the word around this place begins as an option does, as in `--admin-api-key KEY`.
fn is_option(text: &[u8], at: usize) -> bool {
    let before = &text[at.saturating_sub(MARGIN_BYTES)..at];
    let word = before.iter().rposition(|&byte| ends_word(byte));
    before[word.map_or(0, |end| end + 1)..].starts_with(b"--")
}

/// Whether nothing but a mark, as curl makes it, stands before this place in its line.
fn begins_line(text: &[u8], at: usize) -> bool {
    let before = &text[at.saturating_sub(MARGIN_BYTES)..at];
    let mark = before.iter().rev();
    let mut rest = mark.skip_while(|byte| matches!(byte, b' ' | b'\t' | b'>' | b'<'));
    rest.next()
        .map_or(at < MARGIN_BYTES, |&byte| is_line_end(byte))
}

/// The name and the password in a URL whose `://` stands at `at`.
fn user_info(text: &[u8], at: usize) -> Option<Span> {
    let start = at + 3;
    let ends = |byte: u8| byte.is_ascii_whitespace() || b"/?#\"'<>\\".contains(&byte);
    let authority = start..skip(text, start, |byte| !ends(byte));
    let sign = text[authority.clone()]
        .iter()
        .rposition(|&byte| byte == b'@');
    let end = match sign {
        Some(sign) => start + sign,
        // What follows the text may have one.
        None if authority.end == text.len() => return open_end(at, text.len()),
        None => return None,
    };
    (end > start).then_some(Span {
        announced: at,
        start,
        end,
    })
}

/// Something that may begin behind the end of the text.
fn open_end(announced: usize, end: usize) -> Option<Span> {
    Some(Span {
        announced,
        start: end,
        end,
    })
}

fn skip(text: &[u8], from: usize, is_skipped: impl Fn(u8) -> bool) -> usize {
    let rest = text.get(from..).unwrap_or_default();
    let length = rest.iter().position(|&byte| !is_skipped(byte));
    from + length.unwrap_or(rest.len())
}
