"""Everything the marketplace needs, from wheels: `run` serves it, `exec` lends servers to a command."""

import argparse
import asyncio
import os
import sys

from .log import Log
from .service import StartFailed
from .supervisor import Supervisor
from .throwaway import execute


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m marketplace.embedded", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    actions.add_parser("run", help="start everything and stay in the foreground until Ctrl-C")
    throwaway = actions.add_parser("exec", help="run a command beside servers of its own, then throw them away")
    throwaway.add_argument("command", nargs="+", metavar="-- COMMAND")
    arguments = parser.parse_args()
    try:
        if arguments.action == "exec":
            return asyncio.run(execute(arguments.command))
        return asyncio.run(Supervisor(dict(os.environ), Log()).run())
    except StartFailed as problem:
        sys.stderr.write(f"{problem}\n")
        return 1
    except (asyncio.CancelledError, KeyboardInterrupt):
        return 130


if __name__ == "__main__":
    sys.exit(main())
