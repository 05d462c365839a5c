"""Uploads to running servers: a connection that is cut, a server that is killed, and another one that goes on."""

import hashlib
import socket
from typing import Any
from urllib.parse import urlsplit

import httpx

from marketplace.publishing.receiving import PIECE_BYTES
from tests.doors.site import Server, Site

CONTENT = bytes(range(256)) * 4096 * 18
SHA256 = hashlib.sha256(CONTENT).hexdigest()
OCTETS = "application/offset+octet-stream"

CREATE = (
    "mutation ($input: CreateUploadInput!) { createUpload(input: $input) { upload { id url } errors { message } } }"
)
STATE = "query ($id: ID!) { node(id: $id) { ... on ArtifactUpload { status sha256 receivedBytes } } }"
SUBMIT = """
mutation ($input: CreateModelVersionInput!) {
  createModelVersion(input: $input) { modelVersion { status sha256 } errors { message } }
}
"""


def ask(site: Site, document: str, **variables: Any) -> Any:
    body = {"query": document, "variables": variables}
    answer = httpx.post(f"{site.url}/graphql", json=body, headers=site.headers("owner"), timeout=60).json()
    assert "errors" not in answer, answer["errors"]
    return next(iter(answer["data"].values()))


def created(site: Site, **input: Any) -> tuple[str, str]:
    """The upload's id and path."""
    upload = ask(site, CREATE, input={"sizeBytes": len(CONTENT)} | input)["upload"]
    return upload["id"], urlsplit(upload["url"]).path


def offset(site: Site, path: str) -> int:
    answer = httpx.head(f"{site.url}{path}", headers=site.headers("owner"), timeout=60)
    return int(answer.raise_for_status().headers["Upload-Offset"])


def begun(site: Site, server: Server, path: str, content: bytes) -> socket.socket:
    """A connection over which this much of the whole has been sent."""
    host, port = server.http.split(":")
    connection = socket.create_connection((host, int(port)), timeout=60)
    lines = [
        f"PATCH {path} HTTP/1.1",
        f"Host: {server.http}",
        f"Authorization: Bearer {site.keys['owner']}",
        "Tus-Resumable: 1.0.0",
        "Upload-Offset: 0",
        f"Content-Type: {OCTETS}",
        f"Content-Length: {len(CONTENT)}",
    ]
    connection.sendall("\r\n".join([*lines, "", ""]).encode() + content)
    return connection


def resumed(site: Site, path: str, at: int) -> httpx.Response:
    headers = site.headers("owner") | {"Upload-Offset": str(at), "Content-Type": OCTETS, "Tus-Resumable": "1.0.0"}
    return httpx.patch(f"{site.url}{path}", content=CONTENT[at:], headers=headers, timeout=60)


def test_what_came_before_a_cut_counts_and_the_rest_makes_it_whole(site: Site) -> None:
    upload, path = created(site, sha256=SHA256)
    sent = 3 * 1024 * 1024
    with begun(site, site.server, path, CONTENT[:sent]):
        pass
    while not (at := offset(site, path)):
        """It is kept as soon as the server sees the cut."""
    assert at <= sent

    answer = resumed(site, path, at)

    assert (answer.status_code, answer.headers["Upload-Offset"]) == (204, str(len(CONTENT)))
    assert ask(site, STATE, id=upload) == {"status": "COMPLETE", "sha256": SHA256, "receivedBytes": len(CONTENT)}
    version = ask(site, SUBMIT, input={"model": "openlab/unloaded", "upload": upload})
    assert version == {"modelVersion": {"status": "VALIDATING", "sha256": SHA256}, "errors": []}
    assert (site.folder / "objects" / SHA256[:2] / SHA256).read_bytes() == CONTENT


def test_another_server_goes_on_where_a_killed_one_had_kept_a_piece(site: Site) -> None:
    upload, path = created(site)
    with site.another_server() as server, begun(site, server, path, CONTENT[: PIECE_BYTES + 1024 * 1024]):
        while not offset(site, path):
            """Until the first piece is kept."""
        server.process.kill()
        server.process.wait()
    at = offset(site, path)
    assert PIECE_BYTES <= at <= PIECE_BYTES + 1024 * 1024

    assert resumed(site, path, at).status_code == 204
    assert ask(site, STATE, id=upload)["sha256"] == SHA256


def test_put_takes_a_whole_file_as_curl_sends_it(site: Site) -> None:
    upload, path = created(site)
    answer = httpx.put(f"{site.url}{path}", content=CONTENT, headers=site.headers("owner"), timeout=60)
    assert answer.json() == {"status": "COMPLETE", "receivedBytes": len(CONTENT), "sha256": SHA256}
    assert ask(site, STATE, id=upload)["status"] == "COMPLETE"


def test_a_stranger_is_refused_before_the_body_is_read(site: Site) -> None:
    _upload, path = created(site)
    host, port = site.http.split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        head = f"PUT {path} HTTP/1.1\r\nHost: {site.http}\r\nContent-Length: {len(CONTENT)}\r\n\r\n"
        connection.sendall(head.encode())
        assert connection.recv(64).startswith(b"HTTP/1.1 401")
