"""A Python-based Triton backend that turns text into token ids, as a Hugging Face `tokenizer.json` says.

`text` BYTES[n] -> `input_ids`, `attention_mask` INT64[n, longest] and `token_count` INT64[n], each text's own:
truncated at 256 tokens, padded to the longest text of the request. With the request parameter `token_ids` each text is
a JSON list of token ids instead, with the special tokens around it or without. It runs inside Triton's Python and
imports nothing of this project.
"""

import functools
import json
import os

import numpy as np
import tokenizers
import triton_python_backend_utils as pb_utils

MAX_TOKENS = 256


class InvalidText(Exception):
    """The caller's own mistake, told to them."""


class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        config.add_input({"name": "text", "data_type": "TYPE_STRING", "dims": [-1]})
        for name in ("input_ids", "attention_mask"):
            config.add_output({"name": name, "data_type": "TYPE_INT64", "dims": [-1, -1]})
        config.add_output({"name": "token_count", "data_type": "TYPE_INT64", "dims": [-1]})
        return config

    def initialize(self, args):
        path = os.path.join(pb_utils.get_model_dir(), "tokenizer.json")
        self.tokenizer = tokenizers.Tokenizer.from_file(path)
        # What a tokenizer.json says of padding and truncation belongs to its training.
        padding = self.tokenizer.padding or {}
        self.padding = padding.get("pad_id", 0)
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(MAX_TOKENS)
        self.vocabulary = self.tokenizer.get_vocab_size()

    def execute(self, requests):
        return [self.respond(request) for request in requests]

    def respond(self, request):
        try:
            texts = pb_utils.get_input_tensor_by_name(request, "text").as_numpy().ravel()
            if json.loads(request.parameters() or "{}").get("token_ids"):
                rows = [self.framed(token_ids(text, self.vocabulary)) for text in texts]
            else:
                rows = [each.ids for each in self.tokenizer.encode_batch([value.decode() for value in texts])]
        except UnicodeDecodeError:
            return refusal("'text' has an element that is not UTF-8")
        except InvalidText as error:
            return refusal(str(error))
        except Exception as error:  # one request's failure, whatever it is, must not become another's
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error)))
        counts = np.array([len(row) for row in rows], dtype=np.int64)
        mask = (np.arange(counts.max(initial=0)) < counts[:, None]).astype(np.int64)
        ids = np.full(mask.shape, self.padding, dtype=np.int64)
        ids[mask == 1] = [token for row in rows for token in row]
        wanted = request.requested_output_names()
        tensors = [
            pb_utils.Tensor("input_ids", ids),
            pb_utils.Tensor("attention_mask", mask),
            pb_utils.Tensor("token_count", counts),
        ]
        return pb_utils.InferenceResponse([tensor for tensor in tensors if tensor.name() in wanted])

    def framed(self, ids):
        """As the text of these tokens would be: behind and before the special tokens, and cut off where it would be."""
        before, after = self.frame
        most = MAX_TOKENS - len(before) - len(after)
        if len(ids) >= MAX_TOKENS - most and ids[: len(before)] == before and ids[len(ids) - len(after) :] == after:
            ids = ids[len(before) : len(ids) - len(after)]
        return [*before, *ids[:most], *after]

    @functools.cached_property
    def frame(self):
        """What the tokenizer puts before and after a text, which any word tells."""
        word = self.tokenizer.encode("a")
        inner = [position for position, special in enumerate(word.special_tokens_mask) if not special]
        return word.ids[: inner[0]], word.ids[inner[-1] + 1 :]


def token_ids(text, vocabulary):
    try:
        ids = json.loads(text)
    except (ValueError, RecursionError):
        ids = None
    if not isinstance(ids, list) or not all(type(token) is int for token in ids):
        raise InvalidText("'text' has an element that is not a JSON list of token ids")
    if not all(0 <= token < vocabulary for token in ids):
        raise InvalidText(f"'text' has a token id that is not from 0 to {vocabulary - 1}")
    return ids


def refusal(message):
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, pb_utils.TritonError.INVALID_ARG))
