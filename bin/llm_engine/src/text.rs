//! Tokens' bytes to the text of token events: whole characters only, and never a stop string.
//!
//! Every sampled token becomes exactly one event, in order. A token whose text may still turn out
//! to begin a stop string is held back, and released once that is decided.

use std::collections::VecDeque;

/// The text of one generation as it grows.
#[derive(Debug, Default)]
pub struct TextStream {
    stops: Vec<StopString>,
    /// The start of a character whose rest the next token must bring.
    incomplete: Vec<u8>,
    /// Tokens not released yet, each with the end of its text in `held_text`.
    held: VecDeque<usize>,
    held_text: String,
    next_index: u32,
}

/// A released token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextEvent {
    /// Its number in the generation.
    pub index: u32,
    /// The text that it completes.
    pub text: String,
}

/// What a token led to.
#[derive(Debug, PartialEq, Eq)]
pub struct Step {
    /// Tokens that can be shown now.
    pub released: Vec<TextEvent>,
    /// Whether a stop string is complete, so that the generation is over.
    pub stopped: bool,
}

impl TextStream {
    /// An empty text that ends before any of `stops`.
    pub fn new(stops: &[String]) -> Self {
        let stops = stops
            .iter()
            .filter(|stop| !stop.is_empty())
            .map(|stop| StopString::new(stop))
            .collect();
        Self {
            stops,
            ..Self::default()
        }
    }

    /// Takes the bytes of the next token.
    pub fn push(&mut self, piece: &[u8]) -> Step {
        let text = self.decode(piece);
        let before = self.held_text.len();
        self.held_text.push_str(&text);
        self.held.push_back(self.held_text.len());
        if let Some(start) = self.find_stop(before) {
            self.held_text.truncate(start);
            return Step {
                released: self.finish(),
                stopped: true,
            };
        }
        let settled = self.held_text.len() - self.undecided_bytes();
        Step {
            released: self.release(settled),
            stopped: false,
        }
    }

    /// Releases whatever is held, because no more tokens come. Bytes that never became a whole
    /// character are dropped.
    pub fn finish(&mut self) -> Vec<TextEvent> {
        self.release(usize::MAX)
    }

    /// The text that these bytes complete. What can't be UTF-8 any more becomes U+FFFD.
    fn decode(&mut self, piece: &[u8]) -> String {
        self.incomplete.extend_from_slice(piece);
        let mut text = String::new();
        let mut rest = self.incomplete.as_slice();
        loop {
            match std::str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    rest = &[];
                    break;
                }
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(valid));
                    rest = after;
                    let Some(invalid) = error.error_len() else {
                        break;
                    };
                    text.push(char::REPLACEMENT_CHARACTER);
                    rest = &rest[invalid..];
                }
            }
        }
        self.incomplete = rest.to_vec();
        text
    }

    /// Looks at what follows the first `before` bytes. Where the stop string that is complete first
    /// begins; of several, the longest. So the cut doesn't depend on how the text falls into tokens.
    fn find_stop(&mut self, before: usize) -> Option<usize> {
        for (at, &byte) in self.held_text.as_bytes().iter().enumerate().skip(before) {
            let complete = |stop: &mut StopString| stop.advance(byte).then_some(stop.text.len());
            let longest = self.stops.iter_mut().filter_map(complete).max();
            if let Some(length) = longest {
                return Some(at + 1 - length);
            }
        }
        None
    }

    /// Length of the longest end of the text that begins a stop string.
    fn undecided_bytes(&self) -> usize {
        self.stops
            .iter()
            .map(|stop| stop.matched)
            .max()
            .unwrap_or(0)
    }

    /// Releases the tokens whose text ends within the first `settled` bytes; with `usize::MAX`, all
    /// of them, even those whose text was cut off.
    fn release(&mut self, settled: usize) -> Vec<TextEvent> {
        let mut released = Vec::new();
        let mut start = 0;
        while let Some(end) = self.held.pop_front_if(|end| *end <= settled) {
            let end = end.min(self.held_text.len());
            let text = self.held_text[start.min(end)..end].to_owned();
            released.push(TextEvent {
                index: self.next_index,
                text,
            });
            self.next_index += 1;
            start = end;
        }
        self.held_text.drain(..start);
        for end in &mut self.held {
            *end -= start;
        }
        released
    }
}

