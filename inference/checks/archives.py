"""A publisher's zip, read into memory: bounded while it is read, whatever it declares, and with plain names only.

The checks and the deployment read by the same rules (`read`), so that what was checked is what is loaded.
"""

import io
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Mapping

from .refusal import Refused

MAX_BYTES = 2 * 1024**3 - 1024**2
MAX_MEMBERS = 512
MAX_NAME = 200
# Beyond this many bytes, unpacked may be this many times packed: weights hardly compress, zeros do a thousandfold.
ALWAYS_FINE_BYTES = 32 * 1024**2
MAX_RATIO = 50
CHUNK_BYTES = 1024**2
ENCRYPTED = 0x1
METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
END_OF_DIRECTORY = b"PK\x05\x06"
END_OF_DIRECTORY_BYTES = 22
MAX_COMMENT = 65535

DAMAGED = Refused("The zip is damaged or cut off.", "Make the zip anew, and check it with `unzip -t`.")


def read(artifact: bytes) -> Mapping[str, bytes]:
    """The files by their names in the zip, folders with `/`. Raises Refused."""
    _check_directory_size(artifact)
    try:
        with zipfile.ZipFile(io.BytesIO(artifact)) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            _check_names([member.filename for member in archive.infolist()])
            for member in archive.infolist():
                _check_member(member)
            allowed = min(MAX_BYTES, max(ALWAYS_FINE_BYTES, MAX_RATIO * len(artifact)))
            if sum(member.file_size for member in members) > allowed:
                raise _bomb(allowed)
            files: dict[str, bytes] = {}
            for member in members:
                files[member.filename] = _read_member(archive, member, allowed - sum(map(len, files.values())))
            return files
    except (zipfile.BadZipFile, zlib.error, EOFError, struct.error, NotImplementedError, ValueError, OSError) as error:
        raise DAMAGED from error


def _check_directory_size(artifact: bytes) -> None:
    """Before zipfile makes an object of each entry of the directory."""
    position = artifact.rfind(END_OF_DIRECTORY, max(0, len(artifact) - MAX_COMMENT - END_OF_DIRECTORY_BYTES))
    if position < 0 or position + END_OF_DIRECTORY_BYTES > len(artifact):
        raise DAMAGED
    (entries,) = struct.unpack_from("<H", artifact, position + 10)
    (size,) = struct.unpack_from("<L", artifact, position + 12)
    if entries > MAX_MEMBERS or size > MAX_MEMBERS * (MAX_NAME + 512):
        raise Refused(f"The zip has more than {MAX_MEMBERS} files.", "Leave out what the model does not need.")


def _check_names(names: list[str]) -> None:
    if len(names) > MAX_MEMBERS:
        raise Refused(f"The zip has more than {MAX_MEMBERS} files.", "Leave out what the model does not need.")
    seen: set[str] = set()
    for name in names:
        parts = name.rstrip("/").split("/")
        if (
            not 0 < len(name) <= MAX_NAME
            or re.search(r"[\\:\x00-\x1f\x7f]", name)
            or not name.isprintable()
            or any(part in {"", ".", ".."} or part != part.strip() for part in parts)
        ):
            raise Refused(
                f"The zip has a file with the name {name[:100]!r}, which does not stay inside it or is not plain.",
                "Zip the files by relative names without `..`, `:`, `\\` or spaces around them.",
            )
        folded = name.rstrip("/").casefold()
        if folded in seen:
            raise Refused(
                f"The zip has two files with the name {name[:100]!r}, large and small letters being the same.",
                "Give each file a name of its own.",
            )
        seen.add(folded)
    for name in seen:
        above = name.rpartition("/")[0]
        if above in {other.rstrip("/").casefold() for other in names if not other.endswith("/")}:
            raise Refused(f"The zip has {above[:100]!r} both as a file and as a folder.", "Make the zip anew.")


def _check_member(member: zipfile.ZipInfo) -> None:
    name = member.filename[:100]
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
        raise Refused(
            f"{name!r} in the zip is a link or a device.", "Put the file itself in its place: `zip` does without `-y`."
        )
    if member.flag_bits & ENCRYPTED:
        raise Refused(f"{name!r} in the zip is encrypted.", "Make the zip without a password.")
    if member.compress_type not in METHODS:
        raise Refused(f"{name!r} in the zip is packed by a rare method.", "Use deflate, or do not compress at all.")


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, room: int) -> bytes:
    """Real sizes count, not declared ones."""
    content = bytearray()
    with archive.open(member) as opened:
        while chunk := opened.read(CHUNK_BYTES):
            content += chunk
            if len(content) > min(room, member.file_size):
                raise _bomb(room)
    if len(content) != member.file_size:
        raise DAMAGED
    return bytes(content)


def _bomb(most: int) -> Refused:
    return Refused(
        f"The zip unpacks to more than {most} bytes, or to more than it declares.",
        "Upload the model with its real weights; a zip that grows so much is refused for what it could be.",
    )


def model_and_data(files: Mapping[str, bytes]) -> tuple[bytes, Mapping[str, bytes]]:
    """The one .onnx file, and the files in its folder and below, by the paths from there. Raises Refused."""
    names = [name for name in files if name.endswith(".onnx")]
    if len(names) != 1:
        raise Refused(
            f"The zip holds {len(names)} .onnx files, and nothing says which one to run.",
            "Put one model with its data into the zip; or describe how they work together in an ensemble.json.",
        )
    folder = names[0].rpartition("/")[0]
    start = len(folder) + 1 if folder else 0
    return files[names[0]], {
        path[start:]: content
        for path, content in files.items()
        if path != names[0] and (not folder or path.startswith(folder + "/"))
    }
