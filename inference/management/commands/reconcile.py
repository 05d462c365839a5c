"""`manage.py reconcile`: bring every Triton endpoint to the desired versions now, and wait for it."""

from typing import Any

from django.core.management.base import BaseCommand

from inference.deployment.reconciler import run_round


class Command(BaseCommand):
    help = "Load on every Triton endpoint what the database wants there, and wait until it is. The worker does it too."

    def handle(self, *args: Any, **options: Any) -> None:
        run_round(wait=True)
