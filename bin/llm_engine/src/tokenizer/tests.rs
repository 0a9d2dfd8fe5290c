//! The tokenizer against known splits, merges and another implementation.

use super::*;
use crate::testing::gguf_writer::{GgufWriter, add_byte_vocabulary};
use crate::testing::{open, tokenizer};
use proptest::prelude::*;
use tokenizers::models::bpe::BPE;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;

fn byte_level(pre: &str) -> GgufWriter {
    let mut file = GgufWriter::default();
    add_byte_vocabulary(&mut file, pre);
    file
}

/// The text of each token.
fn pieces(tokenizer: &Tokenizer, prompt: &str) -> Vec<String> {
    let show = |&token: &u32| String::from_utf8_lossy(tokenizer.piece(token)).into_owned();
    tokenizer.encode(prompt).iter().map(show).collect()
}

fn decode(tokenizer: &Tokenizer, tokens: &[u32]) -> Vec<u8> {
    tokens
        .iter()
        .flat_map(|&token| tokenizer.piece(token))
        .copied()
        .collect()
}

#[test]
fn words_are_merged_by_rank() {
    let tokenizer = tokenizer(&byte_level("gpt-2"));
    assert_eq!(
        pieces(&tokenizer, "the thing and 1900"),
        [
            "the", " ", "th", "in", "g", " a", "n", "d", " ", "19", "0", "0"
        ]
    );
}

#[test]
fn special_tokens_in_a_prompt_are_found() {
    let tokenizer = tokenizer(&byte_level("smollm"));
    let start = tokenizer.vocabulary_size() as u32 - 2;
    let tokens = tokenizer.encode("<|im_start|>a<|im_end|>");
    assert_eq!(tokens, [start, tokenizer.encode("a")[0], start + 1]);
    assert!(
        tokenizer.piece(start).is_empty(),
        "control tokens add no text"
    );
    assert!(tokenizer.is_end(start + 1) && !tokenizer.is_end(start));
}

#[test]
fn the_begin_token_is_put_first_where_the_model_wants_it() {
    let mut file = byte_level("smollm");
    file.bool("tokenizer.ggml.add_bos_token", true);
    let tokenizer = tokenizer(&file);
    let begin = tokenizer.vocabulary_size() as u32 - 2;
    assert_eq!(tokenizer.encode("")[..], [begin]);
    file.remove("tokenizer.ggml.add_bos_token");
    assert!(super::tests::tokenizer(&file).encode("").is_empty());
}

#[test]
fn an_id_of_all_ones_means_that_there_is_no_such_token() {
    let mut file = byte_level("smollm");
    file.bool("tokenizer.ggml.add_bos_token", true)
        .u32("tokenizer.ggml.bos_token_id", u32::MAX)
        .entry(
            "tokenizer.ggml.eos_token_id",
            5,
            (-1_i32).to_le_bytes().to_vec(),
        );
    let without = tokenizer(&file);
    assert!(without.encode("").is_empty());
    assert!(!without.is_end(0));
    // Even where a vocabulary has such tokens unless it says otherwise.
    let mut file = scored();
    file.u32("tokenizer.ggml.bos_token_id", u32::MAX);
    assert_ne!(tokenizer(&file).encode("and")[0], 1);
}

#[test]
fn a_prompt_has_at_least_as_many_tokens_as_its_length_says() {
    let tokenizer = tokenizer(&byte_level("smollm"));
    let longest = "<|im_start|>".len();
    assert_eq!(tokenizer.least_tokens(longest * 1000 + 1), 1001);
    let prompt = "<|im_start|>the end".repeat(50);
    assert!(tokenizer.least_tokens(prompt.len()) <= tokenizer.encode(&prompt).len());
    // Bytes without a token vanish, so that a length says nothing.
    let mut file = byte_level("smollm");
    file.texts("tokenizer.ggml.tokens", &["a", "b"])
        .i32s("tokenizer.ggml.token_type", &[1, 1])
        .texts::<&str>("tokenizer.ggml.merges", &[])
        .remove("tokenizer.ggml.bos_token_id")
        .remove("tokenizer.ggml.eos_token_id");
    assert_eq!(crate::testing::tokenizer(&file).least_tokens(1 << 20), 1);
}

