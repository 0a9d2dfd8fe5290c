//! What each operation has to compute, on every processor that can be had here.

use super::*;

fn cpus() -> Vec<Cpu> {
    let kernels = Kernels::usable().iter();
    let threads = kernels.flat_map(|kernels| [1, 3].map(|threads| (threads, kernels)));
    threads
        .map(|(threads, kernels)| Cpu::with_kernels(threads, kernels).expect("threads start"))
        .collect()
}

fn numbers(count: usize, seed: usize) -> Vec<f32> {
    (0..count)
        .map(|at| ((at * 7919 + seed * 104_729) % 2003) as f32 / 1001.5 - 1.0)
        .collect()
}

/// A sequence of `length` positions, attended to in steps of the given lengths.
struct Case {
    shape: Attention,
    key_heads: usize,
    width: usize,
    length: usize,
}

impl Case {
    fn queries(&self, sequence: usize) -> Vec<f32> {
        numbers(self.length * self.shape.heads * self.width, 3 * sequence)
    }

    fn keys(&self, sequence: usize) -> Vec<f32> {
        numbers(self.length * self.key_heads * self.width, 3 * sequence + 1)
    }

    fn values(&self, sequence: usize) -> Vec<f32> {
        numbers(self.length * self.key_heads * self.width, 3 * sequence + 2)
    }

    /// The outputs of two sequences that advance by `steps` in turns, in one batch each time.
    fn run(&self, cpu: &Cpu, steps: &[usize]) -> Vec<Vec<f32>> {
        let pages = self.length.div_ceil(PAGE_POSITIONS);
        let mut cache = KeyValueCache::new(2, 2 * pages, self.key_heads, self.width);
        // Pages of the sequences lie between each other, in no order.
        let tables: Vec<Vec<u32>> = (0..2)
            .map(|sequence| {
                (0..pages as u32)
                    .rev()
                    .map(|page| 2 * page + sequence)
                    .collect()
            })
            .collect();
        let mut workspace = Workspace::default();
        let mut outputs = vec![Vec::new(); 2];
        let mut start = 0;
        for rows in steps {
            let chunks: Vec<_> = (0..2)
                .map(|sequence| Chunk {
                    rows: sequence * rows..(sequence + 1) * rows,
                    start,
                    pages: &tables[sequence],
                })
                .collect();
            let batch = |of: &dyn Fn(usize) -> Vec<f32>, heads: usize| -> Vec<f32> {
                let row = heads * self.width;
                let part = |sequence| of(sequence)[start * row..(start + rows) * row].to_vec();
                (0..2).flat_map(part).collect()
            };
            let queries = batch(&|sequence| self.queries(sequence), self.shape.heads);
            let keys = batch(&|sequence| self.keys(sequence), self.key_heads);
            let values = batch(&|sequence| self.values(sequence), self.key_heads);
            cache.store(cpu, 1, &chunks, &keys, &values);
            let mut output = vec![f32::NAN; queries.len()];
            attention(
                cpu,
                &mut workspace,
                &cache,
                1,
                &self.shape,
                &chunks,
                &queries,
                &mut output,
            );
            let half = output.len() / 2;
            for (sequence, output) in output.chunks(half).enumerate() {
                outputs[sequence].extend_from_slice(output);
            }
            start += rows;
        }
        outputs
    }

    /// One output number, by the definition.
    fn exact(&self, row: usize, head: usize, number: usize) -> f64 {
        let (queries, keys, values) = (self.queries(0), self.keys(0), self.values(0));
        let key_head = head / (self.shape.heads / self.key_heads);
        let begin = self
            .shape
            .window
            .map_or(0, |window| (row + 1).saturating_sub(window));
        let at = |position: usize| (position * self.key_heads + key_head) * self.width;
        let weights: Vec<_> = (begin..=row)
            .map(|position| {
                let query = &queries[(row * self.shape.heads + head) * self.width..];
                let products = query[..self.width].iter().zip(&keys[at(position)..]);
                let score: f64 = products.map(|(q, k)| f64::from(*q) * f64::from(*k)).sum();
                (score * f64::from(self.shape.scale)).exp()
            })
            .collect();
        let values = (begin..=row).map(|position| f64::from(values[at(position) + number]));
        let sum: f64 = weights.iter().zip(values).map(|(w, v)| w * v).sum();
        sum / weights.iter().sum::<f64>()
    }
}

