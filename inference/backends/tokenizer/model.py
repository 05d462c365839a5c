"""A Python-based Triton backend that turns text into token ids, as a Hugging Face `tokenizer.json` says.

`text` BYTES[n] -> `input_ids`, `attention_mask` INT64[n, longest] and `token_count` INT64[n], each text's own:
truncated at 256 tokens, padded to the longest text of the request. It runs inside Triton's Python and imports nothing
of this project.
"""

import os

import numpy as np
import tokenizers
import triton_python_backend_utils as pb_utils

MAX_TOKENS = 256


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
        self.tokenizer.enable_truncation(MAX_TOKENS)
        self.tokenizer.enable_padding(pad_id=padding.get("pad_id", 0), pad_token=padding.get("pad_token", "[PAD]"))

    def execute(self, requests):
        return [self.respond(request) for request in requests]

    def respond(self, request):
        try:
            text = pb_utils.get_input_tensor_by_name(request, "text").as_numpy().ravel()
            encodings = self.tokenizer.encode_batch([value.decode() for value in text])
        except UnicodeDecodeError:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError("'text' has an element that is not UTF-8"))
        except Exception as error:  # one request's failure, whatever it is, must not become another's
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error)))
        longest = len(encodings[0]) if encodings else 0
        ids = np.array([encoding.ids for encoding in encodings], dtype=np.int64).reshape(len(encodings), longest)
        mask = np.array([encoding.attention_mask for encoding in encodings], dtype=np.int64).reshape(ids.shape)
        wanted = request.requested_output_names()
        tensors = [
            pb_utils.Tensor("input_ids", ids),
            pb_utils.Tensor("attention_mask", mask),
            pb_utils.Tensor("token_count", mask.sum(axis=1)),
        ]
        return pb_utils.InferenceResponse([tensor for tensor in tensors if tensor.name() in wanted])
