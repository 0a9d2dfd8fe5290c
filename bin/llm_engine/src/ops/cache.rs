//! Keys and values of what was computed before, in pages.
//!
//! A page holds [`PAGE_POSITIONS`] positions of one sequence, for all layers and heads, in half
//! precision. Which page belongs to whom is for the caller to know: here a page is a number.

use std::ops::Range;

use super::{Chunk, Cpu};
use crate::kernels::{LANES, PAGE};

/// How many positions a page holds.
pub const PAGE_POSITIONS: usize = PAGE;

/// Numbers that are worth waking another thread for.
const WORTH_SHARING: usize = 1024;

/// The pages' memory. The system gives it as pages are first written.
pub struct KeyValueCache {
    layers: usize,
    pages: usize,
    heads: usize,
    head_width: usize,
    /// By layer, head and page: first the keys, number after number with the positions side by
    /// side, then the values, position after position, each made a whole number of vectors.
    data: Vec<u16>,
}

impl KeyValueCache {
    /// Room for `pages` pages of `layers` layers with `heads` key heads of `head_width` numbers.
    pub fn new(layers: usize, pages: usize, heads: usize, head_width: usize) -> Self {
        let numbers = layers * pages * heads * numbers_in_page(head_width);
        Self {
            layers,
            pages,
            heads,
            head_width,
            data: vec![0; numbers],
        }
    }

    /// Bytes that one page takes in all layers together.
    pub fn page_bytes(layers: usize, heads: usize, head_width: usize) -> usize {
        layers * heads * numbers_in_page(head_width) * size_of::<u16>()
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
    pub fn store(
        &mut self,
        cpu: &Cpu,
        layer: usize,
        chunks: &[Chunk<'_>],
        keys: &[f32],
        values: &[f32],
    ) {
        assert_eq!(keys.len(), values.len());
        let (pages, heads, width) = (self.pages, self.heads, self.head_width);
        let layer = self.range(layer, 0, 0).start..self.range(layer, heads - 1, pages - 1).end;
        let layer = &mut self.data[layer];
        let by_head = pages * numbers_in_page(width);
        let piece = if keys.len() < WORTH_SHARING { heads } else { 1 };
        cpu.pool.for_pieces(layer, piece * by_head, |number, data| {
            // Whole vectors, of which the end stays zero.
            let mut padded = vec![0.0; value_stride(width)];
            let mut halves = vec![0; value_stride(width)];
            for (head, data) in data.chunks_exact_mut(by_head).enumerate() {
                let mut head = Head {
                    cpu,
                    first: (number * piece + head) * width,
                    stride: heads * width,
                    width,
                    padded: &mut padded,
                    halves: &mut halves,
                };
                for chunk in chunks {
                    let keys = head.place(chunk, chunk.start);
                    let page = &data[keys..][..PAGE * width];
                    cpu.kernels.expect_keys(page, chunk.start % PAGE, width);
                }
                for chunk in chunks {
                    head.store(data, chunk, keys, values);
                }
            }
        });
    }

    fn range(&self, layer: usize, head: usize, page: usize) -> Range<usize> {
        assert!(layer < self.layers && head < self.heads && page < self.pages);
        let length = numbers_in_page(self.head_width);
        let start = ((layer * self.heads + head) * self.pages + page) * length;
        start..start + length
    }

    /// A head's keys and values in a page.
    pub(super) fn page(&self, layer: usize, head: usize, page: usize) -> (&[u16], &[u16]) {
        self.data[self.range(layer, head, page)].split_at(PAGE * self.head_width)
    }
}

/// Numbers from one position's values to the next.
pub(super) fn value_stride(head_width: usize) -> usize {
    head_width.next_multiple_of(LANES)
}

fn numbers_in_page(head_width: usize) -> usize {
    PAGE * (head_width + value_stride(head_width))
}

/// Where a key head is in a row.
struct Head<'a> {
    cpu: &'a Cpu,
    first: usize,
    stride: usize,
    width: usize,
    /// Memory for one row.
    padded: &'a mut [f32],
    halves: &'a mut [u16],
}

impl Head<'_> {
    /// Where the page with this position of the chunk's sequence starts.
    fn place(&self, chunk: &Chunk<'_>, position: usize) -> usize {
        chunk.pages[position / PAGE] as usize * numbers_in_page(self.width)
    }

    /// Writes a chunk's rows to the pages of this head.
    fn store(&mut self, pages: &mut [u16], chunk: &Chunk<'_>, keys: &[f32], values: &[f32]) {
        let (width, stride) = (self.width, value_stride(self.width));
        for (step, row) in chunk.rows.clone().enumerate() {
            let position = chunk.start + step;
            let page = self.place(chunk, position);
            let Self { padded, halves, .. } = self;
            let page = &mut pages[page..][..numbers_in_page(width)];
            let (kept_keys, kept_values) = page.split_at_mut(PAGE * width);
            let (at, from) = (position % PAGE, row * self.stride + self.first);
            padded[..width].copy_from_slice(&keys[from..][..width]);
            self.cpu.kernels.to_halves(padded, halves);
            for (kept, half) in kept_keys.chunks_exact_mut(PAGE).zip(halves.iter()) {
                kept[at] = *half;
            }
            padded[..width].copy_from_slice(&values[from..][..width]);
            self.cpu
                .kernels
                .to_halves(padded, &mut kept_values[at * stride..][..stride]);
        }
    }
}
