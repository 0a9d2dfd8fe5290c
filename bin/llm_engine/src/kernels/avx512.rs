//! Sixteen lanes in one register of 512 bits: AVX-512 with VNNI.

use std::arch::x86_64::*;

use super::simd::Simd;
use super::x86;

/// AVX-512 F, BW, DQ, VL and VNNI, as processors have them together.
#[derive(Clone, Copy)]
pub struct Avx512;

impl Avx512 {
    /// The four bytes at `input`, in all lanes.
    #[inline(always)]
    unsafe fn four(input: *const i8) -> __m512i {
        unsafe { _mm512_set1_epi32(input.cast::<i32>().read_unaligned()) }
    }
}

impl Simd for Avx512 {
    type Bytes = __m512i;
    type Ints = __m512i;
    type Floats = __m512;
    type Run = __m512i;

    const SHORT_RUNS: bool = false;
    const MANY_REGISTERS: bool = true;
    const SIGNED_OFFSET: i32 = 128;

    #[inline(always)]
    unsafe fn prefetch(address: *const u8) {
        x86::prefetch(address);
    }
    #[inline(always)]
    unsafe fn prefetch_to_write(address: *const u8) {
        x86::prefetch_to_write(address);
    }
    #[inline(always)]
    unsafe fn bytes(from: *const u8) -> Self::Bytes {
        unsafe { _mm512_loadu_si512(from.cast()) }
    }
    #[inline(always)]
    unsafe fn bits_down(bytes: Self::Bytes, by: u32, mask: u8) -> Self::Bytes {
        unsafe {
            // Bits that come in from the neighbouring byte are masked away.
            let shifted = _mm512_srl_epi16(bytes, _mm_cvtsi32_si128(by as i32));
            _mm512_and_si512(shifted, _mm512_set1_epi8(mask as i8))
        }
    }
    #[inline(always)]
    unsafe fn bits_up(bytes: Self::Bytes, by: u32, mask: u8) -> Self::Bytes {
        unsafe {
            let shifted = _mm512_sll_epi16(bytes, _mm_cvtsi32_si128(by as i32));
            _mm512_and_si512(shifted, _mm512_set1_epi8(mask as i8))
        }
    }
    #[inline(always)]
    unsafe fn or(a: Self::Bytes, b: Self::Bytes) -> Self::Bytes {
        unsafe { _mm512_or_si512(a, b) }
    }

    #[inline(always)]
    unsafe fn begin(sum: Self::Ints) -> Self::Run {
        sum
    }
    #[inline(always)]
    unsafe fn dot(run: Self::Run, weights: Self::Bytes, input: *const i8) -> Self::Run {
        unsafe { _mm512_dpbusd_epi32(run, weights, Self::four(input)) }
    }
    #[inline(always)]
    unsafe fn dot_signed(run: Self::Run, weights: Self::Bytes, input: *const i8) -> Self::Run {
        unsafe {
            let weights = _mm512_xor_si512(weights, _mm512_set1_epi8(-128));
            Self::dot(run, weights, input)
        }
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
        unsafe { _mm512_add_epi32(sum, _mm512_mullo_epi32(run, scales)) }
    }

    #[inline(always)]
    unsafe fn int(value: i32) -> Self::Ints {
        unsafe { _mm512_set1_epi32(value) }
    }
    #[inline(always)]
    unsafe fn ints_from_u8(from: *const u8) -> Self::Ints {
        unsafe { _mm512_cvtepu8_epi32(_mm_loadu_si128(from.cast())) }
    }
    #[inline(always)]
    unsafe fn ints_from_i8(from: *const u8) -> Self::Ints {
        unsafe { _mm512_cvtepi8_epi32(_mm_loadu_si128(from.cast())) }
    }
    #[inline(always)]
    unsafe fn int_bits(ints: Self::Ints, by: u32, mask: i32) -> Self::Ints {
        unsafe {
            let shifted = _mm512_srl_epi32(ints, _mm_cvtsi32_si128(by as i32));
            _mm512_and_si512(shifted, _mm512_set1_epi32(mask))
        }
    }
    #[inline(always)]
    unsafe fn int_add(a: Self::Ints, b: Self::Ints) -> Self::Ints {
        unsafe { _mm512_add_epi32(a, b) }
    }
    #[inline(always)]
    unsafe fn int_mul(a: Self::Ints, b: Self::Ints) -> Self::Ints {
        unsafe { _mm512_mullo_epi32(a, b) }
    }
    #[inline(always)]
    unsafe fn pairs(low: Self::Ints, high: Self::Ints) -> Self::Ints {
        unsafe {
            let low = _mm512_and_si512(low, _mm512_set1_epi32(0xffff));
            _mm512_or_si512(low, _mm512_slli_epi32::<16>(high))
        }
    }
    #[inline(always)]
    unsafe fn pair_products(pairs: Self::Ints, with: *const i16) -> Self::Ints {
        unsafe { _mm512_madd_epi16(pairs, Self::four(with.cast())) }
    }
    #[inline(always)]
    unsafe fn int_sum(ints: Self::Ints) -> i32 {
        unsafe { _mm512_reduce_add_epi32(ints) }
    }
    #[inline(always)]
    unsafe fn store_i8(ints: Self::Ints, to: *mut i8) {
        unsafe { _mm_storeu_si128(to.cast(), _mm512_cvtepi32_epi8(ints)) }
    }

    #[inline(always)]
    unsafe fn float(value: f32) -> Self::Floats {
        unsafe { _mm512_set1_ps(value) }
    }
    #[inline(always)]
    unsafe fn floats(from: *const f32) -> Self::Floats {
        unsafe { _mm512_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn floats_from_f16(from: *const u16) -> Self::Floats {
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) }
    }
    #[inline(always)]
    unsafe fn floats_from_bf16(from: *const u16) -> Self::Floats {
        unsafe {
            let halves = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(halves))
        }
    }
    #[inline(always)]
    unsafe fn floats_from_ints(ints: Self::Ints) -> Self::Floats {
        unsafe { _mm512_cvtepi32_ps(ints) }
    }
    #[inline(always)]
    unsafe fn nearest(floats: Self::Floats) -> Self::Ints {
        unsafe { _mm512_cvtps_epi32(floats) }
    }
    #[inline(always)]
    unsafe fn power_of_two(ints: Self::Ints) -> Self::Floats {
        unsafe {
            let biased = _mm512_add_epi32(ints, _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(biased))
        }
    }
    #[inline(always)]
    unsafe fn add(a: Self::Floats, b: Self::Floats) -> Self::Floats {
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: Self::Floats, b: Self::Floats) -> Self::Floats {
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn div(a: Self::Floats, b: Self::Floats) -> Self::Floats {
        unsafe { _mm512_div_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul_add(a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats {
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn max(a: Self::Floats, b: Self::Floats) -> Self::Floats {
        unsafe { _mm512_max_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn min(a: Self::Floats, b: Self::Floats) -> Self::Floats {
        unsafe { _mm512_min_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn abs(floats: Self::Floats) -> Self::Floats {
        unsafe { _mm512_abs_ps(floats) }
    }
    #[inline(always)]
    unsafe fn store(floats: Self::Floats, to: *mut f32) {
        unsafe { _mm512_storeu_ps(to, floats) }
    }
    #[inline(always)]
    unsafe fn store_f16(floats: Self::Floats, to: *mut u16) {
        unsafe { _mm256_storeu_si256(to.cast(), _mm512_cvtps_ph::<0>(floats)) }
    }
}
