//! The trained model as a GGUF file (version 3), readable by any engine that knows `llama`, and back.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use candle_core::quantized::gguf_file::Content;
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use tokenizers::Tokenizer;

use crate::model::{Model, Shape};
use crate::tokenizer::SPECIAL;

const VERSION: u32 = 3;
const ALIGNMENT: usize = 32;
/// `LLAMA_FTYPE_MOSTLY_Q8_0`.
const FILE_TYPE_Q8_0: u32 = 7;
const TOKEN_NORMAL: i32 = 1;
const TOKEN_CONTROL: i32 = 3;

const CHAT_TEMPLATE: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/// A metadata value of the types that this model needs.
enum Value {
    U32(u32),
    F32(f32),
    Bool(bool),
    Text(String),
    Texts(Vec<String>),
    I32s(Vec<i32>),
}

/// Writes the file: matrices as Q8_0, norms as F32.
pub fn write(path: &Path, model: &Model, tokenizer: &Tokenizer) -> Result<()> {
    let mut tensors = Vec::new();
    for (name, tensor) in model.parameters() {
        let kind = if tensor.rank() == 1 {
            GgmlDType::F32
        } else {
            GgmlDType::Q8_0
        };
        tensors.push((name, QTensor::quantize(tensor, kind)?));
    }
    let metadata = metadata(model, tokenizer)?;

    let mut file = Vec::new();
    file.extend(b"GGUF");
    file.extend(VERSION.to_le_bytes());
    file.extend((tensors.len() as u64).to_le_bytes());
    file.extend((metadata.len() as u64).to_le_bytes());
    for (key, value) in &metadata {
        put_text(&mut file, key);
        put_value(&mut file, value);
    }
    let mut data = Vec::new();
    for (name, tensor) in &tensors {
        put_text(&mut file, name);
        let dims = tensor.shape().dims();
        file.extend((dims.len() as u32).to_le_bytes());
        // GGUF counts the contiguous dimension first.
        for dim in dims.iter().rev() {
            file.extend((*dim as u64).to_le_bytes());
        }
        file.extend(type_number(tensor.dtype()).to_le_bytes());
        file.extend((data.len() as u64).to_le_bytes());
        data.extend_from_slice(&tensor.data()?);
        pad(&mut data);
    }
    pad(&mut file);
    file.extend(data);

    let mut output =
        std::fs::File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
    output
        .write_all(&file)
        .with_context(|| format!("cannot write {}", path.display()))
}

/// The model and the end token's id as they stand in the file, so that what is judged is what others will load.
pub fn read(path: &Path) -> Result<Model> {
    let mut file =
        std::fs::File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let content = Content::read(&mut file)?;
    let number = |key: &str| -> Result<usize> {
        let value = content
            .metadata
            .get(key)
            .with_context(|| format!("the file lacks {key}"))?;
        Ok(value.to_u32()? as usize)
    };
    let real = |key: &str| -> Result<f32> {
        let value = content
            .metadata
            .get(key)
            .with_context(|| format!("the file lacks {key}"))?;
        Ok(value.to_f32()?)
    };
    let shape = Shape {
        vocabulary: number("llama.vocab_size")?,
        width: number("llama.embedding_length")?,
        blocks: number("llama.block_count")?,
        heads: number("llama.attention.head_count")?,
        kv_heads: number("llama.attention.head_count_kv")?,
        feed_forward: number("llama.feed_forward_length")?,
        context: number("llama.context_length")?,
        rope_base: real("llama.rope.freq_base")?,
        norm_epsilon: real("llama.attention.layer_norm_rms_epsilon")?,
    };
    let mut parameters: BTreeMap<String, Tensor> = BTreeMap::new();
    for name in content.tensor_infos.keys() {
        let tensor = content.tensor(&mut file, name, &Device::Cpu)?;
        parameters.insert(name.clone(), tensor.dequantize(&Device::Cpu)?);
    }
    Ok(Model::from_parameters(shape, parameters)?)
}

