"""The explorer's web server: this machine alone, a token in its address, nothing fetched from anywhere."""

from __future__ import annotations

import hmac
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from markupsafe import Markup
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from higan.errors import HiganError
from higan.explorer.session import Session
from higan.logs import one_line
from higan.report.page import render_page

MOST_BYTES = 32 * 2**20  # of an uploaded picture
MOST_JSON = 2**23
HOSTS = ("127.0.0.1", "localhost", "[::1]")


def make_app(session: Session, token: str) -> Starlette:
    """Return the application: every address begins with /TOKEN/, other requests get 403."""

    async def page(request: Request) -> Response:
        about = session.about()
        html = render_page(
            "explorer.html",
            "explorer.js",
            "'self'",
            title=f"{about['model']}: explorer",
            summary=f"{len(about['boundaries'])} directions of {about['model']}, {about['layers']} layers. "
            "Drag a slider; the picture follows.",
            notes=[],
            details={},
            about=Markup(json.dumps(about).replace("<", "\\u003c")),
            boundaries=about["boundaries"],
            scores=about["scores"],
            reach=about["reach"],
            height=about["size"][0],
            width=about["size"][1],
        )
        return HTMLResponse(html)

    async def show(request: Request) -> Response:
        view = session.read_view(json.loads(await body(request, MOST_JSON)))
        return JSONResponse(await run_in_threadpool(session.show, view))

    async def command(request: Request) -> Response:
        return PlainTextResponse(session.command(session.read_view(json.loads(await body(request, MOST_JSON)))))

    async def save(request: Request) -> Response:
        view = session.read_view(json.loads(await body(request, MOST_JSON)))
        return Response(await run_in_threadpool(session.save, view), media_type="application/octet-stream")

    async def invert(request: Request) -> Response:
        content = await body(request, MOST_BYTES)
        return JSONResponse(await run_in_threadpool(session.invert, content))

    handlers: dict[str, tuple[str, Callable[[Request], Awaitable[Response]]]] = {
        "": ("GET", page),
        "show": ("POST", show),
        "command": ("POST", command),
        "save": ("POST", save),
        "invert": ("POST", invert),
    }
    return Starlette(
        routes=[
            Route(f"/{{token}}/{path}", guarded(handler, token), methods=[method])
            for path, (method, handler) in handlers.items()
        ]
    )


def guarded(handler: Callable[[Request], Awaitable[Response]], token: str) -> Callable[[Request], Awaitable[Response]]:
    """Return a handler that answers requests with the token alone, and bad input with 400 and one line."""

    async def answer(request: Request) -> Response:
        host = request.headers.get("host", "").rsplit(":", 1)[0]
        if host not in HOSTS or not hmac.compare_digest(request.path_params["token"].encode(), token.encode()):
            return PlainTextResponse("the address lacks the token that the explorer printed", status_code=403)
        try:
            response = await handler(request)
        except HiganError as error:
            return PlainTextResponse(one_line(str(error)), status_code=400)
        except (ValueError, RecursionError):
            return PlainTextResponse("the request is no JSON", status_code=400)
        except Exception:  # one visitor's request must not end the others' page
            logging.getLogger("higan").exception("a request failed")
            return PlainTextResponse("the explorer failed at this; its log says why", status_code=500)
        response.headers["Cache-Control"] = "no-store"
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers["X-Frame-Options"] = "DENY"
        return response

    return answer


async def body(request: Request, most: int) -> bytes:
    """Return a request's body; raise HiganError where it is larger than `most` bytes."""
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > most:
            raise HiganError(f"more than {most} bytes; make the picture smaller")
    return bytes(content)


def serve(session: Session, token: str, port: int, started: Callable[[str], Any]) -> None:
    """Serve on 127.0.0.1 until Ctrl-C; `started` is called with the address. HiganError if the port is taken."""
    import socket

    import uvicorn

    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError as error:
            raise HiganError(f"port {port} cannot be had ({error.strerror}); choose another with --port") from None
        listener.listen()
        started(f"http://127.0.0.1:{listener.getsockname()[1]}/{token}/")
        config = uvicorn.Config(make_app(session, token), log_level="warning", access_log=False, lifespan="off")
        uvicorn.Server(config).run(sockets=[listener])
