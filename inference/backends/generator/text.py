"""From tokens back to text: whole characters only, and nothing of a stop string."""

import codecs
import json


class Vocabulary:
    """The bytes of each token of a byte-level tokenizer (as in GPT-2, Llama 3, Qwen); none for special ones.

    Raises ValueError for another kind, whose text is more than its tokens' bytes in a row.
    """

    def __init__(self, tokenizer):
        if (json.loads(tokenizer.to_str())["decoder"] or {}).get("type") != "ByteLevel":
            raise ValueError("tokenizer.json is not that of a byte-level tokenizer")
        added = tokenizer.get_added_tokens_decoder()
        table = _bytes_by_character()
        self.contents = []
        for number in range(max(tokenizer.get_vocab().values()) + 1):
            token = tokenizer.id_to_token(number) or ""
            if number in added:
                self.contents.append(b"" if added[number].special else token.encode())
            else:
                self.contents.append(bytes(table[character] for character in token))

    def __len__(self):
        return len(self.contents)

    def __getitem__(self, token):
        # A network may have more logits than there are tokens, to make a round number.
        return self.contents[token] if token < len(self.contents) else b""


def _bytes_by_character():
    """GPT-2's alphabet: printable bytes of Latin-1 stand for themselves, the others for characters from 256 on."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + at): byte for at, byte in enumerate(others)}


class Text:
    """What may be told of a text that grows. The first stop string to be complete ends it, and is no part of it."""

    def __init__(self, stops):
        self.stops = stops
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.held = ""
        self.stopped = False

    def add(self, content, *, end=False):
        """More bytes. Answers the text that is certain now; at the `end`, all of it."""
        self.held += self.decoder.decode(content, end)
        found = [(at + len(stop), at) for stop in self.stops if (at := self.held.find(stop)) >= 0]
        if found:
            self.stopped, self.held = True, self.held[: min(found)[1]]
        certain = len(self.held) if end or self.stopped else len(self.held) - self._doubtful()
        told, self.held = self.held[:certain], self.held[certain:]
        return told

    def _doubtful(self):
        """The length of the longest ending that a stop string might begin with."""
        for length in range(min(len(self.held), max(map(len, self.stops), default=1) - 1), 0, -1):
            if any(stop.startswith(self.held[-length:]) for stop in self.stops):
                return length
        return 0
