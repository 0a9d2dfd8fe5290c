//! Half precision: IEEE binary16 and bfloat16, as bits.

/// The number at byte `at`, little-endian binary16.
pub fn at(bytes: &[u8], at: usize) -> f32 {
    to_f32(u16::from_le_bytes([bytes[at], bytes[at + 1]]))
}

/// Exact: every binary16 number is a binary32 number.
pub fn to_f32(half: u16) -> f32 {
    let sign = u32::from(half >> 15) << 31;
    let exponent = u32::from(half >> 10 & 31);
    let fraction = u32::from(half & 0x3ff);
    let magnitude = match exponent {
        // Zero and subnormal numbers: the fraction counts units of 2^-24.
        0 => (fraction as f32 * f32::from_bits(0x3380_0000)).to_bits(),
        31 if fraction == 0 => 0x7f80_0000,
        // Not a number, and quiet, as processors make it.
        31 => 0x7fc0_0000 | fraction << 13,
        _ => (exponent + 112) << 23 | fraction << 13,
    };
    f32::from_bits(sign | magnitude)
}

/// The nearest binary16 number, to even where two are as near.
pub fn from_f32(value: f32) -> u16 {
    let bits = value.to_bits();
    let sign = (bits >> 16) as u16 & 0x8000;
    let magnitude = bits & 0x7fff_ffff;
    let half = match magnitude {
        0x7f80_0001.. => 0x7e00 | (magnitude >> 13) as u16 & 0x3ff,
        // From 65520 on, the nearest is infinite.
        0x477f_f000.. => 0x7c00,
        0x3880_0000.. => {
            let round = (magnitude >> 13 & 1) + 0xfff;
            ((magnitude - (112 << 23) + round) >> 13) as u16
        }
        // Subnormal: adding one half lets the processor round to units of 2^-24.
        _ => ((f32::from_bits(magnitude) + 0.5).to_bits() - 0x3f00_0000) as u16,
    };
    sign | half
}

/// Exact: bfloat16 is the upper half of binary32.
pub fn bf16_to_f32(half: u16) -> f32 {
    f32::from_bits(u32::from(half) << 16)
}
