//! What is drawn, how often, and what is never drawn.

use super::*;

fn sampler(temperature: f32, seed: u64) -> Sampler {
    let request = GenerationRequest {
        temperature,
        seed: Some(seed),
        ..GenerationRequest::default()
    };
    Sampler::new(&request, &[])
}

fn sampler_of(change: impl FnOnce(&mut GenerationRequest)) -> Sampler {
    let mut request = GenerationRequest {
        temperature: 1.0,
        seed: Some(7),
        ..GenerationRequest::default()
    };
    change(&mut request);
    Sampler::new(&request, &[])
}

fn draw(sampler: &mut Sampler, logits: &[f32]) -> u32 {
    let choice = sampler.sample(&mut logits.to_vec(), None, &mut Scratch::default());
    choice.unwrap().chosen.token
}

fn counts(mut sampler: Sampler, logits: &[f32], draws: u32) -> Vec<u32> {
    let mut counts = vec![0; logits.len()];
    for _ in 0..draws {
        counts[draw(&mut sampler, logits) as usize] += 1;
    }
    counts
}

#[test]
fn the_generator_gives_its_published_stream() {
    let mut random = SplitMix64 { state: 1_234_567 };
    assert_eq!(random.next(), 6_457_827_717_110_365_317);
    assert_eq!(random.next(), 3_203_168_211_198_807_973);
}

#[test]
fn greedy_takes_the_largest_and_of_several_the_first() {
    let mut sampler = sampler(0.0, 1);
    assert_eq!(draw(&mut sampler, &[0.0, 3.0, -1.0, 3.0]), 1);
    assert_eq!(draw(&mut sampler, &[f32::NEG_INFINITY, -5.0]), 1);
}

#[test]
fn logits_that_are_not_numbers_are_an_error() {
    for temperature in [0.0, 1.0] {
        let mut sampler = sampler(temperature, 1);
        let mut fails = |logits: &[f32]| {
            sampler
                .sample(&mut logits.to_vec(), None, &mut Scratch::default())
                .is_err()
        };
        assert!(fails(&[0.0, f32::NAN]));
        assert!(fails(&[f32::INFINITY, 0.0]));
        assert!(fails(&[f32::NEG_INFINITY]));
        assert!(fails(&[]));
    }
}

#[test]
fn frequencies_follow_the_probabilities() {
    let logits = [4.0_f32.ln(), 0.0, 3.0_f32.ln()];
    let seen = counts(sampler(1.0, 7), &logits, 8000);
    assert!((3850..4150).contains(&seen[0]), "{seen:?}");
    assert!((900..1100).contains(&seen[1]), "{seen:?}");
}

#[test]
fn a_low_temperature_sharpens() {
    let seen = counts(sampler(0.1, 7), &[1.0, 0.0], 1000);
    assert!(seen[1] < 5, "{seen:?}");
}

#[test]
fn top_k_and_top_p_exclude_the_rest() {
    let logits = [0.0, 2.0, 1.0, 1.0];
    let top_2 = sampler_of(|request| request.top_k = Some(2));
    let seen = counts(top_2, &logits, 500);
    assert!(
        seen[1] > 0 && seen[2] > 0 && seen[0] == 0 && seen[3] == 0,
        "{seen:?}"
    );
    let half = sampler_of(|request| request.top_p = Some(0.5));
    assert_eq!(counts(half, &logits, 500), [0, 500, 0, 0]);
    let both = sampler_of(|request| {
        request.temperature = 2.0;
        request.top_k = Some(3);
        request.top_p = Some(0.01);
    });
    assert_eq!(counts(both, &logits, 50), [0, 50, 0, 0]);
}

#[test]
fn min_p_excludes_what_is_much_less_likely_than_the_likeliest() {
    let logits = [0.0, 8.0_f32.ln(), 3.0_f32.ln()];
    let seen = counts(
        sampler_of(|request| request.min_p = Some(0.25)),
        &logits,
        500,
    );
    assert!(seen[0] == 0 && seen[1] > 0 && seen[2] > 0, "{seen:?}");
    let seen = counts(sampler_of(|request| request.min_p = Some(1.0)), &logits, 50);
    assert_eq!(seen, [0, 50, 0]);
}

#[test]
fn a_wide_nucleus_is_found_whole() {
    let logits = vec![0.0; 4000];
    let half = sampler_of(|request| request.top_p = Some(0.5));
    let seen = counts(half, &logits, 20_000);
    let used = seen.iter().filter(|&&count| count > 0).count();
    assert!((1950..=2001).contains(&used), "{used}");
}

#[test]
fn a_nucleus_is_a_share_of_all_tokens_and_not_of_those_that_were_looked_at() {
    // The likeliest has just under half, thousands of others share the rest.
    let mut logits = vec![0.0; 10_001];
    logits[77] = 9_900.0_f32.ln();
    let half = sampler_of(|request| request.top_p = Some(0.5));
    let seen = counts(half, &logits, 3000);
    // About 50 of them complete the half, of which every one comes once in 20,000 draws.
    let others = seen.iter().filter(|&&count| count > 0).count() - 1;
    assert!((3..=51).contains(&others), "{others}");
}

#[test]
fn a_penalty_turns_away_from_what_was_there() {
    let request = GenerationRequest {
        repetition_penalty: Some(2.0),
        ..GenerationRequest::default()
    };
    let mut sampler = Sampler::new(&request, &[1]);
    // 1 was in the prompt; 0 is in the answer after the first draw.
    let logits = [2.0, 3.5, 1.5, -1.0];
    assert_eq!(draw(&mut sampler, &logits), 0);
    assert_eq!(draw(&mut sampler, &logits), 1);
    assert_eq!(draw(&mut sampler, &[-1.0, -1.5, -1.75, -9.0]), 2);
}

