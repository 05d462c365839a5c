"""What `make run` has running for this data folder."""

import os
from typing import Any

from django.conf import settings
from django.core.management import BaseCommand
from django.utils.translation import gettext as _

from marketplace.embedded import runfile


class Command(BaseCommand):
    help = _("Show what runs now, by which process and at which address.")
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        running = runfile.read(settings.DATA_DIR)
        if not running:
            self.stdout.write(_("Nothing runs in %(folder)s. Start it with: make run") % {"folder": settings.DATA_DIR})
        for service, facts in running.items():
            addresses = [facts["address"], *(f"{name} {facts[name]}" for name in ("http", "grpc") if name in facts)]
            pid = facts["pid"] if _lives(facts["pid"]) else _("gone")
            self.stdout.write(f"{service:<9} {pid:>8}  {', '.join(filter(None, addresses))}")


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
