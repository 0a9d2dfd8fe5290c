#!/usr/bin/env python3
"""Makes tiny models with random weights, one for each architecture whose real models are too large
to commit, so that the engine can be held against llama.cpp on all of them.

    pip install gguf==0.19.0
    scripts/make_random_models.py .test-models/random

Their text is noise, but every part of the architecture shows in it: biases and norms are far from
0 and 1, windows are short enough to be left by a short passage, and the shapes are those that a
careless engine mixes up (more heads than key heads, heads whose width isn't the embedding's share).
The same seed gives the same bytes.
"""

import pathlib
import sys

import gguf
import numpy as np

import reference_texts

MERGES = 160
LAYERS = 3
QUANTISED = {
    "f16": (gguf.GGMLQuantizationType.F16, gguf.LlamaFileType.MOSTLY_F16),
    "q8_0": (gguf.GGMLQuantizationType.Q8_0, gguf.LlamaFileType.MOSTLY_Q8_0),
    "q4_0": (gguf.GGMLQuantizationType.Q4_0, gguf.LlamaFileType.MOSTLY_Q4_0),
    "q5_1": (gguf.GGMLQuantizationType.Q5_1, gguf.LlamaFileType.MOSTLY_Q5_1),
}


# What an architecture has beside what `llama` has. Embedding, heads, key heads and their width are
# all different, so that none can stand for another; in qwen2, the heads share out the embedding.
MODELS = {
    "llama": {"seed": 11, "weights": "q5_1", "tokenizer": "gpt2", "rope_linear": 4.0},
    "qwen2": {
        "seed": 12, "weights": "q8_0", "tokenizer": "gpt2", "bias": True, "tied": False,
        "heads": 2, "key_heads": 1,
    },
    "qwen3": {"seed": 13, "weights": "q4_0", "tokenizer": "gpt2", "head_norms": True},
    "gemma3": {
        "seed": 14, "weights": "q8_0", "tokenizer": "llama", "head_norms": True,
        "post_norms": True, "window": 16, "layers": 7, "sharpness": 1.5,
    },
}
EMBEDDING = 64
FEED_FORWARD = 96
HEADS = 6
KEY_HEADS = 2
WIDTH = 32


