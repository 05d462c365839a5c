"""How a command ends when it does not end well. The exit codes are promised in docs/publishing.md."""

from typing import Optional


class Failure(Exception):
    """Told on the error output; ends the command with `exit_code`."""

    exit_code = 1


class Refused(Failure):
    """The marketplace says no: `code` as its schema has it, `path` the field that it is about."""

    def __init__(self, message: str, *, code: str = "", path: Optional[str] = None) -> None:
        super().__init__(f"{message} ({path})" if path else message)
        self.code = code


class Misused(Failure):
    """What was asked for makes no sense, before anybody is asked."""

    exit_code = 2


class Rejected(Failure):
    """The checks rejected the version."""

    exit_code = 3


class TooLate(Failure):
    """Not done within the time that was given."""

    exit_code = 4


class OutOfReach(Failure):
    """The marketplace does not answer, or not as one."""

    exit_code = 5
