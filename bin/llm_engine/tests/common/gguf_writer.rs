//! Writes small GGUF files for tests, sound ones and deliberately unsound ones.
//!
//! Shared by the crate's own unit tests and by its integration tests; knows nothing of the reader.

/// A file under construction. Tensors are laid out one behind the other.
#[derive(Debug, Clone)]
pub struct GgufWriter {
    pub version: u32,
    pub alignment: usize,
    pub entries: Vec<(String, Vec<u8>)>,
    pub tensors: Vec<Tensor>,
}

/// A tensor to be written; `dimensions` in the file's order, the length of a row first.
#[derive(Debug, Clone)]
pub struct Tensor {
    pub name: String,
    pub dimensions: Vec<u64>,
    pub kind: u32,
    pub data: Vec<u8>,
    /// Instead of the place behind the tensor before.
    pub offset: Option<u64>,
}

pub const F32: u32 = 0;
pub const Q4_0: u32 = 2;
pub const Q4_1: u32 = 3;
pub const Q8_0: u32 = 8;

impl Default for GgufWriter {
    fn default() -> Self {
        Self {
            version: 3,
            alignment: 32,
            entries: Vec::new(),
            tensors: Vec::new(),
        }
    }
}

#[allow(dead_code, reason = "each test crate uses some of it")]
impl GgufWriter {
    /// Replaces the entry if the key is there.
    pub fn entry(&mut self, key: &str, kind: u32, value: Vec<u8>) -> &mut Self {
        self.remove(key);
        let value = [kind.to_le_bytes().as_slice(), &value].concat();
        self.entries.push((key.to_owned(), value));
        self
    }

    pub fn remove(&mut self, key: &str) -> &mut Self {
        self.entries.retain(|(other, _)| other != key);
        self
    }

    /// Adds the entry even if the key is there.
    pub fn duplicate(&mut self, key: &str) -> &mut Self {
        let entry = self
            .entries
            .iter()
            .find(|(other, _)| other == key)
            .expect("is there")
            .clone();
        self.entries.push(entry);
        self
    }

    pub fn u32(&mut self, key: &str, value: u32) -> &mut Self {
        self.entry(key, 4, value.to_le_bytes().to_vec())
    }

    pub fn f32(&mut self, key: &str, value: f32) -> &mut Self {
        self.entry(key, 6, value.to_le_bytes().to_vec())
    }

    pub fn bool(&mut self, key: &str, value: bool) -> &mut Self {
        self.entry(key, 7, vec![u8::from(value)])
    }

    pub fn text(&mut self, key: &str, value: &str) -> &mut Self {
        self.entry(key, 8, text(value))
    }

    pub fn texts<T: AsRef<str>>(&mut self, key: &str, values: &[T]) -> &mut Self {
        self.array(key, 8, values.iter().map(|value| text(value.as_ref())))
    }

    pub fn i32s(&mut self, key: &str, values: &[i32]) -> &mut Self {
        self.array(
            key,
            5,
            values.iter().map(|value| value.to_le_bytes().to_vec()),
        )
    }

    pub fn f32s(&mut self, key: &str, values: &[f32]) -> &mut Self {
        self.array(
            key,
            6,
            values.iter().map(|value| value.to_le_bytes().to_vec()),
        )
    }

    fn array(
        &mut self,
        key: &str,
        kind: u32,
        values: impl ExactSizeIterator<Item = Vec<u8>>,
    ) -> &mut Self {
        let mut bytes = kind.to_le_bytes().to_vec();
        bytes.extend((values.len() as u64).to_le_bytes());
        bytes.extend(values.flatten());
        self.entry(key, 9, bytes)
    }

    pub fn tensor(&mut self, name: &str, shape: &[u64], kind: u32, data: Vec<u8>) -> &mut Self {
        let dimensions = shape.iter().rev().copied().collect();
        let name = name.to_owned();
        self.tensors.push(Tensor {
            name,
            dimensions,
            kind,
            data,
            offset: None,
        });
        self
    }

