//! Merging of neighbours: the best pair first, the leftmost among equals, until none is left.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

/// A stretch of the text, and the token for it, if the vocabulary has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Symbol {
    /// Its first byte.
    pub start: usize,
    /// The byte after its last.
    pub end: usize,
    /// Its token.
    pub token: Option<u32>,
}

/// A score by which pairs are merged: the higher the sooner.
#[derive(Debug, Clone, Copy)]
pub struct Score(pub f32);

impl Ord for Score {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl PartialOrd for Score {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Score {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Score {}

/// Merges neighbours for as long as `pair` gives a priority and a token for two of them.
pub fn merge<Priority: Ord + Copy>(
    symbols: Vec<Symbol>,
    pair: impl Fn(&Symbol, &Symbol) -> Option<(Priority, u32)>,
) -> Vec<Symbol> {
    let mut list = List::new(symbols);
    let mut heap = BinaryHeap::new();
    for left in 1..list.nodes.len() {
        heap.extend(candidate(&list, Some(left - 1), Some(left), &pair));
    }
    while let Some(best) = heap.pop() {
        let Candidate {
            left: Reverse(left),
            right,
            middle,
            end,
            token,
            ..
        } = best;
        let current = |list: &List| {
            let (l, r) = (&list.nodes[left], &list.nodes[right]);
            l.alive && r.alive && l.symbol.end == middle && r.symbol.end == end
        };
        // One of the two was merged with another neighbour since.
        if !current(&list) {
            continue;
        }
        list.join(left, right, token);
        heap.extend(candidate(
            &list,
            list.nodes[left].previous,
            Some(left),
            &pair,
        ));
        heap.extend(candidate(&list, Some(left), list.nodes[left].next, &pair));
    }
    list.into_symbols()
}

fn candidate<Priority: Ord + Copy>(
    list: &List,
    left: Option<usize>,
    right: Option<usize>,
    pair: impl Fn(&Symbol, &Symbol) -> Option<(Priority, u32)>,
) -> Option<Candidate<Priority>> {
    let (left, right) = (left?, right?);
    let (l, r) = (&list.nodes[left].symbol, &list.nodes[right].symbol);
    let (priority, token) = pair(l, r)?;
    Some(Candidate {
        priority,
        left: Reverse(left),
        right,
        middle: l.end,
        end: r.end,
        token,
    })
}

/// Two neighbours that may be merged. The order of the fields is the order of the merges.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Candidate<Priority> {
    priority: Priority,
    left: Reverse<usize>,
    right: usize,
    middle: usize,
    end: usize,
    token: u32,
}

/// Symbols in text order, linked so that two are joined without moving the rest.
struct List {
    nodes: Vec<Node>,
}

struct Node {
    symbol: Symbol,
    previous: Option<usize>,
    next: Option<usize>,
    alive: bool,
}

impl List {
    fn new(symbols: Vec<Symbol>) -> Self {
        let count = symbols.len();
        let link = |(at, symbol): (usize, Symbol)| Node {
            symbol,
            previous: at.checked_sub(1),
            next: Some(at + 1).filter(|&next| next < count),
            alive: true,
        };
        Self {
            nodes: symbols.into_iter().enumerate().map(link).collect(),
        }
    }

    fn join(&mut self, left: usize, right: usize, token: u32) {
        let after = self.nodes[right].next;
        self.nodes[right].alive = false;
        self.nodes[left].symbol.end = self.nodes[right].symbol.end;
        self.nodes[left].symbol.token = Some(token);
        self.nodes[left].next = after;
        if let Some(after) = after {
            self.nodes[after].previous = Some(left);
        }
    }

    fn into_symbols(self) -> Vec<Symbol> {
        self.nodes
            .into_iter()
            .filter(|node| node.alive)
            .map(|node| node.symbol)
            .collect()
    }
}
