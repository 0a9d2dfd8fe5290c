//! Sixteen lanes in two registers of 256 bits: AVX2, with or without AVX-VNNI.

use std::arch::asm;
use std::arch::x86_64::*;

use super::simd::Simd;
use super::x86;

/// AVX2 with FMA and F16C. With `VNNI`, bytes are multiplied by AVX-VNNI's one instruction.
#[derive(Clone, Copy)]
pub struct Avx2<const VNNI: bool>;

/// Two registers.
type Two<T> = [T; 2];

impl<const VNNI: bool> Avx2<VNNI> {
    /// The four bytes at `input`, in all lanes.
    #[inline(always)]
    unsafe fn four(input: *const i8) -> __m256i {
        unsafe { _mm256_set1_epi32(input.cast::<i32>().read_unaligned()) }
    }
}

/// Does nothing, but hides that it does: otherwise the compiler adds products up as a tree, for
/// which there are not enough registers.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn one_by_one(mut sums: __m256i) -> __m256i {
    unsafe {
        asm!(
            "/* {0} */",
            inout(ymm_reg) sums,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sums
}

impl<const VNNI: bool> Simd for Avx2<VNNI> {
    type Bytes = Two<__m256i>;
    type Ints = Two<__m256i>;
    type Floats = Two<__m256>;
    type Run = Two<__m256i>;

    const SHORT_RUNS: bool = !VNNI;
    const MANY_REGISTERS: bool = false;
    const SIGNED_OFFSET: i32 = if VNNI { 128 } else { 0 };

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
        let from = from.cast::<__m256i>();
        unsafe { [_mm256_loadu_si256(from), _mm256_loadu_si256(from.add(1))] }
    }
    #[inline(always)]
    unsafe fn bits_down([a, b]: Self::Bytes, by: u32, mask: u8) -> Self::Bytes {
        unsafe {
            let mask = _mm256_set1_epi8(mask as i8);
            let by = _mm_cvtsi32_si128(by as i32);
            // Bits that come in from the neighbouring byte are masked away.
            let a = _mm256_and_si256(_mm256_srl_epi16(a, by), mask);
            [a, _mm256_and_si256(_mm256_srl_epi16(b, by), mask)]
        }
    }
    #[inline(always)]
    unsafe fn bits_up([a, b]: Self::Bytes, by: u32, mask: u8) -> Self::Bytes {
        unsafe {
            let mask = _mm256_set1_epi8(mask as i8);
            let by = _mm_cvtsi32_si128(by as i32);
            let a = _mm256_and_si256(_mm256_sll_epi16(a, by), mask);
            [a, _mm256_and_si256(_mm256_sll_epi16(b, by), mask)]
        }
    }
    #[inline(always)]
    unsafe fn or(a: Self::Bytes, b: Self::Bytes) -> Self::Bytes {
        unsafe { [_mm256_or_si256(a[0], b[0]), _mm256_or_si256(a[1], b[1])] }
    }

    #[inline(always)]
    unsafe fn begin(sum: Self::Ints) -> Self::Run {
        if VNNI {
            sum
        } else {
            unsafe { [_mm256_setzero_si256(); 2] }
        }
    }
    #[inline(always)]
    unsafe fn dot(run: Self::Run, weights: Self::Bytes, input: *const i8) -> Self::Run {
        unsafe {
            let input = Self::four(input);
            if VNNI {
                let a = _mm256_dpbusd_avx_epi32(run[0], weights[0], input);
                return [a, _mm256_dpbusd_avx_epi32(run[1], weights[1], input)];
            }
            let a = _mm256_add_epi16(run[0], _mm256_maddubs_epi16(weights[0], input));
            let b = _mm256_add_epi16(run[1], _mm256_maddubs_epi16(weights[1], input));
            [one_by_one(a), one_by_one(b)]
        }
    }
    #[inline(always)]
    unsafe fn dot_signed(run: Self::Run, weights: Self::Bytes, input: *const i8) -> Self::Run {
        unsafe {
            if VNNI {
                let flip = _mm256_set1_epi8(-128);
                let a = _mm256_xor_si256(weights[0], flip);
                let b = _mm256_xor_si256(weights[1], flip);
                return Self::dot(run, [a, b], input);
            }
            // |w| * (a with the sign of w), because one factor must be unsigned.
            let input = Self::four(input);
            let [a, b] = weights;
            let a = _mm256_maddubs_epi16(_mm256_abs_epi8(a), _mm256_sign_epi8(input, a));
            [
                a,
                _mm256_maddubs_epi16(_mm256_abs_epi8(b), _mm256_sign_epi8(input, b)),
            ]
        }
    }
    #[inline(always)]
    unsafe fn end(sum: Self::Ints, run: Self::Run) -> Self::Ints {
        if VNNI {
            return run;
        }
        unsafe {
            let one = _mm256_set1_epi16(1);
            let a = _mm256_add_epi32(sum[0], _mm256_madd_epi16(run[0], one));
            [a, _mm256_add_epi32(sum[1], _mm256_madd_epi16(run[1], one))]
        }
    }

    #[inline(always)]
    unsafe fn run_scales(scales: Self::Ints) -> Self::Ints {
        if VNNI {
            return scales;
        }
        unsafe { Self::pairs(scales, scales) }
    }
    #[inline(always)]
    unsafe fn end_scaled(sum: Self::Ints, run: Self::Run, scales: Self::Ints) -> Self::Ints {
        unsafe {
            if VNNI {
                return Self::int_add(sum, Self::int_mul(run, scales));
            }
            let a = _mm256_add_epi32(sum[0], _mm256_madd_epi16(run[0], scales[0]));
            let b = _mm256_add_epi32(sum[1], _mm256_madd_epi16(run[1], scales[1]));
            [a, b]
        }
    }

    #[inline(always)]
    unsafe fn int(value: i32) -> Self::Ints {
        unsafe { [_mm256_set1_epi32(value); 2] }
    }
    #[inline(always)]
    unsafe fn ints_from_u8(from: *const u8) -> Self::Ints {
        unsafe {
            let bytes = _mm_loadu_si128(from.cast());
            let upper = _mm_unpackhi_epi64(bytes, bytes);
            [_mm256_cvtepu8_epi32(bytes), _mm256_cvtepu8_epi32(upper)]
        }
    }
    #[inline(always)]
    unsafe fn ints_from_i8(from: *const u8) -> Self::Ints {
        unsafe {
            let bytes = _mm_loadu_si128(from.cast());
            let upper = _mm_unpackhi_epi64(bytes, bytes);
            [_mm256_cvtepi8_epi32(bytes), _mm256_cvtepi8_epi32(upper)]
        }
    }
    #[inline(always)]
    unsafe fn int_bits([a, b]: Self::Ints, by: u32, mask: i32) -> Self::Ints {
        unsafe {
            let mask = _mm256_set1_epi32(mask);
            let by = _mm_cvtsi32_si128(by as i32);
            let a = _mm256_and_si256(_mm256_srl_epi32(a, by), mask);
            [a, _mm256_and_si256(_mm256_srl_epi32(b, by), mask)]
        }
    }
    #[inline(always)]
    unsafe fn int_add(a: Self::Ints, b: Self::Ints) -> Self::Ints {
        unsafe { [_mm256_add_epi32(a[0], b[0]), _mm256_add_epi32(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn int_mul(a: Self::Ints, b: Self::Ints) -> Self::Ints {
        unsafe {
            [
                _mm256_mullo_epi32(a[0], b[0]),
                _mm256_mullo_epi32(a[1], b[1]),
            ]
        }
    }
    #[inline(always)]
    unsafe fn pairs(low: Self::Ints, high: Self::Ints) -> Self::Ints {
        unsafe {
            let a = _mm256_blend_epi16::<0b1010_1010>(low[0], _mm256_slli_epi32::<16>(high[0]));
            let b = _mm256_blend_epi16::<0b1010_1010>(low[1], _mm256_slli_epi32::<16>(high[1]));
            [a, b]
        }
    }
    #[inline(always)]
    unsafe fn pair_products([a, b]: Self::Ints, with: *const i16) -> Self::Ints {
        unsafe {
            let with = Self::four(with.cast());
            [_mm256_madd_epi16(a, with), _mm256_madd_epi16(b, with)]
        }
    }
    #[inline(always)]
    unsafe fn int_sum([a, b]: Self::Ints) -> i32 {
        unsafe {
            let eight = _mm256_add_epi32(a, b);
            let four = _mm_add_epi32(
                _mm256_castsi256_si128(eight),
                _mm256_extracti128_si256::<1>(eight),
            );
            let two = _mm_add_epi32(four, _mm_unpackhi_epi64(four, four));
            _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<1>(two)))
        }
    }
    #[inline(always)]
    unsafe fn store_i8([a, b]: Self::Ints, to: *mut i8) {
        unsafe {
            // Packing works within halves of a register, hence the reordering. It saturates, which
            // the masks prevent.
            let byte = _mm256_set1_epi32(255);
            let (a, b) = (_mm256_and_si256(a, byte), _mm256_and_si256(b, byte));
            let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(a, b));
            let bytes = _mm_packus_epi16(
                _mm256_castsi256_si128(words),
                _mm256_extracti128_si256::<1>(words),
            );
            _mm_storeu_si128(to.cast(), bytes);
        }
    }

    #[inline(always)]
    unsafe fn float(value: f32) -> Self::Floats {
        unsafe { [_mm256_set1_ps(value); 2] }
    }
    #[inline(always)]
    unsafe fn floats(from: *const f32) -> Self::Floats {
        unsafe { [_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))] }
    }
    #[inline(always)]
    unsafe fn floats_from_f16(from: *const u16) -> Self::Floats {
        unsafe {
            let a = _mm256_cvtph_ps(_mm_loadu_si128(from.cast()));
            [a, _mm256_cvtph_ps(_mm_loadu_si128(from.add(8).cast()))]
        }
    }
    #[inline(always)]
    unsafe fn floats_from_bf16(from: *const u16) -> Self::Floats {
        unsafe {
            let a = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()));
            let b = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.add(8).cast()));
            [
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(a)),
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(b)),
            ]
        }
    }
    #[inline(always)]
    unsafe fn floats_from_ints([a, b]: Self::Ints) -> Self::Floats {
        unsafe { [_mm256_cvtepi32_ps(a), _mm256_cvtepi32_ps(b)] }
    }
    #[inline(always)]
    unsafe fn nearest([a, b]: Self::Floats) -> Self::Ints {
        unsafe { [_mm256_cvtps_epi32(a), _mm256_cvtps_epi32(b)] }
    }
    #[inline(always)]
    unsafe fn power_of_two([a, b]: Self::Ints) -> Self::Floats {
        unsafe {
            let bias = _mm256_set1_epi32(127);
            let a = _mm256_slli_epi32::<23>(_mm256_add_epi32(a, bias));
            let b = _mm256_slli_epi32::<23>(_mm256_add_epi32(b, bias));
            [_mm256_castsi256_ps(a), _mm256_castsi256_ps(b)]
        }
    }
    #[inline(always)]
    unsafe fn add(a: Self::Floats, b: Self::Floats) -> Self::Floats {
        unsafe { [_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn mul(a: Self::Floats, b: Self::Floats) -> Self::Floats {
        unsafe { [_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn div(a: Self::Floats, b: Self::Floats) -> Self::Floats {
        unsafe { [_mm256_div_ps(a[0], b[0]), _mm256_div_ps(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn mul_add(a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats {
        unsafe {
            [
                _mm256_fmadd_ps(a[0], b[0], c[0]),
                _mm256_fmadd_ps(a[1], b[1], c[1]),
            ]
        }
    }
    #[inline(always)]
    unsafe fn max(a: Self::Floats, b: Self::Floats) -> Self::Floats {
        unsafe { [_mm256_max_ps(a[0], b[0]), _mm256_max_ps(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn min(a: Self::Floats, b: Self::Floats) -> Self::Floats {
        unsafe { [_mm256_min_ps(a[0], b[0]), _mm256_min_ps(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn abs([a, b]: Self::Floats) -> Self::Floats {
        unsafe {
            let sign = _mm256_set1_ps(-0.0);
            [_mm256_andnot_ps(sign, a), _mm256_andnot_ps(sign, b)]
        }
    }
    #[inline(always)]
    unsafe fn store([a, b]: Self::Floats, to: *mut f32) {
        unsafe {
            _mm256_storeu_ps(to, a);
            _mm256_storeu_ps(to.add(8), b);
        }
    }
    #[inline(always)]
    unsafe fn store_f16([a, b]: Self::Floats, to: *mut u16) {
        unsafe {
            _mm_storeu_si128(to.cast(), _mm256_cvtps_ph::<0>(a));
            _mm_storeu_si128(to.add(8).cast(), _mm256_cvtps_ph::<0>(b));
        }
    }
}
