//! Operations with hand-written gradients, where candle's own are made of many passes over memory.
//! They halve the time of training. f32 on the CPU only; every argument must be contiguous.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Device, Layout, Result, Shape, Tensor, bail};

/// Rotates neighbouring pairs of the last dimension of (batch, heads, length, head) by their
/// position: the order that llama.cpp's `llama` architecture has in its files, so that nothing is
/// permuted.
pub fn rotate(input: &Tensor, base: f32) -> Result<Tensor> {
    input.apply_op1(Rotary {
        base,
        direction: 1.0,
    })
}

/// Softmax over the last dimension of (.., queries, keys), where query `i` sees the keys up to `i`.
pub fn causal_softmax(scores: &Tensor) -> Result<Tensor> {
    scores.apply_op1(CausalSoftmax)
}

/// Divides each row by its root mean square and multiplies it by the gain.
pub fn rms_norm(input: &Tensor, gain: &Tensor, epsilon: f32) -> Result<Tensor> {
    input.apply_op2(gain, RmsNorm { epsilon })
}

/// `silu(gate) * up`.
pub fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    gate.apply_op2(up, SwiGlu)
}

/// The weighted sum, over the rows of the logits, of the cross-entropy with the row's target.
pub fn cross_entropy(logits: &Tensor, targets: Vec<u32>, weights: Vec<f32>) -> Result<Tensor> {
    logits.apply_op1(CrossEntropy { targets, weights })
}

struct Rotary {
    base: f32,
    /// -1 turns back, which is the gradient.
    direction: f32,
}

impl CustomOp1 for Rotary {
    fn name(&self) -> &'static str {
        "rotary"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let input = contiguous(storage, layout)?;
        let (_, _, length, head) = layout.shape().dims4()?;
        let half = head / 2;
        let turns: Vec<(f32, f32)> = (0..length * half)
            .map(|i| {
                let frequency = self.base.powf(-((i % half) as f32) / half as f32);
                (self.direction * (i / half) as f32 * frequency).sin_cos()
            })
            .collect();
        let mut output = Vec::with_capacity(input.len());
        for sequence in input.chunks_exact(length * head) {
            for (pair, (sin, cos)) in sequence.chunks_exact(2).zip(&turns) {
                output.push(pair[0] * cos - pair[1] * sin);
                output.push(pair[0] * sin + pair[1] * cos);
            }
        }
        Ok((CpuStorage::F32(output), layout.shape().clone()))
    }

    fn bwd(&self, _input: &Tensor, _output: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let back = Rotary {
            base: self.base,
            direction: -self.direction,
        };
        gradient.contiguous()?.apply_op1_no_bwd(&back).map(Some)
    }
}

struct CausalSoftmax;

impl CustomOp1 for CausalSoftmax {
    fn name(&self) -> &'static str {
        "causal-softmax"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let scores = contiguous(storage, layout)?;
        let dims = layout.shape().dims();
        let (queries, keys) = (dims[dims.len() - 2], dims[dims.len() - 1]);
        let mut output = vec![0f32; scores.len()];
        let rows = scores.chunks_exact(keys).zip(output.chunks_exact_mut(keys));
        for (row, (scores, output)) in rows.enumerate() {
            let visible = row % queries + 1;
            softmax(&scores[..visible], &mut output[..visible]);
        }
        Ok((CpuStorage::F32(output), layout.shape().clone()))
    }

    /// Of the weights and their gradient, the gradient of the scores: `w * (g - sum(w * g))`.
    fn bwd(&self, _scores: &Tensor, weights: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let keys = weights.dim(weights.rank() - 1)?;
        let (mut scores, values) = (numbers(weights)?, numbers(gradient)?);
        for (weights, gradient) in scores.chunks_exact_mut(keys).zip(values.chunks_exact(keys)) {
            let mean = dot(weights, gradient);
            for (weight, gradient) in weights.iter_mut().zip(gradient) {
                *weight *= gradient - mean;
            }
        }
        tensor_like(scores, weights).map(Some)
    }
}

struct RmsNorm {
    epsilon: f32,
}

impl RmsNorm {
    fn scale(&self, row: &[f32]) -> f32 {
        (dot(row, row) / row.len() as f32 + self.epsilon)
            .sqrt()
            .recip()
    }
}

