#!/usr/bin/env python3
"""Makes .test-models/references/blocks.json: random quantised blocks of every type and the numbers
that they stand for, according to the `gguf` package and not to this project's code.

    pip install gguf==0.19.0
    scripts/make_block_references.py

Each entry has the `type`, its `bytes` in hexadecimal (512 values' worth) and the `values`.
"""

import json
import pathlib

import gguf
import numpy as np

PATH = pathlib.Path(__file__).resolve().parent.parent / ".test-models" / "references" / "blocks.json"
VALUES = 512
# Where a block holds 16-bit floats (scales and minima): the rest of it is random bits.
SCALES = {
    "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0],
    "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208],
}


def blocks(name, random):
    kind = gguf.GGMLQuantizationType[name]
    block_values, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    data = random.integers(0, 256, (VALUES // block_values, block_bytes), dtype=np.uint8)
    for offset in SCALES.get(name, []):
        scale = random.normal(0.0, 0.1, len(data)).astype(np.float16)
        data[:, offset:offset + 2] = scale.view(np.uint8).reshape(-1, 2)
    if name in ("F32", "F16"):
        values = random.normal(0.0, 1.0, VALUES)
        data = values.astype(np.float32 if name == "F32" else np.float16).view(np.uint8)
    elif name == "BF16":
        data = gguf.quants.quantize(random.normal(0.0, 1.0, VALUES).astype(np.float32), kind)
    data = np.ascontiguousarray(data).reshape(-1)
    typed = data.view({"F32": np.float32, "F16": np.float16}.get(name, np.uint8))
    return data, gguf.quants.dequantize(typed, kind)


def main():
    random = np.random.default_rng(5)
    lines = []
    for name in ["F32", "F16", "BF16", *SCALES]:
        data, values = blocks(name, random)
        assert len(values) == VALUES and np.isfinite(values).all()
        # The shortest decimals that give the same 32-bit floats.
        numbers = [float(str(np.float32(value))) for value in values]
        lines.append(json.dumps({"type": name, "bytes": data.tobytes().hex(), "values": numbers}))
    PATH.parent.mkdir(parents=True, exist_ok=True)
    PATH.write_text("[\n" + ",\n".join(lines) + "\n]\n")
    print(f"{PATH}: {len(lines)} types")


if __name__ == "__main__":
    main()
