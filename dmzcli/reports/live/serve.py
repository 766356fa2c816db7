"""Serving the live page: at 127.0.0.1 alone, until it is interrupted."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from dmzcli.errors import UserError

if TYPE_CHECKING:
    from types import FrameType

    from dmzcli.reports.live.session import Session

HOST = "127.0.0.1"
CONNECTIONS = 64
"""Most connections at once."""
GRACE = 2
"""Seconds that answers under way get at the end."""


def check_installed() -> None:
    """Raises UserError where the packages of the extra ``explore`` are missing."""
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"dmz explore needs {error.name}, which is not installed", "pip install 'dmz[explore]'"
        ) from error


def listen(port: int) -> socket.socket:
    """A listening socket of this machine alone.

    Arguments:
        port: Its port; 0 takes a free one.

    Raises:
        UserError: The port is taken, or not ours to take.
    """
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        if os.name == "posix":  # elsewhere it would let two programs share a port
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((HOST, port))
        listening.listen(CONNECTIONS)
    except OSError as error:
        listening.close()
        raise UserError(
            f"port {port} of {HOST} cannot be used: {error.strerror or error}",
            "name another with --port, or leave it out to take a free one",
        ) from error
    return listening


def serve(session: Session, listening: socket.socket, ready: Callable[[str], None]) -> None:
    """Serves a session until SIGINT or SIGTERM, which it passes on when all is closed.

    Arguments:
        session: The run in play.
        listening: Of :func:`listen`.
        ready: Told the address, once.
    """
    import uvicorn

    from dmzcli.reports.live.desk import Desk
    from dmzcli.reports.live.routes import Routes

    class Server(uvicorn.Server):
        ended_by = 0

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            # Not raised anew, as uvicorn does: a shell starts what it puts in the background with SIGINT ignored.
            self.force_exit, self.should_exit = self.should_exit and sig == self.ended_by, True
            self.ended_by = sig

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            desk.stop()  # answers under way end by themselves
            await super().shutdown(sockets)

    port = listening.getsockname()[1]
    desk = Desk()
    try:
        app = Routes(session, desk).app(port)
        config = uvicorn.Config(
            app,
            lifespan="off",
            ws="none",
            access_log=False,
            log_level="warning",
            proxy_headers=False,
            server_header=False,
            limit_concurrency=CONNECTIONS,
            timeout_graceful_shutdown=GRACE,
        )
        ready(f"http://{HOST}:{port}/")
        server = Server(config)
        server.run(sockets=[listening])
        if server.ended_by:
            if server.ended_by == signal.SIGINT:
                raise KeyboardInterrupt
            signal.raise_signal(server.ended_by)
    finally:
        desk.close()
        listening.close()
