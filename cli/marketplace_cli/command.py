"""`marketplace`: publish from a terminal or from CI. Results go to the output, how it gets on to the error output."""

import argparse
import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

from . import documents
from .failures import Failure, Misused, Refused
from .site import Site
from .uploading import upload
from .watching import wait_for_checks, wait_until_it_answers

MODEL = re.compile(r"[a-z0-9-]+/[a-z0-9._-]+")

EXIT_CODES = """exit codes:
  0  done                     3  the checks rejected the version
  1  the marketplace refused  4  not done within --timeout
  2  wrong usage              5  the marketplace is out of reach
"""


def main(words: Optional[Sequence[str]] = None) -> int:
    arguments = _parser().parse_args(words)
    try:
        site = Site(*_address(arguments))
        result = arguments.act(site, arguments)
    except Failure as failure:
        _say(f"marketplace: {failure}")
        return failure.exit_code
    except KeyboardInterrupt:
        return 130
    text = result.pop("text")
    print(json.dumps(result, indent=2) if arguments.json else _printable(text))
    return 0


def _push(site: Site, given: argparse.Namespace) -> dict[str, Any]:
    bar = _Bar()
    id = upload(site, given.file, bar.told)
    bar.end()
    made = site.act(documents.CREATE_VERSION, model=given.model, upload=id, releaseNotes=given.release_notes)
    version = made["modelVersion"]
    ref = f"{given.model}@{version['number']}"
    if not given.wait:
        return {"text": f"{ref} is being checked.", "version": ref, "status": "VALIDATING"}
    _say(f"{ref} is being checked.")
    return _checked(site, ref, version["id"], given.timeout)


def _wait(site: Site, given: argparse.Namespace) -> dict[str, Any]:
    return _checked(site, given.version, _version_id(site, given.version), given.timeout)


def _checked(site: Site, ref: str, id: str, seconds: float) -> dict[str, Any]:
    version = wait_for_checks(site, ref, id, seconds, _say)
    return {"text": f"{ref} is {version['status']}.", "version": ref, **version}


def _describe(site: Site, given: argparse.Namespace) -> dict[str, Any]:
    said = {"releaseNotes": given.release_notes, "tensors": given.tensors}
    said = {name: value for name, value in said.items() if value is not None}
    if not said:
        raise Misused("Say something of it: --release-notes, --tensors.")
    site.act(documents.DESCRIBE, modelVersion=_version_id(site, given.version), **said)
    return {"text": f"{given.version} is described.", "version": given.version}


def _configure(site: Site, given: argparse.Namespace) -> dict[str, Any]:
    asked = {
        "instanceCount": given.instances,
        "maxBatchSize": given.largest_batch,
        "responseCache": given.response_cache,
    }
    if all(setting is None for setting in asked.values()):
        raise Misused("Say what to change: --instances, --largest-batch, --response-cache or --no-response-cache.")
    id = _version_id(site, given.version)
    settings = site.act(documents.CONFIGURE, modelVersion=id, **asked)["modelVersion"]
    return {"text": f"{given.version} is loaded anew like this, and then taken.", "version": given.version, **settings}


def _release(site: Site, given: argparse.Namespace) -> dict[str, Any]:
    model, _at, _number = given.version.partition("@")
    id = _version_id(site, given.version)
    if given.canary is not None:
        canary = site.act(documents.CANARY, model=model, modelVersion=id, percent=given.canary)["model"][
            "canaryVersion"
        ]
        answers = given.canary == 0 or (canary or {}).get("id") == id
        if given.wait and not answers:
            wait_until_it_answers(site, given.version, id, given.timeout, "canary")
            answers = True
        text = f"{given.version} answers {given.canary} % of the tenants" + ("." if answers else " once it is loaded.")
        return {"text": text, "version": given.version, "canaryPercent": given.canary}
    status = site.act(documents.RELEASE, modelVersion=id)["modelVersion"]["status"]
    if given.wait:
        wait_until_it_answers(site, given.version, id, given.timeout, "live")
        status = "LIVE"
    text = "is live." if status == "LIVE" else "goes live once it is loaded and warm."
    return {"text": f"{given.version} {text}", "version": given.version, "status": status}


def _promote(site: Site, given: argparse.Namespace) -> dict[str, Any]:
    site.act(documents.PROMOTE, model=given.model)
    return {"text": f"The canary of {given.model} takes the live version's place.", "model": given.model}


def _rollback(site: Site, given: argparse.Namespace) -> dict[str, Any]:
    live = site.act(documents.ROLLBACK, model=given.model)["model"]["liveVersion"]
    version = f"{given.model}@{live['number']}" if live else None
    return {"text": f"{version or 'Nothing'} is live.", "model": given.model, "version": version}


def _status(site: Site, given: argparse.Namespace) -> dict[str, Any]:
    model = site.ask(documents.STATUS, ref=given.model)["model"]
    if model is None:
        raise Refused(f"There is no model {given.model}, or it is not for this key to see.", code="NOT_FOUND")
    versions = [edge["node"] for edge in model.pop("versions")["edges"]]
    marks = {(model[f"{kind}Version"] or {}).get("number"): kind for kind in ("shadow", "canary")}
    lines = [f"{model['ref']}  {model['displayName']}"]
    for version in versions:
        kind = marks.get(version["number"])
        share = f"  {kind} {model[f'{kind}Percent']} %" if kind else ""
        lines.append(f"@{version['number']:<4} {version['status']:<10} {version['createdAt'][:10]}{share}")
    return {"text": "\n".join(lines), **model, "versions": versions}


