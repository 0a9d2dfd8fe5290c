//! Sixteen lanes in plain code: for processors without a kernel of their own, and the measure that
//! other kernels are held against.

use super::simd::{LANES, Simd};
use crate::quant::half;

/// Plain code. With `OFFSET`, it multiplies signed bytes as the x86 instructions do that know only
/// unsigned weights, so that kernels for these can be tested anywhere.
#[derive(Clone, Copy)]
pub struct Portable<const OFFSET: bool>;

impl<const OFFSET: bool> Portable<OFFSET> {
    #[inline(always)]
    fn dot(mut sums: [i32; LANES], weights: [[i32; 4]; LANES], input: *const i8) -> [i32; LANES] {
        for (sum, weights) in sums.iter_mut().zip(weights) {
            for (at, weight) in weights.into_iter().enumerate() {
                // SAFETY: the trait asks for four bytes.
                *sum += weight * i32::from(unsafe { *input.add(at) });
            }
        }
        sums
    }
}

/// Applies `f` to each lane.
#[inline(always)]
fn each<A: Copy, B>(a: [A; LANES], f: impl Fn(A) -> B) -> [B; LANES] {
    std::array::from_fn(|lane| f(a[lane]))
}

/// Applies `f` to each two lanes.
#[inline(always)]
fn both<A: Copy, B: Copy, C>(a: [A; LANES], b: [B; LANES], f: impl Fn(A, B) -> C) -> [C; LANES] {
    std::array::from_fn(|lane| f(a[lane], b[lane]))
}

impl<const OFFSET: bool> Simd for Portable<OFFSET> {
    type Bytes = [[u8; 4]; LANES];
    type Ints = [i32; LANES];
    type Floats = [f32; LANES];
    type Run = [i32; LANES];

    const SHORT_RUNS: bool = false;
    const MANY_REGISTERS: bool = false;
    const SIGNED_OFFSET: i32 = if OFFSET { 128 } else { 0 };

