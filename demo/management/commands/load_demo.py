from typing import Any

from django.core.management.base import BaseCommand
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from demo import loading


class Command(BaseCommand):
    help = str(gettext_lazy("Put up the demo catalogue, its tenants and users; what is there already stays as it is."))
    requires_system_checks = ()  # they import the whole site, and `migrate` has just run them

    def handle(self, *args: Any, **options: Any) -> None:
        for ref in loading.load():
            self.stdout.write(_("%(ref)s is published") % {"ref": ref})
