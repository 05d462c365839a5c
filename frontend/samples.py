"""Code that calls a model and runs when pasted: in curl, Python (standard library) and JavaScript (Node)."""

import json
from pprint import pformat
from typing import Any, NamedTuple

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

MUTATION = """\
mutation Invoke($input: InvokeModelInput!) {
  invokeModel(input: $input) {
    invocation { outputs { name shape data } units latencyMs }
    errors { code message path }
  }
}"""
WIDTH = 76

CURL = """\
curl {url} \\
  -H "Authorization: Bearer $MARKETPLACE_API_KEY" \\
  -H "Content-Type: application/json" \\
  -d '{body}'
"""

PYTHON = '''\
import json
import os
import urllib.request

query = """
{mutation}
"""
inputs = {inputs}

request = urllib.request.Request(
    "{url}",
    data=json.dumps({{"query": query, "variables": {{"input": {{"model": "{ref}", "inputs": inputs}}}}}}).encode(),
    headers={{
        "Authorization": "Bearer " + os.environ["MARKETPLACE_API_KEY"],
        "Content-Type": "application/json",
    }},
)
with urllib.request.urlopen(request) as response:
    answer = json.load(response)["data"]["invokeModel"]

print(answer["errors"] or answer["invocation"])
'''

JAVASCRIPT = """\
// Node 18 or later: save it as call.mjs
const query = `
{mutation}
`;
const inputs = {inputs};

const response = await fetch("{url}", {{
  method: "POST",
  headers: {{
    "Authorization": `Bearer ${{process.env.MARKETPLACE_API_KEY}}`,
    "Content-Type": "application/json",
  }},
  body: JSON.stringify({{ query, variables: {{ input: {{ model: "{ref}", inputs }} }} }}),
}});
const {{ invocation, errors }} = (await response.json()).data.invokeModel;

console.log(errors.length ? errors : JSON.stringify(invocation));
"""


class Sample(NamedTuple):
    slug: str
    title: str | Promise
    code: str


def samples(*, url: str, ref: str, tensors: list[dict[str, Any]]) -> list[Sample]:
    """`url` is the absolute address of the API, `tensors` the inputs; no samples unless each has an example."""
    if not tensors or any(tensor["example"] is None or tensor["exampleShape"] is None for tensor in tensors):
        return []
    inputs = [
        {
            "name": tensor["name"],
            "datatype": tensor["datatype"],
            "shape": [int(size) for size in tensor["exampleShape"]],
            "data": tensor["example"],
        }
        for tensor in tensors
    ]
    body = {"query": " ".join(MUTATION.split()), "variables": {"input": {"model": ref, "inputs": inputs}}}
    return [
        # Inside single quotes a shell leaves everything alone but a single quote.
        Sample("curl", "curl", CURL.format(url=url, body=_wrapped(body).replace("'", "\\u0027"))),
        Sample(
            "python",
            "Python",
            PYTHON.format(
                url=url, ref=ref, mutation=MUTATION, inputs=pformat(inputs, compact=True, width=WIDTH, sort_dicts=False)
            ),
        ),
        Sample(
            "javascript",
            _("JavaScript"),
            JAVASCRIPT.format(url=url, ref=ref, mutation=MUTATION, inputs=_wrapped(inputs)),
        ),
    ]


def _wrapped(value: object) -> str:
    """JSON on lines of WIDTH, broken only after a comma between numbers or members, where white space means nothing."""
    lines, line = [], ""
    for token in json.JSONEncoder(ensure_ascii=False, separators=(", ", ": ")).iterencode(value):
        # The pure-Python encoder is used by iterencode: a separator comes with the element that follows it.
        if line and len(line) + len(token) >= WIDTH and token.startswith(", "):
            lines.append(line + ",")
            line = token[2:]
        else:
            line += token
    return "\n".join([*lines, line])