fn metadata(model: &Model, tokenizer: &Tokenizer) -> Result<Vec<(&'static str, Value)>> {
    let shape = model.shape();
    let text = |text: &str| Value::Text(text.to_owned());
    let number = |number: usize| Value::U32(number as u32);
    let (tokens, merges) = vocabulary(tokenizer)?;
    let kinds = (0..tokens.len())
        .map(|id| {
            if id < SPECIAL.len() {
                TOKEN_CONTROL
            } else {
                TOKEN_NORMAL
            }
        })
        .collect();
    Ok(vec![
        ("general.architecture", text("llama")),
        ("general.type", text("model")),
        ("general.name", text("tiny")),
        (
            "general.author",
            text("The authors of cargo xtask worker:test"),
        ),
        (
            "general.description",
            text("A very small language model for testing inference workers"),
        ),
        ("general.license", text("cc0-1.0")),
        ("general.languages", Value::Texts(vec!["en".to_owned()])),
        ("general.file_type", Value::U32(FILE_TYPE_Q8_0)),
        ("general.quantization_version", Value::U32(2)),
        ("general.alignment", number(ALIGNMENT)),
        ("llama.vocab_size", number(shape.vocabulary)),
        ("llama.context_length", number(shape.context)),
        ("llama.embedding_length", number(shape.width)),
        ("llama.block_count", number(shape.blocks)),
        ("llama.feed_forward_length", number(shape.feed_forward)),
        ("llama.attention.head_count", number(shape.heads)),
        ("llama.attention.head_count_kv", number(shape.kv_heads)),
        (
            "llama.attention.layer_norm_rms_epsilon",
            Value::F32(shape.norm_epsilon),
        ),
        (
            "llama.rope.dimension_count",
            number(shape.width / shape.heads),
        ),
        ("llama.rope.freq_base", Value::F32(shape.rope_base)),
        ("tokenizer.ggml.model", text("gpt2")),
        ("tokenizer.ggml.pre", text("smollm")),
        ("tokenizer.ggml.tokens", Value::Texts(tokens)),
        ("tokenizer.ggml.token_type", Value::I32s(kinds)),
        ("tokenizer.ggml.merges", Value::Texts(merges)),
        ("tokenizer.ggml.bos_token_id", Value::U32(0)),
        ("tokenizer.ggml.eos_token_id", Value::U32(2)),
        ("tokenizer.ggml.padding_token_id", Value::U32(0)),
        ("tokenizer.ggml.add_bos_token", Value::Bool(false)),
        ("tokenizer.ggml.add_space_prefix", Value::Bool(false)),
        ("tokenizer.chat_template", text(CHAT_TEMPLATE)),
    ])
}

/// Tokens by id, and merges by rank; the library shows merges only in its JSON form.
fn vocabulary(tokenizer: &Tokenizer) -> Result<(Vec<String>, Vec<String>)> {
    let size = tokenizer.get_vocab_size(true) as u32;
    let tokens = (0..size)
        .map(|id| {
            tokenizer
                .id_to_token(id)
                .with_context(|| format!("token {id} is missing"))
        })
        .collect::<Result<_>>()?;
    let json = serde_json::to_value(tokenizer.get_model())?;
    let pairs: Vec<(String, String)> = serde_json::from_value(json["merges"].clone())?;
    let merges = pairs
        .into_iter()
        .map(|(left, right)| format!("{left} {right}"))
        .collect();
    Ok((tokens, merges))
}

fn put_text(file: &mut Vec<u8>, text: &str) {
    file.extend((text.len() as u64).to_le_bytes());
    file.extend(text.as_bytes());
}

fn put_value(file: &mut Vec<u8>, value: &Value) {
    let type_of = |number: u32| number.to_le_bytes();
    let list_of = |number: u32, length: usize| {
        let mut head = type_of(9).to_vec();
        head.extend(type_of(number));
        head.extend((length as u64).to_le_bytes());
        head
    };
    match value {
        Value::U32(number) => {
            file.extend(type_of(4));
            file.extend(number.to_le_bytes());
        }
        Value::F32(number) => {
            file.extend(type_of(6));
            file.extend(number.to_le_bytes());
        }
        Value::Bool(yes) => {
            file.extend(type_of(7));
            file.push(u8::from(*yes));
        }
        Value::Text(text) => {
            file.extend(type_of(8));
            put_text(file, text);
        }
        Value::Texts(texts) => {
            file.extend(list_of(8, texts.len()));
            texts.iter().for_each(|text| put_text(file, text));
        }
        Value::I32s(numbers) => {
            file.extend(list_of(5, numbers.len()));
            numbers
                .iter()
                .for_each(|number| file.extend(number.to_le_bytes()));
        }
    }
}

/// The number of a tensor type in a GGUF file, of the two that are written here.
fn type_number(kind: GgmlDType) -> u32 {
    match kind {
        GgmlDType::Q8_0 => 8,
        _ => 0,
    }
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
}
