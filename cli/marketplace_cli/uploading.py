"""An artefact to the marketplace by tus 1.0 (https://tus.io/protocols/resumable-upload), on from where it was cut."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Optional

from . import documents
from .failures import Misused, OutOfReach, Refused
from .site import ATTEMPTS, Cut, Response, Site, pause

PIECE = 4 * 1024 * 1024
TUS = {"Tus-Resumable": "1.0.0"}

# Bytes received so far, and of how many.
Told = Callable[[int, int], None]


def digest(path: Path) -> tuple[str, int]:
    """SHA-256 in hexadecimal, and how many bytes."""
    try:
        with path.open("rb") as file:
            sha256, size = hashlib.sha256(), 0
            while piece := file.read(PIECE):
                sha256.update(piece)
                size += len(piece)
    except OSError as error:
        raise Misused(f"{path} cannot be read: {error.strerror}") from None
    if size == 0:
        raise Misused(f"{path} is empty.")
    return sha256.hexdigest(), size


def upload(site: Site, path: Path, told: Told) -> str:
    """The id of an upload that has all bytes of the file. What an earlier command left unfinished goes on."""
    sha256, size = digest(path)
    unfinished = Unfinished(site, sha256)
    begun = unfinished.read()
    if begun is not None:
        id, url = begun
        offset = _received(site, url)
    if begun is None or offset is None:
        made = site.act(documents.CREATE_UPLOAD, sizeBytes=size, sha256=sha256)["upload"]
        # By the address that was given: the marketplace may be known by others too.
        id, url, offset = made["id"], site.at(made["url"]), int(made["receivedBytes"])
        if made["status"] == "COMPLETE":
            told(size, size)
            return str(id)
        unfinished.write(id, url)
    _send(site, path, url, offset, told)
    unfinished.forget()
    return str(id)


def _send(site: Site, path: Path, url: str, offset: int, told: Told) -> None:
    size = path.stat().st_size
    told(offset, size)
    failures = 0
    with path.open("rb") as file:
        while offset < size:
            file.seek(offset)
            headers = {**TUS, "Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream"}
            before = offset
            try:
                answer = site.send("PATCH", url, file.read(PIECE), headers, again=False)
            except Cut:
                answer = None
            if answer is not None and answer.status == 204:
                offset = _offset(answer, size)
            elif answer is None or answer.status in (409, 423) or answer.status >= 500:
                found = _received(site, url)
                if found is None:
                    raise OutOfReach("The upload is gone. Push again to begin anew.")
                offset = found
            else:
                raise Refused(_reason(answer))
            # What moves on is given as long as it takes.
            failures = 0 if offset > before else failures + 1
            if failures == ATTEMPTS:
                raise OutOfReach("The upload does not get on. Push again to go on where it stopped.")
            if failures:
                pause(failures)
            told(offset, size)


def _received(site: Site, url: str) -> Optional[int]:
    """How many bytes are there; None when there is no such upload any more."""
    try:
        answer = site.send("HEAD", url, headers=TUS)
    except Cut as cut:
        raise OutOfReach(f"{cut}. Push again to go on where it stopped.") from None
    if answer.status in (403, 404, 410):
        return None
    if answer.status >= 500:
        raise OutOfReach(f"{_reason(answer)} Push again to go on where it stopped.")
    if answer.status != 200:
        raise Refused(_reason(answer))
    return _offset(answer)


def _offset(answer: Response, most: Optional[int] = None) -> int:
    said = answer.headers.get("Upload-Offset") or ""
    if not said.isdecimal() or (most is not None and int(said) > most):
        raise OutOfReach("What answers the upload does not speak tus.")
    return int(said)


def _reason(answer: Response) -> str:
    try:
        said = str(json.loads(answer.body)["error"])
    except (ValueError, KeyError, TypeError):
        said = ""
    return f"The upload failed ({answer.status}). {said}".strip()


class Unfinished:
    """Remembers in the user's cache folder which upload a file has, so that the same command goes on with it."""

    def __init__(self, site: Site, sha256: str) -> None:
        self._site = site
        caches = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        name = hashlib.sha256(f"{site.url} {sha256}".encode()).hexdigest()
        self._path = Path(caches) / "marketplace-cli" / f"{name[:32]}.json"

    def read(self) -> Optional[tuple[str, str]]:
        try:
            id, url = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return str(id), self._site.at(str(url))

    def write(self, id: str, url: str) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_text(json.dumps([id, url]), encoding="utf-8")
        except OSError:
            # Without a folder to write to, a command that is cut short begins anew.
            return

    def forget(self) -> None:
        self._path.unlink(missing_ok=True)
