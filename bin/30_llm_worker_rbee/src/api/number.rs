//! JSON numbers that stand for integers, read exactly: through a double, large seeds would be
//! rounded, and `1e400` would become infinite.

/// An integer that is not negative. (A negative one is out of range for every field.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Integer {
    /// It fits.
    Small(u64),
    /// It is above `u64::MAX`.
    TooLarge,
    /// It is below 0.
    Negative,
}

/// Reads a JSON number; `None` where it has a fraction. Like JSON Schema, `5.0` and `5e0` are 5.
pub fn parse_integer(raw: &str) -> Option<Integer> {
    let (negative, unsigned) = match raw.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, raw),
    };
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, parse_exponent(exponent)),
        None => (unsigned, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let significant = digits.trim_end_matches('0');
    let trimmed = significant.trim_start_matches('0');
    if trimmed.is_empty() {
        return Some(Integer::Small(0));
    }
    let dropped_zeros = (digits.len() - significant.len()) as i64;
    let power_of_ten = exponent - fraction.len() as i64 + dropped_zeros;
    if power_of_ten < 0 {
        return None;
    }
    if negative {
        return Some(Integer::Negative);
    }
    // The largest u64 has 20 digits.
    if trimmed.len() as i64 + power_of_ten > 20 {
        return Some(Integer::TooLarge);
    }
    let scaled = trimmed.parse::<u128>().ok()? * 10u128.pow(power_of_ten as u32);
    Some(u64::try_from(scaled).map_or(Integer::TooLarge, Integer::Small))
}

/// An exponent that is beyond any number of digits in a body stays beyond it.
fn parse_exponent(text: &str) -> i64 {
    const BEYOND: i64 = 1 << 40;
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.trim_start_matches('+')),
    };
    sign * digits.parse::<i64>().unwrap_or(BEYOND).min(BEYOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_exact_and_fractions_are_none() {
        let cases = [
            ("0", Some(Integer::Small(0))),
            ("-0", Some(Integer::Small(0))),
            ("0.0e99999999999999999999", Some(Integer::Small(0))),
            ("5", Some(Integer::Small(5))),
            ("5.0", Some(Integer::Small(5))),
            ("5e0", Some(Integer::Small(5))),
            ("50E-1", Some(Integer::Small(5))),
            ("0.05e+2", Some(Integer::Small(5))),
            ("5.5", None),
            ("1e-1", None),
            ("1e-99999999999999999999", None),
            ("-1.5", None),
            ("-1", Some(Integer::Negative)),
            ("-1e400", Some(Integer::Negative)),
            ("18446744073709551615", Some(Integer::Small(u64::MAX))),
            ("18446744073709551616", Some(Integer::TooLarge)),
            ("1e19", Some(Integer::Small(10_000_000_000_000_000_000))),
            ("1e20", Some(Integer::TooLarge)),
            ("1e99999999999999999999", Some(Integer::TooLarge)),
            ("0.00000000000000000000001e23", Some(Integer::Small(1))),
        ];
        for (raw, expected) in cases {
            assert_eq!(parse_integer(raw), expected, "{raw}");
        }
    }
}
