"""The Celery application: jobs survive the death of the worker that runs them and of the broker that carries them."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "marketplace.config.settings")

from django.conf import settings

# kombu spells a socket's address differently from redis-py.
broker_url = settings.VALKEY_URL.replace("unix://", "redis+socket://", 1)

EVERY_SECONDS = {
    "inference.tasks.heartbeat": 2.0,
    "inference.tasks.reconcile": 2.0,
    "inference.tasks.check_waiting": 5.0,
    "inference.tasks.release_expired_holds": 5.0,
    "inference.tasks.forget_expired_answers": 600.0,
    "inference.tasks.reconcile_usage": 60.0,
    "inference.tasks.count_usage": 60.0,
    "inference.tasks.check_usage": 3600.0,
    "marketplace.metering.tasks.check_ledger": 300.0,
    "marketplace.publishing.tasks.sweep_uploads": 60.0,
    "marketplace.metering.tasks.move_contracts": 60.0,
}

app = Celery("marketplace", broker=broker_url)
app.conf.update(
    task_ignore_result=True,
    task_acks_late=True,
    # Without it a task whose worker is killed is acknowledged all the same.
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
    # Taken by a worker of its own (`--queues=convert`).
    task_routes={"inference.tasks.convert_version": {"queue": "convert"}},
    broker_transport_options={
        # kombu looks for what a dead worker held only this often (seconds) and this seldom (rounds).
        "unacked_restore_interval": 2,
        "unacked_restore_throttle": 1,
        # Publishing while Valkey is down gives up soon: beat asks again, and no caller waits for a queue.
        "socket_connect_timeout": 2,
        "socket_timeout": 10,
        "max_retries": 1,
        "interval_start": 0,
        "interval_step": 0,
    },
    beat_schedule={
        task: {"task": task, "schedule": seconds, "options": {"expires": 2 * seconds}}
        for task, seconds in EVERY_SECONDS.items()
    },
)
# Celery keeps the current application per thread, and views run in many.
app.set_default()
app.autodiscover_tasks()
