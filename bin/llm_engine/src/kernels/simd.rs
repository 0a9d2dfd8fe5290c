//! What kernels need of a processor: operations on sixteen lanes.
//!
//! Kernels are written once, against [`Simd`]. Integer operations are exact and float operations
//! round in the same way on all processors, so a kernel gives the same bits on each. What differs
//! is how bytes are multiplied, see [`Simd::Run`].

/// How many lanes a vector has: rows of a matrix, positions, or consecutive numbers.
pub const LANES: usize = 16;

/// One kind of processor.
///
/// # Safety
///
/// All functions may be called only where the processor has the instructions, and must be inlined
/// into a function that enables them. Pointers are good for as many bytes as the vector has; they
/// need no alignment.
pub trait Simd: Copy {
    /// Sixteen lanes of four bytes.
    type Bytes: Copy;
    /// Sixteen 32-bit integers, in two's complement.
    type Ints: Copy;
    /// Sixteen 32-bit floats.
    type Floats: Copy;
    /// Sums of a few products of bytes.
    type Run: Copy;

    /// Whether runs must be short: AVX2 adds products up as 16-bit integers, which hold 32767 at
    /// most, see `Format::RUN`. Others add them to 32 bits at once.
    const SHORT_RUNS: bool;

    /// Whether there are registers for eight sums of floats under way.
    const MANY_REGISTERS: bool;

    /// What [`Simd::dot_signed`] adds to each weight.
    const SIGNED_OFFSET: i32;

    /// Asks for the cache line at `address`, which will be read soon. Any address will do.
    unsafe fn prefetch(address: *const u8);
    /// As `prefetch`, for a line that will be written.
    unsafe fn prefetch_to_write(address: *const u8);
    /// Reads 64 bytes.
    unsafe fn bytes(from: *const u8) -> Self::Bytes;
    /// Each byte shifted right, then `mask`ed.
    unsafe fn bits_down(bytes: Self::Bytes, by: u32, mask: u8) -> Self::Bytes;
    /// Each byte shifted left, then `mask`ed.
    unsafe fn bits_up(bytes: Self::Bytes, by: u32, mask: u8) -> Self::Bytes;
    /// Bit by bit.
    unsafe fn or(a: Self::Bytes, b: Self::Bytes) -> Self::Bytes;

    /// Starts a run whose end adds to `sum`.
    unsafe fn begin(sum: Self::Ints) -> Self::Run;
    /// Adds, in each lane, the products of four weights (0 to 127) with the four bytes at `input`
    /// (-127 to 127).
    unsafe fn dot(run: Self::Run, weights: Self::Bytes, input: *const i8) -> Self::Run;
    /// As `dot` with weights from -127 to 127, after adding `SIGNED_OFFSET` to each. The run ends
    /// after one of these.
    unsafe fn dot_signed(run: Self::Run, weights: Self::Bytes, input: *const i8) -> Self::Run;
    /// Ends a run that began with `sum`.
    unsafe fn end(sum: Self::Ints, run: Self::Run) -> Self::Ints;
    /// Makes scales from -128 to 127 what `end_scaled` takes.
    unsafe fn run_scales(scales: Self::Ints) -> Self::Ints;
    /// Ends a run that began with zero: adds `scales` times the run to `sum`.
    unsafe fn end_scaled(sum: Self::Ints, run: Self::Run, scales: Self::Ints) -> Self::Ints;

    /// The same number in all lanes.
    unsafe fn int(value: i32) -> Self::Ints;
    /// Sixteen bytes, made wider.
    unsafe fn ints_from_u8(from: *const u8) -> Self::Ints;
    /// Sixteen signed bytes, made wider.
    unsafe fn ints_from_i8(from: *const u8) -> Self::Ints;
    /// Each lane shifted right, then masked.
    unsafe fn int_bits(ints: Self::Ints, by: u32, mask: i32) -> Self::Ints;
    /// Lane by lane.
    unsafe fn int_add(a: Self::Ints, b: Self::Ints) -> Self::Ints;
    /// Lane by lane, the lower 32 bits.
    unsafe fn int_mul(a: Self::Ints, b: Self::Ints) -> Self::Ints;
    /// `low | high << 16` in each lane: two 16-bit integers.
    unsafe fn pairs(low: Self::Ints, high: Self::Ints) -> Self::Ints;
    /// In each lane, the sum of the products of its two 16-bit integers with those at `with`.
    unsafe fn pair_products(pairs: Self::Ints, with: *const i16) -> Self::Ints;
    /// The sum of all lanes.
    unsafe fn int_sum(ints: Self::Ints) -> i32;
    /// Writes the lower eight bits of each lane.
    unsafe fn store_i8(ints: Self::Ints, to: *mut i8);

