"""A language model of a megabyte that never learned anything: SmolLM2's shape, tokenizer and template in small.

It babbles, quickly, the same for the same prompt, and stops once in a while. Tests need no more. Equal bytes each time.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from demo.build import generator, graphs, llama

SEED = 135
MERGES = (
    *(("Ġ", "t"), ("h", "e"), ("i", "n"), ("Ġ", "a"), ("o", "n"), ("e", "r"), ("Ġt", "he"), ("a", "n"), ("o", "u")),
    *(("Ġ", "s"), ("e", "s"), ("Ã", "©"), ("i", "s"), ("r", "e"), ("Ġ", "w"), ("in", "g"), ("o", "r"), ("e", "n")),
)
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
END = 2
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
SHAPE = llama.Shape(
    layers=2,
    hidden=128,
    heads=4,
    key_value_heads=2,
    head_size=32,
    feed_forward=256,
    vocabulary=288,
    context_length=4096,
    rotary_base=10_000.0,
    epsilon=1e-5,
)
SETTINGS = {
    "context_length": SHAPE.context_length,
    "slots": 8,
    "eos_token_ids": [END],
    "eos_token": SPECIAL[END],
    "chat_template": CHAT_TEMPLATE,
}


def build(destination: Path) -> None:
    """Writes the archive to the file `destination`."""
    built = graphs.serialized(llama.network(SHAPE, _weights()))
    generator.write(destination, network=built, tokenizer=json.dumps(_tokenizer()).encode(), settings=SETTINGS)


def _alphabet() -> list[str]:
    """GPT-2's character for each byte."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = iter(range(256, 512))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]


def _vocabulary() -> list[str]:
    return [*SPECIAL, *_alphabet(), *("".join(pair) for pair in MERGES)]


def _tokenizer() -> dict[str, Any]:
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": number, "content": token, **flags} for number, token in enumerate(SPECIAL)],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": {token: number for number, token in enumerate(_vocabulary())},
            "merges": [list(pair) for pair in MERGES],
        },
    }


def _weights() -> dict[str, np.ndarray]:
    random = np.random.default_rng(SEED)
    shape = SHAPE

    def matrix(outputs: int, inputs: int) -> np.ndarray:
        return random.standard_normal((outputs, inputs), dtype=np.float32) / np.sqrt(inputs, dtype=np.float32)

    # Printable characters are likelier than others, so that people can read what the tests say.
    readable = [all(" " <= character <= "~" or character == "Ġ" for character in token) for token in _vocabulary()]
    loudness = np.full(shape.vocabulary, 0.3, np.float32)
    loudness[: len(readable)][readable] = 1
    loudness[: len(SPECIAL)] = 0.3
    weights = {
        "embedding": matrix(shape.vocabulary, shape.hidden) * loudness[:, None] * 2,
        "norm": np.ones(shape.hidden, np.float32),
    }
    for layer in range(shape.layers):
        queries, pairs = shape.heads * shape.head_size, 2 * shape.key_value_heads * shape.head_size
        weights |= {
            f"{layer}.attention_norm": np.ones(shape.hidden, np.float32),
            f"{layer}.query_key_value": matrix(queries + pairs, shape.hidden) * 2,
            f"{layer}.attention_output": matrix(shape.hidden, queries),
            f"{layer}.feed_forward_norm": np.ones(shape.hidden, np.float32),
            f"{layer}.gate_up": matrix(2 * shape.feed_forward, shape.hidden),
            f"{layer}.down": matrix(shape.hidden, shape.feed_forward),
        }
    return weights
