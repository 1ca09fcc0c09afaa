"""The explorer's web server: this machine alone, a token in its address, nothing fetched from anywhere."""

from __future__ import annotations

import hmac
import json
import logging
import os
import socket
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import Any

import uvicorn
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
SECONDS_TO_END = 3  # what is left to a request that stalls when the explorer ends
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
    try:
        listener = socket.create_server(("127.0.0.1", port))
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise HiganError(f"port {port} cannot be had ({reason}); choose another with --port") from None
    with listener:
        started(f"http://127.0.0.1:{listener.getsockname()[1]}/{token}/")
        config = uvicorn.Config(
            make_app(session, token),
            log_level="critical",  # what fails is logged by `guarded`
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=SECONDS_TO_END,
        )
        Server(config, session).run(sockets=[listener])


class Server(uvicorn.Server):
    """A server whose end also ends the session's long work: uvicorn waits for the threads of its requests."""

    def __init__(self, config: uvicorn.Config, session: Session) -> None:
        super().__init__(config)
        self.session = session

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Answer Ctrl-C and SIGTERM."""
        self.session.closed.set()
        super().handle_exit(sig, frame)
