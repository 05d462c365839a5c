"""GraphQL: in curl, Python (standard library) and JavaScript (Node); for a model that writes, as it writes."""

from typing import Any

from django.utils.translation import gettext_lazy as _

from .sample import MAX_TOKENS, Example, Place, Sample, for_shell, python, wrapped

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

CURL = """\
curl {url}/graphql \\
  -H "Authorization: Bearer $MARKETPLACE_API_KEY" \\
  -H "Content-Type: application/json" \\
  -d '{body}'
"""
CURL_STREAMED = CURL.replace("curl ", "curl --no-buffer ").replace("  -d", '  -H "Accept: text/event-stream" \\\n  -d')

PYTHON_ASKS = '''\
import json
import os
import urllib.request

query = """
{document}
"""
input = {input}

request = urllib.request.Request(
    "{url}/graphql",
    data=json.dumps({{"query": query, "variables": {{"input": input}}}}).encode(),
    headers={{
        "Authorization": "Bearer " + os.environ["MARKETPLACE_API_KEY"],
        "Content-Type": "application/json",{accept}
    }},
)
with urllib.request.urlopen(request) as response:
'''
PYTHON = (
    PYTHON_ASKS
    + """\
    answer = json.load(response)["data"]["invokeModel"]

print(answer["errors"] or answer["invocation"])
"""
)
PYTHON_STREAMED = (
    PYTHON_ASKS
    + """\
    for line in response:
        if not line.startswith(b"data: "):
            continue
        event = json.loads(line.removeprefix(b"data: "))["data"]["invokeModel"]
        for output in event.get("outputs", ()):
            if output["name"] == "text_output":
                print(output["data"][0], end="", flush=True)

print("\\n", event["errors"] or event["invocation"])
"""
)

JAVASCRIPT_ASKS = """\
// Node 18 or later: save it as call.mjs
const query = `
{document}
`;
const input = {input};

const response = await fetch("{url}/graphql", {{
  method: "POST",
  headers: {{
    "Authorization": `Bearer ${{process.env.MARKETPLACE_API_KEY}}`,
    "Content-Type": "application/json",{accept}
  }},
  body: JSON.stringify({{ query, variables: {{ input }} }}),
}});
"""
JAVASCRIPT = (
    JAVASCRIPT_ASKS
    + """\
const {{ invocation, errors }} = (await response.json()).data.invokeModel;

console.log(errors.length ? errors : JSON.stringify(invocation));
"""
)
JAVASCRIPT_STREAMED = (
    JAVASCRIPT_ASKS
    + """\
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
)


def samples(place: Place, example: Example) -> list[Sample]:
    # Order as people read it.
    given: dict[str, Any] = {"model": example.ref, "inputs": example.inputs}
    curl, in_python, javascript, document = CURL, PYTHON, JAVASCRIPT, MUTATION
    if example.writes:
        curl, in_python, javascript, document = CURL_STREAMED, PYTHON_STREAMED, JAVASCRIPT_STREAMED, SUBSCRIPTION
        given |= {"parameters": {"max_tokens": MAX_TOKENS}}
    # On a line of its own, as far in as the header before it.
    accept = '\n{}"Accept": "text/event-stream",' if example.writes else ""
    texts = {"url": place.url, "document": document}
    body = {"query": " ".join(document.split()), "variables": {"input": given}}
    code = in_python.format(**texts, accept=accept.format(" " * 8), input=python(given))
    script = javascript.format(**texts, accept=accept.format(" " * 4), input=wrapped(given))
    return [
        Sample("graphql-curl", "curl", curl.format(url=place.url, body=for_shell(wrapped(body)))),
        Sample("graphql-python", "Python", code),
        Sample("graphql-javascript", _("JavaScript"), script),
    ]
