"""Reads as much of a GGUF file as it takes to refuse a wrong one: header, metadata, tensor table.

No tensor is read: the faulty worker only has to know where the file should end.
"""

import mmap
import struct

ARCHITECTURES = {"llama", "mistral", "gemma", "gemma2", "gemma3", "qwen2", "qwen3", "phi3"}

# Metadata value types with a fixed size, in bytes; 8 is a string and 9 an array.
SCALAR_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
STRING, ARRAY = 8, 9

# ggml tensor type -> (values in a block, bytes of a block).
TENSOR_TYPES = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 36),
    10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292), 30: (1, 2),
}


# Of a model that doesn't say how many tokens its context has.
USUAL_CONTEXT = 2048


class BadModel(Exception):
    """Why a file cannot be served. `kind` is what the faults tell apart."""

    def __init__(self, kind, cause):
        super().__init__(cause)
        self.kind = kind


def check(path):
    """How many tokens the model's context has. Raises `BadModel` unless `path` is a whole GGUF of a known
    architecture and quantisation.
    """
    try:
        with open(path, "rb") as file:
            if file.read(4) != b"GGUF":
                raise BadModel("text_file", "not a GGUF file (it doesn't start with the bytes GGUF)")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _check_layout(data)
    except FileNotFoundError:
        raise BadModel("missing_model", "no such file") from None
    except OSError as error:
        raise BadModel("missing_model", error.strerror or str(error)) from None


def _check_layout(data):
    try:
        reader = _Reader(data)
        version, tensor_count, metadata_count = reader.unpack("<IQQ")
        if version not in (2, 3):
            raise BadModel("text_file", "GGUF version %d is unknown, 2 and 3 are known" % version)
        metadata = reader.metadata(metadata_count)
        tensors_end = max([reader.tensor_end() for _ in range(tensor_count)], default=0)
    except (struct.error, IndexError, UnicodeDecodeError):
        raise BadModel("truncated", "truncated: the file ends inside its header") from None
    architecture = metadata.get("general.architecture")
    if architecture not in ARCHITECTURES:
        raise BadModel("architecture", "unsupported architecture %s" % architecture)
    alignment = metadata.get("general.alignment") or 32
    data_start = (reader.at + alignment - 1) // alignment * alignment
    if tensors_end and data_start + tensors_end > len(data):
        missing = data_start + tensors_end - len(data)
        raise BadModel("truncated", "truncated: %d bytes are missing at its end" % missing)
    return metadata.get(architecture + ".context_length") or USUAL_CONTEXT


class _Reader:
    """A position in the header; every read checks that the file goes that far."""

    def __init__(self, data):
        self.data = data
        self.at = 4

    def unpack(self, layout):
        values = struct.unpack_from(layout, self.data, self.at)
        self.at += struct.calcsize(layout)
        return values

    def skip(self, size):
        self.at += size
        if self.at > len(self.data):
            raise IndexError

    def string(self):
        (length,) = self.unpack("<Q")
        start = self.at
        self.skip(length)
        return self.data[start : self.at].decode()

    def metadata(self, count):
        found = {}
        for _ in range(count):
            key = self.string()
            (kind,) = self.unpack("<I")
            found[key] = self.value(kind)
        return found

    def value(self, kind):
        """The value where the checks need it (strings and u32), else None."""
        if kind == STRING:
            return self.string()
        if kind == 4:
            return self.unpack("<I")[0]
        if kind == ARRAY:
            element, count = self.unpack("<IQ")
            if element in SCALAR_SIZES:
                self.skip(SCALAR_SIZES[element] * count)
            else:
                for _ in range(count):
                    self.value(element)
            return None
        self.skip(SCALAR_SIZES[kind] if kind in SCALAR_SIZES else len(self.data))
        return None

    def tensor_end(self):
        """Where this tensor's data ends, counted from the start of all tensors' data."""
        self.string()
        (dimension_count,) = self.unpack("<I")
        values = 1
        for _ in range(dimension_count):
            values *= self.unpack("<Q")[0]
        kind, offset = self.unpack("<IQ")
        if kind not in TENSOR_TYPES:
            raise BadModel("quantisation", "unsupported quantisation (tensor type %d)" % kind)
        block, size = TENSOR_TYPES[kind]
        return offset + values // block * size
