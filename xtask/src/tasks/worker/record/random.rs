//! Chance that can be repeated: the same seed gives the same numbers, on every machine. Pure.

/// SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, OOPSLA 2014).
#[derive(Debug, Clone)]
pub struct Random {
    state: u64,
}

impl Random {
    /// The sequence of this seed.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// Any 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Evenly between 0 and 1, never 1.
    pub fn fraction(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// One of `count` indices, evenly; 0 where there are none.
    pub fn index(&mut self, count: usize) -> usize {
        (self.fraction() * count as f64) as usize
    }

    /// The time until the next of so many events a second. Their burstiness is the shape of the gamma
    /// distribution that gaps have: 1 is a Poisson process, less comes in bursts, more comes evenly.
    pub fn gap_s(&mut self, rate_per_s: f64, burstiness: f64) -> f64 {
        if burstiness == 1.0 {
            // By inversion.
            return -(1.0 - self.fraction()).ln() / rate_per_s;
        }
        self.gamma(burstiness) / burstiness / rate_per_s
    }

    /// From a gamma distribution of this shape and scale 1 (Marsaglia and Tsang, A simple method for
    /// generating gamma variables, ACM TOMS 26, 2000).
    fn gamma(&mut self, shape: f64) -> f64 {
        if shape < 1.0 {
            let power = (1.0 - self.fraction()).powf(1.0 / shape);
            return self.gamma(shape + 1.0) * power;
        }
        let d = shape - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let x = self.normal();
            let v = (1.0 + c * x).powi(3);
            if v > 0.0 && (1.0 - self.fraction()).ln() < 0.5 * x * x + d - d * v + d * v.ln() {
                return d * v;
            }
        }
    }

    /// From the standard normal distribution (Box and Muller, 1958).
    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.fraction()).ln()).sqrt();
        radius * (2.0 * std::f64::consts::PI * self.fraction()).cos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_is_the_published_one() {
        // The first outputs of the reference implementation for seed 1234567.
        let mut random = Random::new(1_234_567);
        assert_eq!(random.bits(), 6_457_827_717_110_365_317);
        assert_eq!(random.bits(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn gaps_have_the_mean_of_their_rate_and_the_spread_of_their_burstiness() {
        // The deviation of a gamma distribution is its mean by the root of its shape.
        for (burstiness, expected) in [(1.0, 0.25), (0.25, 0.5), (4.0, 0.125)] {
            let mut random = Random::new(7);
            let gaps: Vec<f64> = (0..20_000).map(|_| random.gap_s(4.0, burstiness)).collect();
            let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
            let deviation = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>();
            let deviation = (deviation / gaps.len() as f64).sqrt();
            assert!((mean - 0.25).abs() < 0.015, "{burstiness}: {mean}");
            assert!(
                (deviation - expected).abs() < 0.02,
                "{burstiness}: {deviation}"
            );
        }
    }

    #[test]
    fn every_index_comes_up() {
        let mut random = Random::new(1);
        let mut seen = [0; 5];
        (0..1000).for_each(|_| seen[random.index(5)] += 1);
        assert!(seen.iter().all(|count| *count > 150), "{seen:?}");
        assert_eq!(random.index(0), 0);
    }
}
