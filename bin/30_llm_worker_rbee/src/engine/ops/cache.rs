//! Keys and values of what was computed before, in pages.
//!
//! A page holds [`PAGE_POSITIONS`] positions of one sequence, for all layers and heads, in half
//! precision. Which page belongs to whom is for the caller to know: here a page is a number.

use crate::engine::quant::half;

use super::Chunk;

/// How many positions a page holds.
pub const PAGE_POSITIONS: usize = 32;

/// The pages' memory. The system gives it as pages are first written.
pub struct KeyValueCache {
    pages: usize,
    heads: usize,
    head_width: usize,
    /// By layer, page and head: first the keys, number after number with the positions side by
    /// side, then the values, position after position.
    data: Vec<u16>,
}

impl KeyValueCache {
    /// Room for `pages` pages of `layers` layers with `heads` key heads of `head_width` numbers.
    pub fn new(layers: usize, pages: usize, heads: usize, head_width: usize) -> Self {
        let page = heads * head_width * PAGE_POSITIONS * 2;
        Self {
            pages,
            heads,
            head_width,
            data: vec![0; layers * pages * page],
        }
    }

    /// Bytes that one page takes in all layers together.
    pub fn page_bytes(layers: usize, heads: usize, head_width: usize) -> usize {
        layers * heads * head_width * PAGE_POSITIONS * 2 * size_of::<u16>()
    }

    /// How many pages there are.
    pub fn pages(&self) -> usize {
        self.pages
    }

    /// Key heads in a layer.
    pub fn heads(&self) -> usize {
        self.heads
    }

    /// Numbers in a head.
    pub fn head_width(&self) -> usize {
        self.head_width
    }

    /// Keeps the keys and values (`heads * head_width` numbers a row) of the chunks' rows.
    pub fn store(&mut self, layer: usize, chunks: &[Chunk<'_>], keys: &[f32], values: &[f32]) {
        let (heads, width) = (self.heads, self.head_width);
        for chunk in chunks {
            for (step, row) in chunk.rows.clone().enumerate() {
                let position = chunk.start + step;
                let page = chunk.pages[position / PAGE_POSITIONS] as usize;
                let at = position % PAGE_POSITIONS;
                for head in 0..heads {
                    let from = (row * heads + head) * width;
                    let (kept_keys, kept_values) = self.page_mut(layer, page, head);
                    for (number, key) in keys[from..][..width].iter().enumerate() {
                        kept_keys[number * PAGE_POSITIONS + at] = half::from_f32(*key);
                    }
                    for (number, value) in values[from..][..width].iter().enumerate() {
                        kept_values[at * width + number] = half::from_f32(*value);
                    }
                }
            }
        }
    }

    fn range(&self, layer: usize, page: usize, head: usize) -> std::ops::Range<usize> {
        assert!(page < self.pages && head < self.heads);
        let length = 2 * PAGE_POSITIONS * self.head_width;
        let start = ((layer * self.pages + page) * self.heads + head) * length;
        start..start + length
    }

    /// A head's keys and values in a page.
    pub(super) fn page(&self, layer: usize, page: usize, head: usize) -> (&[u16], &[u16]) {
        let middle = PAGE_POSITIONS * self.head_width;
        self.data[self.range(layer, page, head)].split_at(middle)
    }

    fn page_mut(&mut self, layer: usize, page: usize, head: usize) -> (&mut [u16], &mut [u16]) {
        let range = self.range(layer, page, head);
        self.data[range].split_at_mut(PAGE_POSITIONS * self.head_width)
    }
}
