"""How near the converted SmolLM2 is to its source: `python -m demo.build.perplexity ARCHIVE TEXT...`.

For the first 512 tokens of each text file: perplexity by the GGUF's weights in numpy (FP32), perplexity by the
archive's graph, one token after the other as the backend does, and how often both find the same token likeliest.
"""

import sys
import zipfile
from pathlib import Path

import numpy as np
import onnxruntime
from gguf import GGUFReader
from tokenizers import Tokenizer

from demo.build import reference, smollm2
from demo.build.llama import Shape

TOKENS = 512


def main(archive: Path, texts: list[Path]) -> None:
    source = GGUFReader(smollm2.source())
    shape = smollm2.shape_of(source)
    weights = smollm2.weights(source, shape)
    with zipfile.ZipFile(archive) as packed:
        tokenizer = Tokenizer.from_buffer(packed.read("generator/tokenizer.json"))
        session = onnxruntime.InferenceSession(packed.read("generator/model.onnx"))
    losses, alike = [], []
    for text in texts:
        tokens = tokenizer.encode(text.read_text()).ids[:TOKENS]
        both = reference.logits(shape, weights, tokens), converted(session, shape, tokens)
        losses.append([loss(each[:-1], tokens[1:]) for each in both])
        alike.append(both[0].argmax(axis=-1) == both[1].argmax(axis=-1))
    of_source, of_archive = np.exp(np.concatenate(losses, axis=1).mean(axis=1))
    print(f"{sum(map(len, alike))} tokens of {len(texts)} texts")
    print(f"perplexity: {of_source:.2f} by the GGUF's weights, {of_archive:.2f} by the archive")
    print(f"the same token is likeliest in {np.concatenate(alike).mean():.1%}")


def converted(session: onnxruntime.InferenceSession, shape: Shape, tokens: list[int]) -> np.ndarray:
    """[token, vocabulary]."""
    names = [each.name for each in session.get_inputs() if each.name.startswith("past_key_values.")]
    outputs = ["logits", *(name.replace("past_key_values", "present") for name in names)]
    empty = np.zeros((1, shape.key_value_heads, 0, shape.head_size), np.float32)
    cache, rows = dict.fromkeys(names, empty), []
    for position, token in enumerate(tokens):
        sizes = {
            "seqlens_k": np.array([position], np.int32),
            "total_sequence_length": np.array(position + 1, np.int32),
        }
        row, *present = session.run(outputs, {"input_ids": np.array([[token]]), **sizes, **cache})
        cache = dict(zip(names, present, strict=True))
        rows.append(row[0, 0])
    return np.stack(rows)


def loss(logits: np.ndarray, following: list[int]) -> np.ndarray:
    """Of each token, in nats."""
    shifted = (logits - logits.max(axis=-1, keepdims=True)).astype(np.float64)
    return np.asarray(np.log(np.exp(shifted).sum(axis=-1)) - shifted[np.arange(len(following)), following])


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(each) for each in sys.argv[2:]])
