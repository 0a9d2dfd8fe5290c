//! Which of a file's tokenizer keys are followed. One that isn't known might change the text, so it
//! is refused by name.

use anyhow::{Result, ensure};

use super::super::gguf::{Metadata, Value};

const PREFIX: &str = "tokenizer.ggml.";

/// Keys that the tokenizer is made of.
const APPLIED: &[&str] = &[
    "add_bos_token",
    "add_eos_token",
    "bos_token_id",
    "eom_token_id",
    "eos_token_id",
    "eot_token_id",
    "merges",
    "model",
    "pre",
    "scores",
    "token_type",
    "tokens",
];
/// Tokens for other uses than the continuation of a text.
const WITHOUT_EFFECT: &[&str] = &[
    "cls_token_id",
    "fim_mid_token_id",
    "fim_pad_token_id",
    "fim_pre_token_id",
    "fim_rep_token_id",
    "fim_sep_token_id",
    "fim_suf_token_id",
    "mask_token_id",
    "middle_token_id",
    "padding_token_id",
    "prefix_token_id",
    "seperator_token_id",
    "separator_token_id",
    "suffix_token_id",
    "token_type_count",
    "unknown_token_id",
];
/// Keys that change nothing as long as they say this.
const NEUTRAL: &[(&str, bool)] = &[
    ("add_sep_token", false),
    ("escape_whitespaces", true),
    ("remove_extra_whitespaces", false),
    ("treat_whitespace_as_suffix", false),
];

/// Refuses what would have to be followed and isn't. Only a vocabulary with scores knows a space
/// before a text.
pub fn refuse_unknown(metadata: &Metadata, has_scores: bool) -> Result<()> {
    for (name, value) in metadata.entries() {
        let Some(key) = name.strip_prefix(PREFIX) else {
            continue;
        };
        let is_neutral =
            |(neutral, says): (&str, bool)| key == neutral && *value == Value::Bool(says);
        let known = APPLIED.contains(&key)
            || WITHOUT_EFFECT.contains(&key)
            || NEUTRAL.iter().copied().any(is_neutral)
            || (key == "add_space_prefix" && has_scores)
            || is_neutral(("add_space_prefix", false));
        ensure!(
            known,
            "unsupported: metadata `{}` is {}, which may change the text in a way that this worker \
             doesn't know",
            name.escape_debug(),
            value.describe()
        );
    }
    Ok(())
}