#[test]
fn an_end_token_that_only_its_text_gives_away_ends_too() {
    let mut file = byte_level("smollm");
    file.remove("tokenizer.ggml.eos_token_id");
    let tokenizer = tokenizer(&file);
    assert!(tokenizer.is_end(tokenizer.vocabulary_size() as u32 - 1));
}

#[test]
fn unusable_vocabularies_are_refused() {
    let refused = |change: fn(&mut GgufWriter)| {
        let mut file = byte_level("smollm");
        change(&mut file);
        format!(
            "{:#}",
            Tokenizer::from_metadata(&open(&file).metadata).unwrap_err()
        )
    };
    let text = refused(|file| {
        file.text("tokenizer.ggml.model", "bert");
    });
    assert!(text.contains("unsupported tokenizer `bert`"), "{text}");
    let text = refused(|file| {
        file.i32s("tokenizer.ggml.token_type", &[1]);
    });
    assert!(text.contains("has 1 entries for"), "{text}");
    let text = refused(|file| {
        file.bool("tokenizer.ggml.add_space_prefix", true);
    });
    assert!(text.contains("add_space_prefix` is true"), "{text}");
    let text = refused(|file| {
        file.u32("tokenizer.ggml.new_fangled_option", 1);
    });
    assert!(text.contains("new_fangled_option` is 1"), "{text}");
    let text = refused(|file| {
        file.u32("tokenizer.ggml.eos_token_id", 1 << 30);
    });
    assert!(text.contains("eos_token_id` is 1073741824"), "{text}");
    for merge in ["ab", "a", "", "zz y", "a \u{1F600}"] {
        let mut file = byte_level("smollm");
        file.texts("tokenizer.ggml.merges", &[merge]);
        let error = Tokenizer::from_metadata(&open(&file).metadata).unwrap_err();
        assert!(error.to_string().contains("unusable entry"), "{error}");
    }
    for key in ["model", "tokens", "merges"] {
        let mut file = byte_level("smollm");
        file.remove(&format!("tokenizer.ggml.{key}"));
        let error = Tokenizer::from_metadata(&open(&file).metadata).unwrap_err();
        assert!(error.to_string().contains("is missing"), "{error}");
    }
}

/// The same vocabulary in another implementation, split as smollm is.
fn other_implementation(file: &GgufWriter) -> tokenizers::Tokenizer {
    let gguf = open(file);
    let texts = |key| -> Vec<Vec<u8>> {
        let texts = gguf.metadata.texts(key).unwrap().unwrap();
        texts.iter().map(<[u8]>::to_vec).collect()
    };
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let tokens = texts("tokenizer.ggml.tokens").into_iter().map(text);
    let merges: Vec<_> = texts("tokenizer.ggml.merges")
        .into_iter()
        .map(|merge| {
            let merge = text(merge);
            let (left, right) = merge.split_once(' ').unwrap();
            (left.to_owned(), right.to_owned())
        })
        .collect();
    let bpe = BPE::builder()
        .vocab_and_merges(
            tokens.zip(0..).collect::<tokenizers::models::bpe::Vocab>(),
            merges,
        )
        .build()
        .unwrap();
    let mut tokenizer = tokenizers::Tokenizer::new(bpe);
    tokenizer.with_pre_tokenizer(Some(Sequence::new(vec![
        Digits::new(true).into(),
        ByteLevel::new(false, false, true).into(),
    ])));
    tokenizer
}

/// A vocabulary with scores, as SentencePiece makes them.
fn scored() -> GgufWriter {
    let mut tokens = vec!["<unk>".to_owned(), "<s>".to_owned(), "</s>".to_owned()];
    tokens.extend((0..=255).map(|byte| format!("<0x{byte:02X}>")));
    let words = [
        "▁", "a", "b", "c", "n", "d", "ab", "an", "and", "▁a", "▁and", "bc", "abc", "cd", "é", "▁▁",
    ];
    tokens.extend(words.map(str::to_owned));
    let types: Vec<_> = (0..tokens.len())
        .map(|id| match id {
            0 => 2,
            1 | 2 => 3,
            3..259 => 6,
            _ => 1,
        })
        .collect();
    let scores: Vec<_> = (0..tokens.len())
        .map(|id| -((id * 7919 % 31) as f32))
        .collect();
    let mut file = GgufWriter::default();
    file.text("tokenizer.ggml.model", "llama")
        .texts("tokenizer.ggml.tokens", &tokens)
        .i32s("tokenizer.ggml.token_type", &types)
        .f32s("tokenizer.ggml.scores", &scores);
    file
}