    pub fn build(&self) -> Vec<u8> {
        let mut file = b"GGUF".to_vec();
        file.extend(self.version.to_le_bytes());
        file.extend((self.tensors.len() as u64).to_le_bytes());
        file.extend((self.entries.len() as u64).to_le_bytes());
        for (key, value) in &self.entries {
            file.extend(text(key));
            file.extend(value);
        }
        let mut offset = 0;
        for tensor in &self.tensors {
            file.extend(text(&tensor.name));
            file.extend((tensor.dimensions.len() as u32).to_le_bytes());
            file.extend(
                tensor
                    .dimensions
                    .iter()
                    .flat_map(|length| length.to_le_bytes()),
            );
            file.extend(tensor.kind.to_le_bytes());
            file.extend(tensor.offset.unwrap_or(offset).to_le_bytes());
            offset += (tensor.data.len().next_multiple_of(self.alignment)) as u64;
        }
        for tensor in &self.tensors {
            file.resize(file.len().next_multiple_of(self.alignment), 0);
            file.extend(&tensor.data);
        }
        file
    }
}

fn text(value: &str) -> Vec<u8> {
    [
        (value.len() as u64).to_le_bytes().as_slice(),
        value.as_bytes(),
    ]
    .concat()
}

/// A vocabulary of all bytes, some merges, and two special tokens.
#[allow(dead_code, reason = "each test crate uses some of it")]
pub fn add_byte_vocabulary(file: &mut GgufWriter, pre: &str) {
    let letter = |byte: u8| match byte {
        0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF => char::from(byte),
        0..=0x20 => char::from_u32(0x100 + u32::from(byte)).expect("a character"),
        0x7F..=0xA0 => char::from_u32(0x121 + u32::from(byte) - 0x7F).expect("a character"),
        0xAD => '\u{143}',
    };
    let mut tokens: Vec<String> = (0..=255).map(|byte| letter(byte).to_string()).collect();
    let merges = [
        "t h", "th e", "Ġ the", "i n", "Ġ a", "a n", "an d", "Ġ t", "1 9", "Ġt h",
    ];
    tokens.extend(merges.iter().map(|merge| merge.replace(' ', "")));
    tokens.sort_by_key(|token| token.chars().count());
    tokens.dedup();
    tokens.extend(["<|im_start|>", "<|im_end|>"].map(str::to_owned));
    let types: Vec<_> = tokens
        .iter()
        .map(|token| if token.starts_with("<|im") { 3 } else { 1 })
        .collect();
    let end = tokens.len() as u32 - 1;
    file.text("tokenizer.ggml.model", "gpt2")
        .text("tokenizer.ggml.pre", pre)
        .texts("tokenizer.ggml.tokens", &tokens)
        .i32s("tokenizer.ggml.token_type", &types)
        .texts("tokenizer.ggml.merges", &merges)
        .u32("tokenizer.ggml.bos_token_id", end - 1)
        .u32("tokenizer.ggml.eos_token_id", end);
}

/// Small pseudo-random numbers around 0, always the same.
pub struct Noise(pub u64);

