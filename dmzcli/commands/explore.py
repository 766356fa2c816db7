"""``dmz explore``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dmzcli.commands import options as common


def explore(
    run: Annotated[
        Path | None, typer.Argument(help="Run directory; by default the newest with bits.", metavar="[RUN]")
    ] = None,
    named: common.RunOption = None,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port of 127.0.0.1; by default a free one.")
    ] = 0,
    browser: Annotated[
        bool, typer.Option("--open/--no-browser", help="Open the page in the browser.")
    ] = False,
    settings: common.DataSetOption = None,
    data_dir: common.DataDirOption = None,
    device: common.DeviceOption = None,
    as_json: common.JsonOption = False,
    quiet: common.QuietOption = False,
) -> None:
    """Play with bits: a page, served to this machine alone, that decodes them while you flip them.

    Images as boards of bits, what they decode to, how likely a code is under each prior, its neighbors, what a linear
    probe reads in it, and ways between two images. It needs pip install 'dmz[explore]', and ends with Ctrl-C.
    """
    talk = common.console(quiet, as_json)
    from dmzcli.errors import UserError
    from dmzcli.reports.live.serve import check_installed, listen, serve
    from dmzcli.runs.find import find_run
    from dmzcli.runs.plan import images_for

    if run is not None and named is not None:
        raise UserError(f"two runs are named: {run} and {named}", "name one of them")
    check_installed()
    chosen = find_run(run or named, fits=lambda run: bool(run.config.model.dim))
    with listen(port) as listening:
        from dmzcli.reports.live.session import Session
        from dmzcli.system.devices import pick

        where = pick(device)
        common.tell_stopped(talk, chosen)
        data = images_for(chosen, None, settings or (), common.data_flags(data_dir, False))
        dataset = None
        try:
            dataset = common.load_dataset(talk, data)
        except UserError as error:
            if settings or data_dir is not None:
                raise
            talk.say(f"no pictures of the dataset: {error.message}; {error.hint}")
        session = Session(chosen, where, dataset, talk)

        def ready(url: str) -> None:
            talk.result({"url": url, "run": str(chosen.path)}, url)
            import sys

            sys.stdout.flush()
            talk.say(f"exploring {chosen.path}; Ctrl-C ends it")
            if browser:
                import webbrowser

                webbrowser.open(url)

        serve(session, listening, ready)
