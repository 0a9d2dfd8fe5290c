//! Kernels are held to plain code to the last bit, and plain code to sums in double precision.

use super::*;
use crate::pool::Pool;
use crate::quant::{dequantise, half};

compile!(
    with_offset,
    "plain code, with an offset",
    portable::Portable<true>,
    [8, 4, 2, 1]
);

const KINDS: [TensorType; 13] = [
    TensorType::F32,
    TensorType::F16,
    TensorType::Bf16,
    TensorType::Q4_0,
    TensorType::Q4_1,
    TensorType::Q5_0,
    TensorType::Q5_1,
    TensorType::Q8_0,
    TensorType::Q2K,
    TensorType::Q3K,
    TensorType::Q4K,
    TensorType::Q5K,
    TensorType::Q6K,
];

/// All that can be tested on this machine; the last of the usable ones is the measure.
fn all_kernels() -> (Vec<&'static Kernels>, &'static Kernels) {
    let mut all = Kernels::usable().to_vec();
    let plain = all.pop().expect("plain code is always usable");
    all.push(&with_offset::KERNELS);
    (all, plain)
}

/// Numbers without pattern.
struct Random(u64);

impl Random {
    fn bits(&mut self) -> u32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) as u32
    }

    /// From -1 to 1.
    fn float(&mut self) -> f32 {
        self.bits() as f32 / (1_u32 << 30) as f32 - 1.0
    }

    fn floats(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.float()).collect()
    }
}

/// Where a block's half-precision numbers are.
fn halves(kind: TensorType) -> &'static [usize] {
    match kind {
        TensorType::F32 | TensorType::F16 | TensorType::Bf16 => &[],
        TensorType::Q4_0 | TensorType::Q5_0 | TensorType::Q8_0 => &[0],
        TensorType::Q4_1 | TensorType::Q5_1 | TensorType::Q4K | TensorType::Q5K => &[0, 2],
        TensorType::Q2K => &[80, 82],
        TensorType::Q3K => &[108],
        TensorType::Q6K => &[208],
    }
}

/// A tensor of which every bit that isn't part of a float is random, or as `fill` says.
fn tensor(kind: TensorType, numbers: usize, fill: Option<u8>, random: &mut Random) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..numbers / kind.block_length() as usize {
        let start = bytes.len();
        match kind {
            TensorType::F32 => bytes.extend(random.float().to_le_bytes()),
            TensorType::F16 => bytes.extend(half::from_f32(random.float()).to_le_bytes()),
            TensorType::Bf16 => bytes.extend(&random.float().to_le_bytes()[2..]),
            _ => {
                let byte = |_| fill.unwrap_or_else(|| random.bits() as u8);
                bytes.extend((0..kind.block_bytes()).map(byte));
            }
        }
        for at in halves(kind) {
            let number = half::from_f32(random.float());
            bytes[start + at..][..2].copy_from_slice(&number.to_le_bytes());
        }
    }
    bytes
}

fn packed(kind: TensorType, rows: usize, columns: usize, bytes: &[u8]) -> Vec<u8> {
    let size = tile_bytes(kind, columns);
    let mut tiles = vec![0; rows.div_ceil(LANES) * size];
    let row_bytes = bytes.len() / rows;
    for (tile, rows) in tiles.chunks_mut(size).zip(bytes.chunks(LANES * row_bytes)) {
        pack_tile(kind, columns, rows, tile);
    }
    tiles
}

#[test]
fn packing_loses_nothing() {
    let mut random = Random(1);
    for kind in KINDS {
        let (rows, columns) = (18, 512);
        let bytes = tensor(kind, rows * columns, None, &mut random);
        let mut expected = vec![0.0; rows * columns];
        dequantise(kind, &bytes, &mut expected);
        let tiles = packed(kind, rows, columns, &bytes);
        for (row, expected) in expected.chunks(columns).enumerate() {
            let size = tile_bytes(kind, columns);
            let mut values = vec![0.0; columns];
            unpack_row(
                kind,
                &tiles[row / LANES * size..][..size],
                row % LANES,
                &mut values,
            );
            assert_eq!(values, expected, "{kind:?}, row {row}");
        }
    }
}

#[test]
fn packing_takes_little_more_than_the_file() {
    for kind in KINDS {
        let in_file = (LANES * 256) as u64 / kind.block_length() * kind.block_bytes();
        let ratio = tile_bytes(kind, 256) as f64 / in_file as f64;
        assert!((1.0..1.04).contains(&ratio), "{kind:?}: {ratio}");
    }
}