/// A stop string, and how much of it the text ends with. Each byte of the text is looked at once
/// and nothing is searched again, so a long stop string costs no more than a short one.
#[derive(Debug)]
struct StopString {
    text: Vec<u8>,
    /// The longest end of the text that is a beginning of the stop string has so many bytes.
    matched: usize,
    /// For each beginning that was matched so far: the longest shorter one that it ends with.
    shorter: Vec<u32>,
}

impl StopString {
    fn new(text: &str) -> Self {
        Self {
            text: text.as_bytes().to_vec(),
            matched: 0,
            shorter: vec![0],
        }
    }

    /// Takes the text's next byte, and says whether the stop string is complete.
    fn advance(&mut self, byte: u8) -> bool {
        if self.matched == self.text.len() {
            self.matched = self.shorter[self.matched] as usize;
        }
        self.matched = self.extend(self.matched, byte);
        if self.matched == self.shorter.len() {
            // The first time that so much is matched. What was matched before is known already.
            let next = match self.matched {
                1 => 0,
                length => self.extend(self.shorter[length - 1] as usize, byte),
            };
            self.shorter.push(next as u32);
        }
        self.matched == self.text.len()
    }

    /// The longest beginning that ends with `byte` and continues the one of this length, or one
    /// that that one ends with.
    fn extend(&self, mut length: usize, byte: u8) -> usize {
        while self.text[length] != byte {
            if length == 0 {
                return 0;
            }
            length = self.shorter[length] as usize;
        }
        length + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// All events of a generation, and whether a stop string ended it.
    fn run(stops: &[&str], pieces: &[&[u8]]) -> (Vec<TextEvent>, bool) {
        let stops: Vec<_> = stops.iter().map(|&stop| stop.to_owned()).collect();
        let mut stream = TextStream::new(&stops);
        let mut events = Vec::new();
        for piece in pieces {
            let step = stream.push(piece);
            events.extend(step.released);
            if step.stopped {
                return (events, true);
            }
        }
        events.extend(stream.finish());
        (events, false)
    }

    fn texts(events: &[TextEvent]) -> Vec<&str> {
        events.iter().map(|event| event.text.as_str()).collect()
    }

    #[test]
    fn a_character_in_two_tokens_comes_with_the_second() {
        let (events, _) = run(&[], &[b"a\xE2\x82", b"\xAC", b"b"]);
        assert_eq!(texts(&events), ["a", "€", "b"]);
        let mut stream = TextStream::new(&[]);
        assert_eq!(
            stream.push(b"\xF0\x9F").released.len(),
            1,
            "an event for every token at once"
        );
    }

    #[test]
    fn bytes_that_never_become_a_character_are_replaced_or_dropped_at_the_end() {
        let (events, _) = run(&[], &[b"a\xE2", b"b", b"\xFF", b"c\xE2"]);
        assert_eq!(texts(&events), ["a", "\u{FFFD}b", "\u{FFFD}", "c"]);
    }

    #[test]
    fn a_stop_string_across_tokens_is_cut_and_every_token_has_its_event() {
        let (events, stopped) = run(&["STOP"], &[b"one S", b"T", b"OP two", b"three"]);
        assert!(stopped);
        assert_eq!(texts(&events), ["one ", "", ""]);
        let indices: Vec<_> = events.iter().map(|event| event.index).collect();
        assert_eq!(indices, [0, 1, 2]);
    }

    #[test]
    fn what_turns_out_to_be_no_stop_string_is_released_in_order() {
        let mut stream = TextStream::new(&["STOP".to_owned()]);
        assert_eq!(stream.push(b"S").released, []);
        assert_eq!(stream.push(b"T").released, []);
        let released = stream.push(b"ART").released;
        assert_eq!(texts(&released), ["S", "T", "ART"]);
    }

    #[test]
    fn what_is_held_comes_out_at_the_end() {
        let (events, stopped) = run(&["STOP"], &[b"a", b"STO"]);
        assert!(!stopped);
        assert_eq!(texts(&events), ["a", "STO"]);
    }

    #[test]
    fn a_stop_string_that_overlaps_its_own_beginning_is_found() {
        let (events, stopped) = run(&["aab"], &[b"a", b"a", b"a", b"b"]);
        assert!(stopped);
        assert_eq!(texts(&events).concat(), "a");
    }

    #[test]
    fn long_stop_strings_cost_no_more_than_short_ones() {
        // Every beginning of one of them is an end of the text, over and over.
        let stops: Vec<_> = (0..16).map(|at| "a".repeat(65_000 + at) + "b").collect();
        let mut stream = TextStream::new(&stops);
        let begun = std::time::Instant::now();
        let mut released = 0;
        let mut count = |step: &Step| {
            released += step
                .released
                .iter()
                .map(|event| event.text.len())
                .sum::<usize>();
        };
        for _ in 0..20_000 {
            let step = stream.push(b"aaaa");
            assert!(!step.stopped);
            count(&step);
        }
        let last = stream.push(b"b");
        assert!(last.stopped);
        count(&last);
        assert_eq!(released, 80_000 - 65_015);
        let spent = begun.elapsed();
        assert!(spent.as_secs() < 10, "{spent:?}");
    }

    /// What the text must be, found the slow way: character by character over the whole.
    fn reference(stops: &[String], bytes: &[u8]) -> (String, bool) {
        let mut whole = String::from_utf8_lossy(bytes).into_owned();
        if let Err(error) = std::str::from_utf8(bytes) {
            // Only a beginning of a character at the very end is dropped instead of replaced.
            let mut rest = &bytes[error.valid_up_to()..];
            while let Err(error) = std::str::from_utf8(rest) {
                match error.error_len() {
                    Some(length) => rest = &rest[error.valid_up_to() + length..],
                    None => {
                        whole.truncate(whole.len() - char::REPLACEMENT_CHARACTER.len_utf8());
                        break;
                    }
                }
            }
        }
        let mut seen = String::new();
        for character in whole.chars() {
            seen.push(character);
            let ending = stops.iter().filter(|stop| seen.ends_with(stop.as_str()));
            if let Some(longest) = ending.map(String::len).max() {
                seen.truncate(seen.len() - longest);
                return (seen, true);
            }
        }
        (seen, false)
    }

    proptest! {
        #[test]
        fn the_text_is_the_same_however_it_falls_into_tokens(
            bytes in prop::collection::vec(
                prop_oneof![Just(b'a'), Just(b'b'), Just(b' '), Just(0xC3), Just(0xA9), Just(0xE2),
                    Just(0x82), Just(0xAC), Just(0xFF)],
                0..60,
            ),
            cuts in prop::collection::vec(0..60_usize, 0..20),
            stops in prop::collection::vec("[ab é€]{1,4}", 0..4),
        ) {
            let mut cuts: Vec<_> = cuts.into_iter().filter(|&cut| cut <= bytes.len()).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<_> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
            let stop_texts: Vec<_> = stops.iter().map(String::as_str).collect();

            let (events, stopped) = run(&stop_texts, &pieces);

            let (expected, expected_stop) = reference(&stops, &bytes);
            prop_assert_eq!(texts(&events).concat(), expected);
            prop_assert_eq!(stopped, expected_stop);
            for (event, index) in events.iter().zip(0..) {
                prop_assert_eq!(event.index, index);
            }
            if !stopped {
                prop_assert_eq!(events.len(), pieces.len());
            }
        }
    }
}
