//! The optimisation: AdamW with warm-up and cosine decay, two batches a step on two threads.
//!
//! The number of batches in a step is fixed and their gradients are added in a fixed order, so that
//! the outcome doesn't depend on the number of cores.

use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use candle_core::backprop::GradStore;
use candle_core::{Tensor, Var};
use candle_nn::{AdamW, Optimizer, ParamsAdamW};

use crate::batches::{Batch, Batches};
use crate::model::Model;
use crate::ops;

const BATCHES_PER_STEP: usize = 2;
const PEAK_LEARNING_RATE: f64 = 3e-3;
const WARM_UP_STEPS: usize = 60;
const LARGEST_GRADIENT_NORM: f64 = 1.0;
const STEPS_PER_REPORT: usize = 50;

/// What training ended with.
pub struct Outcome {
    /// The mean loss of the last steps, in nats for each weighted token.
    pub loss: f64,
    /// Tokens seen, prompts included and padding not.
    pub tokens: usize,
    /// Wall time.
    pub seconds: f64,
}

/// Trains in place.
pub fn train(
    model: &Model,
    variables: &[Var],
    batches: &mut Batches,
    steps: usize,
) -> Result<Outcome> {
    let settings = ParamsAdamW {
        lr: 0.0,
        beta2: 0.98,
        weight_decay: 0.02,
        ..ParamsAdamW::default()
    };
    let mut optimiser = AdamW::new(variables.to_vec(), settings)?;
    let start = Instant::now();
    let mut outcome = Outcome {
        loss: f64::NAN,
        tokens: 0,
        seconds: 0.0,
    };
    let mut recent = Vec::new();
    for step in 0..steps {
        optimiser.set_learning_rate(learning_rate(step, steps));
        let drawn = (0..BATCHES_PER_STEP)
            .map(|_| batches.next())
            .collect::<Result<Vec<_>>>()?;
        outcome.tokens += drawn
            .iter()
            .map(|batch| batch.inputs.elem_count())
            .sum::<usize>();
        let (loss, mut gradients) = differentiate(model, &drawn)?;
        clip(&mut gradients, variables)?;
        optimiser.step(&gradients)?;
        recent.push(loss);
        if recent.len() == STEPS_PER_REPORT || step + 1 == steps {
            outcome.loss = recent.drain(..).sum::<f64>() / ((step % STEPS_PER_REPORT) + 1) as f64;
            outcome.seconds = start.elapsed().as_secs_f64();
            println!(
                "step {:>5} of {steps}: loss {:.4}, {:.0} tokens/s, {:.0} s",
                step + 1,
                outcome.loss,
                outcome.tokens as f64 / outcome.seconds,
                outcome.seconds
            );
        }
    }
    Ok(outcome)
}

/// Up in a line, down in half a cosine to nothing.
fn learning_rate(step: usize, steps: usize) -> f64 {
    if step < WARM_UP_STEPS {
        return PEAK_LEARNING_RATE * (step + 1) as f64 / WARM_UP_STEPS as f64;
    }
    let progress = (step - WARM_UP_STEPS) as f64 / (steps - WARM_UP_STEPS) as f64;
    PEAK_LEARNING_RATE * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos())
}

/// The mean loss over all batches and its gradients, each batch on a thread of its own.
fn differentiate(model: &Model, batches: &[Batch]) -> Result<(f64, GradStore)> {
    let total_weight: f64 = batches.iter().map(|batch| batch.total_weight).sum();
    let parts = std::thread::scope(|scope| {
        let running: Vec<_> = batches
            .iter()
            .map(|batch| scope.spawn(move || differentiate_one(model, batch, total_weight)))
            .collect();
        running
            .into_iter()
            .map(|thread| {
                thread
                    .join()
                    .map_err(|_| anyhow!("a training thread panicked"))?
            })
            .collect::<Result<Vec<_>>>()
    })?;
    let mut loss = 0.0;
    let mut sum: Option<GradStore> = None;
    for (part, gradients) in parts {
        loss += part;
        match &mut sum {
            Some(sum) => sum.extend(gradients)?,
            None => sum = Some(gradients),
        }
    }
    Ok((loss, sum.context("a step needs a batch")?))
}

fn differentiate_one(model: &Model, batch: &Batch, total_weight: f64) -> Result<(f64, GradStore)> {
    let logits = model.forward(&batch.inputs)?;
    let sum = ops::cross_entropy(&logits, batch.targets.clone(), batch.weights.clone())?;
    let loss = (sum / total_weight)?;
    Ok((f64::from(loss.to_scalar::<f32>()?), loss.backward()?))
}

/// Scales all gradients together if their norm is too large: a rare batch must not undo the others.
fn clip(gradients: &mut GradStore, variables: &[Var]) -> Result<()> {
    let mut square = 0f64;
    for variable in variables {
        let gradient = gradients
            .get(variable)
            .context("a parameter has no gradient")?;
        square += f64::from(gradient.sqr()?.sum_all()?.to_scalar::<f32>()?);
    }
    let norm = square.sqrt();
    if norm > LARGEST_GRADIENT_NORM {
        for variable in variables {
            if let Some(gradient) = gradients.remove(variable) {
                let scaled: Tensor = (gradient * (LARGEST_GRADIENT_NORM / norm))?;
                gradients.insert(variable, scaled);
            }
        }
    }
    Ok(())
}
