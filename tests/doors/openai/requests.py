"""What the package would not send, and what is answered to it."""

import httpx

from tests.doors.site import Site


def post(site: Site, path: str, body: object, who: str | None = "subscriber", **headers: str) -> httpx.Response:
    """`body` as JSON, or as these bytes. `who` is a name in `site.keys`, or a key itself."""
    authorization = {} if who is None else site.headers(who)
    named = {**authorization, **{name.replace("_", "-"): value for name, value in headers.items()}}
    url = f"{site.url}/v1/{path}"
    if isinstance(body, bytes):
        return httpx.post(url, headers=named, content=body, timeout=30)
    return httpx.post(url, headers=named, json=body, timeout=30)


def error_of(response: httpx.Response) -> tuple[int, str | None, str | None]:
    """Status, `param` and `code`; the form is checked."""
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    return response.status_code, error["param"], error["code"]
