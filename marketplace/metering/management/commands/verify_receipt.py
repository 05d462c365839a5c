"""`manage.py verify_receipt`: did we sign this, and does the ledger still say the same?"""

import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management import BaseCommand, CommandError
from django.utils.translation import gettext as _

from marketplace.metering.receipts import complaints


class Command(BaseCommand):
    help = _("Check a receipt's signature, and what it says against the ledger. Exits with status 1 unless it is good.")

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("receipt", help=_("The receipt itself, a file that holds it, or - for standard input."))

    def handle(self, *args: Any, receipt: str, **options: Any) -> None:
        found = list(complaints(_text(receipt)))
        for complaint in found:
            self.stdout.write(complaint)
        if found:
            sys.exit(1)
        self.stdout.write(_("The receipt is good: we signed it, and the ledger says the same."))


def _text(argument: str) -> str:
    if argument == "-":
        return sys.stdin.read()
    # Every compact JWS starts like this: it is the opening of a JSON object in base64url.
    if argument.startswith("eyJ"):
        return argument
    try:
        return Path(argument).read_text()
    except (OSError, ValueError) as error:
        raise CommandError(_("%(file)s cannot be read.") % {"file": argument}) from error
