"""A Python-based Triton backend that writes text: a decoupled model with a cache of keys and values.

`text_input` BYTES[1] -> as often as there is more, `text_output` BYTES[1] (what is new), `token_count` INT64[1] (tokens
since the last response; the first counts the prompt's too), `prompt_token_count` INT64[1] and `finish_reason` BYTES[1]
("" until the last response: "stop" or "length"). With the request parameter `stream` false, one response has it all.

Request parameters: max_tokens, max_total_tokens, temperature, top_p, seed, stop (a JSON list of strings), stream, and
apply_chat_template (`text_input` is then a JSON list of {"role", "content"}).

An artefact is `model.onnx` (see network.py), a byte-level `tokenizer.json`, and `generation.json`: {"context_length",
"slots", "eos_token_ids", "bos_token", "eos_token", "chat_template", "temperature", "top_p"}; all but the first three
may be left out, the last two are the defaults of requests. It runs inside Triton's Python and imports nothing of this
project.
"""

import contextlib
import json
import os
import weakref

import numpy as np
import tokenizers
import triton_python_backend_utils as pb_utils
from engine import Engine, Full, Sequence, Stopping
from network import Network
from prompts import ChatTemplate, Refused, read_options
from sampling import Sampler
from text import Text, Vocabulary

FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
INPUTS = {"text_input": "TYPE_STRING"}
OUTPUTS = {
    "text_output": "TYPE_STRING",
    "token_count": "TYPE_INT64",
    "prompt_token_count": "TYPE_INT64",
    "finish_reason": "TYPE_STRING",
}
# As many again as run at once may wait for each of them.
WAITING_PER_SLOT = 64


class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        for name, datatype in INPUTS.items():
            config.add_input({"name": name, "data_type": datatype, "dims": [1]})
        for name, datatype in OUTPUTS.items():
            config.add_output({"name": name, "data_type": datatype, "dims": [1]})
        config.set_model_transaction_policy({"decoupled": True})
        return config

    def initialize(self, args):
        folder = pb_utils.get_model_dir()
        with open(os.path.join(folder, "generation.json"), encoding="utf-8") as file:
            self.settings = json.load(file)
        self.callers = weakref.WeakValueDictionary()  # by the ids of their requests
        self.context_length, slots = self.settings["context_length"], self.settings["slots"]
        self.tokenizer = tokenizers.Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
        # What a tokenizer.json says of padding and truncation belongs to its training.
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        vocabulary = Vocabulary(self.tokenizer)
        # A longer prompt has more tokens than the context, whatever they are, and need not be looked at.
        self.max_prompt_bytes = self.context_length * max(len(token) for token in self.tokenizer.get_vocab())
        self.template = None
        if self.settings.get("chat_template"):
            tokens = {name: self.settings.get(name, "") for name in ("bos_token", "eos_token")}
            special = [each.content for each in self.tokenizer.get_added_tokens_decoder().values() if each.special]
            self.template = ChatTemplate(
                self.settings["chat_template"], max_characters=self.max_prompt_bytes, special=special, **tokens
            )
        network = Network(os.path.join(folder, "model.onnx"), slots=slots, context_length=self.context_length)
        if len(vocabulary) > network.vocabulary:
            raise pb_utils.TritonModelException("tokenizer.json has tokens that the network does not know")
        network.read([0], 0)  # the first run takes longer than any other, and this one keeps nobody waiting
        self.engine = Engine(
            network,
            vocabulary,
            slots=slots,
            waiting=slots * WAITING_PER_SLOT,
            ends=frozenset(self.settings["eos_token_ids"]),
        )

    def execute(self, requests):
        for request in requests:
            sender = request.get_response_sender()
            stop = json.loads(request.parameters()).get("stop_request")
            if stop is not None:
                if caller := self.callers.get(stop):
                    caller.stopped = True
                sender.send(flags=FINAL)
                continue
            try:
                self.engine.submit(self.sequence(request, sender))
            except Refused as error:
                refuse(sender, f"{error}.")
            except Full:
                be_unavailable(sender, "too many requests wait for this model.")
            except Exception as error:  # one request's failure, whatever it is, must not become another's
                fail(sender, str(error), pb_utils.TritonError.INTERNAL)

    def finalize(self):
        self.engine.stop()

    def sequence(self, request, sender):
        options = read_options(
            json.loads(request.parameters()),
            temperature=self.settings.get("temperature", 1),
            top_p=self.settings.get("top_p", 1),
        )
        prompt = self.prompt(request, chat=options.chat)
        if not prompt:
            raise Refused("the prompt is empty")
        room = min(self.context_length, options.max_total_tokens or self.context_length)
        if len(prompt) >= room:
            raise Refused(
                f"the prompt has {len(prompt)} tokens, and prompt and answer together may have {room}: shorten it"
            )
        caller = Caller(sender, set(request.requested_output_names()), len(prompt))
        self.callers[request.request_id()] = caller
        return Sequence(
            prompt,
            limit=min(room - len(prompt), options.max_tokens or room),
            sampler=Sampler(options.temperature, options.top_p, options.seed),
            text=Text(options.stop),
            stream=options.stream,
            listener=caller,
        )

    def prompt(self, request, *, chat):
        content = pb_utils.get_input_tensor_by_name(request, "text_input").as_numpy().ravel()[0]
        if len(content) > self.max_prompt_bytes:
            raise Refused(f"the prompt is longer than {self.context_length} tokens can be: shorten it")
        try:
            text = content.decode()
        except UnicodeDecodeError as error:
            raise Refused("text_input is not UTF-8") from error
        if chat and self.template is None:
            raise Refused("this model has no chat template: send it text instead of messages")
        return self.tokenizer.encode(self.template.render(text) if chat else text).ids


class Caller:
    """Who made a request: what the engine tells of a sequence, as Triton's responses."""

    def __init__(self, sender, wanted, prompt_tokens):
        self.sender = sender
        self.wanted = wanted
        self.prompt_tokens = prompt_tokens
        self.stopped = False  # by a request of its caller's

    def deliver(self, text, tokens, reason):
        outputs = {
            "text_output": np.array([text.encode()], np.object_),
            "token_count": np.array([tokens], np.int64),
            "prompt_token_count": np.array([self.prompt_tokens], np.int64),
            "finish_reason": np.array([reason.encode()], np.object_),
        }
        tensors = [pb_utils.Tensor(name, array) for name, array in outputs.items() if name in self.wanted]
        self.sender.send(pb_utils.InferenceResponse(tensors), flags=FINAL if reason else 0)

    def has_left(self):
        if not self.stopped and not self.sender.is_cancelled():
            return False
        fail(self.sender, "nobody waits for the answer", pb_utils.TritonError.CANCELLED)
        return True

    def fail(self, error):
        if isinstance(error, Stopping):
            be_unavailable(self.sender, "the model is being unloaded.")
        else:
            fail(self.sender, str(error), pb_utils.TritonError.INTERNAL)


# A stream carries an error's words and not its code, so that these have to say which kind it is.


def refuse(sender, message):
    fail(sender, f"Invalid argument: {message}", pb_utils.TritonError.INVALID_ARG)


def be_unavailable(sender, message):
    fail(sender, f"Unavailable: {message}", pb_utils.TritonError.UNAVAILABLE)


def fail(sender, message, code):
    with contextlib.suppress(pb_utils.TritonModelException):  # who has had the last response needs no other
        sender.send(pb_utils.InferenceResponse(error=pb_utils.TritonError(message, code)), flags=FINAL)
