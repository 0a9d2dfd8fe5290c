//! How fast the kernels are, each on its own: products with one row of activations (as in decode,
//! from memory) and with many (as in prefill), for every kind of weights; attention; and, as the
//! measure for decode, reading memory.
//!
//! `cargo run --release -p llm-engine --example kernel_speed -- [THREADS] [KERNELS] [TENSOR TYPE]`
//!
//! `KERNELS` is a part of a name that the first line prints; the best is the default.

use std::time::Instant;

use anyhow::{Context, Result};
use llm_engine::gguf::TensorType;
use llm_engine::kernels::Kernels;
use llm_engine::ops::{
    Attention, Chunk, Cpu, KeyValueCache, Matrix, PAGE_POSITIONS, Product, Workspace, attention,
    matmul,
};

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

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let threads = match arguments.next() {
        Some(threads) => threads.parse().context("THREADS is a number")?,
        None => std::thread::available_parallelism()?.get(),
    };
    let names: Vec<_> = Kernels::usable().iter().map(|usable| usable.name).collect();
    let wanted = arguments.next().unwrap_or_default();
    let kernels = Kernels::usable()
        .iter()
        .find(|usable| usable.name.contains(&wanted));
    let kernels = kernels.with_context(|| format!("KERNELS is one of {names:?}"))?;
    let kind = arguments.next().unwrap_or_default();
    println!("{} of {names:?}, {threads} threads", kernels.name);
    let cpu = Cpu::with_kernels(threads, kernels)?;
    read_memory(&cpu);
    println!("kind    1 row: GB/s   1 row, cached   8 rows: GB/s   128 rows: G products/s");
    for tensor_type in KINDS.into_iter().filter(|all| all.name().contains(&kind)) {
        products(&cpu, tensor_type)?;
    }
    for depth in [128, 1024, 4096] {
        attend(&cpu, depth);
    }
    Ok(())
}

/// The quickest of several runs, in seconds: what else the machine does only makes them slower.
fn measure(mut run: impl FnMut()) -> f64 {
    let times = (0..20).map(|_| {
        let started = Instant::now();
        run();
        started.elapsed().as_secs_f64()
    });
    times.fold(f64::INFINITY, f64::min)
}

fn read_memory(cpu: &Cpu) {
    let numbers = vec![1_u64; 32 << 20];
    let piece = numbers.len() / 256;
    let seconds = measure(|| {
        cpu.pool().run(256, |number| {
            let numbers = &numbers[number * piece..][..piece];
            let mut sums = [0_u64; 16];
            for numbers in numbers.chunks_exact(16) {
                for (sum, number) in sums.iter_mut().zip(numbers) {
                    *sum = sum.wrapping_add(*number);
                }
            }
            std::hint::black_box(sums);
        });
    });
    println!(
        "reading memory: {:.1} GB/s",
        numbers.len() as f64 * 8e-9 / seconds
    );
}

fn matrix(kind: TensorType, rows: usize, columns: usize) -> Result<Matrix> {
    let bytes = rows * columns / kind.block_length() as usize * kind.block_bytes() as usize;
    let mut state = 1_u32;
    let bytes: Vec<_> = (0..bytes)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // Exponents stay small whichever byte is part of a float.
            (state >> 24) as u8 & 0x3f
        })
        .collect();
    Matrix::pack(kind, rows, columns, &bytes)
}

fn products(cpu: &Cpu, kind: TensorType) -> Result<()> {
    let columns = 1536;
    let mut workspace = Workspace::default();
    let mut multiply = |matrix: &Matrix, count: usize| {
        let input: Vec<_> = (0..columns * count).map(|at| (at as f32).sin()).collect();
        let mut output = vec![0.0; matrix.rows() * count];
        measure(|| {
            let output = &mut output;
            matmul(
                cpu,
                &mut workspace,
                &input,
                &mut [Product { matrix, output }],
            );
        })
    };
    let large = matrix(
        kind,
        (200 << 20) / columns / kind.block_bytes() as usize * kind.block_length() as usize,
        columns,
    )?;
    let rate = large.bytes() as f64 * 1e-9 / multiply(&large, 1);
    let few = large.bytes() as f64 * 1e-9 / multiply(&large, 8);
    let small = matrix(kind, 576, columns)?;
    let cached = small.bytes() as f64 * 1e-9 / multiply(&small, 1);
    let many = 128.0 * (columns * small.rows()) as f64 * 1e-9 / multiply(&small, 128);
    println!(
        "{:<6} {rate:>13.1} {cached:>15.1} {few:>14.1} {many:>15.1}",
        kind.name()
    );
    Ok(())
}

/// One new row, and 64 of them, after `depth` positions: nine query heads, three key heads.
fn attend(cpu: &Cpu, depth: usize) {
    let (heads, key_heads, width, rows) = (9, 3, 64, 64);
    let count = (depth + rows).div_ceil(PAGE_POSITIONS);
    let mut cache = KeyValueCache::new(1, count, key_heads, width);
    let pages: Vec<_> = (0..count as u32).collect();
    let numbers = |count: usize| -> Vec<_> { (0..count).map(|at| (at as f32).sin()).collect() };
    let all = Chunk {
        rows: 0..depth + rows,
        start: 0,
        pages: &pages,
    };
    let kept = numbers((depth + rows) * key_heads * width);
    cache.store(cpu, 0, &[all], &kept, &kept);
    let shape = Attention {
        heads,
        scale: 0.125,
        window: None,
    };
    let mut workspace = Workspace::default();
    let mut time = |rows: usize| {
        let chunk = Chunk {
            rows: 0..rows,
            start: depth,
            pages: &pages,
        };
        let queries = numbers(rows * heads * width);
        let mut output = vec![0.0; queries.len()];
        1e6 * measure(|| {
            let chunks = std::slice::from_ref(&chunk);
            attention(
                cpu,
                &mut workspace,
                &cache,
                0,
                &shape,
                chunks,
                &queries,
                &mut output,
            );
        })
    };
    println!(
        "attention after {depth} positions: 1 row {:.1} us, {rows} rows {:.1} us",
        time(1),
        time(rows)
    );
}