/// A product with all input rows.
fn product(
    kernels: &'static Kernels,
    kind: TensorType,
    rows: usize,
    columns: usize,
    tiles: &[u8],
    input: &[f32],
) -> Vec<f32> {
    static POOL: LazyLock<Pool> = LazyLock::new(|| Pool::new(2).expect("threads can be started"));
    let mut output = vec![f32::NAN; input.len() / columns * rows];
    let factor = Factor {
        kind,
        tiles,
        rows,
        output: &mut output,
    };
    multiply(
        kernels,
        &POOL,
        input,
        columns,
        &mut [factor],
        &mut Vec::new(),
    );
    output
}

/// The product of the weights with the quantised input, in double precision, and how large its
/// terms are together.
fn exact(kind: TensorType, columns: usize, bytes: &[u8], row: usize, input: &[f32]) -> (f64, f64) {
    let row_bytes = columns / kind.block_length() as usize * kind.block_bytes() as usize;
    let mut weights = vec![0.0; columns];
    dequantise(kind, &bytes[row * row_bytes..][..row_bytes], &mut weights);
    let mut rounded = input.to_vec();
    if kind.block_length() > 1 {
        for group in rounded.chunks_mut(GROUP) {
            let largest = group.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
            let scale = f64::from(largest) / 127.0;
            let nearest = |x: f32| (f64::from(x) / scale).round_ties_even() * scale;
            group.iter_mut().for_each(|x| *x = nearest(*x) as f32);
        }
    }
    let products = weights.iter().zip(rounded);
    products.fold((0.0, 0.0), |(sum, size), (weight, input)| {
        let product = f64::from(*weight) * f64::from(input);
        (sum + product, size + product.abs())
    })
}

#[test]
fn plain_code_multiplies() {
    let (_, plain) = all_kernels();
    let mut random = Random(2);
    for kind in KINDS {
        let (rows, columns, count) = (21, 512, 3);
        let bytes = tensor(kind, rows * columns, None, &mut random);
        let tiles = packed(kind, rows, columns, &bytes);
        // No multiple of half a step: what is nearest must not depend on rounding.
        let input: Vec<_> = random
            .floats(columns * count)
            .iter()
            .enumerate()
            .map(|(at, x)| {
                if at % 32 == 0 {
                    1.27
                } else {
                    (x * 99.0).round() / 100.0 + 0.001
                }
            })
            .collect();
        let output = product(plain, kind, rows, columns, &tiles, &input);
        for (at, output) in output.iter().enumerate() {
            let input = &input[at / rows * columns..][..columns];
            let (exact, size) = exact(kind, columns, &bytes, at % rows, input);
            let error = (f64::from(*output) - exact).abs() / size;
            assert!(error < 1e-5, "{kind:?}: {output} is not {exact}");
        }
    }
}

#[test]
fn all_processors_multiply_alike() {
    let (all, plain) = all_kernels();
    let mut random = Random(3);
    for kind in KINDS {
        for fill in [None, Some(0xff), Some(0x80), Some(0x7f), Some(0)] {
            let (rows, columns) = (37, 768);
            let bytes = tensor(kind, rows * columns, fill, &mut random);
            let tiles = packed(kind, rows, columns, &bytes);
            let mut input = random.floats(columns * 70);
            // Rows of the largest integers of one sign, of both signs, and of nothing.
            input[..columns].fill(1.0);
            input[columns..2 * columns].fill(-1.0);
            input[2 * columns..3 * columns].fill(0.0);
            let expected = product(plain, kind, rows, columns, &tiles, &input);
            for kernels in &all {
                let output = product(kernels, kind, rows, columns, &tiles, &input);
                assert!(
                    same_bits(&output, &expected),
                    "{} {kind:?} {fill:?}",
                    kernels.name
                );
            }
        }
    }
}

