//! Text to tokens and tokens to bytes, from a GGUF file's own metadata.
//!
//! Follows llama.cpp token for token: the same splits, the same merges, the same special tokens
//! found in the prompt. Two kinds exist: byte-level BPE (`gpt2`) and SentencePiece-style BPE by
//! scores with byte fallback (`llama`). Both end in the same merge of neighbours. Every step takes
//! time in proportion to the text (times its logarithm), so that a hostile prompt can't stall.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

use anyhow::{Context, Result, bail, ensure};

use super::TokenText;
use super::gguf::{Metadata, Texts, Value};

mod bytelevel;
mod keys;
mod merge;
mod specials;
mod split;
mod vocabulary;

use merge::{Symbol, merge};
use specials::{Fragment, Specials};
use split::Splitter;
use vocabulary::Vocabulary;

/// What SentencePiece writes for a space.
const SPACE_MARK: &str = "\u{2581}";

/// Instead of a token's number: 2^32 - 1, or the same bits with a sign.
const NO_TOKEN: [Value; 2] = [Value::Unsigned(u32::MAX as u64), Value::Signed(-1)];

/// Tokens that end a generation wherever they are in a vocabulary, as in llama.cpp: models are
/// published whose metadata names only one of the two that they use.
const END_TEXTS: [&str; 14] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "<|end_of_text|>",
    "<end_of_utterance>",
];

/// Turns prompts into tokens, and tokens into the bytes that they stand for.
#[derive(Debug)]
pub struct Tokenizer {
    /// What each token adds to a generated text.
    pieces: Texts,
    /// Tokens by what a merge of the prompt can find.
    ids: Vocabulary,
    specials: Specials,
    kind: Kind,
    /// Put before every prompt.
    begin: Option<u32>,
    /// Put after every prompt, which few models want.
    end: Option<u32>,
    ends: HashSet<u32>,
    /// No token stands for more bytes of a prompt. `None` if the vocabulary drops some bytes.
    longest: Option<usize>,
}

