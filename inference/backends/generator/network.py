"""The network: an ONNX graph of a decoder whose attention is com.microsoft.GroupQueryAttention, and its caches.

Each layer's keys and values lie in one buffer with a slot for each sequence, which is past and present at once: nothing
is copied from step to step, and sequences of any lengths share one run. What a sequence gets does not depend, to the
last bit, on which others are beside it: every operator of such a graph works row by row (com.microsoft.MatMulNBits
among them, which quantises its input in blocks of a row).

Inputs: `input_ids` INT64 [b, s], `seqlens_k` INT32 [b] (length less 1, this run's tokens included),
`total_sequence_length` INT32 [], and for each layer `past_key_values.N.key` and `.value` FP32 [b, heads, context,
size]. Outputs: `logits` FP32 [b, 1, vocabulary] of the last position, `present.N.key` and `.value`. Names as in
onnxruntime-genai.
"""

import os

import numpy as np
import onnxruntime


class Network:
    def __init__(self, path, *, slots, context_length):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = min(2, os.cpu_count() or 1)
        # Idle threads that spin would take the processor from the other models of this server.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.vocabulary = next(each for each in self.session.get_outputs() if each.name == "logits").shape[-1]
        # The last slot is where prompts are read, beside the sequences that go on. Untouched pages cost nothing.
        self.reading = slots
        self.caches = {
            each.name.removeprefix("past_key_values."): np.zeros(
                (slots + 1, each.shape[1], context_length, each.shape[3]), np.float32
            )
            for each in self.session.get_inputs()
            if each.name.startswith("past_key_values.")
        }
        self.bindings = {}

    def read(self, tokens, length):
        """Takes more of a prompt, of which `length` tokens were read before. Answers the last one's logits."""
        return self.run(self.reading, np.array([tokens], np.int64), np.array([length + len(tokens)], np.int32))[0]

    def step(self, tokens, lengths):
        """Takes one token of each sequence, of `lengths` before, in slots 0, 1, … Answers logits [b, vocabulary]."""
        return self.run(0, np.array(tokens, np.int64)[:, None], np.array(lengths, np.int32) + 1)

    def move(self, source, target, length):
        """Puts a sequence of that length into another slot."""
        for cache in self.caches.values():
            cache[target, :, :length] = cache[source, :, :length]

    def run(self, slot, tokens, lengths):
        binding, logits = self.bindings.get((slot, len(tokens))) or self.bind(slot, len(tokens))
        last, total = lengths - 1, np.array(lengths.max(), np.int32)
        binding.bind_cpu_input("input_ids", tokens)
        binding.bind_cpu_input("seqlens_k", last)
        binding.bind_cpu_input("total_sequence_length", total)
        self.session.run_with_iobinding(binding)
        return logits[:, 0]

    def bind(self, slot, count):
        binding, logits = self.session.io_binding(), np.empty((count, 1, self.vocabulary), np.float32)
        binding.bind_output("logits", "cpu", 0, np.float32, logits.shape, logits.ctypes.data)
        for name, cache in self.caches.items():
            part = cache[slot : slot + count]
            where = ("cpu", 0, np.float32, part.shape, part.ctypes.data)
            binding.bind_input(f"past_key_values.{name}", *where)
            binding.bind_output(f"present.{name}", *where)
        self.bindings[slot, count] = binding, logits
        return binding, logits
