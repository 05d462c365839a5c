"""A publisher's zip, read into memory: bounded while it is read, whatever it declares, and with plain names only.

The checks and the deployment read by the same rules (`read`), so that what was checked is what is loaded.
"""

import io
import re
import stat
import struct
import unicodedata
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
# APPNOTE.TXT 4.4.4: encrypted, strongly encrypted, directory encrypted; sizes behind the data.
ENCRYPTED, SIZES_BEHIND = 0x1 | 0x40 | 0x2000, 0x8
METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
END_OF_DIRECTORY = b"PK\x05\x06"
END_OF_DIRECTORY_BYTES = 22
MAX_COMMENT = 65535
# Of zip64, before the former: what it says counts.
LOCATOR, LOCATOR_BYTES, END_OF_DIRECTORY64_BYTES = b"PK\x06\x07", 20, 56
FILE_HEADER = struct.Struct("<4s5H3L2H")  # signature, version, flags, method, time, date, CRC, sizes, lengths
SIZE_IN_EXTRA = 0xFFFFFFFF
# What a Mac puts beside each file: not the publisher's.
ASIDE = "__MACOSX/"

DAMAGED = Refused("The zip is damaged or cut off.", "Make the zip anew, and check it with `unzip -t`.")


def read(artifact: bytes) -> Mapping[str, bytes]:
    """The files by their names in the zip, folders with `/`. Raises Refused."""
    _check_directory_size(artifact)
    try:
        with zipfile.ZipFile(io.BytesIO(artifact)) as archive:
            _check_names([member.orig_filename for member in archive.infolist()])
            members = [member for member in archive.infolist() if not member.is_dir()]
            for member in archive.infolist():
                _check_member(member)
            _check_headers(artifact, archive.infolist())
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
    if artifact.startswith(LOCATOR, max(0, position - LOCATOR_BYTES)):
        record = position - LOCATOR_BYTES - END_OF_DIRECTORY64_BYTES
        if record < 0:
            raise DAMAGED
        entries, size = struct.unpack_from("<QQ", artifact, record + 32)
    if entries > MAX_MEMBERS or size > MAX_MEMBERS * (MAX_NAME + 512):
        raise Refused(f"The zip has more than {MAX_MEMBERS} files.", "Leave out what the model does not need.")


def _check_names(names: list[str]) -> None:
    if len(names) > MAX_MEMBERS:
        raise Refused(f"The zip has more than {MAX_MEMBERS} files.", "Leave out what the model does not need.")
    seen: set[str] = set()
    for name in names:
        # As whoever unpacks it may read it.
        plain = unicodedata.normalize("NFKC", name)
        parts = plain.rstrip("/").split("/")
        if (
            not 0 < len(name) <= MAX_NAME
            or re.search(r"[\\:*\x00-\x1f\x7f]", plain)
            or not name.isprintable()
            or any(part in {"", ".", ".."} or part != part.strip() for part in parts)
        ):
            raise Refused(
                f"The zip has a file with the name {name[:100]!r}, which does not stay inside it or is not plain.",
                "Zip the files by relative names without `..`, `:`, `*`, `\\` or spaces around them.",
            )
        folded = plain.rstrip("/").casefold()
        if folded in seen:
            raise Refused(
                f"The zip has two files with the name {name[:100]!r}, large and small letters being the same.",
                "Give each file a name of its own.",
            )
        seen.add(folded)
    files = {unicodedata.normalize("NFKC", name).casefold() for name in names if not name.endswith("/")}
    for name in seen:
        above = name.rpartition("/")[0]
        if above in files:
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


def _check_headers(artifact: bytes, members: list[zipfile.ZipInfo]) -> None:
    """Each file has a place of its own, and its header there says of it what the directory says."""
    free_from = 0
    for member in sorted(members, key=lambda member: member.header_offset):
        start = member.header_offset
        if start < free_from or start + FILE_HEADER.size > len(artifact):
            raise DAMAGED
        _signature, _version, flags, method, _time, _date, *said, name_bytes, extra_bytes = FILE_HEADER.unpack_from(
            artifact, start
        )
        found = [member.CRC, member.compress_size, member.file_size]
        if flags & SIZES_BEHIND:
            said = found
        agree = all(each in (other, SIZE_IN_EXTRA) for each, other in zip(said, found, strict=True))
        if flags & ENCRYPTED or method != member.compress_type or not agree:
            raise Refused(
                f"The zip says two different things of {member.filename[:100]!r}.",
                "Make the zip anew, and check it with `unzip -t`.",
            )
        free_from = start + FILE_HEADER.size + name_bytes + extra_bytes + member.compress_size


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, room: int) -> bytes:
    """Real sizes count, not declared ones."""
    most = min(room, member.file_size)
    with archive.open(member) as opened:
        content = opened.read(most + 1)
    if len(content) > most:
        raise _bomb(room)
    if len(content) != member.file_size:
        raise DAMAGED
    return content


def _bomb(most: int) -> Refused:
    return Refused(
        f"The zip unpacks to more than {most} bytes, or to more than it declares.",
        "Upload the model with its real weights; a zip that grows so much is refused for what it could be.",
    )


def model_and_data(files: Mapping[str, bytes]) -> tuple[bytes, Mapping[str, bytes]]:
    """The one .onnx file, and the files in its folder and below, by the paths from there. Raises Refused."""
    names = [name for name in files if name.endswith(".onnx") and not name.startswith(ASIDE)]
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