#[derive(Debug)]
enum Kind {
    ByteLevel {
        splitter: Splitter,
        /// Rank and outcome of each pair that may be merged.
        merges: HashMap<(u32, u32), (u32, u32)>,
    },
    Pieces {
        scores: Vec<f32>,
        byte_tokens: Vec<Option<u32>>,
        space_prefix: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TokenType {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

impl TokenType {
    fn from_number(number: i64) -> Result<Self> {
        Ok(match number {
            1 => Self::Normal,
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::UserDefined,
            5 => Self::Unused,
            6 => Self::Byte,
            _ => bail!("`tokenizer.ggml.token_type` has the unknown type {number}"),
        })
    }

    fn is_found_in_prompts(self) -> bool {
        matches!(self, Self::Unknown | Self::Control | Self::UserDefined)
    }
}

impl Tokenizer {
    /// Builds it from `tokenizer.ggml.*`.
    pub fn from_metadata(metadata: &Metadata) -> Result<Self> {
        let model = metadata
            .text("tokenizer.ggml.model")?
            .context("metadata `tokenizer.ggml.model` is missing")?;
        let texts = metadata
            .texts("tokenizer.ggml.tokens")?
            .context("metadata `tokenizer.ggml.tokens` is missing")?;
        ensure!(
            !texts.is_empty(),
            "metadata `tokenizer.ggml.tokens` is empty"
        );
        ensure!(
            u32::try_from(texts.len()).is_ok(),
            "the vocabulary is absurdly large"
        );
        keys::refuse_unknown(metadata, model == "llama")?;
        let types = token_types(metadata, texts.len())?;
        match model {
            "gpt2" => Self::byte_level(metadata, texts, &types),
            "llama" => Self::sentence_piece(metadata, texts, &types),
            _ => bail!("unsupported tokenizer `{model}`: this worker knows `gpt2` and `llama`"),
        }
    }

    fn byte_level(metadata: &Metadata, texts: &Texts, types: &[TokenType]) -> Result<Self> {
        let pre = metadata.text("tokenizer.ggml.pre")?.unwrap_or("default");
        let splitter = Splitter::new(pre)?;
        let mut ids = Vocabulary::with_capacity(texts.len());
        let mut pieces = Texts::default();
        for (text, kind) in texts.iter().zip(types) {
            let decoded = bytelevel::decode(text);
            ids.push(decoded.as_deref());
            pieces.push(match kind {
                TokenType::Normal => decoded.as_deref().unwrap_or(text),
                TokenType::UserDefined => text,
                _ => &[],
            });
        }
        let merges = read_merges(metadata, &ids)?;
        let drops_bytes = (0..=u8::MAX).any(|byte| ids.find(&[byte]).is_none());
        let parts = Parts {
            pieces,
            ids,
            begins: splitter.begins_texts(),
            kind: Kind::ByteLevel { splitter, merges },
            defaults: None,
            drops_bytes,
        };
        Self::finish(metadata, texts, types, parts)
    }

    fn sentence_piece(metadata: &Metadata, texts: &Texts, types: &[TokenType]) -> Result<Self> {
        let scores = match metadata.floats("tokenizer.ggml.scores")? {
            Some(scores) => scores.to_vec(),
            None => bail!("metadata `tokenizer.ggml.scores` is missing"),
        };
        ensure!(
            scores.len() == texts.len(),
            "`tokenizer.ggml.scores` has {} entries for {} tokens",
            scores.len(),
            texts.len()
        );
        let mut ids = Vocabulary::with_capacity(texts.len());
        let mut pieces = Texts::default();
        for (text, kind) in texts.iter().zip(types) {
            ids.push(Some(text));
            match kind {
                TokenType::Normal => pieces.push(&with_spaces(text)),
                TokenType::UserDefined => pieces.push(text),
                TokenType::Byte => pieces.push(&[byte_of(text)?]),
                _ => pieces.push(&[]),
            }
        }
        let byte_tokens: Vec<_> = (0..=u8::MAX)
            .map(|byte| {
                let named = ids.find(format!("<0x{byte:02X}>").as_bytes());
                named.or_else(|| ids.find(&[byte]))
            })
            .collect();
        let space_prefix = metadata
            .bool("tokenizer.ggml.add_space_prefix")?
            .unwrap_or(true);
        let parts = Parts {
            pieces,
            ids,
            drops_bytes: byte_tokens.contains(&None),
            kind: Kind::Pieces {
                scores,
                byte_tokens,
                space_prefix,
            },
            begins: true,
            defaults: Some((1, 2)),
        };
        Self::finish(metadata, texts, types, parts)
    }

    fn finish(
        metadata: &Metadata,
        texts: &Texts,
        types: &[TokenType],
        parts: Parts,
    ) -> Result<Self> {
        let special = |key: &str, default: Option<u32>| -> Result<Option<u32>> {
            let key = format!("tokenizer.ggml.{key}_token_id");
            let id = match metadata.get(&key) {
                // This is how files say that there is none.
                Some(value) if NO_TOKEN.contains(value) => return Ok(None),
                _ => metadata.u64(&key)?,
            };
            let Some(id) = id.or(default.map(u64::from)) else {
                return Ok(None);
            };
            ensure!(
                id < texts.len() as u64,
                "`{key}` is {id}, but there are {} tokens",
                texts.len()
            );
            Ok(Some(id as u32))
        };
        let begin = special("bos", parts.defaults.map(|defaults| defaults.0))?;
        let end = special("eos", parts.defaults.map(|defaults| defaults.1))?;

        let mut ends: HashSet<u32> = HashSet::new();
        ends.extend(end);
        ends.extend(special("eot", None)?);
        ends.extend(special("eom", None)?);
        let by_text = texts.iter().zip(0..).filter(|(text, _)| {
            END_TEXTS
                .iter()
                .any(|end_text| end_text.as_bytes() == *text)
        });
        ends.extend(by_text.map(|(_, id)| id));

        let found = texts
            .iter()
            .zip(types)
            .zip(0..)
            .filter(|((_, kind), _)| kind.is_found_in_prompts())
            .filter_map(|((text, _), id)| Some((std::str::from_utf8(text).ok()?, id)));
        let specials = Specials::new(found)?;

        let adds_begin = metadata
            .bool("tokenizer.ggml.add_bos_token")?
            .unwrap_or(parts.begins);
        let adds_end = metadata
            .bool("tokenizer.ggml.add_eos_token")?
            .unwrap_or(false);
        Ok(Self {
            pieces: parts.pieces,
            ids: parts.ids,
            specials,
            kind: parts.kind,
            begin: begin.filter(|_| adds_begin),
            end: end.filter(|_| adds_end),
            ends,
            longest: match parts.drops_bytes {
                true => None,
                false => texts.iter().map(<[u8]>::len).max(),
            },
        })
    }

    /// How many tokens there are.
    pub fn vocabulary_size(&self) -> usize {
        self.pieces.len()
    }

    /// Whether this token ends a generation.
    pub fn is_end(&self, token: u32) -> bool {
        self.ends.contains(&token)
    }

    /// The bytes that a generated token adds to the text; none for a control token.
    pub fn piece(&self, token: u32) -> &[u8] {
        match (token as usize) < self.pieces.len() {
            true => self.pieces.get(token as usize),
            false => &[],
        }
    }

    /// The token with this number, if there is one.
    pub fn token(&self, token: u32) -> Option<TokenText<'_>> {
        ((token as usize) < self.pieces.len()).then(|| TokenText {
            piece: self.piece(token),
            name: self.ids.text(token),
            is_end: self.is_end(token),
        })
    }

    /// At least so many tokens has a prompt of this length, whatever it says.
    pub fn least_tokens(&self, prompt_bytes: usize) -> usize {
        let longest = self.longest.unwrap_or(usize::MAX).max(1);
        prompt_bytes.div_ceil(longest)
    }

    /// The tokens of a prompt. Special tokens written out in it become what they stand for.
    pub fn encode(&self, prompt: &str) -> Vec<u32> {
        let mut tokens = Vec::new();
        tokens.extend(self.begin);
        let mut after_special = true;
        for fragment in self.specials.split(prompt) {
            match fragment {
                Fragment::Special(token) => tokens.push(token),
                Fragment::Text(text) => self.encode_text(text, after_special, &mut tokens),
            }
            after_special = matches!(fragment, Fragment::Special(_));
        }
        tokens.extend(self.end);
        tokens
    }

    fn encode_text(&self, text: &str, after_special: bool, tokens: &mut Vec<u32>) {
        match &self.kind {
            Kind::ByteLevel { splitter, merges } => {
                for word in splitter.split(text) {
                    self.encode_word(word, splitter.takes_whole_words(), merges, tokens);
                }
            }
            Kind::Pieces {
                scores,
                byte_tokens,
                space_prefix,
            } => {
                let prefix = if *space_prefix && after_special {
                    " "
                } else {
                    ""
                };
                let text = format!("{prefix}{text}").replace(' ', SPACE_MARK);
                self.encode_pieces(&text, scores, byte_tokens, tokens);
            }
        }
    }

    fn encode_word(
        &self,
        word: &str,
        whole_words: bool,
        merges: &HashMap<(u32, u32), (u32, u32)>,
        tokens: &mut Vec<u32>,
    ) {
        let word = word.as_bytes();
        if whole_words && let Some(token) = self.ids.find(word) {
            tokens.push(token);
            return;
        }
        let symbols = (0..word.len()).map(|at| Symbol {
            start: at,
            end: at + 1,
            token: self.ids.find(&word[at..=at]),
        });
        let merged = merge(symbols.collect(), |left, right| {
            let (rank, token) = merges.get(&(left.token?, right.token?))?;
            Some((Reverse(*rank), *token))
        });
        // A byte that the vocabulary lacks is dropped, as llama.cpp does.
        tokens.extend(merged.into_iter().filter_map(|symbol| symbol.token));
    }

    fn encode_pieces(
        &self,
        text: &str,
        scores: &[f32],
        byte_tokens: &[Option<u32>],
        tokens: &mut Vec<u32>,
    ) {
        let bytes = text.as_bytes();
        let symbols = text.char_indices().map(|(start, character)| {
            let end = start + character.len_utf8();
            Symbol {
                start,
                end,
                token: self.ids.find(&bytes[start..end]),
            }
        });
        let merged = merge(symbols.collect(), |left, right| {
            let token = self.ids.find(&bytes[left.start..right.end])?;
            Some((merge::Score(scores[token as usize]), token))
        });
        for symbol in merged {
            match symbol.token {
                Some(token) => tokens.push(token),
                None => tokens.extend(
                    bytes[symbol.start..symbol.end]
                        .iter()
                        .filter_map(|&byte| byte_tokens[usize::from(byte)]),
                ),
            }
        }
    }
}

/// What the two kinds of tokenizer hand to [`Tokenizer::finish`].
struct Parts {
    pieces: Texts,
    ids: Vocabulary,
    kind: Kind,
    /// Whether prompts begin with the begin token unless the metadata says otherwise.
    begins: bool,
    /// Begin and end token where the metadata names none.
    defaults: Option<(u32, u32)>,
    /// Whether there are bytes that no token stands for.
    drops_bytes: bool,
}

/// What a vocabulary's text with marks for spaces adds to an answer.
fn with_spaces(text: &[u8]) -> Cow<'_, [u8]> {
    match std::str::from_utf8(text) {
        Ok(text) if text.contains(SPACE_MARK) => {
            Cow::Owned(text.replace(SPACE_MARK, " ").into_bytes())
        }
        _ => Cow::Borrowed(text),
    }
}

fn token_types(metadata: &Metadata, count: usize) -> Result<Vec<TokenType>> {
    let Some(numbers) = metadata.integers("tokenizer.ggml.token_type")? else {
        return Ok(vec![TokenType::Normal; count]);
    };
    ensure!(
        numbers.len() == count,
        "`tokenizer.ggml.token_type` has {} entries for {count} tokens",
        numbers.len()
    );
    numbers.iter().map(TokenType::from_number).collect()
}

fn read_merges(metadata: &Metadata, ids: &Vocabulary) -> Result<HashMap<(u32, u32), (u32, u32)>> {
    let lines = metadata
        .texts("tokenizer.ggml.merges")?
        .context("metadata `tokenizer.ggml.merges` is missing")?;
    let mut merges = HashMap::with_capacity(lines.len());
    for (line, rank) in lines.iter().zip(0..) {
        let pair = parse_merge(line, ids).with_context(|| {
            format!(
                "`tokenizer.ggml.merges` has the unusable entry `{}`",
                line.escape_ascii()
            )
        })?;
        let (left, right, merged) = pair;
        merges.entry((left, right)).or_insert((rank, merged));
    }
    Ok(merges)
}

/// The tokens of `left right` and of the two together.
fn parse_merge(line: &[u8], ids: &Vocabulary) -> Option<(u32, u32, u32)> {
    let space = line.iter().skip(1).position(|&byte| byte == b' ')? + 1;
    let left = bytelevel::decode(&line[..space])?;
    let right = bytelevel::decode(&line[space + 1..])?;
    let merged = [left.as_slice(), right.as_slice()].concat();
    Some((ids.find(&left)?, ids.find(&right)?, ids.find(&merged)?))
}

/// The byte of a token such as `<0x0A>`.
fn byte_of(text: &[u8]) -> Result<u8> {
    std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.strip_prefix("<0x")?.strip_suffix('>'))
        .and_then(|digits| u8::from_str_radix(digits, 16).ok())
        .with_context(|| format!("the byte token `{}` names no byte", text.escape_ascii()))
}

#[cfg(test)]
mod tests;