    /// The same number in all lanes.
    unsafe fn float(value: f32) -> Self::Floats;
    /// Reads sixteen floats.
    unsafe fn floats(from: *const f32) -> Self::Floats;
    /// Reads sixteen binary16 numbers.
    unsafe fn floats_from_f16(from: *const u16) -> Self::Floats;
    /// Reads sixteen bfloat16 numbers.
    unsafe fn floats_from_bf16(from: *const u16) -> Self::Floats;
    /// The nearest float of each lane.
    unsafe fn floats_from_ints(ints: Self::Ints) -> Self::Floats;
    /// The nearest integer of each lane, to even where two are as near. Only for lanes that fit.
    unsafe fn nearest(floats: Self::Floats) -> Self::Ints;
    /// Two to the power of each lane, from -126 to 127.
    unsafe fn power_of_two(ints: Self::Ints) -> Self::Floats;
    /// Lane by lane.
    unsafe fn add(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// Lane by lane.
    unsafe fn mul(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// Lane by lane.
    unsafe fn div(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// `a * b + c`, rounded once.
    unsafe fn mul_add(a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats;
    /// The larger of each lane; `b` where one is no number.
    unsafe fn max(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// The smaller of each lane; `b` where one is no number.
    unsafe fn min(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// Without sign.
    unsafe fn abs(floats: Self::Floats) -> Self::Floats;
    /// Writes sixteen floats.
    unsafe fn store(floats: Self::Floats, to: *mut f32);
    /// Writes sixteen binary16 numbers, rounded to even.
    unsafe fn store_f16(floats: Self::Floats, to: *mut u16);
}

/// All lanes in memory, to go through them one by one.
#[inline(always)]
pub unsafe fn lanes<S: Simd>(floats: S::Floats) -> [f32; LANES] {
    let mut lanes = [0.0; LANES];
    unsafe { S::store(floats, lanes.as_mut_ptr()) };
    lanes
}

/// The sum of all lanes: halves are added up until one is left.
#[inline(always)]
pub unsafe fn sum<S: Simd>(floats: S::Floats) -> f32 {
    let mut lanes = unsafe { lanes::<S>(floats) };
    let mut width = LANES / 2;
    while width > 0 {
        for at in 0..width {
            lanes[at] += lanes[at + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// The largest lane.
#[inline(always)]
pub unsafe fn most<S: Simd>(floats: S::Floats) -> f32 {
    let mut lanes = unsafe { lanes::<S>(floats) };
    let mut width = LANES / 2;
    while width > 0 {
        for at in 0..width {
            if lanes[at + width] > lanes[at] {
                lanes[at] = lanes[at + width];
            }
        }
        width /= 2;
    }
    lanes[0]
}

/// e to the power of each lane. Below -87, the smallest normal number or so; above 88, the
/// largest or so.
///
/// `x = n ln 2 + r`, with `e^r` by its series: the error is below 1e-7 of the result.
#[inline(always)]
pub unsafe fn exp<S: Simd>(x: S::Floats) -> S::Floats {
    // ln 2 in two parts, of which the first is short enough for `n` times it to be exact.
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    const SERIES: [f32; 6] = [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0];
    unsafe {
        let x = S::min(S::max(x, S::float(-87.0)), S::float(88.0));
        let n = S::nearest(S::mul(x, S::float(std::f32::consts::LOG2_E)));
        let count = S::floats_from_ints(n);
        let r = S::mul_add(count, S::float(-LN_2_HIGH), x);
        let r = S::mul_add(count, S::float(-LN_2_LOW), r);
        let mut series = S::float(SERIES[0]);
        let mut at = 1;
        while at < SERIES.len() {
            series = S::mul_add(series, r, S::float(SERIES[at]));
            at += 1;
        }
        let power = S::mul_add(series, r, S::float(1.0));
        S::mul(power, S::power_of_two(n))
    }
}
