"""The OpenAI-style API, for the tasks that it has: in curl, and by the openai package."""

from typing import Any

from .sample import MAX_TOKENS, Example, Place, Sample, for_shell, python, wrapped

CURL = """\
curl {url}/v1/embeddings \\
  -H "Authorization: Bearer $MARKETPLACE_API_KEY" \\
  -H "Content-Type: application/json" \\
  -d '{body}'
"""

CURL_STREAMED = """\
curl --no-buffer {url}/v1/{path} \\
  -H "Authorization: Bearer $MARKETPLACE_API_KEY" \\
  -H "Content-Type: application/json" \\
  -d '{body}'
"""

EMBEDDINGS = """\
# pip install openai
import os

from openai import OpenAI

client = OpenAI(base_url="{url}/v1", api_key=os.environ["MARKETPLACE_API_KEY"])
answer = client.embeddings.create(
    model="{ref}",
    input={input},
)

for each in answer.data:
    print(len(each.embedding), each.embedding[:3])
print(answer.usage)
"""

CHAT = """\
# pip install openai
import os

from openai import OpenAI

client = OpenAI(base_url="{url}/v1", api_key=os.environ["MARKETPLACE_API_KEY"])
stream = client.chat.completions.create(
    model="{ref}",
    messages=[{{"role": "user", "content": {prompt}}}],
    max_tokens={max_tokens},
    stream=True,
)

for chunk in stream:
    print(chunk.choices[0].delta.content or "", end="", flush=True)
"""

COMPLETIONS = """\
# pip install openai
import os

from openai import OpenAI

client = OpenAI(base_url="{url}/v1", api_key=os.environ["MARKETPLACE_API_KEY"])
stream = client.completions.create(
    model="{ref}",
    prompt={prompt},
    max_tokens={max_tokens},
    stream=True,
)

for chunk in stream:
    print(chunk.choices[0].text, end="", flush=True)
"""


def samples(place: Place, example: Example) -> list[Sample]:
    """None for a model of another task."""
    if example.embeds:
        texts = example.inputs[0]["data"]
        body = wrapped({"model": example.ref, "input": texts})
        return [
            Sample("openai-curl", "curl", CURL.format(url=place.url, body=for_shell(body))),
            Sample("openai-python", "Python", EMBEDDINGS.format(url=place.url, ref=example.ref, input=python(texts))),
        ]
    return _written(place, example) if example.writes else []


def _written(place: Place, example: Example) -> list[Sample]:
    asked: dict[str, Any] = {"prompt": example.prompt}
    path, code = "completions", COMPLETIONS
    if example.chats:
        asked = {"messages": [{"role": "user", "content": example.prompt}]}
        path, code = "chat/completions", CHAT
    body = wrapped({"model": example.ref, **asked, "max_tokens": MAX_TOKENS, "stream": True})
    texts = {"url": place.url, "ref": example.ref, "prompt": python(example.prompt), "max_tokens": MAX_TOKENS}
    return [
        Sample("openai-curl", "curl", CURL_STREAMED.format(url=place.url, path=path, body=for_shell(body))),
        Sample("openai-python", "Python", code.format(**texts)),
    ]
