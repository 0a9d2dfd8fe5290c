//! What comes from a socket may be anything: whatever it is, the parsers end, don't panic, keep no more
//! than they were given, and see the same however the bytes were cut into reads.

use proptest::prelude::*;
use proptest::sample::Index;

use super::framing::AnswerParser;
use super::sse::{SseEvent, SseParser};

/// Answers of every framing, to corrupt.
const ANSWERS: [&[u8]; 5] = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nhello world!",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n2\r\n!!\r\n0\r\na: b\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 No\r\nContent-Length: 2\r\nRetry-After: 1\r\n\r\nhi",
    b"HTTP/1.0 200 OK\r\nConnection: close\r\n\r\nuntil the end",
    b"HTTP/1.1 204 None\r\nContent-Length: 0\r\n\r\n",
];

/// Events with every kind of line end, to corrupt.
const EVENTS: &[u8] =
    b"event: token\r\ndata: {\"a\":1}\r\n\r\n: comment\n\ndata:x\ndata: y\r\revent:end\n\
                        data\n\nid: 7\nretry: 1\ndata: \xf0\x9f\x90\x9d\n\n";

/// One change to bytes: where, and what it does there.
#[derive(Debug, Clone)]
enum Corruption {
    Set(Index, u8),
    Insert(Index, Vec<u8>),
    Cut(Index),
    Repeat(Index, u8),
}

fn changes() -> impl Strategy<Value = Vec<Corruption>> {
    let words = prop_oneof![
        Just(b"\r\n".to_vec()),
        Just(b"\r\n\r\n".to_vec()),
        Just(b"\n".to_vec()),
        Just(b"ffffffffffffffff\r\n".to_vec()),
        Just(b"-1".to_vec()),
        Just(b"99999999999999999999".to_vec()),
        Just(b"Content-Length: 3\r\n".to_vec()),
        Just(b"Transfer-Encoding: chunked\r\n".to_vec()),
        Just(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec()),
        prop::collection::vec(any::<u8>(), 0..20),
    ];
    let change = prop_oneof![
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Corruption::Set(at, byte)),
        (any::<Index>(), words).prop_map(|(at, bytes)| Corruption::Insert(at, bytes)),
        any::<Index>().prop_map(Corruption::Cut),
        (any::<Index>(), any::<u8>()).prop_map(|(at, times)| Corruption::Repeat(at, times)),
    ];
    prop::collection::vec(change, 0..6)
}

fn corrupted(bytes: &[u8], changes: &[Corruption]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for change in changes {
        let length = bytes.len() + 1;
        match change {
            Corruption::Set(at, byte) => {
                let at = at.index(length);
                bytes.splice(at..(at + 1).min(length - 1), [*byte]);
            }
            Corruption::Insert(at, more) => {
                drop(bytes.splice(at.index(length)..at.index(length), more.iter().copied()))
            }
            Corruption::Cut(at) => bytes.truncate(at.index(length)),
            Corruption::Repeat(at, times) => {
                let rest = bytes[at.index(length)..].to_vec();
                let times = usize::from(*times % 4);
                bytes.extend(rest.iter().copied().cycle().take(rest.len() * times));
            }
        }
    }
    bytes
}

/// The bytes in reads that end at these places.
fn reads<'b>(bytes: &'b [u8], cuts: &[Index]) -> Vec<&'b [u8]> {
    let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    at.extend([0, bytes.len()]);
    at.sort_unstable();
    at.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

/// What an answer was taken for: its body, how many bytes were its own, and how it ended.
fn taken(reads: &[&[u8]]) -> (Vec<u8>, usize, Option<u16>, bool, bool, bool) {
    let mut parser = AnswerParser::default();
    let (mut body, mut taken) = (Vec::new(), 0);
    for read in reads {
        taken += parser.push(read, |bytes| body.extend_from_slice(bytes));
        if parser.is_whole() || parser.is_broken() {
            break;
        }
    }
    parser.end();
    let status = parser.head().map(|head| head.status);
    let (whole, broken) = (parser.is_whole(), parser.is_broken());
    (body, taken, status, whole, broken, parser.keeps_open())
}

fn events(reads: &[&[u8]]) -> (Vec<SseEvent>, bool) {
    let mut parser = SseParser::default();
    let mut events = Vec::new();
    for read in reads {
        parser.push(read, &mut |event| events.push(event));
    }
    (events, parser.has_remainder())
}

proptest! {
    #[test]
    fn fuzzed_heads_and_chunks_are_the_same_in_any_reads(
        which in any::<Index>(),
        changes in changes(),
        cuts in prop::collection::vec(any::<Index>(), 0..8),
    ) {
        let bytes = corrupted(which.get::<&[u8]>(&ANSWERS), &changes);
        let whole = taken(&[&bytes]);
        prop_assert!(whole.0.len() <= bytes.len() && whole.1 <= bytes.len());
        prop_assert_eq!(&taken(&reads(&bytes, &cuts)), &whole);
    }

    #[test]
    fn fuzzed_events_are_the_same_in_any_reads(
        changes in changes(),
        cuts in prop::collection::vec(any::<Index>(), 0..8),
    ) {
        let bytes = corrupted(EVENTS, &changes);
        let whole = events(&[&bytes]);
        let kept: usize = whole.0.iter().map(|event| event.data.len()).sum();
        prop_assert!(kept <= bytes.len());
        prop_assert_eq!(&events(&reads(&bytes, &cuts)), &whole);
    }
}
