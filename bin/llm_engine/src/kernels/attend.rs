//! Attention of a few query heads to one span of positions.
//!
//! A span is a fixed part of the positions, counted from a sequence's start. Each is done on its
//! own, with a softmax of its own, and results are merged in order. So memory is bounded, spans can
//! be done by several threads, and a row's result doesn't depend on who does what.

use super::simd::{LANES, Simd, exp, most, sum};

/// How many positions a page of keys and values holds.
pub const PAGE: usize = 32;
/// How many positions a span has.
pub const SPAN: usize = 256;
/// How many query heads a kernel does at once.
pub const QUERIES: usize = 4;

/// A span of one key head, and the queries that look at it.
pub struct Span<'a> {
    /// Each page's keys (number after number, positions side by side) and values (position after
    /// position, `value_stride` from one to the next), in half precision, all finite.
    pub pages: &'a [(&'a [u16], &'a [u16])],
    /// Numbers in a head.
    pub width: usize,
    /// Numbers from one position's values to the next: `width`, made a whole number of vectors.
    pub value_stride: usize,
    /// Scores are multiplied with this.
    pub scale: f32,
    /// `width` numbers each.
    pub queries: [&'a [f32]; QUERIES],
    /// Which positions of the span each query sees, from and to: at least one.
    pub sees: [(usize, usize); QUERIES],
}

impl Span<'_> {
    /// Panics where the lengths don't fit.
    pub fn check(&self) {
        assert!(self.value_stride >= self.width && self.value_stride.is_multiple_of(LANES));
        for (keys, values) in self.pages {
            assert!(keys.len() >= PAGE * self.width && values.len() >= PAGE * self.value_stride);
        }
        for (query, (begin, end)) in self.queries.iter().zip(self.sees) {
            assert_eq!(query.len(), self.width);
            assert!(begin < end && end <= SPAN && end <= self.pages.len() * PAGE);
        }
    }
}

/// Numbers in a partial result: the weighted sum of values, made a whole number of vectors, then
/// the largest score and the sum of weights.
pub const fn partial_length(value_stride: usize) -> usize {
    value_stride + 2
}

/// Writes partial results for the first `M` queries of a span.
///
/// # Safety
///
/// [`Span::check`] doesn't panic, `partials` is good for `M` partial results. See [`Simd`] for the
/// rest.
#[inline(always)]
pub unsafe fn span<S: Simd, const M: usize>(span: &Span<'_>, partials: *mut f32) {
    unsafe {
        let mut end = 0;
        let mut to = [partials; M];
        let mut query = 0;
        while query < M {
            end = usize::max(end, span.sees[query].1);
            to[query] = partials.add(query * partial_length(span.value_stride));
            query += 1;
        }
        let mut weights = [[0.0_f32; SPAN]; M];
        for (number, (keys, _)) in span.pages.iter().enumerate() {
            let first = number * PAGE;
            if first >= end {
                break;
            }
            // Two vectors at once where registers allow it, so that enough sums are under way.
            if M <= 2 || S::MANY_REGISTERS {
                scores::<S, M, 2>(span, keys.as_ptr(), first, &mut weights);
            } else {
                scores::<S, M, 1>(span, keys.as_ptr(), first, &mut weights);
                if first + LANES < end {
                    let keys = keys.as_ptr().add(LANES);
                    scores::<S, M, 1>(span, keys, first + LANES, &mut weights);
                }
            }
        }
        query = 0;
        while query < M {
            let (largest, total) = softmax::<S>(&mut weights[query], span.sees[query]);
            let rest = to[query].add(span.value_stride);
            *rest = largest;
            *rest.add(1) = total;
            query += 1;
        }
        for (page, (_, values)) in span.pages.iter().enumerate() {
            let positions = page * PAGE..usize::min(end, (page + 1) * PAGE);
            let values = values.as_ptr();
            let mut number = 0;
            while (M <= 2 || S::MANY_REGISTERS) && number + 2 * LANES <= span.value_stride {
                add_values::<S, M, 2>(span, values, number, positions.clone(), &weights, to);
                number += 2 * LANES;
            }
            while number < span.value_stride {
                add_values::<S, M, 1>(span, values, number, positions.clone(), &weights, to);
                number += LANES;
            }
        }
    }
}

/// The scores of `V` vectors of positions, whose keys' first numbers start at `keys`.
#[inline(always)]
unsafe fn scores<S: Simd, const M: usize, const V: usize>(
    span: &Span<'_>,
    keys: *const u16,
    position: usize,
    scores: &mut [[f32; SPAN]; M],
) {
    unsafe {
        let mut queries = [span.queries[0].as_ptr(); M];
        let mut query = 1;
        while query < M {
            queries[query] = span.queries[query].as_ptr();
            query += 1;
        }
        let mut sums = [[S::float(0.0); V]; M];
        for number in 0..span.width {
            let mut vector = 0;
            while vector < V {
                let keys = S::floats_from_f16(keys.add(number * PAGE + vector * LANES));
                let mut query = 0;
                while query < M {
                    let number = S::float(*queries[query].add(number));
                    sums[query][vector] = S::mul_add(number, keys, sums[query][vector]);
                    query += 1;
                }
                vector += 1;
            }
        }
        let mut query = 0;
        while query < M {
            let mut vector = 0;
            while vector < V {
                let scaled = S::mul(sums[query][vector], S::float(span.scale));
                let to = scores[query].as_mut_ptr().add(position + vector * LANES);
                S::store(scaled, to);
                vector += 1;
            }
            query += 1;
        }
    }
}

