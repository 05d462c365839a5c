"""A model for Triton's Python backend that says as many words as it is told to, and notes when it stops.

Request parameters: `max_tokens` (words) and `max_total_tokens` (of prompt and words; without both, without end),
`pause` (seconds before each word), `size` (characters of a word), `fail_after` (words, then an error), `stream` (false:
one answer with all of it), `witness` (a file that the number of words said is written to, once the model is done or
sees that nobody listens any more). A word is a token, and so is each character of the prompt.
"""

import json
import threading
import time
from itertools import count
from pathlib import Path

import numpy as np
import triton_python_backend_utils as triton


class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            text = triton.get_input_tensor_by_name(request, "text_input").as_numpy()[0].decode()
            parameters = json.loads(request.parameters())
            talk = threading.Thread(target=_talk, args=(request.get_response_sender(), text, parameters), daemon=True)
            talk.start()


def _talk(sender, text, parameters):
    said = 0
    try:
        bounds = (parameters.get("max_tokens"), parameters.get("max_total_tokens", 0) - len(text))
        most = min((bound for bound in bounds if bound and bound > 0), default=None)
        if parameters.get("stream", True):
            for number in count(1):
                time.sleep(float(parameters.get("pause", 0.002)))
                if sender.is_cancelled():
                    return
                if number == parameters.get("fail_after"):
                    error = triton.TritonError("the talker lost its tongue")
                    sender.send(
                        triton.InferenceResponse(error=error), flags=triton.TRITONSERVER_RESPONSE_COMPLETE_FINAL
                    )
                    return
                word = f"word{number} ".ljust(int(parameters.get("size", 0)), "x")
                tokens = 1 + (len(text) if number == 1 else 0)
                sender.send(_answer(word, tokens, len(text), "length" if number == most else ""))
                said = number
                if number == most:
                    break
        else:
            words = "".join(f"word{number} " for number in range(1, most + 1))
            sender.send(_answer(words, most + len(text), len(text), "length"))
            said = most
        sender.send(flags=triton.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
    finally:
        if "witness" in parameters:
            note = Path(parameters["witness"])
            note.with_suffix(".part").write_text(str(said))
            note.with_suffix(".part").rename(note)


def _answer(text, tokens, prompt_tokens, finish_reason):
    return triton.InferenceResponse(
        [
            triton.Tensor("text_output", np.array([text.encode()], dtype=object)),
            triton.Tensor("token_count", np.array([tokens], dtype=np.int64)),
            triton.Tensor("prompt_token_count", np.array([prompt_tokens], dtype=np.int64)),
            triton.Tensor("finish_reason", np.array([finish_reason.encode()], dtype=object)),
        ]
    )
