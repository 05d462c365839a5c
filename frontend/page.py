"""A page is one GraphQL document and one template: it can show nothing that the API would refuse."""

from typing import Any, ClassVar

from asgiref.sync import sync_to_async
from django.contrib import messages
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import BadRequest, PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.views import View

from graphql_api.execution import Answer, execute

from .documents import document
from .forms import Forms


class Page(View):
    """The answer to `pages/<name>.graphql`, drawn by `pages/<name>.html` with the document's root fields as context.

    class Publisher(Page):
        name = "publisher"
        subject = "publisher"

    path("publishers/<slug>/", Publisher.as_view())
    """

    name: ClassVar[str]
    # The root field without which there is no such page: null answers 404.
    subject: ClassVar[str | None] = None
    members_only: ClassVar[bool] = False
    forms: ClassVar[Forms] = {}

    def variables(self) -> dict[str, Any]:
        """The document's variables; those of the URL unless a page says otherwise."""
        return dict(self.kwargs)

    def context(self, data: dict[str, Any]) -> dict[str, Any]:
        """What the template needs beyond the answer's data."""
        return {}

    async def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return await self.show()

    async def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Runs the form that `form` names, then redirects; with problems, the same page with what was typed."""
        name = request.POST.get("form", "")
        form = self.forms.get(name)
        if form is None:
            raise BadRequest(_("This page has no such form."))
        outcome = await form.submit(request)
        if outcome.succeeded and form.done is not None:
            await sync_to_async(messages.success)(request, str(form.done))
            return HttpResponseRedirect(request.path)
        if outcome.answer.errors:
            return await self.refuse(outcome.answer)
        return await self.show(
            status=200 if outcome.succeeded else 422,
            submitted=name,
            typed=request.POST,
            problems=outcome.problems,
            payload=outcome.payload,
        )

    async def show(self, *, status: int = 200, **context: Any) -> HttpResponse:
        answer = await execute(self.request, document(f"pages/{self.name}.graphql"), self.variables())
        if answer.errors or answer.data is None:
            return await self.refuse(answer)
        if self.members_only and answer.data["viewer"] is None:
            return await self.sign_in()
        if self.subject is not None and answer.data[self.subject] is None:
            raise Http404
        return await self.draw(f"pages/{self.name}.html", status, answer.data | self.context(answer.data) | context)

    async def refuse(self, answer: Answer) -> HttpResponse:
        """What the API refused as a whole: nobody is signed in, the request makes no sense, or we failed."""
        error: dict[str, Any] = answer.errors[0] if answer.errors else {"message": _("Something went wrong.")}
        code = error.get("extensions", {}).get("code")
        if code == "UNAUTHENTICATED":
            return await self.sign_in()
        status = 500 if code == "INTERNAL" or not answer.errors else 400
        return await self.draw("error.html", status, {"status": status, "message": error["message"]})

    async def sign_in(self) -> HttpResponse:
        user = await self.request.auser()
        if user.is_authenticated:
            raise PermissionDenied(_("Your account belongs to no organisation yet. Ask an owner to add you."))
        asked = self.request.path if self.request.method == "POST" else self.request.get_full_path()
        return redirect_to_login(asked)

    async def draw(self, template: str, status: int, context: dict[str, Any]) -> HttpResponse:
        # Templates read messages and the user, which may touch the database: not on the event loop.
        response = await sync_to_async(render)(self.request, template, context, status=status)
        response.headers["Cache-Control"] = "no-store" if "payload" in context else "private, no-cache"
        return response
