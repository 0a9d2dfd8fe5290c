//! Attention of new rows to everything before them in their sequence.

use std::ops::Range;

use super::cache::value_stride;
use super::{Cpu, KeyValueCache, Workspace, pieces_of_rows};
use crate::kernels::{Kernels, PAGE, QUERIES, SPAN, Span, partial_length};

/// Consecutive rows of a batch that continue one sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk<'a> {
    /// Which rows of the batch.
    pub rows: Range<usize>,
    /// The position of the first of them in its sequence.
    pub start: usize,
    /// The sequence's pages, as far as its positions go with these rows.
    pub pages: &'a [u32],
}

/// What differs between models and layers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Attention {
    /// Query heads; a multiple of the key heads, each of which serves as many.
    pub heads: usize,
    /// Scores are multiplied with this.
    pub scale: f32,
    /// How many positions a row sees, its own included; `None` for all.
    pub window: Option<usize>,
}

/// Rows of a chunk whose queries for one key head are one unit of work.
const ROWS_IN_UNIT: usize = 8;
/// Scores (a query with a position) that are worth waking another thread for.
const WORTH_SHARING: usize = 256;

/// Attends from the chunks' rows (`heads * head_width` numbers each) to what the cache keeps of
/// their sequences, these rows included: store them first. Rows that no chunk has are left alone.
///
/// # Panics
///
/// Where the lengths don't fit, or a chunk has too few pages.
#[allow(clippy::too_many_arguments, reason = "they have nothing in common")]
pub fn attention(
    cpu: &Cpu,
    workspace: &mut Workspace,
    cache: &KeyValueCache,
    layer: usize,
    shape: &Attention,
    chunks: &[Chunk<'_>],
    queries: &[f32],
    output: &mut [f32],
) {
    assert_eq!(queries.len(), output.len());
    assert!(
        shape.heads.is_multiple_of(cache.heads()),
        "heads aren't shared evenly"
    );
    let job = Job {
        kernels: cpu.kernels,
        cache,
        layer,
        shape,
        queries,
        group: shape.heads / cache.heads(),
        stride: value_stride(cache.head_width()),
    };
    let plan = job.plan(chunks, cpu.pool.threads());
    let partials = &mut workspace.partials;
    partials.resize(plan.tasks.len() * plan.piece, 0.0);
    let all_tasks = plan.tasks.len() * plan.piece;
    let piece = if plan.scores < WORTH_SHARING {
        all_tasks
    } else {
        plan.piece
    };
    cpu.pool
        .for_pieces(partials, piece.max(1), |number, partials| {
            let tasks = &plan.tasks[number * piece / plan.piece..];
            let mut scratch = Scratch::default();
            for (task, partials) in tasks.iter().zip(partials.chunks_exact_mut(plan.piece)) {
                let unit = &plan.units[task.unit];
                job.attend(unit, task.spans.clone(), partials, &mut scratch);
            }
        });
    let row = shape.heads * cache.head_width();
    let piece = pieces_of_rows(cpu, output.len(), row);
    cpu.pool.for_pieces(output, piece, |number, output| {
        let mut merged = vec![0.0; partial_length(job.stride)];
        for (at, output) in output.chunks_exact_mut(row).enumerate() {
            job.finish(
                &plan,
                number * piece / row + at,
                partials,
                &mut merged,
                output,
            );
        }
    });
}

struct Job<'a> {
    kernels: &'static Kernels,
    cache: &'a KeyValueCache,
    layer: usize,
    shape: &'a Attention,
    queries: &'a [f32],
    /// Query heads for each key head.
    group: usize,
    /// Numbers from one position's values to the next.
    stride: usize,
}

/// Some rows of a chunk with the query heads of one key head.
struct Unit<'a> {
    chunk: &'a Chunk<'a>,
    rows: Range<usize>,
    key_head: usize,
    /// Which tasks do it: one, or one for each span.
    tasks: Range<usize>,
}

/// A unit's work on some spans, whose results are merged.
struct Task {
    unit: usize,
    spans: Range<usize>,
}

/// Memory that is used again from unit to unit.
#[derive(Default)]
struct Scratch<'a> {
    partials: Vec<f32>,
    pages: Vec<(&'a [u16], &'a [u16])>,
    queries: Vec<SeeingQuery>,
}

/// A query of a unit, by its number, and which positions of a span it sees.
type SeeingQuery = (usize, (usize, usize));

struct Plan<'a> {
    units: Vec<Unit<'a>>,
    tasks: Vec<Task>,
    /// Numbers that a task writes, at most: a partial result for each row and query head.
    piece: usize,
    /// By row of the batch: which unit does its first key head. The other key heads' follow.
    owners: Vec<Option<usize>>,
    /// How many scores there are, nearly.
    scores: usize,
}