impl CustomOp2 for RmsNorm {
    fn name(&self) -> &'static str {
        "rms-norm"
    }

    fn cpu_fwd(
        &self,
        input: &CpuStorage,
        input_layout: &Layout,
        gain: &CpuStorage,
        gain_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (input, gain) = (
            contiguous(input, input_layout)?,
            contiguous(gain, gain_layout)?,
        );
        let mut output = Vec::with_capacity(input.len());
        for row in input.chunks_exact(gain.len()) {
            let scale = self.scale(row);
            output.extend(
                row.iter()
                    .zip(gain)
                    .map(|(value, gain)| value * scale * gain),
            );
        }
        Ok((CpuStorage::F32(output), input_layout.shape().clone()))
    }

    fn bwd(
        &self,
        input: &Tensor,
        gain: &Tensor,
        _output: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (inputs, gains, mut gradients) = (numbers(input)?, numbers(gain)?, numbers(gradient)?);
        let width = gains.len();
        let mut gain_gradient = vec![0f32; width];
        for (row, gradient) in inputs
            .chunks_exact(width)
            .zip(gradients.chunks_exact_mut(width))
        {
            let scale = self.scale(row);
            for column in 0..width {
                gain_gradient[column] += gradient[column] * row[column] * scale;
                gradient[column] *= gains[column];
            }
            let along = dot(gradient, row) * scale * scale / width as f32;
            for (gradient, value) in gradient.iter_mut().zip(row) {
                *gradient = scale * (*gradient - along * value);
            }
        }
        Ok((
            Some(tensor_like(gradients, input)?),
            Some(tensor_like(gain_gradient, gain)?),
        ))
    }
}

struct SwiGlu;

impl CustomOp2 for SwiGlu {
    fn name(&self) -> &'static str {
        "swiglu"
    }

    fn cpu_fwd(
        &self,
        gate: &CpuStorage,
        gate_layout: &Layout,
        up: &CpuStorage,
        up_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (gate, up) = (contiguous(gate, gate_layout)?, contiguous(up, up_layout)?);
        let output = gate
            .iter()
            .zip(up)
            .map(|(gate, up)| gate * sigmoid(*gate) * up)
            .collect();
        Ok((CpuStorage::F32(output), gate_layout.shape().clone()))
    }

    fn bwd(
        &self,
        gate: &Tensor,
        up: &Tensor,
        _output: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (mut gates, mut ups, gradients) = (numbers(gate)?, numbers(up)?, numbers(gradient)?);
        for ((g, u), gradient) in gates.iter_mut().zip(&mut ups).zip(gradients) {
            let open = sigmoid(*g);
            let silu = *g * open;
            *g = gradient * *u * (open + silu * (1.0 - open));
            *u = gradient * silu;
        }
        Ok((Some(tensor_like(gates, gate)?), Some(tensor_like(ups, up)?)))
    }
}

struct CrossEntropy {
    targets: Vec<u32>,
    weights: Vec<f32>,
}

impl CustomOp1 for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross-entropy"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let logits = contiguous(storage, layout)?;
        let (_, classes) = layout.shape().dims2()?;
        let mut chances = vec![0f32; classes];
        let mut total = 0f32;
        for ((row, target), weight) in logits
            .chunks_exact(classes)
            .zip(&self.targets)
            .zip(&self.weights)
        {
            if *weight > 0.0 {
                let log_sum = softmax(row, &mut chances);
                total += weight * (log_sum - row[*target as usize]);
            }
        }
        Ok((CpuStorage::F32(vec![total]), Shape::from(())))
    }

    fn bwd(&self, logits: &Tensor, _loss: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let factor = gradient.to_scalar::<f32>()?;
        let values = numbers(logits)?;
        let classes = logits.dim(1)?;
        let mut output = vec![0f32; values.len()];
        let rows = values
            .chunks_exact(classes)
            .zip(output.chunks_exact_mut(classes));
        for (((row, chances), target), weight) in rows.zip(&self.targets).zip(&self.weights) {
            if *weight > 0.0 {
                softmax(row, chances);
                chances[*target as usize] -= 1.0;
                chances
                    .iter_mut()
                    .for_each(|value| *value *= weight * factor);
            }
        }
        tensor_like(output, logits).map(Some)
    }
}

/// Writes the softmax of the scores and returns the logarithm of the sum of their exponentials.
fn softmax(scores: &[f32], output: &mut [f32]) -> f32 {
    let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut total = 0f32;
    for (score, weight) in scores.iter().zip(output.iter_mut()) {
        *weight = (score - largest).exp();
        total += *weight;
    }
    output.iter_mut().for_each(|weight| *weight /= total);
    largest + total.ln()
}

fn sigmoid(value: f32) -> f32 {
    1.0 / (1.0 + (-value).exp())
}

/// In sixteen sums, which a compiler turns into vector instructions.
fn dot(left: &[f32], right: &[f32]) -> f32 {
    const LANES: usize = 16;
    let mut sums = [0f32; LANES];
    let (left_lanes, right_lanes) = (left.chunks_exact(LANES), right.chunks_exact(LANES));
    let rest: f32 = left_lanes
        .remainder()
        .iter()
        .zip(right_lanes.remainder())
        .map(|(l, r)| l * r)
        .sum();
    for (left, right) in left_lanes.zip(right_lanes) {
        for lane in 0..LANES {
            sums[lane] += left[lane] * right[lane];
        }
    }
    rest + sums.iter().sum::<f32>()
}

fn contiguous<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<f32>()?[start..end]),
        None => bail!("this operation takes contiguous tensors only"),
    }
}

fn numbers(tensor: &Tensor) -> Result<Vec<f32>> {
    tensor.flatten_all()?.to_vec1()
}

fn tensor_like(numbers: Vec<f32>, like: &Tensor) -> Result<Tensor> {
    Tensor::from_vec(numbers, like.shape(), &Device::Cpu)
}
