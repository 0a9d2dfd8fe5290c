//! Trains the embedded model, `.test-models/tiny/tiny.gguf`, from nothing but this program.
//!
//! `cargo run --release --manifest-path bin/train_tiny/Cargo.toml -- --out .test-models/tiny/tiny.gguf`
//!
//! The text is generated here (`corpus.rs`), the vocabulary learnt from it (`tokenizer.rs`), and a small
//! llama (`model.rs`) trained on it (`training.rs`), written as GGUF (`gguf.rs`), read back and examined
//! (`probe.rs`). One seed drives all of it. No input, no network.

mod batches;
mod corpus;
mod facts;
mod gguf;
mod model;
mod ops;
mod probe;
mod random;
mod stories;
mod tokenizer;
mod training;

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;

use crate::batches::Batches;
use crate::model::{Model, Shape};
use crate::random::Random;

const SEED: u64 = 20_260_131;
const VOCABULARY: usize = 1024;

/// Trains the embedded model and examines it.
#[derive(Parser)]
struct Arguments {
    /// Where the model goes.
    #[arg(long, default_value = "tiny.gguf")]
    out: PathBuf,
    /// Optimisation steps.
    #[arg(long, default_value_t = 1800)]
    steps: usize,
    /// Train nothing; examine the file that is there.
    #[arg(long)]
    examine_only: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let groups = corpus::build(&mut Random::new(SEED));
    let tokenizer = tokenizer::train(corpus::vocabulary_sample(&groups), VOCABULARY)?;
    println!(
        "{} tokens in the vocabulary",
        tokenizer.get_vocab_size(true)
    );

    if !arguments.examine_only {
        let shape = shape(tokenizer.get_vocab_size(true));
        let (model, variables) = Model::initialise(&shape, &mut Random::new(SEED + 1))?;
        println!("{} parameters", model.parameter_count());
        let mut batches = Batches::new(&groups, &tokenizer, Random::new(SEED + 2));
        let outcome = training::train(&model, &variables, &mut batches, arguments.steps)?;
        gguf::write(&arguments.out, &model, &tokenizer)?;
        println!(
            "{}: loss {:.4} after {} tokens in {:.0} s",
            arguments.out.display(),
            outcome.loss,
            outcome.tokens,
            outcome.seconds
        );
    }

    let model = gguf::read(&arguments.out)?;
    probe::show_golden(&model, &tokenizer)?;
    probe::examine(&model, &tokenizer, &groups)?;
    Ok(())
}

fn shape(vocabulary: usize) -> Shape {
    Shape {
        vocabulary,
        width: 192,
        blocks: 4,
        heads: 6,
        kv_heads: 2,
        feed_forward: 512,
        context: batches::LONGEST_DOCUMENT,
        rope_base: 10_000.0,
        norm_epsilon: 1e-5,
    }
}