#[test]
fn log_probabilities_are_the_models_own() {
    let logits = [1.0, 3.0, 2.0, 2.0];
    let sum: f32 = logits.iter().map(|logit: &f32| logit.exp()).sum();
    let request = GenerationRequest {
        repetition_penalty: Some(100.0),
        temperature: 0.01,
        seed: Some(1),
        top_logprobs: 3,
        ..GenerationRequest::default()
    };
    let mut sampler = Sampler::new(&request, &[1]);
    let choice = sampler.sample(&mut logits.to_vec(), None, &mut Scratch::default());
    let Choice { chosen, top } = choice.unwrap();
    assert!([2, 3].contains(&chosen.token));
    assert!((chosen.logprob - (2.0 - sum.ln())).abs() < 1e-5);
    let tokens: Vec<_> = top.iter().map(|one| one.token).collect();
    assert_eq!(tokens, [1, 2, 3]);
    assert!((top[0].logprob - (3.0 - sum.ln())).abs() < 1e-5);
    // What was seen is judged as the model had it, too.
    let choice = sampler.sample(&mut [-90.0, 9.0, 0.0, 0.0], None, &mut Scratch::default());
    let chosen = choice.unwrap().chosen;
    let expected = -(1.0 + 2.0 * (-9.0_f32).exp()).ln();
    assert_eq!(chosen.token, 1);
    assert!((chosen.logprob - expected).abs() < 1e-5, "{chosen:?}");
}

#[test]
fn the_same_seed_draws_the_same_and_another_seed_others() {
    let logits: Vec<_> = (0..100).map(|at| (at % 7) as f32).collect();
    let draw_many = |seed| {
        let mut sampler = sampler_of(|request| {
            request.temperature = 0.9;
            request.top_k = Some(40);
            request.top_p = Some(0.95);
            request.seed = seed;
        });
        (0..50)
            .map(|_| draw(&mut sampler, &logits))
            .collect::<Vec<_>>()
    };
    assert_eq!(draw_many(Some(3)), draw_many(Some(3)));
    assert_ne!(draw_many(Some(3)), draw_many(Some(4)));
    assert_ne!(draw_many(None), draw_many(None));
}

/// OpenAI: once for a token that is in the answer, and once more for each time that it is.
#[test]
fn presence_and_frequency_are_taken_off_for_tokens_of_the_answer_only() {
    let greedy = |presence: f32, frequency: f32| {
        let request = GenerationRequest {
            presence_penalty: presence,
            frequency_penalty: frequency,
            ..GenerationRequest::default()
        };
        // The prompt is full of the likeliest token, which is nobody's fault.
        let mut sampler = Sampler::new(&request, &[0, 0, 0]);
        let logits = [2.0, 1.25, 0.0];
        [(); 5].map(|()| draw(&mut sampler, &logits))
    };
    assert_eq!(greedy(0.0, 0.0), [0, 0, 0, 0, 0]);
    // 2, then 1 and 1.25: from then on both have what they had less 1.
    assert_eq!(greedy(1.0, 0.0), [0, 1, 0, 0, 0]);
    // 2 | 1.5 | 1.0 < 1.25 | 1.0 > 0.75 | 0.5 < 0.75
    assert_eq!(greedy(0.0, 0.5), [0, 0, 1, 0, 1]);
    // Below 0, a token that was there is likelier.
    let request = GenerationRequest {
        frequency_penalty: -2.0,
        ..GenerationRequest::default()
    };
    let mut sampler = Sampler::new(&request, &[]);
    assert_eq!(draw(&mut sampler, &[1.0, 0.0]), 0);
    assert_eq!(draw(&mut sampler, &[1.0, 2.5]), 0);
    assert_eq!(draw(&mut sampler, &[1.0, 5.5]), 1);
}

#[test]
fn a_factor_comes_before_what_is_taken_off() {
    let request = GenerationRequest {
        repetition_penalty: Some(2.0),
        presence_penalty: 0.5,
        ..GenerationRequest::default()
    };
    let mut sampler = Sampler::new(&request, &[1]);
    assert_eq!(draw(&mut sampler, &[4.0, 0.0, 0.0, 0.0]), 0);
    // 4 / 2 - 0.5 is 1.5, and (4 - 0.5) / 2 would be 1.75; 3.1 / 2 is 1.55, as only the prompt has it.
    assert_eq!(draw(&mut sampler, &[4.0, 3.1, 1.0, 0.0]), 1);
    // Logits below 0 are multiplied: -1 * 2 - 0.5.
    assert_eq!(draw(&mut sampler, &[-1.0, -9.0, -2.6, -2.4]), 3);
    assert_eq!(draw(&mut sampler, &[-1.0, -9.0, -2.6, -9.0]), 0);
}

#[test]
fn a_bias_forces_and_forbids_and_log_probabilities_stay_the_models_own() {
    let request = GenerationRequest {
        logit_bias: vec![(2, 100.0), (0, -100.0), (9999, 1.0)],
        frequency_penalty: 2.0,
        top_logprobs: 2,
        ..GenerationRequest::default()
    };
    let mut sampler = Sampler::new(&request, &[]);
    for _ in 0..3 {
        let choice = sampler.sample(&mut [3.0, 2.0, -1.0], None, &mut Scratch::default());
        let Choice { chosen, top } = choice.unwrap();
        assert_eq!(chosen.token, 2);
        let sum = 3.0_f32.exp() + 2.0_f32.exp() + (-1.0_f32).exp();
        assert!((chosen.logprob - (-1.0 - sum.ln())).abs() < 1e-5);
        assert_eq!(top.iter().map(|one| one.token).collect::<Vec<_>>(), [0, 1]);
    }
}