def byte_symbols():
    """GPT-2's printable stand-ins for the 256 bytes."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    symbols = {byte: chr(byte) for byte in plain}
    for byte in range(256):
        if byte not in symbols:
            symbols[byte] = chr(256 + len(symbols) - len(plain))
    return [symbols[byte] for byte in range(256)]


def learn_merges(words):
    """Byte pair encoding over words of single symbols: the pairs to merge, most frequent first."""
    words = [list(word) for word in words]
    merges = []
    for _ in range(MERGES):
        counts = {}
        for word in words:
            for pair in zip(word, word[1:]):
                counts[pair] = counts.get(pair, 0) + 1
        best = max(counts, key=lambda pair: (counts[pair], pair))
        merges.append(best)
        for word in words:
            at = 0
            while at + 1 < len(word):
                if (word[at], word[at + 1]) == best:
                    word[at:at + 2] = ["".join(best)]
                at += 1
    return merges


def add_gpt2_tokenizer(writer):
    symbols = byte_symbols()
    text = "".join(reference_texts.PASSAGES)
    words = text.replace(" ", "\0 ").replace("\n", "\0\n").split("\0")
    merges = learn_merges(["".join(symbols[byte] for byte in word.encode()) for word in words])
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *symbols]
    tokens += dict.fromkeys("".join(pair) for pair in merges)
    types = [gguf.TokenType.CONTROL] * 3 + [gguf.TokenType.NORMAL] * (len(tokens) - 3)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(False)
    return len(tokens)


def add_llama_tokenizer(writer):
    text = "".join(reference_texts.PASSAGES).replace(" ", "\u2581")
    words = text.replace("\u2581", "\0\u2581").split("\0")
    merges = learn_merges(words)
    tokens = ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"]
    types = [gguf.TokenType.CONTROL] * 3 + [gguf.TokenType.UNKNOWN] + [gguf.TokenType.CONTROL] * 2
    tokens += [f"<0x{byte:02X}>" for byte in range(256)]
    types += [gguf.TokenType.BYTE] * 256
    pieces = dict.fromkeys("".join(pair) for pair in merges)
    pieces.update(dict.fromkeys(sorted(set(text))))
    tokens += pieces
    types += [gguf.TokenType.NORMAL] * len(pieces)
    scores = [-1000.0] * (len(tokens) - len(pieces)) + [-float(rank) for rank in range(len(pieces))]
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores(scores)
    writer.add_token_types(types)
    writer.add_bos_token_id(2)
    writer.add_eos_token_id(1)
    writer.add_unk_token_id(3)
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(False)
    return len(tokens)


class Weights:
    """Writes random tensors."""

    def __init__(self, writer, seed, kind):
        self.writer = writer
        self.random = np.random.default_rng(seed)
        self.kind = kind

    def matrix(self, name, rows, columns, gain=1.0):
        values = self.random.normal(0.0, gain / np.sqrt(columns), (rows, columns))
        data = gguf.quants.quantize(values.astype(np.float32), self.kind)
        self.writer.add_tensor(name + ".weight", data, raw_dtype=self.kind)

    def vector(self, name, length, middle, spread):
        values = self.random.uniform(middle - spread, middle + spread, length)
        self.writer.add_tensor(name, values.astype(np.float32))


def write_model(name, model, path):
    writer = gguf.GGUFWriter(path, name)
    layers = model.get("layers", LAYERS)
    kind, file_type = QUANTISED[model["weights"]]
    writer.add_name(f"random-{name}")
    writer.add_license("cc0-1.0")
    writer.add_context_length(4096)
    writer.add_embedding_length(EMBEDDING)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(model.get("heads", HEADS))
    writer.add_head_count_kv(model.get("key_heads", KEY_HEADS))
    writer.add_key_length(WIDTH)
    writer.add_value_length(WIDTH)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(1_000_000.0 if name == "gemma3" else 10_000.0)
    writer.add_file_type(file_type)
    writer.add_quantization_version(2)
    if name == "llama":
        writer.add_rope_dimension_count(WIDTH)
    if "rope_linear" in model:
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(model["rope_linear"])
    if "window" in model:
        writer.add_sliding_window(model["window"])
    add_tokenizer = add_gpt2_tokenizer if model["tokenizer"] == "gpt2" else add_llama_tokenizer
    vocabulary = add_tokenizer(writer)
    writer.add_vocab_size(vocabulary)
    add_weights(Weights(writer, model["seed"], kind), model, layers, vocabulary)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_weights(weights, model, layers, vocabulary):
    queries = model.get("heads", HEADS) * WIDTH
    keys = model.get("key_heads", KEY_HEADS) * WIDTH
    weights.matrix("token_embd", vocabulary, EMBEDDING, model.get("sharpness", 2.0))
    if not model.get("tied", True):
        weights.matrix("output", vocabulary, EMBEDDING, 2.0)
    weights.vector("output_norm.weight", EMBEDDING, 1.0, 0.5)
    for layer in range(layers):
        block = f"blk.{layer}."
        weights.vector(block + "attn_norm.weight", EMBEDDING, 1.0, 0.5)
        weights.vector(block + "ffn_norm.weight", EMBEDDING, 1.0, 0.5)
        weights.matrix(block + "attn_q", queries, EMBEDDING, 1.5)
        weights.matrix(block + "attn_k", keys, EMBEDDING, 1.5)
        weights.matrix(block + "attn_v", keys, EMBEDDING)
        weights.matrix(block + "attn_output", EMBEDDING, queries, 2.0)
        weights.matrix(block + "ffn_gate", FEED_FORWARD, EMBEDDING, 1.5)
        weights.matrix(block + "ffn_up", FEED_FORWARD, EMBEDDING, 1.5)
        weights.matrix(block + "ffn_down", EMBEDDING, FEED_FORWARD, 2.0)
        if model.get("bias"):
            weights.vector(block + "attn_q.bias", queries, 0.0, 1.0)
            weights.vector(block + "attn_k.bias", keys, 0.0, 1.0)
            weights.vector(block + "attn_v.bias", keys, 0.0, 1.0)
        if model.get("head_norms"):
            weights.vector(block + "attn_q_norm.weight", WIDTH, 1.0, 0.5)
            weights.vector(block + "attn_k_norm.weight", WIDTH, 1.0, 0.5)
        if model.get("post_norms"):
            weights.vector(block + "post_attention_norm.weight", EMBEDDING, 1.0, 0.5)
            weights.vector(block + "post_ffw_norm.weight", EMBEDDING, 1.0, 0.5)


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: make_random_models.py FOLDER")
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, model in MODELS.items():
        path = folder / f"{name}.gguf"
        write_model(name, model, path)
        print(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
