//! Who holds which page of the cache, and what is kept for prompts that begin alike. Only numbers:
//! the memory itself is the model's.
//!
//! A full page is known by its tokens and by the page before it. When nobody holds it any more, it
//! is kept for as long as no other use is found for it; those that were used longest ago go first.

use std::collections::{BTreeMap, HashMap};

/// Stands before the first page of every sequence.
const ROOT: u64 = 0;

/// A known page: the serial number of the known page before it, and its tokens.
type Key = (u64, Box<[u32]>);

/// All pages.
#[derive(Debug)]
pub struct Pages {
    page_tokens: usize,
    shares: bool,
    /// How many sequences hold each page.
    holders: Vec<u32>,
    /// Pages without a holder and without known contents; the last is taken first.
    free: Vec<u32>,
    known: HashMap<Key, u32>,
    /// Serial number and key of each known page. No serial number comes twice, so that what
    /// follows a page that is gone is never found again.
    keys: Vec<Option<(u64, Key)>>,
    /// Known pages without a holder, by the time when they lost it.
    idle: BTreeMap<u64, u32>,
    idle_since: Vec<u64>,
    next_serial: u64,
    now: u64,
}

/// The pages of one sequence, in order.
#[derive(Debug)]
pub struct Table {
    /// Their numbers.
    pub pages: Vec<u32>,
    /// How many of them, from the first on, are known.
    known: usize,
    /// The serial number of the last known page.
    serial: u64,
}

impl Pages {
    /// `count` pages of `page_tokens` tokens. With `shares`, sequences may hold the same page.
    pub fn new(count: usize, page_tokens: usize, shares: bool) -> Self {
        Self {
            page_tokens,
            shares,
            holders: vec![0; count],
            free: (0..count as u32).rev().collect(),
            known: HashMap::new(),
            keys: (0..count).map(|_| None).collect(),
            idle: BTreeMap::new(),
            idle_since: vec![0; count],
            next_serial: ROOT + 1,
            now: 0,
        }
    }

    /// How many pages there are.
    pub fn count(&self) -> usize {
        self.holders.len()
    }

    /// How many pages nobody holds, known ones included.
    pub fn available(&self) -> usize {
        self.free.len() + self.idle.len()
    }

    /// How many known pages nobody holds.
    pub fn kept(&self) -> usize {
        self.idle.len()
    }

    /// How many pages so many tokens take.
    pub fn needed(&self, tokens: usize) -> usize {
        tokens.div_ceil(self.page_tokens)
    }

    /// Pages for a sequence that may grow to `tokens` tokens, with as much of its prompt as is
    /// known. `None` if there are not enough.
    pub fn admit(&mut self, prompt: &[u32], tokens: usize) -> Option<Table> {
        let mut table = Table {
            pages: Vec::new(),
            known: 0,
            serial: ROOT,
        };
        while let Some(page) = self.known_next(&table, prompt) {
            self.hold(page);
            table.pages.push(page);
            self.follow(&mut table, page);
        }
        let missing = self.needed(tokens).saturating_sub(table.pages.len());
        if missing > self.available() {
            self.release(table);
            return None;
        }
        for _ in 0..missing {
            let page = self.take();
            table.pages.push(page);
        }
        Some(table)
    }

    /// How many tokens at the beginning of the sequence are known.
    pub fn known_tokens(&self, table: &Table) -> usize {
        table.known * self.page_tokens
    }

