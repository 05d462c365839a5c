"""`manage.py check_ledger`: is every unit that was ever metered accounted for?"""

import sys
from typing import Any

from django.core.management import BaseCommand
from django.utils.translation import gettext as _

from marketplace.metering import ledger


class Command(BaseCommand):
    help = _("Prove that quotas, holds and ledger entries agree. Names what does not, and exits with status 1.")

    def handle(self, *args: Any, **options: Any) -> None:
        report = ledger.check()
        for violation in report.violations:
            self.stdout.write(violation)
        self.stdout.write(str(report))
        if not report.exact:
            sys.exit(1)
