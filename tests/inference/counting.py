"""A model that counts, one answer for each number, for tests of what streams: Triton's own `python` backend runs it.

`times` INT64[1] -> `number` INT64[1] and `token_count` INT64[1] (2 with the first answer, 1 with each other).
Parameters: `gate`, a file that must be there before answer `gate_at` is given; `fail_at`, the answer that is an error
instead; `payload`, the characters of `text` BYTES[1] in each answer. With `stream` false one answer has it all.
`max_total_tokens` ends it early. At its end it writes to `journal` how many it gave, and whether it was cancelled.
"""

import inference.gateway

MODEL = """
import json, os, threading, time
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.stopped = set()

    def execute(self, requests):
        for request in requests:
            # Read here: a request's memory is another's as soon as this returns.
            parameters = json.loads(request.parameters() or "{}")
            if "stop_request" in parameters:
                self.stopped.add(parameters["stop_request"])
                request.get_response_sender().send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
                continue
            times = int(pb_utils.get_input_tensor_by_name(request, "times").as_numpy()[0])
            asked = (request.get_response_sender(), request.request_id(), times, parameters)
            threading.Thread(target=self.count, args=asked, daemon=True).start()

    def count(self, sender, id, times, parameters):
        most = parameters.get("max_total_tokens", 1 << 62)
        given, tokens, cancelled = 0, 0, False
        whole = not parameters.get("stream", True)
        for number in range(times):
            gate = parameters.get("gate") if number == parameters.get("gate_at") else None
            while gate and not os.path.exists(gate) and not cancelled:
                time.sleep(0.005)
                cancelled = id in self.stopped
            cost = 2 if number == 0 else 1
            cancelled = cancelled or id in self.stopped
            if cancelled or tokens + cost > most:
                break
            tokens += cost
            if number == parameters.get("fail_at"):
                sender.send(pb_utils.InferenceResponse(error=pb_utils.TritonError("counting is hard")))
                break
            if not whole:
                sender.send(self.answer(number, cost, parameters))
            given += 1
        if whole:
            sender.send(self.answer(given, tokens, parameters))
        sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
        if "journal" in parameters:
            fresh = f"{parameters['journal']}.{threading.get_ident()}"
            with open(fresh, "w") as file:
                json.dump({"given": given, "cancelled": cancelled}, file)
            os.rename(fresh, parameters["journal"])

    def answer(self, number, tokens, parameters):
        text = np.array([b"x" * parameters.get("payload", 0)], dtype=np.object_)
        return pb_utils.InferenceResponse([
            pb_utils.Tensor("number", np.array([number], np.int64)),
            pb_utils.Tensor("token_count", np.array([tokens], np.int64)),
            pb_utils.Tensor("text", text),
        ])
"""

INPUTS = {"times": "INT64"}
OUTPUTS = {"number": "INT64", "token_count": "INT64", "text": "BYTES"}


def _specs(tensors: dict[str, str]) -> list[dict[str, object]]:
    return [
        {"name": name, "data_type": f"TYPE_{'STRING' if datatype == 'BYTES' else datatype}", "dims": [1]}
        for name, datatype in tensors.items()
    ]


async def load(address: str, name: str) -> None:
    config = {
        "name": name,
        "backend": "python",
        "max_batch_size": 0,
        "input": _specs(INPUTS),
        "output": _specs(OUTPUTS),
        "model_transaction_policy": {"decoupled": True},
        "instance_group": [{"kind": "KIND_CPU", "count": 1}],
    }
    await inference.gateway.load(address, name, config, {"1/model.py": MODEL.encode()})