def _version_id(site: Site, ref: str) -> str:
    model, _at, number = ref.partition("@")
    after = None
    while True:
        found = site.ask(documents.VERSION_IDS, ref=model, after=after)["model"]
        for edge in found["versions"]["edges"] if found else ():
            if edge["node"]["number"] == int(number):
                return str(edge["node"]["id"])
        if not found or not found["versions"]["pageInfo"]["hasNextPage"]:
            raise Refused(f"There is no {ref}, or it is not for this key to see.", code="NOT_FOUND")
        after = found["versions"]["pageInfo"]["endCursor"]


class _Bar:
    """How far an upload is: one line that changes on a terminal, nothing in a log."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()

    def told(self, received: int, size: int) -> None:
        if self._shown:
            done = 30 * received // size
            amount = f"{received / 1e6:.1f} of {size / 1e6:.1f} MB"
            print(f"\r[{'#' * done}{'.' * (30 - done)}] {amount}", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        if self._shown:
            print(file=sys.stderr)


def _say(text: str) -> None:
    print(_printable(text), file=sys.stderr, flush=True)


def _printable(text: str) -> str:
    """What others wrote (names in a graph, reasons) moves no cursor and paints no terminal."""
    return "".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in text)


def _address(arguments: argparse.Namespace) -> tuple[str, str]:
    url = arguments.url or os.environ.get("MARKETPLACE_URL", "")
    key = os.environ.get("MARKETPLACE_API_KEY", "").strip()
    if not url:
        raise Misused("Which marketplace? Give --url, or set MARKETPLACE_URL.")
    if not key:
        raise Misused("Set MARKETPLACE_API_KEY to a key of the publisher. It is read from nowhere else.")
    return url, key


def _parser() -> argparse.ArgumentParser:
    everywhere = argparse.ArgumentParser(add_help=False)
    everywhere.add_argument("--url", help="the marketplace's address (default: MARKETPLACE_URL)")
    everywhere.add_argument("--json", action="store_true", help="print the result as JSON")
    patient = argparse.ArgumentParser(add_help=False)
    patient.add_argument("--timeout", type=_seconds, default=600.0, metavar="SECONDS", help="wait at most (600)")
    waiting = argparse.ArgumentParser(add_help=False, parents=[patient])
    waiting.add_argument("--wait", action="store_true", help="wait for the end")

    parser = argparse.ArgumentParser(
        prog="marketplace",
        description="Publish models. The key is read from MARKETPLACE_API_KEY.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    push = commands.add_parser("push", parents=[everywhere, waiting], help="upload an artefact as the next version")
    push.add_argument("model", type=_model, metavar="PUBLISHER/NAME")
    push.add_argument("file", type=Path, metavar="FILE")
    push.add_argument("--release-notes", default="", metavar="TEXT", help="what is new, for subscribers")
    push.set_defaults(act=_push)

    wait = commands.add_parser("wait", parents=[everywhere, patient], help="wait for a version's checks")
    wait.add_argument("version", type=_version, metavar="PUBLISHER/NAME@NUMBER")
    wait.set_defaults(act=_wait)

    describe = commands.add_parser("describe", parents=[everywhere], help="say what is new, and what its tensors mean")
    describe.add_argument("version", type=_version, metavar="PUBLISHER/NAME@NUMBER")
    describe.add_argument("--release-notes", metavar="TEXT", help="what is new, for subscribers")
    describe.add_argument("--tensors", type=_tensors, metavar="FILE", help="JSON: a list of TensorDescriptionInput")
    describe.set_defaults(act=_describe)

    configure = commands.add_parser("configure", parents=[everywhere], help="set how Triton runs a version")
    configure.add_argument("version", type=_version, metavar="PUBLISHER/NAME@NUMBER")
    configure.add_argument("--instances", type=int, metavar="COUNT", help="copies of it on each server")
    configure.add_argument("--largest-batch", type=int, metavar="ROWS", help="answered together; 0: one at a time")
    configure.add_argument("--response-cache", action=argparse.BooleanOptionalAction, help="remember its answers")
    configure.set_defaults(act=_configure)

    release = commands.add_parser("release", parents=[everywhere, waiting], help="have a version go live")
    release.add_argument("version", type=_version, metavar="PUBLISHER/NAME@NUMBER")
    release.add_argument("--canary", type=_percent, metavar="PERCENT", help="for this share of the tenants only")
    release.set_defaults(act=_release)

    for name, act, told in (
        ("promote", _promote, "the canary takes the live version's place"),
        ("rollback", _rollback, "undo the last release"),
        ("status", _status, "which versions there are, and which is live"),
    ):
        command = commands.add_parser(name, parents=[everywhere], help=told)
        command.add_argument("model", type=_model, metavar="PUBLISHER/NAME")
        command.set_defaults(act=act)
    return parser


def _model(text: str) -> str:
    if not MODEL.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not PUBLISHER/NAME, as in openlab/digits")
    return text


def _version(text: str) -> str:
    model, _at, number = text.rpartition("@")
    if not MODEL.fullmatch(model) or not (number.isascii() and number.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not PUBLISHER/NAME@NUMBER, as in openlab/digits@4")
    return text


def _tensors(text: str) -> list[Any]:
    try:
        tensors = json.loads(Path(text).read_bytes())
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"{text} cannot be read: {error}") from None
    if not isinstance(tensors, list):
        raise argparse.ArgumentTypeError(f"{text} is no JSON list")
    return tensors


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds < float("inf"):
        raise ValueError(text)
    return seconds


def _percent(text: str) -> int:
    percent = int(text)
    if not 0 <= percent <= 100:
        raise argparse.ArgumentTypeError("a share is from 0 (no canary) to 100 percent")
    return percent
