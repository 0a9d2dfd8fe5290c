//! What the engine's tests share.

use std::io::Cursor;

use super::gguf::Gguf;
use super::tokenizer::Tokenizer;

#[path = "../../tests/common/gguf_writer.rs"]
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