impl Noise {
    pub fn bits(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    /// In [-1, 1).
    pub fn unit(&mut self) -> f32 {
        self.bits() as f32 / (1_u64 << 30) as f32 - 1.0
    }
}

/// Dimensions of the synthetic model.
pub const WIDTH: u64 = 64;
pub const HEADS: u64 = 4;
pub const KEY_HEADS: u64 = 2;
pub const HEAD_WIDTH: u64 = 16;
pub const FEED_FORWARD: u64 = 96;
pub const BLOCKS: u64 = 2;
pub const CONTEXT: u64 = 512;
/// How far back the local blocks of the model with such blocks look.
pub const WINDOW: u64 = 5;

/// A llama model with random weights; matrices have the type `kind`.
#[allow(dead_code, reason = "each test crate uses some of it")]
pub fn llama(kind: u32) -> GgufWriter {
    model("llama", kind)
}

/// A model with random weights and all that its architecture has; matrices have the type `kind`.
#[allow(dead_code, reason = "each test crate uses some of it")]
pub fn model(architecture: &str, kind: u32) -> GgufWriter {
    let mut file = GgufWriter::default();
    let key = |key: &str| format!("{architecture}.{key}");
    file.text("general.architecture", architecture)
        .u32(&key("block_count"), BLOCKS as u32)
        .u32(&key("context_length"), CONTEXT as u32)
        .u32(&key("embedding_length"), WIDTH as u32)
        .u32(&key("feed_forward_length"), FEED_FORWARD as u32)
        .u32(&key("attention.head_count"), HEADS as u32)
        .u32(&key("attention.head_count_kv"), KEY_HEADS as u32)
        .f32(&key("attention.layer_norm_rms_epsilon"), 1e-5)
        .f32(&key("rope.freq_base"), 10_000.0);
    if architecture == "gemma3" {
        file.u32(&key("attention.sliding_window"), WINDOW as u32)
            .u32(&key("attention.sliding_window_pattern"), 2)
            .f32(&key("rope.freq_base_swa"), 500.0);
    }
    add_byte_vocabulary(&mut file, "smollm");
    let vocabulary = 268;
    let mut noise = Noise(1);
    let mut add = |name: &str, shape: &[u64], kind: u32| {
        let data = numbers(&mut noise, shape.iter().product(), kind, shape.len() == 1);
        file.tensor(name, shape, kind, data);
    };
    let (all, keys) = (HEADS * HEAD_WIDTH, KEY_HEADS * HEAD_WIDTH);
    add("token_embd.weight", &[vocabulary, WIDTH], kind);
    for block in 0..BLOCKS {
        let name = |part: &str| format!("blk.{block}.{part}.weight");
        add(&name("attn_norm"), &[WIDTH], F32);
        add(&name("attn_q"), &[all, WIDTH], kind);
        add(&name("attn_k"), &[keys, WIDTH], kind);
        add(&name("attn_v"), &[keys, WIDTH], kind);
        add(&name("attn_output"), &[WIDTH, all], kind);
        add(&name("ffn_norm"), &[WIDTH], F32);
        add(&name("ffn_gate"), &[FEED_FORWARD, WIDTH], kind);
        add(&name("ffn_up"), &[FEED_FORWARD, WIDTH], kind);
        add(&name("ffn_down"), &[WIDTH, FEED_FORWARD], kind);
        if architecture == "qwen2" {
            add(&format!("blk.{block}.attn_q.bias"), &[all], F32);
            add(&format!("blk.{block}.attn_k.bias"), &[keys], F32);
            add(&format!("blk.{block}.attn_v.bias"), &[keys], F32);
        }
        if ["qwen3", "gemma3"].contains(&architecture) {
            add(&name("attn_q_norm"), &[HEAD_WIDTH], F32);
            add(&name("attn_k_norm"), &[HEAD_WIDTH], F32);
        }
        if architecture == "gemma3" {
            add(&name("post_attention_norm"), &[WIDTH], F32);
            add(&name("post_ffw_norm"), &[WIDTH], F32);
        }
    }
    add("output_norm.weight", &[WIDTH], F32);
    add("output.weight", &[vocabulary, WIDTH], kind);
    file
}

fn numbers(noise: &mut Noise, count: u64, kind: u32, near_one: bool) -> Vec<u8> {
    // About 0.0078 as a half-precision float, little-endian.
    const SCALE: [u8; 2] = [0x00, 0x20];
    let bytes = |noise: &mut Noise, count: u64| -> Vec<u8> {
        (0..count).map(|_| noise.bits() as u8).collect()
    };
    let mut data = Vec::new();
    match kind {
        F32 => {
            for _ in 0..count {
                let number = noise.unit() * 0.3 + if near_one { 1.0 } else { 0.0 };
                data.extend(number.to_le_bytes());
            }
        }
        Q8_0 | Q4_0 => {
            for _ in 0..count / 32 {
                data.extend(SCALE);
                data.extend(bytes(noise, if kind == Q8_0 { 32 } else { 16 }));
            }
        }
        Q4_1 => {
            for _ in 0..count / 32 {
                data.extend(SCALE);
                // The minimum, about -0.06.
                data.extend([0x00, 0xAC]);
                data.extend(bytes(noise, 16));
            }
        }
        _ => unreachable!("no test asks for type {kind}"),
    }
    data
}
