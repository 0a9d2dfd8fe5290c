//! The arithmetic that takes the time, for several kinds of processor.
//!
//! Kernels are written once, over the sixteen lanes of [`simd::Simd`], and compiled for each kind.
//! Which kind it is, is asked when the program starts. All `unsafe` of the arithmetic is in here: it
//! is needed to use instructions that not every processor has, and pointers where a slice's bounds
//! would be checked in the innermost loop.
#![allow(unsafe_code, reason = "processor instructions; see above")]
#![allow(
    clippy::missing_safety_doc,
    reason = "the traits say it for all their functions"
)]

use std::sync::LazyLock;

use super::gguf::TensorType;

mod attend;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod formats;
mod multiply;
#[cfg(target_arch = "aarch64")]
mod neon;
mod pack;
mod portable;
mod product;
mod rowwise;
mod simd;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use attend::{PAGE, QUERIES, SPAN, Span, partial_length};
pub use multiply::{Factor, multiply};
pub use pack::{pack_tile, tile_bytes, unpack_row};
pub use product::Activations;
pub use simd::LANES;

use product::{GROUP, Tile};

type TileKernel = unsafe fn(&Tile);

/// The kernels of one kind of processor.
///
/// The functions may be called only where the processor is of that kind, which is known of those
/// that [`Kernels::usable`] gives.
pub struct Kernels {
    /// What the kind is called.
    pub name: &'static str,
    /// For each kind of weights, products with so many input rows, the most first.
    products: fn(TensorType) -> &'static [(usize, TileKernel)],
    quantise: unsafe fn(*const f32, *mut Activations, usize),
    rms_norm: unsafe fn(*const f32, *const f32, f32, *mut f32, usize),
    gate_silu: unsafe fn(*mut f32, *const f32, usize),
    gate_gelu: unsafe fn(*mut f32, *const f32, usize),
    /// With one query, with two, and so on.
    spans: [unsafe fn(&Span<'_>, *mut f32); QUERIES],
    merge_spans: unsafe fn(*mut f32, *const f32, usize),
    expect_keys: unsafe fn(*const u16, usize),
    to_halves: unsafe fn(*const f32, *mut u16, usize),
}

impl Kernels {
    /// The best that this processor can do.
    pub fn best() -> &'static Self {
        Self::usable()[0]
    }

    /// What this processor can do, the best first.
    pub fn usable() -> &'static [&'static Self] {
        static USABLE: LazyLock<Vec<&Kernels>> = LazyLock::new(usable);
        &USABLE
    }

    /// Quantises a row, 32 numbers at a time.
    pub fn quantise(&self, input: &[f32], output: &mut [Activations]) {
        assert_eq!(input.len(), output.len() * GROUP);
        // SAFETY: lengths are as asked for, and see `Kernels`.
        unsafe { (self.quantise)(input.as_ptr(), output.as_mut_ptr(), output.len()) }
    }

    /// Divides a row by its root mean square and multiplies it with `weight`.
    pub fn rms_norm(&self, input: &[f32], weight: &[f32], epsilon: f32, output: &mut [f32]) {
        assert_eq!(input.len(), weight.len());
        assert_eq!(input.len(), output.len());
        let (weight, length) = (weight.as_ptr(), weight.len());
        // SAFETY: lengths are the same, and see `Kernels`.
        unsafe { (self.rms_norm)(input.as_ptr(), weight, epsilon, output.as_mut_ptr(), length) }
    }

    /// As `rms_norm`, overwriting the input.
    pub fn rms_norm_in_place(&self, row: &mut [f32], weight: &[f32], epsilon: f32) {
        assert_eq!(row.len(), weight.len());
        let (row, weight, length) = (row.as_mut_ptr(), weight.as_ptr(), weight.len());
        // SAFETY: lengths are the same, and see `Kernels`.
        unsafe { (self.rms_norm)(row, weight, epsilon, row, length) }
    }

