//! Sixteen lanes in four registers of 128 bits: NEON with the dot product instructions.
//!
//! Some instructions are written as such: the functions for them are not in stable Rust yet.

use std::arch::aarch64::*;
use std::arch::asm;

use super::simd::Simd;

/// NEON with `dotprod`.
#[derive(Clone, Copy)]
pub struct Neon;

/// Evaluates an expression for each of the four registers.
macro_rules! four {
    ($at:ident, $value:expr) => {
        [
            {
                let $at = 0;
                $value
            },
            {
                let $at = 1;
                $value
            },
            {
                let $at = 2;
                $value
            },
            {
                let $at = 3;
                $value
            },
        ]
    };
}

/// Adds, in each lane, the products of four signed bytes.
#[inline(always)]
unsafe fn sdot(mut sums: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    unsafe {
        asm!(
            ".arch_extension dotprod",
            "sdot {0:v}.4s, {1:v}.16b, {2:v}.16b",
            inout(vreg) sums,
            in(vreg) a,
            in(vreg) b,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sums
}

/// Four binary16 numbers as binary32.
#[inline(always)]
unsafe fn widen(halves: uint16x4_t) -> float32x4_t {
    let wide: float32x4_t;
    unsafe {
        asm!(
            "fcvtl {0:v}.4s, {1:v}.4h",
            out(vreg) wide,
            in(vreg) halves,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    wide
}

/// Four binary32 numbers as binary16.
#[inline(always)]
unsafe fn narrow(wide: float32x4_t) -> uint16x4_t {
    let halves: uint16x4_t;
    unsafe {
        asm!(
            "fcvtn {0:v}.4h, {1:v}.4s",
            out(vreg) halves,
            in(vreg) wide,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    halves
}

/// Two registers of 16-bit integers as four of 32 bits.
#[inline(always)]
unsafe fn wide_ints(a: int16x8_t, b: int16x8_t) -> [int32x4_t; 4] {
    unsafe {
        [
            vmovl_s16(vget_low_s16(a)),
            vmovl_high_s16(a),
            vmovl_s16(vget_low_s16(b)),
            vmovl_high_s16(b),
        ]
    }
}

impl Simd for Neon {
    type Bytes = [uint8x16_t; 4];
    type Ints = [int32x4_t; 4];
    type Floats = [float32x4_t; 4];
    type Run = [int32x4_t; 4];

    const SHORT_RUNS: bool = false;
    const MANY_REGISTERS: bool = false;
    const SIGNED_OFFSET: i32 = 0;

    #[inline(always)]
    unsafe fn prefetch(address: *const u8) {
        unsafe {
            asm!(
                "prfm pldl1keep, [{0}]",
                in(reg) address,
                options(readonly, nostack, preserves_flags)
            );
        }
    }
    #[inline(always)]
    unsafe fn prefetch_to_write(address: *const u8) {
        unsafe {
            asm!(
                "prfm pstl1keep, [{0}]",
                in(reg) address,
                options(readonly, nostack, preserves_flags)
            );
        }
    }
    #[inline(always)]
    unsafe fn bytes(from: *const u8) -> Self::Bytes {
        unsafe { four!(at, vld1q_u8(from.add(16 * at))) }
    }
    #[inline(always)]
    unsafe fn bits_down(bytes: Self::Bytes, by: u32, mask: u8) -> Self::Bytes {
        unsafe {
            let (by, mask) = (vdupq_n_s8(-(by as i8)), vdupq_n_u8(mask));
            four!(at, vandq_u8(vshlq_u8(bytes[at], by), mask))
        }
    }
    #[inline(always)]
    unsafe fn bits_up(bytes: Self::Bytes, by: u32, mask: u8) -> Self::Bytes {
        unsafe {
            let (by, mask) = (vdupq_n_s8(by as i8), vdupq_n_u8(mask));
            four!(at, vandq_u8(vshlq_u8(bytes[at], by), mask))
        }
    }
    #[inline(always)]
    unsafe fn or(a: Self::Bytes, b: Self::Bytes) -> Self::Bytes {
        unsafe { four!(at, vorrq_u8(a[at], b[at])) }
    }

    #[inline(always)]
    unsafe fn begin(sum: Self::Ints) -> Self::Run {
        sum
    }
    #[inline(always)]
    unsafe fn dot(run: Self::Run, weights: Self::Bytes, input: *const i8) -> Self::Run {
        unsafe {
            let input = vreinterpretq_s8_s32(vld1q_dup_s32(input.cast()));
            // Weights up to 127 are the same with and without sign.
            four!(at, sdot(run[at], vreinterpretq_s8_u8(weights[at]), input))
        }
    }
    #[inline(always)]
    unsafe fn dot_signed(run: Self::Run, weights: Self::Bytes, input: *const i8) -> Self::Run {
        unsafe { Self::dot(run, weights, input) }
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
        unsafe { four!(at, vmlaq_s32(sum[at], run[at], scales[at])) }
    }

    #[inline(always)]
    unsafe fn int(value: i32) -> Self::Ints {
        unsafe { [vdupq_n_s32(value); 4] }
    }
    #[inline(always)]
    unsafe fn ints_from_u8(from: *const u8) -> Self::Ints {
        unsafe {
            let bytes = vld1q_u8(from);
            let low = vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(bytes)));
            wide_ints(low, vreinterpretq_s16_u16(vmovl_high_u8(bytes)))
        }
    }
    #[inline(always)]
    unsafe fn ints_from_i8(from: *const u8) -> Self::Ints {
        unsafe {
            let bytes = vld1q_s8(from.cast());
            wide_ints(vmovl_s8(vget_low_s8(bytes)), vmovl_high_s8(bytes))
        }
    }
    #[inline(always)]
    unsafe fn int_bits(ints: Self::Ints, by: u32, mask: i32) -> Self::Ints {
        unsafe {
            let (by, mask) = (vdupq_n_s32(-(by as i32)), vdupq_n_s32(mask));
            let shifted = four!(at, vshlq_u32(vreinterpretq_u32_s32(ints[at]), by));
            four!(at, vandq_s32(vreinterpretq_s32_u32(shifted[at]), mask))
        }
    }
    #[inline(always)]
    unsafe fn int_add(a: Self::Ints, b: Self::Ints) -> Self::Ints {
        unsafe { four!(at, vaddq_s32(a[at], b[at])) }
    }
    #[inline(always)]
    unsafe fn int_mul(a: Self::Ints, b: Self::Ints) -> Self::Ints {
        unsafe { four!(at, vmulq_s32(a[at], b[at])) }
    }
    #[inline(always)]
    unsafe fn pairs(low: Self::Ints, high: Self::Ints) -> Self::Ints {
        unsafe { four!(at, vsliq_n_s32::<16>(low[at], high[at])) }
    }
    #[inline(always)]
    unsafe fn pair_products(pairs: Self::Ints, with: *const i16) -> Self::Ints {
        unsafe {
            let with = vreinterpretq_s16_s32(vld1q_dup_s32(with.cast()));
            let pairs = four!(at, vreinterpretq_s16_s32(pairs[at]));
            four!(
                at,
                vpaddq_s32(
                    vmull_s16(vget_low_s16(pairs[at]), vget_low_s16(with)),
                    vmull_high_s16(pairs[at], with)
                )
            )
        }
    }
    #[inline(always)]
    unsafe fn int_sum(ints: Self::Ints) -> i32 {
        unsafe {
            let (a, b) = (vaddq_s32(ints[0], ints[1]), vaddq_s32(ints[2], ints[3]));
            vaddvq_s32(vaddq_s32(a, b))
        }
    }
    #[inline(always)]
    unsafe fn store_i8(ints: Self::Ints, to: *mut i8) {
        unsafe {
            let low = vcombine_s16(vmovn_s32(ints[0]), vmovn_s32(ints[1]));
            let high = vcombine_s16(vmovn_s32(ints[2]), vmovn_s32(ints[3]));
            vst1q_s8(to, vcombine_s8(vmovn_s16(low), vmovn_s16(high)));
        }
    }

    #[inline(always)]
    unsafe fn float(value: f32) -> Self::Floats {
        unsafe { [vdupq_n_f32(value); 4] }
    }
    #[inline(always)]
    unsafe fn floats(from: *const f32) -> Self::Floats {
        unsafe { four!(at, vld1q_f32(from.add(4 * at))) }
    }
    #[inline(always)]
    unsafe fn floats_from_f16(from: *const u16) -> Self::Floats {
        unsafe { four!(at, widen(vld1_u16(from.add(4 * at)))) }
    }
    #[inline(always)]
    unsafe fn floats_from_bf16(from: *const u16) -> Self::Floats {
        unsafe {
            four!(
                at,
                vreinterpretq_f32_u32(vshll_n_u16::<16>(vld1_u16(from.add(4 * at))))
            )
        }
    }
    #[inline(always)]
    unsafe fn floats_from_ints(ints: Self::Ints) -> Self::Floats {
        unsafe { four!(at, vcvtq_f32_s32(ints[at])) }
    }
    #[inline(always)]
    unsafe fn nearest(floats: Self::Floats) -> Self::Ints {
        unsafe { four!(at, vcvtnq_s32_f32(floats[at])) }
    }
    #[inline(always)]
    unsafe fn power_of_two(ints: Self::Ints) -> Self::Floats {
        unsafe {
            let bias = vdupq_n_s32(127);
            let bits = four!(at, vshlq_n_s32::<23>(vaddq_s32(ints[at], bias)));
            four!(at, vreinterpretq_f32_s32(bits[at]))
        }
    }
    #[inline(always)]
    unsafe fn add(a: Self::Floats, b: Self::Floats) -> Self::Floats {
        unsafe { four!(at, vaddq_f32(a[at], b[at])) }
    }
    #[inline(always)]
    unsafe fn mul(a: Self::Floats, b: Self::Floats) -> Self::Floats {
        unsafe { four!(at, vmulq_f32(a[at], b[at])) }
    }
    #[inline(always)]
    unsafe fn div(a: Self::Floats, b: Self::Floats) -> Self::Floats {
        unsafe { four!(at, vdivq_f32(a[at], b[at])) }
    }
    #[inline(always)]
    unsafe fn mul_add(a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats {
        unsafe { four!(at, vfmaq_f32(c[at], a[at], b[at])) }
    }
    #[inline(always)]
    unsafe fn max(a: Self::Floats, b: Self::Floats) -> Self::Floats {
        unsafe { four!(at, vbslq_f32(vcgtq_f32(a[at], b[at]), a[at], b[at])) }
    }
    #[inline(always)]
    unsafe fn min(a: Self::Floats, b: Self::Floats) -> Self::Floats {
        unsafe { four!(at, vbslq_f32(vcltq_f32(a[at], b[at]), a[at], b[at])) }
    }
    #[inline(always)]
    unsafe fn abs(floats: Self::Floats) -> Self::Floats {
        unsafe { four!(at, vabsq_f32(floats[at])) }
    }
    #[inline(always)]
    unsafe fn store(floats: Self::Floats, to: *mut f32) {
        unsafe {
            vst1q_f32(to, floats[0]);
            vst1q_f32(to.add(4), floats[1]);
            vst1q_f32(to.add(8), floats[2]);
            vst1q_f32(to.add(12), floats[3]);
        }
    }
    #[inline(always)]
    unsafe fn store_f16(floats: Self::Floats, to: *mut u16) {
        unsafe {
            vst1_u16(to, narrow(floats[0]));
            vst1_u16(to.add(4), narrow(floats[1]));
            vst1_u16(to.add(8), narrow(floats[2]));
            vst1_u16(to.add(12), narrow(floats[3]));
        }
    }
}
