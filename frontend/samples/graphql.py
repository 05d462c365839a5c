"""GraphQL: in curl, Python (standard library) and JavaScript (Node); for a model that writes, as it writes."""

from typing import Any

from django.utils.translation import gettext_lazy as _

from .sample import Example, Place, Sample, for_shell, python, wrapped

MUTATION = """\
mutation Invoke($input: InvokeModelInput!) {
  invokeModel(input: $input) {
    invocation { outputs { name shape data } units latencyMs }
    errors { code message path }
  }
}"""
SUBSCRIPTION = """\
subscription Write($input: InvokeModelInput!) {
  invokeModel(input: $input) {
    ... on InvocationChunk { outputs { name data } }
    ... on InvokeModelPayload { invocation { units latencyMs } errors { code message } }
  }
}"""
MAX_TOKENS = 48

CURL = """\
curl {url}/graphql \\
  -H "Authorization: Bearer $MARKETPLACE_API_KEY" \\
  -H "Content-Type: application/json" \\
  -d '{body}'
"""

CURL_STREAMED = """\
curl --no-buffer {url}/graphql \\
  -H "Authorization: Bearer $MARKETPLACE_API_KEY" \\
  -H "Content-Type: application/json" \\
  -H "Accept: text/event-stream" \\
  -d '{body}'
"""

PYTHON = '''\
import json
import os
import urllib.request

query = """
{mutation}
"""
input = {input}

request = urllib.request.Request(
    "{url}/graphql",
    data=json.dumps({{"query": query, "variables": {{"input": input}}}}).encode(),
    headers={{
        "Authorization": "Bearer " + os.environ["MARKETPLACE_API_KEY"],
        "Content-Type": "application/json",
    }},
)
with urllib.request.urlopen(request) as response:
    answer = json.load(response)["data"]["invokeModel"]

print(answer["errors"] or answer["invocation"])
'''

PYTHON_STREAMED = '''\
import json
import os
import urllib.request

query = """
{subscription}
"""
input = {input}

request = urllib.request.Request(
    "{url}/graphql",
    data=json.dumps({{"query": query, "variables": {{"input": input}}}}).encode(),
    headers={{
        "Authorization": "Bearer " + os.environ["MARKETPLACE_API_KEY"],
        "Content-Type": "application/json",
        "Accept": "text/event-stream",
    }},
)
with urllib.request.urlopen(request) as response:
    for line in response:
        if not line.startswith(b"data: "):
            continue
        event = json.loads(line.removeprefix(b"data: "))["data"]["invokeModel"]
        for output in event.get("outputs", ()):
            if output["name"] == "text_output":
                print(output["data"][0], end="", flush=True)

print("\\n", event["errors"] or event["invocation"])
'''

JAVASCRIPT = """\
// Node 18 or later: save it as call.mjs
const query = `
{mutation}
`;
const input = {input};

const response = await fetch("{url}/graphql", {{
  method: "POST",
  headers: {{
    "Authorization": `Bearer ${{process.env.MARKETPLACE_API_KEY}}`,
    "Content-Type": "application/json",
  }},
  body: JSON.stringify({{ query, variables: {{ input }} }}),
}});
const {{ invocation, errors }} = (await response.json()).data.invokeModel;

console.log(errors.length ? errors : JSON.stringify(invocation));
"""

JAVASCRIPT_STREAMED = """\
// Node 18 or later: save it as call.mjs
const query = `
{subscription}
`;
const input = {input};

const response = await fetch("{url}/graphql", {{
  method: "POST",
  headers: {{
    "Authorization": `Bearer ${{process.env.MARKETPLACE_API_KEY}}`,
    "Content-Type": "application/json",
    "Accept": "text/event-stream",
  }},
  body: JSON.stringify({{ query, variables: {{ input }} }}),
}});
let text = "";
for await (const part of response.body.pipeThrough(new TextDecoderStream())) {{
  text += part;
  const lines = text.split("\\n");
  text = lines.pop();
  for (const line of lines.filter((line) => line.startsWith("data: "))) {{
    const event = JSON.parse(line.slice(6)).data.invokeModel;
    const written = event.outputs?.find((output) => output.name === "text_output");
    if (written) process.stdout.write(written.data[0]);
    else console.log("\\n", event.errors.length ? event.errors : JSON.stringify(event.invocation));
  }}
}}
"""


def samples(place: Place, example: Example) -> list[Sample]:
    # Order as people read it.
    given: dict[str, Any] = {"model": example.ref, "inputs": example.inputs}
    curl, in_python, javascript, document = CURL, PYTHON, JAVASCRIPT, MUTATION
    if example.writes:
        curl, in_python, javascript, document = CURL_STREAMED, PYTHON_STREAMED, JAVASCRIPT_STREAMED, SUBSCRIPTION
        given |= {"parameters": {"max_tokens": MAX_TOKENS}}
    texts = {"url": place.url, "mutation": document, "subscription": document}
    body = {"query": " ".join(document.split()), "variables": {"input": given}}
    return [
        Sample("graphql-curl", "curl", curl.format(**texts, body=for_shell(wrapped(body)))),
        Sample("graphql-python", "Python", in_python.format(**texts, input=python(given))),
        Sample("graphql-javascript", _("JavaScript"), javascript.format(**texts, input=wrapped(given))),
    ]