fn cases() -> Vec<Case> {
    let case = |heads, key_heads, width, window, length| Case {
        shape: Attention {
            heads,
            scale: 0.5,
            window,
        },
        key_heads,
        width,
        length,
    };
    vec![
        case(6, 2, 16, None, 600),
        case(4, 1, 20, Some(40), 600),
        case(1, 1, 8, Some(300), 600),
        case(10, 2, 64, None, 70),
    ]
}

#[test]
fn attention_is_what_it_is_defined_to_be() {
    let cpu = Cpu::new(2).expect("threads start");
    for case in cases() {
        let output = &case.run(&cpu, &[case.length])[0];
        let heads = case.shape.heads;
        for row in [0, 1, 31, 32, 69, 255, 256, 300, 511, 599] {
            for (head, number) in [(0, 0), (heads - 1, case.width - 1)] {
                if row < case.length {
                    let output = f64::from(output[(row * heads + head) * case.width + number]);
                    let exact = case.exact(row, head, number);
                    assert!(
                        (output - exact).abs() < 2e-3,
                        "row {row}: {output}, not {exact}"
                    );
                }
            }
        }
    }
}

#[test]
fn attention_does_not_depend_on_company_steps_threads_or_processor() {
    for case in cases() {
        let whole = case.run(&Cpu::new(1).expect("threads start"), &[case.length]);
        let mut steps = vec![1, 7, 30];
        steps.push(case.length - 38 - 20);
        steps.extend([1; 20]);
        for cpu in cpus() {
            for steps in [&steps[..], &[case.length]] {
                let outputs = case.run(&cpu, steps);
                for (output, whole) in outputs.iter().zip(&whole) {
                    let bits = |numbers: &[f32]| -> Vec<_> {
                        numbers.iter().map(|number| number.to_bits()).collect()
                    };
                    assert!(bits(output) == bits(whole), "{}, {steps:?}", cpu.kernels());
                }
            }
        }
    }
}

#[test]
fn rows_of_no_chunk_are_left_alone() {
    let cpu = Cpu::new(1).expect("threads start");
    let mut cache = KeyValueCache::new(1, 1, 1, 4);
    let chunk = Chunk {
        rows: 1..2,
        start: 0,
        pages: &[0],
    };
    let rows = numbers(3 * 4, 1);
    cache.store(&cpu, 0, std::slice::from_ref(&chunk), &rows, &rows);
    let shape = Attention {
        heads: 1,
        scale: 1.0,
        window: None,
    };
    let mut output = vec![7.0; 12];
    let workspace = &mut Workspace::default();
    attention(
        &cpu,
        workspace,
        &cache,
        0,
        &shape,
        &[chunk],
        &rows,
        &mut output,
    );
    assert_eq!(output[..4], [7.0; 4]);
    assert_eq!(output[8..], [7.0; 4]);
    for (output, value) in output[4..8].iter().zip(&rows[4..8]) {
        assert!((output - value).abs() < 1e-3);
    }
}

#[test]
fn rotation_turns_pairs_by_position_and_leaves_the_rest() {
    let cpu = Cpu::new(2).expect("threads start");
    for (style, partner) in [(RopeStyle::Interleaved, 1), (RopeStyle::Halves, 3)] {
        let rope = Rope::with_frequencies(style, vec![1.0, 0.5, 0.25]);
        let positions = [0, 3, 1000];
        let before = numbers(3 * 2 * 8, 5);
        let mut rows = before.clone();
        rope.angles(&positions).rotate(&cpu, &mut rows, 2, 8);
        for (at, (head, before)) in rows.chunks(8).zip(before.chunks(8)).enumerate() {
            assert_eq!(head[6..], before[6..]);
            for (pair, frequency) in [1.0, 0.5, 0.25].into_iter().enumerate() {
                let angle: f64 = positions[at / 2] as f64 * frequency;
                let first = if partner == 1 { 2 * pair } else { pair };
                let (x, y) = (f64::from(before[first]), f64::from(before[first + partner]));
                let turned = [
                    x * angle.cos() - y * angle.sin(),
                    x * angle.sin() + y * angle.cos(),
                ];
                assert!((f64::from(head[first]) - turned[0]).abs() < 1e-6);
                assert!((f64::from(head[first + partner]) - turned[1]).abs() < 1e-6);
            }
        }
    }
}

