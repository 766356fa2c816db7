"""Who may ask: this machine's own pages alone. A page of another site can make a browser send requests here.

Host names the address that the browser believes in: any other name than ours is one that a stranger's name server has
turned to this machine (DNS rebinding). Origin names the page that asks, where it is another site's.
"""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

NAMES = ("127.0.0.1", "localhost")
HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Guard:
    """Refuses foreign hosts and origins, and tells browsers to keep answers to themselves.

    Arguments:
        app: What is guarded.
        port: The port that it is served at.
    """

    def __init__(self, app: ASGIApp, port: int) -> None:
        self.app = app
        self.hosts = {f"{name}:{port}" for name in NAMES} | (set(NAMES) if port == 80 else set())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return  # no web socket is opened, and nothing has a life span of its own
        refused = self._refused(Headers(scope=scope), scope["path"])
        if refused:
            answer = JSONResponse(
                {"error": refused, "hint": "open the address that dmz explore printed"}, 403
            )
            await answer(scope, receive, send)
            return

        async def answered(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        await self.app(scope, receive, answered)

    def _refused(self, headers: Headers, path: str) -> str:
        """Why a request is refused; empty where it is not."""
        if headers.getlist("host") not in [[host] for host in self.hosts]:
            return "the request names another host"
        if any(
            origin not in {f"http://{host}" for host in self.hosts} for origin in headers.getlist("origin")
        ):
            return "the request is from a page of another site"
        if path != "/" and headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return "the request is from a page of another site"
        return ""
