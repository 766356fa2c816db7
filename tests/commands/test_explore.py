"""``dmz explore``: what it prints, whom it answers, how it ends, and what it refuses."""

import json
import signal
import socket
import sys
import urllib.error
import urllib.request

import pytest


def files(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT cannot be sent there")
def test_it_serves_until_it_is_interrupted_and_leaves_nothing(spawn, workshop):
    before = files(workshop)
    process = spawn("explore", "runs/tiny", "--json")
    told = json.loads(process.stdout.readline())
    url = told["url"]
    assert url.startswith("http://127.0.0.1:") and told["run"] == "runs/tiny"
    with urllib.request.urlopen(url, timeout=60) as answer:
        assert b"Explore tiny" in answer.read()
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(urllib.request.Request(url, headers={"Host": "evil.example"}), timeout=60)
    assert refused.value.code == 403
    # A decoding of many steps is under way when the end comes.
    asked = {"page": "a", "codes": ["0" * 8], "noises": [0] * 16, "steps": 50, "sampler": "ddim"}
    request = urllib.request.Request(
        f"{url}api/decode", json.dumps(asked).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert json.loads(answer.readline())["step"] == 1
        process.send_signal(signal.SIGINT)
        last = json.loads(answer.read().splitlines()[-1])
        assert last.get("void") or last.get("done")
    out, err = process.communicate(timeout=60)
    assert (
        process.returncode == 130
        and not out
        and err.splitlines()[-1] == "interrupted"
        and "Traceback" not in err
    ), err
    assert files(workshop) == before
    port = int(url.rpartition(":")[2].rstrip("/"))
    with socket.socket() as again, pytest.raises(ConnectionRefusedError):
        again.connect(("127.0.0.1", port))


def test_a_taken_port_is_refused_before_anything_is_loaded(dmz, workshop):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        error, hint = dmz("explore", "--port", port).mistake()
    assert f"port {port}" in error and "--port" in hint


def test_a_missing_extra_is_named(dmz, workshop, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    error, hint = dmz("explore").mistake()
    assert "uvicorn" in error and "pip install 'dmz[explore]'" in hint


def test_two_runs_and_no_run_are_refused(dmz, workshop):
    assert "two runs" in dmz("explore", "runs/tiny", "--run", "runs/other").mistake()[0]
    assert "no run directory" in dmz("explore", "runs").mistake()[0]


@pytest.mark.parametrize(("flags", "opened"), [((), 0), (("--no-browser",), 0), (("--open",), 1)])
def test_a_browser_is_opened_where_it_is_asked_for(dmz, workshop, monkeypatch, flags, opened):
    import webbrowser

    from dmzcli.reports.live import serve

    seen = []
    monkeypatch.setattr(webbrowser, "open", seen.append)
    monkeypatch.setattr(serve, "serve", lambda session, listening, ready: ready("http://127.0.0.1:1/"))
    assert dmz("explore", *flags, "--json").json == {"url": "http://127.0.0.1:1/", "run": "runs/tiny"}
    assert len(seen) == opened


def test_a_run_without_bits_is_refused(dmz, workshop):
    settings = json.loads((workshop / "runs/tiny/config.json").read_text(encoding="utf-8"))
    settings["model"]["latent"] = "none"
    (workshop / "runs/tiny/config.json").write_text(json.dumps(settings), encoding="utf-8")
    assert "without bits" in dmz("explore", "runs/tiny").mistake()[0]


def test_the_named_images_are_needed(dmz, workshop):
    """By default a page goes without images; where they were named, their absence is a mistake."""
    dmz("explore", "--data-dir", "nowhere", "--set", "data.size=9").mistake()
