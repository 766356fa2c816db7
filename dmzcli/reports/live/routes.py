"""The routes of the live page: each reads a request, asks the session at the desk, and writes the answer as JSON."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

import numpy as np
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

import priors
from dmzcli.errors import UserError
from dmzcli.reports.html import environment
from dmzcli.reports.live import asked
from dmzcli.reports.live.desk import Busy, Desk, Superseded, Ticket
from dmzcli.reports.live.guard import Guard
from dmzcli.reports.live.session import Session

Array = np.ndarray
T = TypeVar("T")
JSON_BYTES = 1 << 21
"""Most bytes of a request's JSON: sixteen codes of the longest kind."""
UPLOAD_BYTES = 16 << 20
"""Most bytes of an uploaded picture."""
SOON = 0.05
"""Seconds between looks for a request's end."""
POLICY = (
    "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class Routes:
    """The answers.

    Arguments:
        session: The run in play.
        desk: Where the session is asked.
    """

    def __init__(self, session: Session, desk: Desk) -> None:
        self.session, self.desk = session, desk
        self.facts = session.facts()

    def app(self, port: int) -> Guard:
        """The application, for the one address that it is served at."""
        posts: dict[str, Callable[[Request], Awaitable[Response]]] = {
            "row": self.row,
            "upload": self.upload,
            "decode": self.decode,
            "read": self.read,
            "neighbors": self.neighbors,
            "draw": self.draw,
            "complete": self.complete,
            "steer": self.steer,
            "path": self.path,
        }
        routes = [Route("/", self.page, methods=["GET"])]
        routes += [Route(f"/api/{name}", answer, methods=["POST"]) for name, answer in posts.items()]
        handlers: dict[Any, Any] = {
            UserError: _mistake,
            priors.PriorError: _mistake,
            Busy: _busy,
            Superseded: _void,
            HTTPException: _refusal,
        }
        return Guard(Starlette(routes=routes, exception_handlers=handlers), port)

    async def page(self, request: Request) -> Response:
        """The page itself, with all that it begins with."""
        nonce = secrets.token_urlsafe(16)
        template = environment().get_template("live/page.html")
        text = template.render(title=f"Explore {self.facts['run']}", nonce=nonce, facts=self.facts)
        return HTMLResponse(text, headers={"Content-Security-Policy": POLICY.format(nonce=nonce)})

    async def row(self, request: Request) -> Response:
        """An image of the dataset, and its code."""
        want = await _json(asked.Row, request)
        return _answer(await self._do(lambda: self.session.row(want.row)))

    async def upload(self, request: Request) -> Response:
        """A picture file, and its code."""
        data = await _body(request, UPLOAD_BYTES)
        return _answer(await self._do(lambda: self.session.upload(data)))

    async def decode(self, request: Request) -> Response:
        """Lines of JSON: the estimates of every step as they come, and the images at last, or that it is void."""
        want = await _json(asked.Decode, request)
        codes = np.stack([self._bits(code) for code in want.codes])
        ticket = self.desk.ticket(want.page)
        lines: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        step = 0

        def watch(images: Array) -> None:
            nonlocal step
            ticket.check()
            step += 1
            line = {"step": step, "steps": want.steps, "images": _raw(images)}
            loop.call_soon_threadsafe(lines.put_nowait, line)

        def work() -> Array:
            ticket.check()
            return self.session.decode(codes, want.noises, want.steps, want.sampler, watch)

        future = self.desk.submit(work)
        first = await _either(lines, future)
        if first is None:
            # Nothing has been sent yet: a mistake is an answer of its own.
            done = await asyncio.wrap_future(future)
            return _lines(_one({"images": _raw(done), "done": True}))
        return _lines(self._stream(first, lines, future, ticket))

    async def _stream(
        self,
        first: dict[str, Any],
        lines: asyncio.Queue[dict[str, Any]],
        future: Future[Array],
        ticket: Ticket,
    ) -> AsyncIterator[bytes]:
        try:
            line: dict[str, Any] | None = first
            while line is not None:
                yield _line(line)
                line = await _either(lines, future)
            try:
                yield _line({"images": _raw(await asyncio.wrap_future(future)), "done": True})
            except Superseded:
                yield _line({"void": True})
            except UserError as error:
                yield _line({"error": error.message, "hint": error.hint})
        finally:
            ticket.cancel()  # whoever asked may have gone

    async def read(self, request: Request) -> Response:
        """What priors and probes say of a code."""
        bits = self._bits((await _json(asked.Read, request)).code)
        return _answer(await self._do(lambda: self.session.readings(bits)))

    async def neighbors(self, request: Request) -> Response:
        """Images whose codes are near."""
        want = await _json(asked.Neighbors, request)
        bits = self._bits(want.code)
        found = await self._do(lambda: self.session.neighbors(bits, want.count))
        return JSONResponse({"neighbors": [_ready(row) for row in found]})

    async def draw(self, request: Request) -> Response:
        """A code from a prior."""
        want = await _json(asked.Draw, request)
        return _answer({"bits": await self._do(lambda: self.session.draw(want.prior, want.seed))})

    async def complete(self, request: Request) -> Response:
        """Free bits, drawn or climbed to."""
        want = await _json(asked.Complete, request)
        bits, locked = self._bits(want.code), self._bits(want.locked).astype(bool)
        ticket = self.desk.ticket(f"complete {want.page}")
        session = self.session
        found = await self._do(
            partial(session.climb, want.prior, bits, locked, ticket.check)
            if want.likeliest
            else partial(session.complete, want.prior, bits, locked, want.seed, ticket.check)
        )
        return _answer({"bits": found.bits, "how": found.how})

    async def steer(self, request: Request) -> Response:
        """More or less of a class or attribute."""
        want = await _json(asked.Steer, request)
        bits, locked = self._bits(want.code), self._bits(want.locked).astype(bool)
        return _answer(
            {"bits": await self._do(lambda: self.session.steer(bits, locked, want.target, want.k, want.more))}
        )

    async def path(self, request: Request) -> Response:
        """Codes from one to another."""
        want = await _json(asked.Path, request)
        start, end = self._bits(want.start), self._bits(want.end)
        ticket = self.desk.ticket(f"path {want.page}")
        found = await self._do(lambda: self.session.path(start, end, want.prior, ticket.check))
        return JSONResponse({"codes": [asked.code_of(bits) for bits in found]})

    async def _do(self, work: Callable[[], T]) -> T:
        """Asks the session at the desk."""
        return await asyncio.wrap_future(self.desk.submit(work))

    def _bits(self, code: str) -> Array:
        return asked.bits_of(code, self.session.dim)


async def _either(lines: asyncio.Queue[dict[str, Any]], future: Future[Any]) -> dict[str, Any] | None:
    """The next line; ``None`` where the work has ended and all lines are told."""
    while True:
        if not lines.empty():
            return lines.get_nowait()
        if future.done():
            await asyncio.sleep(0)  # lines that the worker sent last are put by the loop itself
            return None if lines.empty() else lines.get_nowait()
        try:
            return await asyncio.wait_for(lines.get(), SOON)
        except TimeoutError:
            pass


async def _body(request: Request, most: int) -> bytes:
    """A request's body, which is read no further than it may be long.

    Raises:
        HTTPException: It is longer.
    """
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > most:
            raise HTTPException(413, f"the request has more than {most:,} bytes")
    return bytes(data)


async def _json(kind: type[asked.T], request: Request) -> asked.T:
    """A request's JSON. A page of another site cannot send this content type without being asked for leave first.

    Raises:
        HTTPException: It is too long, or says to be something else.
        UserError: It does not fit.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise HTTPException(415, "the request is not application/json")
    return asked.parsed(kind, await _body(request, JSON_BYTES))


def _raw(images: Array) -> str:
    """Pixels uint8 (N, H, W, C) in base64: a page paints them itself."""
    return base64.b64encode(np.ascontiguousarray(images).tobytes()).decode()


def _ready(facts: dict[str, Any]) -> dict[str, Any]:
    """Facts with their arrays as JSON."""
    made = dict(facts)
    if "image" in made:
        made["image"] = _raw(made["image"])
    if "bits" in made:
        made["bits"] = asked.code_of(made["bits"])
    if "probs" in made:
        made["probs"] = [round(float(q), 4) for q in made["probs"]]
    return made


def _answer(facts: dict[str, Any]) -> Response:
    return JSONResponse(_ready(facts))


def _line(facts: dict[str, Any]) -> bytes:
    return json.dumps(facts).encode() + b"\n"


async def _one(facts: dict[str, Any]) -> AsyncIterator[bytes]:
    yield _line(facts)


def _lines(stream: AsyncIterator[bytes]) -> Response:
    return StreamingResponse(stream, media_type="application/x-ndjson")


async def _mistake(request: Request, error: UserError | priors.PriorError) -> Response:
    message = error.message if isinstance(error, UserError) else str(error)
    return JSONResponse({"error": message, "hint": getattr(error, "hint", None) or ""}, 400)


async def _busy(request: Request, error: Busy) -> Response:
    body = {"error": "too many requests are waiting", "hint": "try again in a moment"}
    return JSONResponse(body, 503, {"Retry-After": "1"})


async def _void(request: Request, error: Superseded) -> Response:
    return JSONResponse({"error": "a newer request took its place", "hint": ""}, 409)


async def _refusal(request: Request, error: HTTPException) -> Response:
    return JSONResponse({"error": error.detail, "hint": "reload the page"}, error.status_code)
