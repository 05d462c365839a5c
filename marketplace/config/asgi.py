"""The ASGI entry point: calls with a key and static files ahead of Django, everything else through it."""

import gc
import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "marketplace.config.settings")

from django.conf import settings
from django.core.asgi import get_asgi_application
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Scope

from graphql_api.bodies import BodyLimit
from inference.dataplane.app import Dataplane, Door
from marketplace.edge import Traced

pages: ASGIApp = get_asgi_application()  # type: ignore[assignment]  # Django asks for dicts where ASGI has mappings

# These import models, which exist once Django is set up.
from graphql_api.quick import QuickPath  # noqa: E402
from graphql_api.websocket import Sockets  # noqa: E402
from inference.dataplane import openai, rest_v2  # noqa: E402
from marketplace.publishing import tus  # noqa: E402


class HashedStaticFiles(StaticFiles):
    """Static files whose names carry their content's hash, so that a browser need never ask twice."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response


site = Starlette(
    routes=[
        Mount(f"/{settings.STATIC_URL.strip('/')}", HashedStaticFiles(directory=settings.STATIC_ROOT, check_dir=False)),
        Mount("/", pages),
    ]
)

# By the first part of the path; each door has its own limits.
DOORS: dict[str, Door] = {"/v1": openai.answer, "/v2": rest_v2.answer, "/uploads": tus.answer}

application = Traced(Sockets(Dataplane(BodyLimit(QuickPath(site)), DOORS)))

# What is loaded by now stays. Looking through all of it for garbage again and again would keep everybody waiting for
# tens of milliseconds each time.
gc.collect()
gc.freeze()
gc.set_threshold(20_000)
