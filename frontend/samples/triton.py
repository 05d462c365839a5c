"""The Open Inference Protocol, over REST and over gRPC: in curl, and by Triton's own Python client."""

from .sample import MAX_TOKENS, Example, Place, Sample, for_shell, python, wrapped

# Which numpy has for a datatype. BF16 is sent as FP32, which tritonclient cuts off.
NUMPY = {
    "BOOL": "bool",
    "BYTES": "object",
    "FP16": "float16",
    "BF16": "float32",
    "FP32": "float32",
    "FP64": "float64",
    **{f"{sign}INT{bits}": f"{sign}INT{bits}".lower() for sign in ("", "U") for bits in (8, 16, 32, 64)},
}
# What the protocol's JSON cannot carry.
NOT_IN_JSON = frozenset(("FP16", "BF16"))

CURL = """\
curl {url}/v2/models/{ref}/infer \\
  -H "Authorization: Bearer $MARKETPLACE_API_KEY" \\
  -H "Content-Type: application/json" \\
  -d '{body}'
"""

INPUTS = """\
tensors = {tensors}

inputs = []
for name, datatype, shape, dtype, data in tensors:
    inputs.append(triton.InferInput(name, shape, datatype))
    inputs[-1].set_data_from_numpy(np.array(data, dtype=dtype).reshape(shape))
"""

REST = """\
# pip install tritonclient[http]
import os

import numpy as np
import tritonclient.http as triton

{inputs}
client = triton.InferenceServerClient("{host}"{ssl})
answer = client.infer(
    "{ref}",
    inputs,
    headers={{"Authorization": "Bearer " + os.environ["MARKETPLACE_API_KEY"]}},{parameters}
)

for output in answer.get_response()["outputs"]:
    print(output["name"], answer.as_numpy(output["name"]))
"""

GRPC = """\
# pip install tritonclient[grpc]
import os

import numpy as np
import tritonclient.grpc as triton

{inputs}
client = triton.InferenceServerClient("{grpc}"{ssl})
answer = client.infer(
    "{ref}",
    inputs,
    headers={{"authorization": "Bearer " + os.environ["MARKETPLACE_API_KEY"]}},
)

for output in answer.get_response().outputs:
    print(output.name, answer.as_numpy(output.name))
"""

GRPC_STREAMED = """\
# pip install tritonclient[grpc]
import os
import queue

import numpy as np
import tritonclient.grpc as triton

{inputs}
answers = queue.Queue()
client = triton.InferenceServerClient("{grpc}"{ssl})
client.start_stream(
    lambda result, error: answers.put((result, error)),
    headers={{"authorization": "Bearer " + os.environ["MARKETPLACE_API_KEY"]}},
)
client.async_stream_infer(
    "{ref}",
    inputs,
    parameters={{"max_tokens": {max_tokens}}},
    enable_empty_final_response=True,
)
while True:
    answer, error = answers.get()
    if error is not None:
        raise error
    if answer.get_response().parameters["triton_final_response"].bool_param:
        break
    print(answer.as_numpy("text_output")[0].decode(), end="", flush=True)
client.stop_stream()
"""


def rest(place: Place, example: Example) -> list[Sample]:
    by_client = REST.format(
        inputs=_inputs(example),
        host=place.host,
        ssl=", ssl=True" if place.https else "",
        ref=example.ref,
        parameters=f'\n    parameters={{"max_tokens": {MAX_TOKENS}}},' if example.writes else "",
    )
    found = [Sample("rest-python", "Python", by_client)]
    if not any(tensor["datatype"] in NOT_IN_JSON for tensor in example.inputs):
        body = {"inputs": example.inputs} | ({"parameters": {"max_tokens": MAX_TOKENS}} if example.writes else {})
        code = CURL.format(url=place.url, ref=example.ref, body=for_shell(wrapped(body)))
        found.insert(0, Sample("rest-curl", "curl", code))
    return found


def grpc(place: Place, example: Example) -> list[Sample]:
    code = (GRPC_STREAMED if example.writes else GRPC).format(
        inputs=_inputs(example),
        grpc=place.grpc,
        ssl=", ssl=True" if place.tls else "",
        ref=example.ref,
        max_tokens=MAX_TOKENS,
    )
    return [Sample("grpc-python", "Python", code)]


def _inputs(example: Example) -> str:
    tensors = [
        (tensor["name"], tensor["datatype"], tensor["shape"], NUMPY[tensor["datatype"]], tensor["data"])
        for tensor in example.inputs
    ]
    return INPUTS.format(tensors=python(tensors))