    /// What tells the next page of the sequence from others; `None` if it can't be shared: the last
    /// token of a prompt is always computed.
    pub fn next_key<'a>(&self, table: &Table, prompt: &'a [u32]) -> Option<(u64, &'a [u32])> {
        let start = table.known * self.page_tokens;
        let end = start + self.page_tokens;
        (self.shares && end < prompt.len()).then(|| (table.serial, &prompt[start..end]))
    }

    fn known_next(&self, table: &Table, prompt: &[u32]) -> Option<u32> {
        let (serial, tokens) = self.next_key(table, prompt)?;
        self.known.get(&(serial, tokens.into())).copied()
    }

    /// If somebody else has computed the sequence's next page meanwhile, takes that one in its
    /// place.
    pub fn adopt(&mut self, table: &mut Table, prompt: &[u32]) -> bool {
        let Some(page) = self.known_next(table, prompt) else {
            return false;
        };
        self.hold(page);
        let own = std::mem::replace(&mut table.pages[table.known], page);
        self.let_go(own);
        self.follow(table, page);
        true
    }

    /// Notes that pages of the sequence, whose tokens these are, were computed.
    pub fn remember(&mut self, table: &mut Table, computed: &[u32]) {
        if !self.shares {
            return;
        }
        while (table.known + 1) * self.page_tokens <= computed.len() {
            let start = table.known * self.page_tokens;
            let tokens = &computed[start..start + self.page_tokens];
            let key: Key = (table.serial, tokens.into());
            let page = match self.known.get(&key) {
                // Two computed the same; this one's own page stays unknown.
                Some(&page) => page,
                None => {
                    let page = table.pages[table.known];
                    self.keys[page as usize] = Some((self.next_serial, key.clone()));
                    self.next_serial += 1;
                    self.known.insert(key, page);
                    page
                }
            };
            self.follow(table, page);
        }
    }

    /// Takes the pages back.
    pub fn release(&mut self, table: Table) {
        // What stands behind other pages is of no use without them: it goes first.
        for page in table.pages.into_iter().rev() {
            self.let_go(page);
        }
    }

    fn follow(&self, table: &mut Table, page: u32) {
        let key = self.keys[page as usize].as_ref();
        table.serial = key.expect("only known pages are followed").0;
        table.known += 1;
    }

    fn hold(&mut self, page: u32) {
        let page = page as usize;
        if self.holders[page] == 0 {
            self.idle.remove(&self.idle_since[page]);
        }
        self.holders[page] += 1;
    }

    fn let_go(&mut self, page: u32) {
        let at = page as usize;
        self.holders[at] -= 1;
        if self.holders[at] > 0 {
            return;
        }
        match self.keys[at] {
            Some(_) => {
                self.now += 1;
                self.idle_since[at] = self.now;
                self.idle.insert(self.now, page);
            }
            None => self.free.push(page),
        }
    }

    /// A page for new contents. There must be one.
    fn take(&mut self) -> u32 {
        let page = self.free.pop().unwrap_or_else(|| {
            let (_, page) = self.idle.pop_first().expect("there is a page");
            if let Some((_, key)) = self.keys[page as usize].take() {
                self.known.remove(&key);
            }
            page
        });
        self.holders[page as usize] = 1;
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tokens(text: &str) -> Vec<u32> {
        text.bytes().map(u32::from).collect()
    }

    #[test]
    fn a_beginning_that_was_computed_is_found_again() {
        let mut pages = Pages::new(8, 4, true);
        let prompt = tokens("abcdefghij");
        let mut first = pages.admit(&prompt, 16).unwrap();
        assert_eq!((first.pages.len(), pages.known_tokens(&first)), (4, 0));
        pages.remember(&mut first, &prompt[..9]);
        let second = pages.admit(&tokens("abcdefgXij"), 12).unwrap();
        assert_eq!(pages.known_tokens(&second), 4);
        let third = pages.admit(&prompt, 12).unwrap();
        assert_eq!(third.pages[..2], first.pages[..2]);
        assert_ne!(third.pages[2], first.pages[2]);
        pages.release(first);
        pages.release(third);
        // Kept without a holder, and found as long as nobody needs the place.
        let again = pages.admit(&prompt, 12).unwrap();
        assert_eq!(pages.known_tokens(&again), 8);
    }

    #[test]
    fn the_last_token_of_a_prompt_is_always_computed() {
        let mut pages = Pages::new(8, 4, true);
        let prompt = tokens("abcdefgh");
        let mut first = pages.admit(&prompt, 12).unwrap();
        pages.remember(&mut first, &prompt);
        let second = pages.admit(&prompt, 12).unwrap();
        assert_eq!(pages.known_tokens(&second), 4);
    }

    #[test]
    fn what_does_not_fit_is_refused_and_holds_nothing() {
        let mut pages = Pages::new(4, 4, true);
        let held = pages.admit(&tokens("a"), 9).unwrap();
        assert!(pages.admit(&tokens("b"), 5).is_none());
        assert_eq!(pages.available(), 1);
        pages.release(held);
        assert_eq!(pages.available(), 4);
    }

    #[test]
    fn what_follows_a_page_that_is_gone_is_never_found() {
        let mut pages = Pages::new(3, 2, true);
        let mut first = pages.admit(&tokens("aabbc"), 5).unwrap();
        pages.remember(&mut first, &tokens("aabbc"));
        pages.release(first);
        // Takes the free page, and one that was kept: the one behind the other.
        let other = pages.admit(&tokens("xxyyz"), 3).unwrap();
        pages.release(other);
        let again = pages.admit(&tokens("aabbc"), 5).unwrap();
        assert_eq!(pages.known_tokens(&again), 2);
    }

    #[test]
    fn a_page_that_another_computed_meanwhile_is_taken_over() {
        let mut pages = Pages::new(8, 2, true);
        let prompt = tokens("abcdef");
        let mut first = pages.admit(&prompt, 6).unwrap();
        let mut second = pages.admit(&prompt, 6).unwrap();
        assert!(!pages.adopt(&mut second, &prompt));
        pages.remember(&mut first, &prompt[..4]);
        assert!(pages.adopt(&mut second, &prompt) && pages.adopt(&mut second, &prompt));
        assert!(!pages.adopt(&mut second, &prompt));
        assert_eq!(second.pages[..2], first.pages[..2]);
        pages.release(first);
        pages.release(second);
        assert_eq!((pages.available(), pages.kept()), (8, 2));
    }

    #[test]
    fn without_sharing_nothing_is_known() {
        let mut pages = Pages::new(8, 2, false);
        let prompt = tokens("abcdef");
        let mut first = pages.admit(&prompt, 6).unwrap();
        pages.remember(&mut first, &prompt);
        let second = pages.admit(&prompt, 6).unwrap();
        assert_eq!(pages.known_tokens(&second), 0);
    }

    proptest! {
        /// Whatever comes and goes: no page has two uses, and none is lost.
        #[test]
        fn pages_are_neither_lost_nor_given_twice(
            steps in prop::collection::vec((0..4_usize, "[ab]{1,12}", 0..8_usize), 1..60),
        ) {
            let mut pages = Pages::new(12, 2, true);
            let mut live: Vec<(Table, Vec<u32>)> = Vec::new();
            for (what, text, extra) in steps {
                let prompt = tokens(&text);
                match what {
                    0 | 1 => live.extend(
                        pages.admit(&prompt, prompt.len() + extra).map(|table| (table, prompt)),
                    ),
                    2 if !live.is_empty() => {
                        let at = extra % live.len();
                        let (table, prompt) = &mut live[at];
                        while pages.adopt(table, prompt) {}
                        pages.remember(table, prompt);
                    }
                    _ if !live.is_empty() => {
                        let (table, _) = live.swap_remove(extra % live.len());
                        pages.release(table);
                    }
                    _ => {}
                }
                let mut contents: HashMap<u32, Vec<u32>> = HashMap::new();
                let mut held: std::collections::HashSet<u32> = Default::default();
                for (table, prompt) in &live {
                    held.extend(&table.pages);
                    for (number, page) in table.pages.iter().enumerate() {
                        let end = ((number + 1) * 2).min(prompt.len());
                        let before = prompt[..end].to_vec();
                        // A page in two tables stands behind the same tokens in both.
                        let other = contents.insert(*page, before.clone());
                        prop_assert!(other.is_none_or(|other| other == before));
                    }
                }
                prop_assert_eq!(held.len() + pages.available(), pages.count());
            }
        }
    }
}
