"""GGUF files made to do harm, beside the other hostile models: importing it adds them to these."""

import itertools
import os
import struct

import numpy as np
from gguf import GGUFWriter
from safe.hostile import maker


def gguf(*fields: bytes, tensors: int = 0, of_fields: int | None = None) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, tensors, len(fields) if of_fields is None else of_fields) + b"".join(fields)


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def one_file(folder, content, size=None):
    file = folder / "model.gguf"
    file.write_bytes(content)
    if size:
        os.truncate(file, size)
    return file


@maker
def gguf_that_lies_about_a_list(folder, canary):
    return one_file(folder, gguf(text("a") + struct.pack("<IIQ", 9, 0, 2**60)))


@maker
def gguf_with_a_long_list(folder, canary):
    return one_file(folder, gguf(text("a") + struct.pack("<IIQ", 9, 0, 10**8)), 2 * 10**8)


@maker
def gguf_that_lies_about_a_tensor(folder, canary):
    architecture = text("general.architecture") + struct.pack("<I", 8) + text("llama")
    tensor = text("token_embd.weight") + struct.pack("<IQQIQ", 2, 2**33, 2**33, 0, 0)
    return one_file(folder, gguf(architecture, tensor, tensors=1, of_fields=1), 10**4)


def gguf_of_sizes(*more: bytes, **sizes: int) -> bytes:
    def number(name, value):
        return text(f"llama.{name}") + struct.pack("<II", 4, value)

    names = {"block_count": 4, "embedding_length": 64, "feed_forward_length": 96, "context_length": 256}
    names |= {"attention.head_count": 4, "attention.head_count_kv": 2, "vocab_size": 320} | sizes
    architecture = text("general.architecture") + struct.pack("<I", 8) + text("llama")
    return gguf(architecture, *(number(*pair) for pair in names.items()), *more)


@maker
def gguf_with_a_million_blocks(folder, canary):
    return one_file(folder, gguf_of_sizes(block_count=9_999), 10**4)


@maker
def gguf_without_weights(folder, canary):
    return one_file(folder, gguf_of_sizes(embedding_length=4096, feed_forward_length=16_384, vocab_size=64_000))


@maker
def gguf_with_a_list_of_nothing(folder, canary):
    return one_file(folder, gguf_of_sizes(text("a") + struct.pack("<IIQ", 9, 0, 10**6) + bytes(10**6)))


@maker
def gguf_of_tensors_over_each_other(folder, canary):
    """Fifty of 20 million numbers each, of one and a half bits, which have the same four megabytes."""
    architecture = text("general.architecture") + struct.pack("<I", 8) + text("llama")
    tensors = [text(f"over.{number}.weight") + struct.pack("<IQQIQ", 2, 256, 80_000, 19, 0) for number in range(50)]
    return one_file(folder, gguf(architecture, *tensors, tensors=50, of_fields=1), 4_100_000)


def gguf_of_words(folder, kind, words, architecture="llama"):
    """A whole small model with such a vocabulary, without merges."""
    file, width = folder / "model.gguf", 8
    writer = GGUFWriter(file, architecture)
    for add, value in (
        *((writer.add_context_length, 256), (writer.add_embedding_length, width), (writer.add_block_count, 1)),
        *((writer.add_feed_forward_length, width), (writer.add_head_count, 2), (writer.add_head_count_kv, 2)),
        *(
            (writer.add_layer_norm_rms_eps, 1e-6),
            (writer.add_vocab_size, len(words)),
            (writer.add_tokenizer_model, kind),
        ),
        *((writer.add_token_list, words), (writer.add_token_scores, [0.0] * len(words)), (writer.add_eos_token_id, 0)),
    ):
        add(value)
    matrices = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    shapes = {f"blk.0.{name}.weight": (width, width) for name in matrices}
    norms = ["blk.0.attn_norm", "blk.0.ffn_norm", "output_norm"]
    if architecture == "gemma2":
        norms += ["blk.0.post_attention_norm", "blk.0.post_ffw_norm"]
        writer.add_key_length(width // 2)
        writer.add_value_length(width // 2)
    shapes |= {f"{name}.weight": (width,) for name in norms}
    for name, shape in {"token_embd.weight": (len(words), width), **shapes}.items():
        writer.add_tensor(name, np.ones(shape, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


@maker
def gguf_of_a_tree_of_words(folder, canary):
    """A Unigram model would keep their 3 million beginnings in a tree."""
    return gguf_of_words(folder, "t5", [f"{number:05}" + "a" * 235 for number in range(13_000)])


@maker
def gguf_of_words_cut_everywhere(folder, canary):
    """Merges would be made of them, one for each of their 700,000 cuts."""
    letters = (itertools.product("ab", repeat=length) for length in range(1, 16))
    return gguf_of_words(folder, "llama", ["".join(word) for word in itertools.chain(*letters)])


@maker
def gguf_of_words_that_are_respelled(folder, canary):
    """Each is a run of tabs with a blank at its end, of which as many signs for blanks are made: they can be cut
    anywhere only then."""
    blanks = ["\t" * length + " " for length in range(840)]
    return gguf_of_words(folder, "llama", ["<unk>", "<s>", "</s>", "<pad>", *blanks, *"abcdefghij"], "gemma2")
