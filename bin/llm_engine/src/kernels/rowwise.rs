//! What is done to each row of activations on its own.

use super::product::{Activations, GROUP};
use super::simd::{LANES, Simd, exp, most, sum};

/// Quantises a row, 32 numbers at a time.
///
/// # Safety
///
/// `input` is good for `32 * groups` numbers, `output` for `groups`. See [`Simd`] for the rest.
#[inline(always)]
pub unsafe fn quantise<S: Simd>(input: *const f32, output: *mut Activations, groups: usize) {
    unsafe {
        for group in 0..groups {
            let input = input.add(group * GROUP);
            let halves = [S::floats(input), S::floats(input.add(LANES))];
            let largest = most::<S>(S::max(S::abs(halves[0]), S::abs(halves[1])));
            // Of zeros, and of what is so small that its inverse is none, only zeros are left.
            let inverse = if largest > 1e-30 {
                127.0 / largest
            } else {
                0.0
            };
            let output = &mut *output.add(group);
            let mut sums = [0; 2];
            let mut half = 0;
            while half < 2 {
                let quants = S::nearest(S::mul(halves[half], S::float(inverse)));
                S::store_i8(quants, output.quants.as_mut_ptr().add(half * LANES));
                sums[half] = S::int_sum(quants);
                half += 1;
            }
            output.scale = largest / 127.0;
            output.sum = i32::wrapping_add(sums[0], sums[1]);
            output.scaled_sum = output.scale * output.sum as f32;
            output.part_sums = [sums[0] as i16, sums[1] as i16];
        }
    }
}

/// Divides a row by its root mean square and multiplies it with `weight`. `output` may be `input`.
///
/// # Safety
///
/// The pointers are good for `length` numbers. See [`Simd`] for the rest.
#[inline(always)]
pub unsafe fn rms_norm<S: Simd>(
    input: *const f32,
    weight: *const f32,
    epsilon: f32,
    output: *mut f32,
    length: usize,
) {
    unsafe {
        let mut squares = S::float(0.0);
        let mut at = 0;
        while at < length {
            let numbers = some::<S>(input.add(at), length - at);
            squares = S::mul_add(numbers, numbers, squares);
            at += LANES;
        }
        let mean = sum::<S>(squares) / length as f32;
        let factor = S::float(1.0 / (mean + epsilon).sqrt());
        at = 0;
        while at < length {
            let numbers = S::mul(some::<S>(input.add(at), length - at), factor);
            let numbers = S::mul(numbers, some::<S>(weight.add(at), length - at));
            store_some::<S>(numbers, output.add(at), length - at);
            at += LANES;
        }
    }
}

/// `gate = activation(gate) * up`, where both activations are `x * sigmoid(y)`: SiLU with `y = x`,
/// GELU with `y = 2 sqrt(2 / pi) (x + 0.044715 x^3)`, because `(1 + tanh z) / 2 = sigmoid(2 z)`.
///
/// # Safety
///
/// The pointers are good for `length` numbers. See [`Simd`] for the rest.
#[inline(always)]
pub unsafe fn gate<S: Simd, const GELU: bool>(gate: *mut f32, up: *const f32, length: usize) {
    unsafe {
        let mut at = 0;
        while at < length {
            let x = some::<S>(gate.add(at), length - at);
            let y = if GELU {
                let cubic = S::mul_add(S::mul(x, x), S::float(0.071_354_82), S::float(1.595_769));
                S::mul(x, cubic)
            } else {
                x
            };
            let one = S::float(1.0);
            let sigmoid = S::div(one, S::add(one, exp::<S>(S::mul(y, S::float(-1.0)))));
            let up = some::<S>(up.add(at), length - at);
            let result = S::mul(S::mul(x, sigmoid), up);
            store_some::<S>(result, gate.add(at), length - at);
            at += LANES;
        }
    }
}

/// Sixteen numbers, or the `left` that there are, and zeros.
#[inline(always)]
unsafe fn some<S: Simd>(from: *const f32, left: usize) -> S::Floats {
    unsafe {
        if left >= LANES {
            return S::floats(from);
        }
        let mut lanes = [0.0; LANES];
        std::ptr::copy_nonoverlapping(from, lanes.as_mut_ptr(), left);
        S::floats(lanes.as_ptr())
    }
}

/// Writes sixteen numbers, or the first `left`.
#[inline(always)]
unsafe fn store_some<S: Simd>(floats: S::Floats, to: *mut f32, left: usize) {
    unsafe {
        if left >= LANES {
            return S::store(floats, to);
        }
        let lanes = super::simd::lanes::<S>(floats);
        std::ptr::copy_nonoverlapping(lanes.as_ptr(), to, left);
    }
}
