//! The keys and values of one sequence. They grow by doubling, so that memory follows the text and
//! not what a request might ask for.

use anyhow::{Context, Result};
use candle_core::{Device, Tensor};

use super::Config;

/// As many positions as are made room for at first.
const FIRST_CAPACITY: usize = 128;

/// What a model remembers of one sequence.
#[derive(Debug)]
pub struct Cache {
    layers: Vec<Option<Layer>>,
    length: usize,
    longest: usize,
}

#[derive(Debug)]
struct Layer {
    /// Both `[key_heads, capacity, head_width]`.
    keys: Tensor,
    values: Tensor,
}

impl Cache {
    pub(super) fn new(config: &Config) -> Self {
        let layers = (0..config.block_count()).map(|_| None).collect();
        Self {
            layers,
            length: 0,
            longest: config.context_length,
        }
    }

    /// How many positions it holds.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Forgets what stands behind so many positions, as after a batch that failed.
    pub(super) fn go_back_to(&mut self, length: usize) {
        self.length = self.length.min(length);
    }

    pub(super) fn advance(&mut self, positions: usize) {
        self.length += positions;
    }

    /// Writes behind the positions held, and gives the keys and values up to there. Until
    /// [`Cache::advance`], writing again replaces what was written.
    pub(super) fn append(
        &mut self,
        layer: usize,
        key: &Tensor,
        value: &Tensor,
    ) -> Result<(Tensor, Tensor)> {
        let (heads, steps, width) = key.dims3()?;
        let end = self.length + steps;
        let capacity = |current: usize| {
            let wanted = end
                .max(current * 2)
                .max(FIRST_CAPACITY)
                .min(self.longest.max(end));
            (heads, wanted, width)
        };
        let layer = &mut self.layers[layer];
        let current = layer.as_ref().map_or(0, |layer| layer.keys.dims()[1]);
        if end > current {
            let shape = capacity(current);
            let grow = |old: Option<&Tensor>| grow(old, self.length, shape, key.device());
            let keys = grow(layer.as_ref().map(|layer| &layer.keys))?;
            let values = grow(layer.as_ref().map(|layer| &layer.values))?;
            *layer = Some(Layer { keys, values });
        }
        let layer = layer.as_ref().context("the cache was just made")?;
        layer.keys.slice_set(&key.contiguous()?, 1, self.length)?;
        layer
            .values
            .slice_set(&value.contiguous()?, 1, self.length)?;
        Ok((
            layer.keys.narrow(1, 0, end)?,
            layer.values.narrow(1, 0, end)?,
        ))
    }
}

fn grow(
    old: Option<&Tensor>,
    length: usize,
    shape: (usize, usize, usize),
    device: &Device,
) -> Result<Tensor> {
    let new = Tensor::zeros(shape, candle_core::DType::F32, device)?;
    if let Some(old) = old.filter(|_| length > 0) {
        new.slice_set(&old.narrow(1, 0, length)?.contiguous()?, 1, 0)?;
    }
    Ok(new)
}
