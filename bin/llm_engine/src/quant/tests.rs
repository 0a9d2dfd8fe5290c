//! Quantised blocks held against their definitions, value by value.

use super::*;

#[test]
fn half_precision_round_trips_and_rounds_to_even() {
    for bits in 0..=u16::MAX {
        let value = half::to_f32(bits);
        if value.is_nan() {
            assert!(half::to_f32(half::from_f32(value)).is_nan());
        } else {
            assert_eq!(half::from_f32(value), bits);
        }
    }
    let cases = [
        (1.0, 0x3c00),
        (65504.0, 0x7bff),
        (65519.9, 0x7bff),
        (65520.0, 0x7c00),
        (2.0_f32.powi(-24), 1),
        (2.0_f32.powi(-25), 0),
        (1.5 * 2.0_f32.powi(-25), 1),
        (-1.0 - 2.0_f32.powi(-11), 0xbc00),
        (1.0 + 3.0 * 2.0_f32.powi(-11), 0x3c02),
    ];
    for (value, bits) in cases {
        assert_eq!(half::from_f32(value), bits, "{value}");
    }
}

/// Blocks of arbitrary bytes, with halves at `halves` that are no extreme numbers.
fn blocks(size: usize, halves: &[usize], count: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut bytes = Vec::new();
    for block in 0..count {
        let start = bytes.len();
        for _ in 0..size {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            bytes.push((state >> 24) as u8);
        }
        for (number, half) in halves.iter().enumerate() {
            bytes[start + half] = (17 * block + 29 * number) as u8;
            bytes[start + half + 1] = 0x2c + 0x80 * number as u8;
        }
        if size == 2 {
            bytes[start + 1] = bytes[start + 1] & 0x83 | 0x3c;
        }
    }
    bytes
}

/// Two sums over the numbers of the same blocks as the Python package `gguf` 0.19.0 reads them:
/// `i * v` and `i * v * v` with `i` from 1, so that order and sign count.
#[test]
fn blocks_mean_what_they_mean_to_the_format_s_own_reader() {
    use TensorType::*;
    #[rustfmt::skip]
    let cases: [(_, &[usize], f64, f64); 12] = [
        (Q4_0, &[0], -255.13458251953125, 830.6245306320488),
        (Q4_1, &[0, 2], 3732.3572998046875, 2476.2944509759545),
        (Q5_0, &[0], 678.8955688476562, 3051.4671466462314),
        (Q5_1, &[0, 2], 8209.994567871094, 11621.992721546441),
        (Q8_0, &[0], 1677.6131591796875, 208097.428333804),
        (Q2K, &[80, 82], 744530.0208740234, 1477642.6187915355),
        (Q3K, &[108], -58903.68475341797, 3351355.510720428),
        (Q4K, &[0, 2], 10080324.308654785, 320172034.6867859),
        (Q5K, &[0, 2], 23984590.17840576, 1710163865.8709893),
        (Q6K, &[208], -1661192.3555297852, 5216607503.79063),
        (Bf16, &[], -70.3936767578125, 1006.6154917478561),
        (F16, &[], 560.869140625, 4836.44428062439),
    ];
    for (kind, halves, first, second) in cases {
        let size = kind.block_bytes() as usize;
        let count = if size == 2 { 64 } else { 4 };
        let mut values = vec![0.0; count * kind.block_length() as usize];
        dequantise(kind, &blocks(size, halves, count), &mut values);
        let sum = |power: i32| -> f64 {
            let weighted =
                |(at, value): (usize, &f32)| (at + 1) as f64 * f64::from(*value).powi(power);
            values.iter().enumerate().map(weighted).sum()
        };
        let near = |sum: f64, expected: f64| (sum - expected).abs() < 1e-5 * second;
        assert!(near(sum(1), first), "{kind:?}: {} {first}", sum(1));
        assert!(near(sum(2), second), "{kind:?}: {} {second}", sum(2));
    }
}
