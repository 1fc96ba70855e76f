"""The HTTP face of the watchdog: health for machines, /metrics, and a page for people.

Every answer is made from memory, so that none waits for a store. On this machine's own address numbers are
for everybody and details for who has the token; bound to any other address everything but /health/live and
/health/ready wants the token: as a bearer, or from a browser as the password of any user. The Host header is
checked on a loopback address: a web page elsewhere must not read it through a name that points here.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from pydantic import BaseModel

from bilten_orchestration.local import addresses
from bilten_orchestration.observability import exposition, health, openapi
from bilten_orchestration.observability.documents import Refusal
from bilten_orchestration.observability.status import page, runbook, style
from bilten_orchestration.settings.observability import LOOPBACK

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

    from bilten_orchestration.observability.watchdog import Watchdog

OPEN = ("/health/live", "/health/ready")
#: Of pages for people: a browser asks for the token there, as the password of any user.
PAGES = ("/", "/docs", page.SIGN_IN, "/runbook/{name:path}")
_NO_STORE = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
_PAGE = {**_NO_STORE, "Content-Security-Policy": style.POLICY, "Referrer-Policy": "no-referrer"}
_NO_PAGE = "there is no such page; /docs names all of them"


def application(watchdog: Watchdog) -> Starlette:
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.responses import Response as Answer
    from starlette.routing import Route

    serve = watchdog.settings.serve
    token = serve.token.get_secret_value()
    local = serve.host in LOOPBACK
    registry = exposition.registry(watchdog)

    def authorized(request: Request) -> bool:
        given = _given(request.headers.get("authorization", ""))
        return bool(token) and hmac.compare_digest(given.encode(), token.encode())

    def answer(document: BaseModel, code: int = 200, **headers: str) -> Response:
        return Answer(
            document.model_dump_json(exclude_none=False),
            code,
            media_type="application/json",
            headers={**_NO_STORE, **headers},
        )

    def guarded(path: str, make: Callable[[Request], Response]) -> Route:
        async def endpoint(request: Request) -> Response:
            wanted = path == page.SIGN_IN or (not local and path not in OPEN)
            if wanted and not authorized(request):
                refused = Refusal(error="this wants the token: Authorization: Bearer <BILTEN_SERVE__TOKEN>")
                how = 'Basic realm="Bilten: the token is the password", charset="UTF-8"'
                return answer(refused, 401, **{"WWW-Authenticate": how if path in PAGES else "Bearer"})
            return make(request)

        return Route(path, endpoint, methods=["GET"])

    def live(_: Request) -> Response:
        found = health.live(watchdog)
        return answer(found, 200 if found.status == "pass" else 503)

    def ready(_: Request) -> Response:
        found = health.ready(watchdog)
        return answer(found, 200 if found.status == "pass" else 503)

    def whole(request: Request) -> Response:
        found = health.health(watchdog, details=authorized(request))
        return answer(found, 503 if found.status == "fail" else 200)

    def metrics(_: Request) -> Response:
        return Answer(
            exposition.render(registry),
            headers={**_NO_STORE, "Content-Type": exposition.CONTENT_TYPE},
        )

    def status(request: Request) -> Response:
        found = health.health(watchdog, details=authorized(request))
        return Answer(
            page.render(
                found,
                watchdog.history,
                addresses.ui(watchdog.settings),
                search=watchdog.settings.opensearch.enabled,
                refresh_seconds=_refresh(request.query_params.get("refresh", "")),
            ),
            media_type="text/html",
            headers=_PAGE,
        )

    def signed_in(_: Request) -> Response:
        return Answer(None, 303, headers={**_NO_STORE, "Location": "/"})

    def explained(request: Request) -> Response:
        found = runbook.page(request.path_params["name"])
        if found is None:
            return answer(Refusal(error=_NO_PAGE), 404)
        return Answer(found, media_type="text/html", headers=_PAGE)

    def described(_: Request) -> Response:
        return Answer(openapi.document(), media_type="application/json", headers=_NO_STORE)

    def documented(_: Request) -> Response:
        return Answer(
            openapi.page(),
            media_type="text/html",
            headers=_PAGE,
        )

    def refused(code: int, said: str) -> Callable[[Request, Exception], Awaitable[Response]]:
        async def handle(_: Request, __: Exception) -> Response:
            return answer(Refusal(error=said), code)

        return handle

    return Starlette(
        routes=[
            guarded("/", status),
            guarded("/health/live", live),
            guarded("/health/ready", ready),
            guarded("/health", whole),
            guarded("/metrics", metrics),
            guarded("/openapi.json", described),
            guarded("/docs", documented),
            guarded(page.SIGN_IN, signed_in),
            guarded("/runbook/{name:path}", explained),
        ],
        middleware=[
            Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost", "[::1]", "::1"])
        ]
        if local and serve.url is None
        else [],
        exception_handlers={
            404: refused(404, _NO_PAGE),
            405: refused(405, "this is only read: GET"),
            500: refused(500, "a defect: bilten logs watchdog"),
        },
    )


def _given(header: str) -> str:
    """The token of a header, empty where there is none."""
    scheme, _, value = header.partition(" ")
    if scheme.lower() == "bearer":
        return value
    if scheme.lower() != "basic":
        return ""
    try:
        return base64.b64decode(value, validate=True).decode().partition(":")[2]
    except ValueError:  # no base64, or no UTF-8
        return ""


def _refresh(asked: str) -> int | None:
    """How often a page shall load itself again, where somebody asked for that: by itself it does not, for
    that takes the page from under who reads it with a screen reader."""
    if not asked.isascii() or not asked.isdigit() or len(asked) > 6:
        return None
    return min(max(int(asked), page.LEAST_REFRESH), page.MOST_REFRESH)