impl<'c> Job<'c> {
    fn plan<'a>(&self, chunks: &'a [Chunk<'a>], threads: usize) -> Plan<'a> {
        let mut plan = Plan {
            units: Vec::new(),
            tasks: Vec::new(),
            piece: 0,
            owners: Vec::new(),
            scores: 0,
        };
        let row_length = self.shape.heads * self.cache.head_width();
        plan.owners.resize(self.queries.len() / row_length, None);
        for chunk in chunks {
            let mut first = chunk.rows.start;
            while first < chunk.rows.end {
                let rows = first..chunk.rows.end.min(first + ROWS_IN_UNIT);
                plan.owners[rows.clone()].fill(Some(plan.units.len()));
                plan.units
                    .extend((0..self.cache.heads()).map(|key_head| Unit {
                        chunk,
                        rows: rows.clone(),
                        key_head,
                        tasks: 0..0,
                    }));
                first = rows.end;
            }
        }
        // Few units: threads share their spans too.
        let split = plan.units.len() < threads * 4;
        for (number, unit) in plan.units.iter_mut().enumerate() {
            let spans = self.spans(unit);
            let first = plan.tasks.len();
            let each = if split { 1 } else { spans.len() };
            plan.tasks
                .extend(spans.clone().step_by(each).map(|span| Task {
                    unit: number,
                    spans: span..span + each,
                }));
            unit.tasks = first..plan.tasks.len();
            plan.piece = plan.piece.max(unit.rows.len());
            let positions = self.sees(unit.chunk, unit.rows.end - 1);
            plan.scores += unit.rows.len() * self.group * positions.len();
        }
        plan.piece *= self.group * partial_length(self.stride);
        plan
    }

    /// The positions that a row sees.
    fn sees(&self, chunk: &Chunk<'_>, row: usize) -> Range<usize> {
        let end = chunk.start + (row - chunk.rows.start) + 1;
        let window = self.shape.window.unwrap_or(end);
        end.saturating_sub(window)..end
    }

    /// The spans that some row of the unit sees.
    fn spans(&self, unit: &Unit<'_>) -> Range<usize> {
        let begin = self.sees(unit.chunk, unit.rows.start).start;
        let end = self.sees(unit.chunk, unit.rows.end - 1).end;
        begin / SPAN..end.div_ceil(SPAN)
    }

    /// Writes a partial result for each of the unit's rows and query heads that sees one of the
    /// spans.
    fn attend(
        &self,
        unit: &Unit<'_>,
        spans: Range<usize>,
        partials: &mut [f32],
        scratch: &mut Scratch<'c>,
    ) {
        let length = partial_length(self.stride);
        let Scratch {
            partials: fresh,
            pages,
            queries,
        } = scratch;
        fresh.resize(QUERIES * length, 0.0);
        for span in spans.clone() {
            let start = span * SPAN;
            let seen = unit.chunk.pages.len().min((start + SPAN) / PAGE);
            let page = |page: &u32| self.cache.page(self.layer, unit.key_head, *page as usize);
            pages.clear();
            pages.extend(unit.chunk.pages[start / PAGE..seen].iter().map(page));
            // Rows from here on see something of the span, because windows move with rows.
            queries.clear();
            queries.extend((0..unit.rows.len() * self.group).filter_map(|number| {
                let sees = self.sees(unit.chunk, unit.rows.start + number / self.group);
                let sees = (
                    sees.start.saturating_sub(start),
                    sees.end.saturating_sub(start).min(SPAN),
                );
                (sees.0 < sees.1).then_some((number, sees))
            }));
            for queries in queries.chunks(QUERIES) {
                self.attend_some(unit, pages, queries, fresh);
                for (at, (number, _)) in queries.iter().enumerate() {
                    let fresh = &fresh[at * length..][..length];
                    let total = &mut partials[number * length..][..length];
                    let row = unit.rows.start + number / self.group;
                    let first = self.sees(unit.chunk, row).start.max(spans.start * SPAN);
                    if first / SPAN == span {
                        total.copy_from_slice(fresh);
                    } else {
                        self.kernels.merge_spans(total, fresh);
                    }
                }
            }
        }
    }

    /// Does up to [`QUERIES`] queries of a span.
    fn attend_some(
        &self,
        unit: &Unit<'_>,
        pages: &[(&[u16], &[u16])],
        queries: &[SeeingQuery],
        partials: &mut [f32],
    ) {
        let width = self.cache.head_width();
        // Where there are fewer, the last is done again.
        let query = |at: usize| queries[at.min(queries.len() - 1)];
        let numbers = |at: usize| {
            let number = query(at).0;
            let row = unit.rows.start + number / self.group;
            let head = unit.key_head * self.group + number % self.group;
            &self.queries[(row * self.shape.heads + head) * width..][..width]
        };
        let span = Span {
            pages,
            width,
            value_stride: self.stride,
            scale: self.shape.scale,
            queries: std::array::from_fn(numbers),
            sees: std::array::from_fn(|at| query(at).1),
        };
        self.kernels.attend(&span, queries.len(), partials);
    }

    /// Merges the partial results of a row, in the order of their spans.
    fn finish(
        &self,
        plan: &Plan<'_>,
        row: usize,
        partials: &[f32],
        merged: &mut [f32],
        output: &mut [f32],
    ) {
        let Some(owner) = plan.owners[row] else {
            return;
        };
        let (width, length) = (self.cache.head_width(), merged.len());
        for (head, output) in output.chunks_exact_mut(width).enumerate() {
            let unit = &plan.units[owner + head / self.group];
            let sees = self.sees(unit.chunk, row);
            let number = (row - unit.rows.start) * self.group + head % self.group;
            let mut first = true;
            for task in unit.tasks.clone() {
                let spans = &plan.tasks[task].spans;
                if spans.end * SPAN <= sees.start || spans.start * SPAN >= sees.end {
                    continue;
                }
                let partial = &partials[task * plan.piece + number * length..][..length];
                if std::mem::take(&mut first) {
                    merged.copy_from_slice(partial);
                } else {
                    self.kernels.merge_spans(merged, partial);
                }
            }
            let weights = merged[length - 1];
            for (output, sum) in output.iter_mut().zip(&*merged) {
                *output = sum / weights;
            }
        }
    }
}
