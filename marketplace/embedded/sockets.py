"""A private folder for Unix sockets, whose paths the kernel cuts off at 107 bytes."""

import os
import stat
import tempfile
from pathlib import Path

LONGEST_PATH = 107
# PostgreSQL's, the longer one of those that are kept here.
LONGEST_NAME = len("/.s.PGSQL.5432")


def folder_in(data_dir: Path) -> Path:
    """`data_dir/sockets`, made with mode 0700; a temporary folder that it links to when that path is too long.

    The link is what finds the temporary folder again at the next start.
    """
    folder = data_dir / "sockets"
    if len(os.fsencode(folder)) + LONGEST_NAME <= LONGEST_PATH:
        folder.mkdir(mode=0o700, exist_ok=True)
        folder.chmod(0o700)
        return folder
    if folder.is_symlink():
        kept = folder.readlink()
        if _is_private(kept):
            return kept
        folder.unlink()
    made = Path(tempfile.mkdtemp(prefix="marketplace-"))
    folder.symlink_to(made)
    return made


def _is_private(folder: Path) -> bool:
    """Whether nobody else could have made it, or put a socket of theirs into it."""
    try:
        status = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and stat.S_IMODE(status.st_mode) == 0o700 and status.st_uid in {0, os.geteuid()}
