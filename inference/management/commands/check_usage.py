"""`manage.py check_usage`: are the figures that publishers see the sums of the ledger?"""

import sys
from typing import Any

from django.core.management import BaseCommand
from django.utils.translation import gettext as _

from inference import usage


class Command(BaseCommand):
    help = _("Prove that publishers' figures by day are the sums of the ledger. Exits with status 1 when they are not.")

    def handle(self, *args: Any, **options: Any) -> None:
        found = usage.differences()
        for difference in found:
            self.stdout.write(difference)
        if found:
            sys.exit(1)
        self.stdout.write(_("The figures are the ledger's, until %(until)s.") % {"until": usage.counted_until()})
