"""What `make run` says when all is ready: where the site is, who may sign in, and how to invoke a model."""

import json
import shlex
from collections.abc import Iterator
from pathlib import Path

MUTATION = """mutation { invokeModel(input: {model: "openlab/add", inputs: [
{name: "A", datatype: FP32, shape: [1], data: [1.5]}, {name: "B", datatype: FP32, shape: [1], data: [2.25]}]})
{ invocation { outputs { name data } units } errors { message } } }"""


def lines(url: str, data_dir: Path, *, private: bool) -> Iterator[str]:
    """Passwords only where `private`: a log that goes to a file is read by others."""
    path = data_dir / "demo.json"
    yield f"Open {url} and sign in as"
    for user in json.loads(path.read_text())["users"]:
        role = f"{user['role'].lower()} of {user['tenant']}" if user["tenant"] else user["role"].lower()
        secret = user["password"] if private else f"(password in {path})"
        yield f"    {user['email']:<28} {secret:<24} {role}"
    yield "or invoke a model:"
    yield f"    {_curl(url, path)}"


def _curl(url: str, demo: Path) -> str:
    """One line to paste. It reads the key where it is kept, so that the log holds none."""
    read = f'import json; print(json.load(open({json.dumps(str(demo))}))["apiKeys"]["acme"])'
    body = json.dumps({"query": " ".join(MUTATION.split())})
    return (
        f'curl -s {url}/graphql -H "Authorization: Bearer $(python3 -c {shlex.quote(read)})" '
        f"-H 'Content-Type: application/json' -d {shlex.quote(body)}"
    )
