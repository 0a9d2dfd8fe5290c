//! Tokens by number and by text, in a few large pieces of memory instead of many small ones: there
//! are hundreds of thousands of them, and a worker starts in a fraction of a second.

use super::super::gguf::Texts;

/// What each token stands for in a prompt, and which token a text is.
#[derive(Debug)]
pub struct Vocabulary {
    texts: Texts,
    /// A table of token numbers, plus 1; 0 is free. Never more than half full.
    table: Vec<u32>,
}

impl Vocabulary {
    /// An empty vocabulary with room for `count` tokens.
    pub fn with_capacity(count: usize) -> Self {
        Self {
            texts: Texts::default(),
            table: vec![0; (count * 2).next_power_of_two().max(2)],
        }
    }

    /// Adds the next token. Without a text it is never found. Of two equal texts the later token
    /// is the one that is found.
    pub fn push(&mut self, text: Option<&[u8]>) {
        let id = self.texts.len() as u32;
        self.texts.push(text.unwrap_or_default());
        if let Some(text) = text {
            let slot = self.slot(text);
            self.table[slot] = id + 1;
        }
    }

    /// The text of a token; empty for one that is never found.
    pub fn text(&self, token: u32) -> &[u8] {
        self.texts.get(token as usize)
    }

    /// The token of a text.
    pub fn find(&self, text: &[u8]) -> Option<u32> {
        self.table[self.slot(text)].checked_sub(1)
    }

    /// The place in the table that has this text, or is free for it.
    fn slot(&self, text: &[u8]) -> usize {
        let mask = self.table.len() - 1;
        let mut slot = hash(text) as usize & mask;
        loop {
            match self.table[slot] {
                0 => return slot,
                id if self.texts.get(id as usize - 1) == text => return slot,
                _ => slot = (slot + 1) & mask,
            }
        }
    }
}

/// FNV-1a, with its upper half folded into the lower one.
fn hash(text: &[u8]) -> u64 {
    let mixed = text.iter().fold(0xCBF2_9CE4_8422_2325_u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
    });
    mixed ^ (mixed >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_found_and_the_later_of_equals() {
        let mut vocabulary = Vocabulary::with_capacity(1000);
        for number in 0..998 {
            vocabulary.push(Some(number.to_string().as_bytes()));
        }
        vocabulary.push(None);
        vocabulary.push(Some(b"7"));
        assert_eq!(vocabulary.find(b"997"), Some(997));
        assert_eq!(vocabulary.find(b"7"), Some(999));
        assert_eq!(vocabulary.find(b""), None);
        assert_eq!(vocabulary.find(b"998"), None);
    }
}