#[test]
fn scored_vocabularies_begin_with_the_begin_token_and_a_space() {
    let tokenizer = tokenizer(&scored());
    let tokens = tokenizer.encode("and");
    assert_eq!(tokens[0], 1);
    assert_eq!(decode(&tokenizer, &tokens), b" and");
    let mut file = scored();
    file.bool("tokenizer.ggml.add_space_prefix", false)
        .bool("tokenizer.ggml.add_bos_token", false);
    let plain = super::tests::tokenizer(&file);
    assert_eq!(decode(&plain, &plain.encode("and")), b"and");
}

#[test]
fn what_a_scored_vocabulary_lacks_becomes_bytes() {
    let tokenizer = tokenizer(&scored());
    assert_eq!(tokenizer.encode("€")[2..], [3 + 0xE2, 3 + 0x82, 3 + 0xAC]);
    assert_eq!(decode(&tokenizer, &tokenizer.encode("€")), " €".as_bytes());
}

#[test]
fn text_after_a_special_token_gets_a_space_too() {
    let tokenizer = tokenizer(&scored());
    let tokens = tokenizer.encode("a</s>a");
    let space_a = tokenizer.encode("a")[1];
    assert_eq!(tokens, [1, space_a, 2, space_a]);
}

/// The definition, as slowly as it can be put: the best pair of neighbours first, the leftmost of
/// equals.
fn merged_slowly(tokens: &Texts, scores: &[f32], text: &str) -> Vec<String> {
    let mut parts: Vec<String> = text.chars().map(String::from).collect();
    loop {
        let candidates = (1..parts.len()).filter_map(|at| {
            let joined = parts[at - 1].clone() + &parts[at];
            let token = tokens.iter().position(|token| token == joined.as_bytes())?;
            Some((at, scores[token], joined))
        });
        let best = candidates.reduce(|best, next| if next.1 > best.1 { next } else { best });
        let Some((at, _, joined)) = best else {
            return parts;
        };
        parts.splice(at - 1..=at, [joined]);
    }
}

proptest! {
    #[test]
    fn byte_level_tokens_agree_with_another_implementation(
        prompt in "[athendi19 \n\t'sé€!]{0,40}|\\PC{0,20}",
    ) {
        let file = byte_level("smollm");
        let ours = tokenizer(&file).encode(&prompt);
        let theirs = other_implementation(&file).encode(prompt.as_str(), false).unwrap();
        prop_assert_eq!(&ours, theirs.get_ids());
        prop_assert_eq!(decode(&tokenizer(&file), &ours), prompt.as_bytes());
    }

    #[test]
    fn scored_tokens_agree_with_the_definition(prompt in "[abcndé ]{0,24}") {
        let file = scored();
        let gguf = open(&file);
        let tokens = gguf.metadata.texts("tokenizer.ggml.tokens").unwrap().unwrap();
        let scores = gguf.metadata.floats("tokenizer.ggml.scores").unwrap().unwrap();
        let tokenizer = tokenizer(&file);
        let text = format!(" {prompt}").replace(' ', SPACE_MARK);
        let expected: Vec<_> = if prompt.is_empty() { vec![] } else {
            merged_slowly(tokens, scores, &text).iter().map(|part| part.replace(SPACE_MARK, " ")).collect()
        };
        let ours = pieces(&tokenizer, &prompt);
        prop_assert_eq!(&ours[1..], expected);
    }
}

#[test]
fn a_megabyte_without_a_break_is_no_problem() {
    let text = "a".repeat(1 << 20);
    assert_eq!(
        decode(&tokenizer(&scored()), &tokenizer(&scored()).encode(&text)).len(),
        (1 << 20) + 1
    );
    let bytes = tokenizer(&byte_level("smollm"));
    assert_eq!(
        decode(&bytes, &bytes.encode(&"an".repeat(1 << 19))).len(),
        1 << 20
    );
}
