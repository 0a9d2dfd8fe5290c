//! Drawings as inline SVG, which needs no script and no network. Pure.

mod ecdf;
pub mod load;
pub mod timeline;

/// The width of every drawing in its own units; the page scales it.
pub const WIDTH: f64 = 1000.0;

/// A drawing.
#[derive(Debug)]
pub struct Drawing {
    /// Stable name.
    pub id: String,
    /// What it shows.
    pub caption: String,
    /// Its height, in units of [`WIDTH`].
    pub height: f64,
    /// The elements inside of `<svg>`, in which every text is harmless already.
    pub svg: String,
    /// The class of each colour, and what it stands for.
    pub legend: &'static [(&'static str, &'static str)],
}

/// 1, 2 or 5 times a power of ten, not less than `rough`: the distance between the lines of an axis.
pub fn round_step(rough: f64) -> f64 {
    let power = 10f64.powf(rough.log10().floor());
    let factors = [1.0, 2.0, 5.0, 10.0].into_iter();
    let mut steps = factors.map(|factor| factor * power);
    steps.find(|step| *step >= rough).unwrap_or(10.0 * power)
}

/// The round values of a linear axis from 0 to `highest`, about `count` of them.
pub fn linear_values(highest: f64, count: u32) -> Vec<f64> {
    let step = round_step(highest / f64::from(count));
    let values = (0..=2 * count).map(|number| f64::from(number) * step);
    values.take_while(|value| *value <= highest).collect()
}

/// The round values of a logarithmic axis: 1, 2 and 5 times each power of ten, or the powers alone where
/// those would be too many, or both ends where the axis is too short for two round values.
pub fn logarithmic_values(lowest: f64, highest: f64) -> Vec<f64> {
    let (from, to) = (lowest.log10().floor() as i32, highest.log10().ceil() as i32);
    let factors: &[f64] = match to - from {
        ..=4 => &[1.0, 2.0, 5.0],
        _ => &[1.0],
    };
    let powers = from..=to.min(from + 20);
    let values = powers.flat_map(|power| factors.iter().map(move |f| f * 10f64.powi(power)));
    let round: Vec<f64> = values
        .filter(|value| (lowest..=highest).contains(value))
        .collect();
    match round.len() {
        0 | 1 => vec![lowest, highest],
        _ => round,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_and_values_of_axes_are_round() {
        let steps = [62.5, 500.0, 1500.0, 8750.0].map(round_step);
        assert_eq!(steps, [100.0, 500.0, 2000.0, 10_000.0]);
        assert_eq!(linear_values(606.6, 4), [0.0, 200.0, 400.0, 600.0]);
        assert_eq!(logarithmic_values(5.27, 131.7), [10.0, 20.0, 50.0, 100.0]);
        assert_eq!(logarithmic_values(0.001, 99_999.0).len(), 8);
        assert_eq!(logarithmic_values(3.0, 4.0), [3.0, 4.0]);
    }
}
