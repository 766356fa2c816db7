"""Locks: one writer of a place, named to the second comer; freed by death; and nothing left when the work ends."""

import errno
import json
import math
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from dmzcli.errors import UserError
from dmzcli.system import exclusive, processes
from dmzcli.system.files import write_json
from dmzcli.system.locks import hold, hold_together, leftover, writing

HOLDER = """
import sys, time
from pathlib import Path
from dmzcli.system.locks import hold
sys.argv = ["/somewhere/bin/dmz", "train", "digits", "--run", "a b"]
with hold(Path(sys.stdin.readline().strip()), folder=True):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder():
    """Another process, which holds the folder ``place``."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    process.stdin.write("place\n")
    process.stdin.flush()
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


@pytest.fixture(params=["flock", "no locks"])
def system(request, monkeypatch):
    """With the system's locks, and as on a file system that has none."""

    def refused(handle):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    if request.param == "no locks":
        monkeypatch.setattr(exclusive, "_lock", refused)
    return request.param


@pytest.mark.parametrize("folder", [True, False])
def test_nothing_is_left(system, folder):
    with hold(Path("below/place"), folder=folder):
        write_json("below/place/file" if folder else "below/place", {})
        assert len(os.listdir("below/place" if folder else "below")) > 1
    assert os.listdir("below") == ["place"]
    if folder:
        assert os.listdir("below/place") == ["file"]


def test_work_that_writes_nothing_leaves_no_folder(system):
    with hold(Path("a/b/c"), folder=True):
        pass
    with hold(Path("a/b/file")):
        pass
    assert os.listdir() == []


def test_the_second_comer_is_told_whom_it_meets(holder):
    with pytest.raises(UserError) as caught, hold(Path("place"), folder=True):
        pass
    who = rf"process {holder.pid} on {socket.gethostname()}, since 20"
    assert caught.value.message.startswith(
        f"place is in use: 'dmz train digits --run 'a b'' writes it ({who}"
    ), caught.value.message
    assert "wait until it has ended" in caught.value.hint


def test_a_dead_holders_lock_is_taken_over_and_its_leftovers_are_swept(holder):
    Path("place/.tmp").mkdir()
    Path("place/.tmp/half").write_text("half")
    for earlier in (".file.abc_1234.tmp", ".tmpAb12Cd"):
        Path("place", earlier).write_text("half")
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert Path("place/.lock").exists()
    with hold(Path("place"), folder=True):
        assert os.listdir("place") == [".lock"]


def test_waiting_for_the_holder(holder):
    said = []
    threading.Timer(0.5, holder.kill).start()
    with hold(Path("place"), folder=True, patience=math.inf, say=said.append):
        pass
    assert len(said) == 1 and said[0].startswith("waiting for place: 'dmz train digits")


def test_a_thread_goes_on_and_another_is_refused(system):
    refused = []

    def other():
        try:
            with hold(Path("place"), folder=True):
                pass
        except UserError as error:
            refused.append(error.message)

    with hold(Path("place"), folder=True), hold(Path("place"), folder=True):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert Path("place/.lock").exists()
    assert len(refused) == 1 and f"process {os.getpid()}" in refused[0]


def test_a_fork_does_not_keep_the_lock_of_its_dead_parent(holder):
    """Whoever the holder has started may outlive it."""
    holder.kill()
    holder.wait()
    with hold(Path("place"), folder=True):
        child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(20,))
        child.start()
    with hold(Path("place"), folder=True):
        child.kill()
        child.join()


def test_a_fork_that_leaves_the_block_frees_nothing(system):
    parent = os.getpid()
    try:
        with hold(Path("place"), folder=True):
            before = os.listdir("place")
            child = os.fork()
            if child:
                os.waitpid(child, 0)
                assert before and os.listdir("place") == before
    finally:
        if os.getpid() != parent:
            os._exit(0)
    assert not Path("place").exists()


def test_without_locks_the_mark_of_a_dead_process_is_taken_over(monkeypatch):
    def refused(handle):
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr(exclusive, "_lock", refused)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    facts = {"command": "dmz encode", "process": dead.pid, "machine": socket.gethostname()}
    facts["since"] = "2026-01-01T00:00:00+00:00"
    Path("place").mkdir()
    Path("place/.locked").write_text(json.dumps(facts))
    with hold(Path("place"), folder=True):
        pass
    assert not Path("place").exists() or os.listdir("place") == []
    Path("place").mkdir(exist_ok=True)
    Path("place/.locked").write_text(json.dumps({**facts, "machine": "elsewhere"}))
    with pytest.raises(UserError, match=r"'dmz encode' writes it .*on elsewhere"), hold(Path("place"), True):
        pass


def test_a_write_takes_shape_in_the_place_that_it_belongs_to():
    with hold(Path("run"), folder=True):
        with writing(Path("run/below/file")) as folder:
            assert folder == Path("run/.tmp").resolve()
        with hold(Path("run/bits.h5")), writing(Path("run/bits.h5")) as folder:
            assert folder == Path("run/.bits.h5.tmp").resolve()
        with writing(Path("elsewhere")) as folder:
            assert folder == Path(".elsewhere.tmp").resolve()
    assert sorted(path.name for path in Path().rglob("*")) == ["below", "run"]


def test_a_link_is_the_place_that_it_points_to():
    Path("real").mkdir()
    Path("link").symlink_to("real")
    with hold(Path("link"), folder=True):
        with writing(Path("link/file")) as folder:
            assert folder == Path("real/.tmp").resolve()
        with pytest.raises(UserError, match=r"^real is in use"), ThreadOf(lambda: _enter("real")) as thread:
            thread.result()


class ThreadOf:
    """A call in another thread."""

    def __init__(self, call):
        from concurrent.futures import ThreadPoolExecutor

        self.pool = ThreadPoolExecutor(1)
        self.call = call

    def __enter__(self):
        return self.pool.submit(self.call)

    def __exit__(self, *error):
        self.pool.shutdown()


def _enter(name):
    with hold(Path(name), folder=True):
        pass


@pytest.mark.parametrize(("name", "expected"), [(".lock", True), (".tmp", True), ("plan.json", False)])
def test_leftovers_are_no_contents(name, expected):
    assert leftover(name) is expected


def test_all_processes_fail_together(monkeypatch):
    """The main one is refused; the others hear of it, and take no lock themselves."""
    monkeypatch.setattr(processes, "main", lambda: False)
    monkeypatch.setattr(processes, "largest", lambda *numbers: [1.0])
    with (
        pytest.raises(UserError, match=r"^the main process cannot write place$"),
        hold_together(Path("place")),
    ):
        pass
    monkeypatch.setattr(processes, "largest", lambda *numbers: [0.0])
    with hold_together(Path("place"), folder=True):
        assert not Path("place/.lock").exists()
        Path("place").mkdir()
        with writing(Path("place/file")) as folder:
            assert folder == Path("place/.tmp").resolve() and not Path("place/.lock").exists()


def _race(number, barrier, failures):
    barrier.wait()
    for k in range(40):
        try:
            write_json("file", {"of": [number] * 1000, "k": k})
            read = json.loads(Path("file").read_text())
            assert len(set(read["of"])) == 1
        except Exception as error:
            failures.put(repr(error))


def test_processes_that_write_one_file_leave_it_whole_and_alone():
    context = multiprocessing.get_context("fork")
    barrier, failures = context.Barrier(3), context.Queue()
    writers = [context.Process(target=_race, args=(n, barrier, failures)) for n in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert failures.empty(), failures.get()
    assert os.listdir() == ["file"]