fn same_bits(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

#[test]
fn a_row_s_product_does_not_depend_on_other_rows() {
    let (all, plain) = all_kernels();
    let mut random = Random(4);
    for kind in KINDS {
        let (rows, columns) = (17, 256);
        let bytes = tensor(kind, rows * columns, None, &mut random);
        let tiles = packed(kind, rows, columns, &bytes);
        let input = random.floats(columns * 64);
        for kernels in all.iter().chain([&plain]) {
            let alone: Vec<_> = input
                .chunks(columns)
                .flat_map(|row| product(kernels, kind, rows, columns, &tiles, row))
                .collect();
            for count in 1..=64 {
                let input = &input[..count * columns];
                let together = product(kernels, kind, rows, columns, &tiles, input);
                let alone = &alone[..count * rows];
                assert!(
                    same_bits(&together, alone),
                    "{} {kind:?} {count}",
                    kernels.name
                );
            }
        }
    }
}

#[test]
fn all_processors_quantise_alike_and_closely() {
    let (all, plain) = all_kernels();
    let mut random = Random(5);
    let mut input = random.floats(GROUP * 20);
    input[..GROUP].fill(0.0);
    input[GROUP..2 * GROUP].fill(1e-38);
    input[2 * GROUP] = 3e38;
    for (at, x) in input[3 * GROUP..4 * GROUP].iter_mut().enumerate() {
        // Halfway between two integers, of which the even one is taken.
        *x = (at as f32 - 16.0) / 2.0 + if at == 0 { -119.0 } else { 0.0 };
    }
    let groups = input.len() / GROUP;
    let mut expected = vec![Activations::default(); groups];
    plain.quantise(&input, &mut expected);
    for (group, input) in expected.iter().zip(input.chunks(GROUP)) {
        for (quant, x) in group.quants.iter().zip(input) {
            let error = (f32::from(*quant) * group.scale - x).abs();
            assert!(error <= group.scale * 0.5001 + 1e-30, "{x} became {quant}");
        }
        let sum = |quants: &[i8]| quants.iter().map(|q| i32::from(*q)).sum::<i32>();
        assert_eq!(group.sum, sum(&group.quants));
        assert_eq!(i32::from(group.part_sums[0]), sum(&group.quants[..LANES]));
        assert_eq!(i32::from(group.part_sums[1]), sum(&group.quants[LANES..]));
        assert_eq!(group.scaled_sum, group.scale * group.sum as f32);
    }
    for kernels in all {
        let mut output = vec![Activations::default(); groups];
        kernels.quantise(&input, &mut output);
        assert_eq!(output, expected, "{}", kernels.name);
    }
}

#[test]
fn all_processors_round_to_halves_alike() {
    let (all, plain) = all_kernels();
    let mut random = Random(6);
    let mut input: Vec<_> = (0..4096)
        .map(|_| f32::from_bits(random.bits() << 1 ^ random.bits()))
        .filter(|float| !float.is_nan())
        .collect();
    input.truncate(input.len() / LANES * LANES);
    let most = 65504.0;
    let expected: Vec<_> = input
        .iter()
        .map(|float| half::from_f32(float.clamp(-most, most)))
        .collect();
    for kernels in all.into_iter().chain([plain]) {
        let mut output = vec![0; input.len()];
        kernels.to_halves(&input, &mut output);
        assert_eq!(output, expected, "{}", kernels.name);
    }
}

/// Compares what `run` makes on all processors, and plain code's with `exact`.
fn compare(
    what: &str,
    tolerance: f64,
    run: impl Fn(&Kernels) -> Vec<f32>,
    exact: impl Iterator<Item = f64>,
) {
    let (all, plain) = all_kernels();
    let expected = run(plain);
    for (at, (output, exact)) in expected.iter().zip(exact).enumerate() {
        let error = (f64::from(*output) - exact).abs();
        assert!(
            error <= tolerance * (exact.abs() + 1e-3),
            "{what} {at}: {output}, not {exact}"
        );
    }
    for kernels in all {
        assert!(
            same_bits(&run(kernels), &expected),
            "{what} on {}",
            kernels.name
        );
    }
}

#[test]
fn norms_and_gates_are_right_and_alike_whatever_the_length() {
    let mut random = Random(7);
    for length in [1, 15, 16, 17, 100, 576] {
        let input: Vec<_> = random.floats(length).iter().map(|x| x * 20.0).collect();
        let other = random.floats(length);
        let wide = |x: &f32| f64::from(*x);
        let mean = input.iter().map(|x| wide(x).powi(2)).sum::<f64>() / length as f64;
        let pairs = || input.iter().zip(&other).map(|(a, b)| (wide(a), wide(b)));
        let norm = |kernels: &Kernels| {
            let mut output = vec![0.0; length];
            kernels.rms_norm(&input, &other, 1e-5, &mut output);
            let mut in_place = input.clone();
            kernels.rms_norm_in_place(&mut in_place, &other, 1e-5);
            assert!(same_bits(&in_place, &output));
            output
        };
        let factor = 1.0 / (mean + 1e-5).sqrt();
        compare("norm", 1e-6, norm, pairs().map(|(a, b)| a * factor * b));
        let silu = |kernels: &Kernels| {
            let mut gate = input.clone();
            kernels.gate_silu(&mut gate, &other);
            gate
        };
        compare(
            "silu",
            1e-6,
            silu,
            pairs().map(|(a, b)| a / (1.0 + (-a).exp()) * b),
        );
        let gelu = |kernels: &Kernels| {
            let mut gate = input.clone();
            kernels.gate_gelu(&mut gate, &other);
            gate
        };
        let factor = (2.0 / std::f64::consts::PI).sqrt();
        let tanh = |x: f64| (factor * (x + 0.044715 * x.powi(3))).tanh();
        compare(
            "gelu",
            3e-6,
            gelu,
            pairs().map(|(a, b)| 0.5 * a * (1.0 + tanh(a)) * b),
        );
    }
}