    /// `gate = silu(gate) * up`.
    pub fn gate_silu(&self, gate: &mut [f32], up: &[f32]) {
        assert_eq!(gate.len(), up.len());
        // SAFETY: lengths are the same, and see `Kernels`.
        unsafe { (self.gate_silu)(gate.as_mut_ptr(), up.as_ptr(), up.len()) }
    }

    /// `gate = gelu(gate) * up`.
    pub fn gate_gelu(&self, gate: &mut [f32], up: &[f32]) {
        assert_eq!(gate.len(), up.len());
        // SAFETY: lengths are the same, and see `Kernels`.
        unsafe { (self.gate_gelu)(gate.as_mut_ptr(), up.as_ptr(), up.len()) }
    }

    /// Writes a partial result for each of the first `count` queries of a span, one after the
    /// other, each as long as [`partial_length`] says.
    pub fn attend(&self, span: &Span<'_>, count: usize, partials: &mut [f32]) {
        span.check();
        assert!(partials.len() >= count * partial_length(span.value_stride));
        let kernel = self.spans[count - 1];
        // SAFETY: lengths were checked, and see `Kernels`.
        unsafe { kernel(span, partials.as_mut_ptr()) }
    }

    /// Merges a span's partial result into that of earlier spans.
    pub fn merge_spans(&self, total: &mut [f32], partial: &[f32]) {
        assert_eq!(total.len(), partial.len());
        let value_stride = total.len() - partial_length(0);
        assert!(value_stride.is_multiple_of(LANES));
        // SAFETY: lengths are as asked for, and see `Kernels`.
        unsafe { (self.merge_spans)(total.as_mut_ptr(), partial.as_ptr(), value_stride) }
    }

    /// Asks for the memory of one position's keys in a page, which will be written soon.
    pub fn expect_keys(&self, page: &[u16], position: usize, width: usize) {
        // SAFETY: nothing is read or written; see `Kernels`.
        unsafe { (self.expect_keys)(page[position..].as_ptr(), width) }
    }

    /// Rounds to half precision; what is too large becomes the largest.
    pub fn to_halves(&self, from: &[f32], to: &mut [u16]) {
        assert_eq!(from.len(), to.len());
        assert!(from.len().is_multiple_of(LANES));
        // SAFETY: lengths are as asked for, and see `Kernels`.
        unsafe { (self.to_halves)(from.as_ptr(), to.as_mut_ptr(), to.len()) }
    }
}

#[cfg(target_arch = "x86_64")]
fn usable() -> Vec<&'static Kernels> {
    let mut usable = Vec::new();
    let avx2 = is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c");
    let avx512 = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vnni");
    if avx2 && avx512 {
        usable.push(&with_avx512::KERNELS);
    }
    if avx2 && is_x86_feature_detected!("avxvnni") {
        usable.push(&with_avx_vnni::KERNELS);
    }
    if avx2 {
        usable.push(&with_avx2::KERNELS);
    }
    usable.push(&in_plain_code::KERNELS);
    usable
}

#[cfg(target_arch = "aarch64")]
fn usable() -> Vec<&'static Kernels> {
    let mut usable = Vec::new();
    if std::arch::is_aarch64_feature_detected!("dotprod") {
        usable.push(&with_neon::KERNELS);
    }
    usable.push(&in_plain_code::KERNELS);
    usable
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn usable() -> Vec<&'static Kernels> {
    vec![&in_plain_code::KERNELS]
}

