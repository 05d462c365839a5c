"""`python -m marketplace.embedded run`, and `... exec -- COMMAND`."""

import argparse
import asyncio
import sys

from .service import StartFailed
from .throwaway import execute


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m marketplace.embedded", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    throwaway = actions.add_parser("exec", help="run a command beside servers of its own, then throw them away")
    throwaway.add_argument("command", nargs="+", metavar="-- COMMAND")
    arguments = parser.parse_args()
    try:
        return asyncio.run(execute(arguments.command))
    except StartFailed as problem:
        sys.stderr.write(f"{problem}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
