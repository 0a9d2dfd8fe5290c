//! The exponential function for many numbers at once. Only plain arithmetic, in an order that is
//! written down: the same bits on every processor, and in a form that compilers vectorise.

/// Sums are kept in as many parts, so that they can be added side by side.
const LANES: usize = 16;

/// `e^x` for `x` up to 0, within 2 units in the last place; 0 below -87.
pub fn exp(x: f32) -> f32 {
    /// Adding it rounds to a whole number, which then is in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    const LOG2_E: f32 = std::f32::consts::LOG2_E;
    // ln 2 in two parts, the first of which has zeros at its end.
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let clamped = if x > -87.0 { x } else { -87.0 };
    let shifted = clamped * LOG2_E + ROUND;
    let whole = shifted - ROUND;
    let rest = clamped - whole * LN_2_HIGH - whole * LN_2_LOW;
    let mut sum = 1.987_569_1e-4;
    for factor in [
        1.398_199_9e-3,
        8.333_452e-3,
        4.166_579_6e-2,
        1.666_666_5e-1,
        0.5,
    ] {
        sum = sum * rest + factor;
    }
    let fraction = sum * rest * rest + rest + 1.0;
    // Only the lowest bits of the shifted number count: the whole number, plus the bias.
    let power = f32::from_bits((shifted.to_bits().wrapping_add(127)) << 23);
    if x > -87.0 { fraction * power } else { 0.0 }
}

/// The sum of `e^((logit - largest) * sharpness)`.
pub fn sum_of_weights(logits: &[f32], largest: f32, sharpness: f32) -> f64 {
    let mut sums = [0.0_f32; LANES];
    let mut total = 0.0_f64;
    // Parts are short, so that single precision is enough inside them.
    for part in logits.chunks(LANES * 64) {
        sums.fill(0.0);
        let mut lanes = part.chunks_exact(LANES);
        for logits in &mut lanes {
            for (sum, logit) in sums.iter_mut().zip(logits) {
                *sum += exp((logit - largest) * sharpness);
            }
        }
        for (sum, logit) in sums.iter_mut().zip(lanes.remainder()) {
            *sum += exp((logit - largest) * sharpness);
        }
        total += sums.iter().map(|&sum| f64::from(sum)).sum::<f64>();
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_exponential_function() {
        for step in 0..=87_000 {
            let x = -(step as f32) / 1000.0;
            let expected = f64::from(x).exp();
            let error = (f64::from(exp(x)) - expected).abs() / expected;
            assert!(error < 2.5e-7 || step == 87_000, "{x}: {error}");
        }
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(-1e30), 0.0);
    }

    #[test]
    fn a_sum_leaves_nothing_out() {
        for count in [1, 15, 16, 17, 1023, 1025, 5000] {
            let sum = sum_of_weights(&vec![2.0; count], 2.0, 0.5);
            assert_eq!(sum, count as f64);
        }
    }
}
