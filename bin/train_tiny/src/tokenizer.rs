//! A byte-level BPE learnt from the corpus, in the form that GGUF's `gpt2` tokenizer model has.

use anyhow::{Result, anyhow};
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::{AddedToken, Tokenizer};

use crate::corpus::Document;

/// Begin of text and padding. Never generated.
pub const BEGIN: &str = "<|endoftext|>";
/// Opens a chat message.
pub const MESSAGE_START: &str = "<|im_start|>";
/// Ends an answer, raw or in a chat: the end token.
pub const MESSAGE_END: &str = "<|im_end|>";
/// The special tokens, whose ids are their positions here.
pub const SPECIAL: [&str; 3] = [BEGIN, MESSAGE_START, MESSAGE_END];

/// Learns a vocabulary of at most `size` tokens, all single bytes among them.
pub fn train<'a>(
    documents: impl Iterator<Item = &'a Document> + Send,
    size: usize,
) -> Result<Tokenizer> {
    let mut tokenizer = Tokenizer::new(BPE::default());
    // What llama.cpp calls `smollm`: digits one by one, the rest as GPT-2 cuts it.
    let splitter = Sequence::new(vec![
        Digits::new(true).into(),
        ByteLevel::new(false, true, true).into(),
    ]);
    tokenizer.with_pre_tokenizer(Some(splitter));
    tokenizer.with_decoder(Some(ByteLevel::default()));
    let special = SPECIAL.map(|text| AddedToken::from(text, true).normalized(false));
    let mut trainer: TrainerWrapper = BpeTrainerBuilder::new()
        .vocab_size(size)
        .min_frequency(3)
        .show_progress(false)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .special_tokens(special.to_vec())
        .build()
        .into();
    let texts = documents.map(|document| format!("{}{}", document.prompt, document.answer));
    tokenizer
        .train(&mut trainer, texts)
        .map_err(|cause| anyhow!("cannot learn the vocabulary: {cause}"))?;
    Ok(tokenizer)
}