#[test]
fn usual_frequencies_are_powers_of_the_base() {
    // Of which every system's library knows the root exactly.
    let rope = Rope::new(RopeStyle::Halves, 4, 4.0, 2.0);
    assert_eq!(
        rope,
        Rope::with_frequencies(RopeStyle::Halves, vec![0.5, 0.25])
    );
}

#[test]
fn large_batches_are_shared_out_without_a_difference() {
    let few = Cpu::new(1).expect("threads start");
    let many = Cpu::new(3).expect("threads start");
    let (rows, width) = (301, 96);
    let input = numbers(rows * width, 1);
    let other = numbers(rows * width, 2);
    let weight = numbers(width, 3);
    let run = |cpu: &Cpu| {
        let mut normed = vec![0.0; input.len()];
        rms_norm(cpu, &input, &weight, 1e-6, &mut normed);
        rms_norm_in_place(cpu, &mut normed, &weight[..32], 1e-6);
        gate(cpu, Activation::Silu, &mut normed, &other);
        gate(cpu, Activation::Gelu, &mut normed, &input);
        add(cpu, &mut normed, &other);
        add_bias(cpu, &mut normed, &weight);
        let positions: Vec<_> = (0..rows).collect();
        let rope = Rope::new(RopeStyle::Interleaved, 32, 1e4, 1.0);
        rope.angles(&positions).rotate(cpu, &mut normed, 3, 32);
        normed
    };
    assert_eq!(run(&few), run(&many));
}

#[test]
fn a_matrix_refuses_what_does_not_fit() {
    let refused = |columns, bytes: &[u8]| {
        let matrix = Matrix::pack(super::super::gguf::TensorType::Q4_0, 1, columns, bytes);
        matrix.err().expect("it is refused").to_string()
    };
    assert!(refused(33, &[0; 18]).contains("33 columns are no whole number of Q4_0 blocks"));
    assert!(refused(32, &[0; 17]).contains("17 bytes, not 18"));
}

#[test]
fn matrices_of_different_kinds_share_an_input() {
    use super::super::gguf::TensorType::{F32, Q8_0};
    let cpu = Cpu::new(2).expect("threads start");
    let columns = 64;
    let plain: Vec<u8> = numbers(3 * columns, 1)
        .iter()
        .flat_map(|x| x.to_le_bytes())
        .collect();
    let quantised: Vec<u8> = (0..20 * 2 * 34)
        .map(|at| {
            if at % 34 == 1 {
                0x3c
            } else {
                (at % 34 * 5) as u8 & 0x7f
            }
        })
        .collect();
    let first = Matrix::pack(F32, 3, columns, &plain).expect("it fits");
    let second = Matrix::pack(Q8_0, 20, columns, &quantised).expect("it fits");
    let input = numbers(5 * columns, 2);
    let (mut a, mut b) = (vec![0.0; 5 * 3], vec![0.0; 5 * 20]);
    let products = &mut [
        Product {
            matrix: &first,
            output: &mut a,
        },
        Product {
            matrix: &second,
            output: &mut b,
        },
    ];
    matmul(&cpu, &mut Workspace::default(), &input, products);
    for (matrix, output) in [(&first, &a), (&second, &b)] {
        for (at, output) in output.iter().enumerate() {
            let mut weights = vec![0.0; columns];
            matrix.dequantise_row(at % matrix.rows(), &mut weights);
            let input = &input[at / matrix.rows() * columns..];
            let exact: f32 = weights.iter().zip(input).map(|(w, x)| w * x).sum();
            let size: f32 = weights.iter().map(|w| w.abs()).sum();
            assert!(
                (output - exact).abs() < 0.005 * size,
                "{output}, not {exact}"
            );
        }
    }
}