    #[inline(always)]
    unsafe fn prefetch(_: *const u8) {}
    #[inline(always)]
    unsafe fn prefetch_to_write(_: *const u8) {}
    #[inline(always)]
    unsafe fn bytes(from: *const u8) -> Self::Bytes {
        unsafe { from.cast::<Self::Bytes>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn bits_down(bytes: Self::Bytes, by: u32, mask: u8) -> Self::Bytes {
        each(bytes, |lane| lane.map(|byte| byte >> by & mask))
    }
    #[inline(always)]
    unsafe fn bits_up(bytes: Self::Bytes, by: u32, mask: u8) -> Self::Bytes {
        each(bytes, |lane| lane.map(|byte| byte << by & mask))
    }
    #[inline(always)]
    unsafe fn or(a: Self::Bytes, b: Self::Bytes) -> Self::Bytes {
        both(a, b, |a, b| std::array::from_fn(|at| a[at] | b[at]))
    }

    #[inline(always)]
    unsafe fn begin(sum: Self::Ints) -> Self::Run {
        sum
    }
    #[inline(always)]
    unsafe fn dot(run: Self::Run, weights: Self::Bytes, input: *const i8) -> Self::Run {
        Self::dot(run, each(weights, |lane| lane.map(i32::from)), input)
    }
    #[inline(always)]
    unsafe fn dot_signed(run: Self::Run, weights: Self::Bytes, input: *const i8) -> Self::Run {
        let signed = |byte: u8| i32::from(byte as i8) + Self::SIGNED_OFFSET;
        Self::dot(run, each(weights, |lane| lane.map(signed)), input)
    }
    #[inline(always)]
    unsafe fn end(_: Self::Ints, run: Self::Run) -> Self::Ints {
        run
    }

    #[inline(always)]
    unsafe fn run_scales(scales: Self::Ints) -> Self::Ints {
        scales
    }
    #[inline(always)]
    unsafe fn end_scaled(sum: Self::Ints, run: Self::Run, scales: Self::Ints) -> Self::Ints {
        unsafe { Self::int_add(sum, Self::int_mul(run, scales)) }
    }

    #[inline(always)]
    unsafe fn int(value: i32) -> Self::Ints {
        [value; LANES]
    }
    #[inline(always)]
    unsafe fn ints_from_u8(from: *const u8) -> Self::Ints {
        let bytes = unsafe { from.cast::<[u8; LANES]>().read_unaligned() };
        each(bytes, i32::from)
    }
    #[inline(always)]
    unsafe fn ints_from_i8(from: *const u8) -> Self::Ints {
        let bytes = unsafe { from.cast::<[i8; LANES]>().read_unaligned() };
        each(bytes, i32::from)
    }
    #[inline(always)]
    unsafe fn int_bits(ints: Self::Ints, by: u32, mask: i32) -> Self::Ints {
        each(ints, |int| (int as u32 >> by) as i32 & mask)
    }
    #[inline(always)]
    unsafe fn int_add(a: Self::Ints, b: Self::Ints) -> Self::Ints {
        both(a, b, i32::wrapping_add)
    }
    #[inline(always)]
    unsafe fn int_mul(a: Self::Ints, b: Self::Ints) -> Self::Ints {
        both(a, b, i32::wrapping_mul)
    }
    #[inline(always)]
    unsafe fn pairs(low: Self::Ints, high: Self::Ints) -> Self::Ints {
        both(low, high, |low, high| low & 0xffff | high << 16)
    }
    #[inline(always)]
    unsafe fn pair_products(pairs: Self::Ints, with: *const i16) -> Self::Ints {
        let [low, high] = unsafe { with.cast::<[i16; 2]>().read_unaligned() }.map(i32::from);
        each(pairs, |pair| {
            i32::from(pair as i16) * low + (pair >> 16) * high
        })
    }
    #[inline(always)]
    unsafe fn int_sum(ints: Self::Ints) -> i32 {
        ints.iter().sum()
    }
    #[inline(always)]
    unsafe fn store_i8(ints: Self::Ints, to: *mut i8) {
        let bytes = each(ints, |int| int as i8);
        unsafe { to.cast::<[i8; LANES]>().write_unaligned(bytes) };
    }

    #[inline(always)]
    unsafe fn float(value: f32) -> Self::Floats {
        [value; LANES]
    }
    #[inline(always)]
    unsafe fn floats(from: *const f32) -> Self::Floats {
        unsafe { from.cast::<[f32; LANES]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn floats_from_f16(from: *const u16) -> Self::Floats {
        let halves = unsafe { from.cast::<[u16; LANES]>().read_unaligned() };
        each(halves, half::to_f32)
    }
    #[inline(always)]
    unsafe fn floats_from_bf16(from: *const u16) -> Self::Floats {
        let halves = unsafe { from.cast::<[u16; LANES]>().read_unaligned() };
        each(halves, half::bf16_to_f32)
    }
    #[inline(always)]
    unsafe fn floats_from_ints(ints: Self::Ints) -> Self::Floats {
        each(ints, |int| int as f32)
    }
    #[inline(always)]
    unsafe fn nearest(floats: Self::Floats) -> Self::Ints {
        each(floats, |float| float.round_ties_even() as i32)
    }
    #[inline(always)]
    unsafe fn power_of_two(ints: Self::Ints) -> Self::Floats {
        each(ints, |int| f32::from_bits(((int + 127) << 23) as u32))
    }
    #[inline(always)]
    unsafe fn add(a: Self::Floats, b: Self::Floats) -> Self::Floats {
        both(a, b, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn mul(a: Self::Floats, b: Self::Floats) -> Self::Floats {
        both(a, b, |a, b| a * b)
    }
    #[inline(always)]
    unsafe fn div(a: Self::Floats, b: Self::Floats) -> Self::Floats {
        both(a, b, |a, b| a / b)
    }
    #[inline(always)]
    unsafe fn mul_add(a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats {
        std::array::from_fn(|lane| a[lane].mul_add(b[lane], c[lane]))
    }
    #[inline(always)]
    unsafe fn max(a: Self::Floats, b: Self::Floats) -> Self::Floats {
        both(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    unsafe fn min(a: Self::Floats, b: Self::Floats) -> Self::Floats {
        both(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    unsafe fn abs(floats: Self::Floats) -> Self::Floats {
        each(floats, f32::abs)
    }
    #[inline(always)]
    unsafe fn store(floats: Self::Floats, to: *mut f32) {
        unsafe { to.cast::<[f32; LANES]>().write_unaligned(floats) };
    }
    #[inline(always)]
    unsafe fn store_f16(floats: Self::Floats, to: *mut u16) {
        let halves = each(floats, half::from_f32);
        unsafe { to.cast::<[u16; LANES]>().write_unaligned(halves) };
    }
}
