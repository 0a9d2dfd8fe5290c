//! What a request wants more or less likely than the model has it: tokens that were there already,
//! and tokens that it names.

use std::collections::HashMap;

use crate::GenerationRequest;

/// Changes logits as the text grows.
#[derive(Debug)]
pub struct Tilt {
    biases: Vec<(u32, f32)>,
    repetition: f32,
    presence: f32,
    frequency: f32,
    /// Tokens that were there already, with how often the answer has them: 0 for those that only
    /// the prompt has, which are kept where the repetition penalty needs them.
    counts: HashMap<u32, u32>,
}

impl Tilt {
    /// What the request asks for, if it asks for anything.
    pub fn new(request: &GenerationRequest, prompt: &[u32]) -> Option<Self> {
        let repetition = request.repetition_penalty.unwrap_or(1.0);
        let mut tilt = Self {
            biases: request.logit_bias.clone(),
            repetition,
            presence: request.presence_penalty,
            frequency: request.frequency_penalty,
            counts: HashMap::new(),
        };
        if repetition != 1.0 {
            tilt.counts.extend(prompt.iter().map(|&token| (token, 0)));
        }
        let penalises = repetition != 1.0 || tilt.presence != 0.0 || tilt.frequency != 0.0;
        (penalises || !tilt.biases.is_empty()).then_some(tilt)
    }

    /// The token is in the answer now.
    pub fn count(&mut self, token: u32) {
        *self.counts.entry(token).or_default() += 1;
    }

    /// Changes the logits, and gives those that were there before: the first that it gives of a
    /// token is the model's own.
    pub fn apply(&self, logits: &mut [f32]) -> Vec<(u32, f32)> {
        let mut before = Vec::with_capacity(self.biases.len() + self.counts.len());
        let mut change = |token: u32, changed: &dyn Fn(f32) -> f32| {
            if let Some(logit) = logits.get_mut(token as usize) {
                before.push((token, *logit));
                *logit = changed(*logit);
            }
        };
        for &(token, bias) in &self.biases {
            change(token, &|logit| logit + bias);
        }
        for (&token, &count) in &self.counts {
            change(token, &|logit| self.penalised(logit, count));
        }
        before
    }

    /// In vLLM's order: the factor first, which knows the prompt, then what is taken off for tokens of
    /// the answer, as OpenAI defines it.
    fn penalised(&self, logit: f32, count: u32) -> f32 {
        let logit = match logit > 0.0 {
            true => logit / self.repetition,
            false => logit * self.repetition,
        };
        match count {
            0 => logit,
            _ => logit - self.presence - self.frequency * count as f32,
        }
    }
}