/// Compiles the kernels for one kind of processor.
macro_rules! compile {
    ($module:ident, $name:literal, $simd:ty, [$($count:literal),+] $(, $features:literal)?) => {
        mod $module {
            use super::*;
            type S = $simd;

            $(#[target_feature(enable = $features)])?
            unsafe fn quantised<F: formats::Format, const M: usize>(tile: &Tile) {
                unsafe { product::quantised::<S, F, M>(tile) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn plain<P: product::Plain, const M: usize>(tile: &Tile) {
                unsafe { product::plain::<S, P, M>(tile) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn quantise(input: *const f32, output: *mut Activations, groups: usize) {
                unsafe { rowwise::quantise::<S>(input, output, groups) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn rms_norm(
                input: *const f32,
                weight: *const f32,
                epsilon: f32,
                output: *mut f32,
                length: usize,
            ) {
                unsafe { rowwise::rms_norm::<S>(input, weight, epsilon, output, length) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn gate<const GELU: bool>(gate: *mut f32, up: *const f32, length: usize) {
                unsafe { rowwise::gate::<S, GELU>(gate, up, length) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn span<const M: usize>(span: &Span<'_>, partials: *mut f32) {
                unsafe { attend::span::<S, M>(span, partials) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn merge_spans(total: *mut f32, partial: *const f32, value_stride: usize) {
                unsafe { attend::merge_spans::<S>(total, partial, value_stride) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn expect_keys(keys: *const u16, width: usize) {
                unsafe { attend::expect_keys::<S>(keys, width) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn to_halves(from: *const f32, to: *mut u16, length: usize) {
                unsafe { attend::to_halves::<S>(from, to, length) }
            }

            fn products(kind: TensorType) -> &'static [(usize, TileKernel)] {
                match kind {
                    TensorType::F32 => &[$(($count, plain::<product::F32, $count>)),+],
                    TensorType::F16 => &[$(($count, plain::<product::F16, $count>)),+],
                    TensorType::Bf16 => &[$(($count, plain::<product::Bf16, $count>)),+],
                    TensorType::Q4_0 => &[$(($count, quantised::<formats::Q4_0, $count>)),+],
                    TensorType::Q4_1 => &[$(($count, quantised::<formats::Q4_1, $count>)),+],
                    TensorType::Q5_0 => &[$(($count, quantised::<formats::Q5_0, $count>)),+],
                    TensorType::Q5_1 => &[$(($count, quantised::<formats::Q5_1, $count>)),+],
                    TensorType::Q8_0 => &[$(($count, quantised::<formats::Q8_0, $count>)),+],
                    TensorType::Q2K => &[$(($count, quantised::<formats::Q2K, $count>)),+],
                    TensorType::Q3K => &[$(($count, quantised::<formats::Q3K, $count>)),+],
                    TensorType::Q4K => &[$(($count, quantised::<formats::Q4K, $count>)),+],
                    TensorType::Q5K => &[$(($count, quantised::<formats::Q5K, $count>)),+],
                    TensorType::Q6K => &[$(($count, quantised::<formats::Q6K, $count>)),+],
                }
            }

            pub(super) static KERNELS: Kernels = Kernels {
                name: $name,
                products,
                quantise,
                rms_norm,
                gate_silu: gate::<false>,
                gate_gelu: gate::<true>,
                spans: [span::<1>, span::<2>, span::<3>, span::<4>],
                merge_spans,
                expect_keys,
                to_halves,
            };
        }
    };
}

#[cfg(target_arch = "x86_64")]
compile!(
    with_avx512,
    "AVX-512 VNNI",
    avx512::Avx512,
    [8, 4, 2, 1],
    "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c"
);
#[cfg(target_arch = "x86_64")]
compile!(
    with_avx_vnni,
    "AVX-VNNI",
    avx2::Avx2<true>,
    [4, 2, 1],
    "avxvnni,avx2,fma,f16c"
);
#[cfg(target_arch = "x86_64")]
compile!(
    with_avx2,
    "AVX2",
    avx2::Avx2<false>,
    [4, 2, 1],
    "avx2,fma,f16c"
);
#[cfg(target_arch = "aarch64")]
compile!(with_neon, "NEON", neon::Neon, [4, 2, 1], "neon,dotprod");
compile!(in_plain_code, "plain code", portable::Portable<false>, [1]);

// Below the macro, which it uses.
#[cfg(test)]
mod tests;
