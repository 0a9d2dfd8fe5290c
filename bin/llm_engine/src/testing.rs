//! What the engine's tests share.

use std::io::Cursor;

use super::gguf::Gguf;
use super::model::config::Config;
use super::model::{self, Model};
use super::ops::Cpu;
use super::tokenizer::Tokenizer;

#[path = "../tests/common/gguf_writer.rs"]
pub mod gguf_writer;

use gguf_writer::GgufWriter;

/// The file that was written, opened.
pub fn open(file: &GgufWriter) -> Gguf<Cursor<Vec<u8>>> {
    Gguf::read(Cursor::new(file.build())).expect("the file is sound")
}

/// The tokenizer of a file.
pub fn tokenizer(file: &GgufWriter) -> Tokenizer {
    Tokenizer::from_metadata(&open(file).metadata).expect("the vocabulary is sound")
}

/// The model of a file, or why it is refused.
pub fn try_model(file: &GgufWriter, threads: usize, pages: usize) -> anyhow::Result<Model> {
    let mut gguf = open(file);
    let config = Config::from_metadata(&gguf.metadata)?;
    let weights = model::load(&mut gguf, &config, threads)?;
    let cpu = Cpu::new(threads).expect("threads can be started");
    Ok(Model::new(config, weights, cpu, pages))
}

/// The model of a file that is sound.
pub fn model(file: &GgufWriter, threads: usize, pages: usize) -> Model {
    try_model(file, threads, pages).expect("the model is sound")
}