/// Makes scores weights: zero for positions that aren't seen. Gives the largest score and the
/// weights' sum.
#[inline(always)]
unsafe fn softmax<S: Simd>(scores: &mut [f32; SPAN], sees: (usize, usize)) -> (f32, f32) {
    unsafe {
        let (begin, end) = sees;
        let from = begin / LANES * LANES;
        scores[..begin].fill(f32::MIN);
        let whole = end.next_multiple_of(LANES);
        scores[end..whole].fill(f32::MIN);
        let mut largest = S::float(f32::MIN);
        let mut at = from;
        while at < whole {
            largest = S::max(largest, S::floats(scores.as_ptr().add(at)));
            at += LANES;
        }
        let largest = most::<S>(largest);
        at = from;
        while at < whole {
            let score = S::floats(scores.as_ptr().add(at));
            let weight = exp::<S>(S::add(score, S::float(-largest)));
            S::store(weight, scores.as_mut_ptr().add(at));
            at += LANES;
        }
        scores[..begin].fill(0.0);
        scores[end..].fill(0.0);
        let mut total = S::float(0.0);
        at = from;
        while at < whole {
            total = S::add(total, S::floats(scores.as_ptr().add(at)));
            at += LANES;
        }
        (largest, sum::<S>(total))
    }
}

/// Adds `V` vectors of a page's values, from `number` on, to the weighted sums. The first page's
/// overwrite what was there.
#[inline(always)]
unsafe fn add_values<S: Simd, const M: usize, const V: usize>(
    span: &Span<'_>,
    values: *const u16,
    number: usize,
    positions: std::ops::Range<usize>,
    weights: &[[f32; SPAN]; M],
    to: [*mut f32; M],
) {
    unsafe {
        let mut sums = [[S::float(0.0); V]; M];
        let mut query = 0;
        while query < M && positions.start > 0 {
            let mut vector = 0;
            while vector < V {
                sums[query][vector] = S::floats(to[query].add(number + vector * LANES));
                vector += 1;
            }
            query += 1;
        }
        let mut values = values.add(number);
        for position in positions {
            let mut vector = 0;
            while vector < V {
                let values = S::floats_from_f16(values.add(vector * LANES));
                let mut query = 0;
                while query < M {
                    let weight = S::float(*weights[query].as_ptr().add(position));
                    sums[query][vector] = S::mul_add(weight, values, sums[query][vector]);
                    query += 1;
                }
                vector += 1;
            }
            values = values.add(span.value_stride);
        }
        query = 0;
        while query < M {
            let mut vector = 0;
            while vector < V {
                S::store(sums[query][vector], to[query].add(number + vector * LANES));
                vector += 1;
            }
            query += 1;
        }
    }
}

/// Merges a span's partial result into that of earlier spans.
///
/// # Safety
///
/// The pointers are good for a partial result each. See [`Simd`] for the rest.
#[inline(always)]
pub unsafe fn merge_spans<S: Simd>(total: *mut f32, partial: *const f32, value_stride: usize) {
    unsafe {
        let largest = f32::max(*total.add(value_stride), *partial.add(value_stride));
        let earlier = exp::<S>(S::float(*total.add(value_stride) - largest));
        let later = exp::<S>(S::float(*partial.add(value_stride) - largest));
        let mut number = 0;
        while number < value_stride {
            let sum = S::mul(S::floats(total.add(number)), earlier);
            let sum = S::mul_add(S::floats(partial.add(number)), later, sum);
            S::store(sum, total.add(number));
            number += LANES;
        }
        let weights = S::mul(S::float(*total.add(value_stride + 1)), earlier);
        let weights = S::mul_add(S::float(*partial.add(value_stride + 1)), later, weights);
        *total.add(value_stride) = largest;
        *total.add(value_stride + 1) = super::simd::lanes::<S>(weights)[0];
    }
}

/// Asks for the memory of one position's keys, of which each number has a line of its own.
///
/// # Safety
///
/// See [`Simd`].
#[inline(always)]
pub unsafe fn expect_keys<S: Simd>(keys: *const u16, width: usize) {
    for number in 0..width {
        unsafe { S::prefetch_to_write(keys.wrapping_add(number * PAGE).cast()) };
    }
}

/// Rounds numbers to half precision, as keys and values are kept. What is too large becomes the
/// largest number, so that a weight of zero makes it zero.
///
/// # Safety
///
/// The pointers are good for `length` numbers, a whole number of vectors. See [`Simd`] for the rest.
#[inline(always)]
pub unsafe fn to_halves<S: Simd>(from: *const f32, to: *mut u16, length: usize) {
    unsafe {
        let mut at = 0;
        while at < length {
            let numbers = S::min(S::floats(from.add(at)), S::float(65504.0));
            let numbers = S::max(numbers, S::float(-65504.0));
            S::store_f16(numbers, to.add(at));
            at += LANES;
        }
    }
}
