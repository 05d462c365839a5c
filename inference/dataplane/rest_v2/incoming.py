"""A request as it arrives."""

from dataclasses import dataclass

from marketplace.edge import Receive, bearer, body, too_large


class HungUp(Exception):
    """Nobody is there to hear an answer."""


@dataclass(slots=True)
class Incoming:
    """A request: its headers by name, and its body, which may be read once."""

    method: str
    path: str
    headers: dict[bytes, bytes]
    receive: Receive
    is_read: bool = False

    def text(self, name: bytes) -> str | None:
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")

    @property
    def secret(self) -> str | None:
        return bearer(self.text(b"authorization"))

    @property
    def has_body(self) -> bool:
        return self.headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in self.headers

    async def body(self, most: int) -> bytes:
        """Raises PayloadTooLarge, and HungUp."""
        declared = self.headers.get(b"content-length", b"0")
        if declared.isdigit() and int(declared[:18]) > most:
            raise too_large(most)
        content = await body(self.receive, most)
        if content is None:
            raise HungUp
        self.is_read = True
        return content
