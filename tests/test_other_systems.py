"""Windows and macOS, on a machine that is neither: what only POSIX has is guarded, nothing depends on fork, and the
commands run where such things are missing. None of it has run on those systems themselves.
"""

import ast
from pathlib import Path

import pytest

import dmzcli
import priors

ROOT = Path(dmzcli.__file__).parent.parent
FILES = [
    file
    for folder in (
        Path(dmzcli.__file__).parent,
        Path(priors.__file__).parent,
        ROOT / "benchmarks",
        ROOT / "examples",
    )
    for file in sorted(folder.rglob("*.py"))
]
POSIX_MODULES = set(
    "crypt curses fcntl grp nis posix pty pwd readline resource spwd syslog termios tty".split()
)
POSIX_OS = set(
    "O_CLOEXEC O_DIRECTORY O_DSYNC O_NOFOLLOW O_NONBLOCK O_SYNC WNOHANG chown copy_file_range fchmod "
    "fchown fdatasync fork forkpty getegid geteuid getgid getgroups getloadavg getpgid getpriority "
    "getuid killpg lchown lockf mkfifo mknod nice openpty posix_fadvise posix_fallocate posix_spawn "
    "pread preadv pwrite readv register_at_fork sched_getaffinity sched_setaffinity sendfile setpgid "
    "setpriority setsid statvfs sysconf uname wait writev".split()
)
SIGNALS = {"SIGABRT", "SIGFPE", "SIGILL", "SIGINT", "SIGSEGV", "SIGTERM"}  # Windows has these
POSIX_SIGNAL = {"alarm", "pause", "pthread_sigmask", "setitimer", "sigwait", "siginterrupt"}
STARTS_PROCESSES = {"multiprocessing", "joblib", "loky"}


def asks_for(test, name):
    """Whether a condition asks ``hasattr(…, name)``."""
    return any(
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "hasattr"
        and any(isinstance(part, ast.Constant) and part.value == name for part in node.args)
        for node in ast.walk(test)
    )


def catches_import_errors(node):
    return isinstance(node, ast.Try) and any(
        isinstance(handler.type, ast.Name) and handler.type.id == "ImportError" for handler in node.handlers
    )


def unguarded(text):
    """What a program takes from POSIX alone, with neither ``hasattr`` nor ``except ImportError`` around it."""
    found = []

    def walk(node, above):
        name = None
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module]
            taken = {name.split(".")[0] for name in names} & POSIX_MODULES
            if taken and not any(catches_import_errors(parent) for parent in above):
                found.append((node.lineno, *sorted(taken)))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            of, attribute = node.value.id, node.attr
            signals = (
                attribute.startswith("SIG") and not attribute.startswith("SIG_") and attribute not in SIGNALS
            )
            if (of == "os" and attribute in POSIX_OS) or (
                of == "signal" and (signals or attribute in POSIX_SIGNAL)
            ):
                name = attribute
        guards = [parent.test for parent in above if isinstance(parent, ast.If | ast.IfExp)]
        if name is not None and not any(asks_for(test, name) for test in guards):
            found.append((node.lineno, name))
        for child in ast.iter_child_nodes(node):
            walk(child, [*above, node])

    walk(ast.parse(text), [])
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_what_only_posix_has_is_guarded(file):
    text = file.read_text(encoding="utf-8")
    assert unguarded(text) == []
    imports = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {alias.name for node in imports for alias in node.names}
    names |= {node.module for node in imports if isinstance(node, ast.ImportFrom)}
    assert (
        not {part for name in names for part in name.split(".")} & STARTS_PROCESSES
    )  # workers are threads, or launched


def test_the_law_finds_what_it_is_after():
    """The control: what is guarded passes, and the same without its guard does not."""
    good = 'if hasattr(os, "fork"):\n    os.fork()\ntry:\n    import fcntl\nexcept ImportError:\n    pass\n'
    assert unguarded(good) == []
    assert unguarded('n = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1') == []
    for bad in ("os.fork()", "import resource", "from pwd import getpwuid", "signal.SIGHUP", "os.O_NONBLOCK"):
        assert len(unguarded(bad)) == 1
    assert len(unguarded('if hasattr(os, "pread"):\n    os.fork()')) == 1


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_text_files_name_their_encoding(file):
    """Windows' own is not UTF-8."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr in ("read_text", "write_text"):
                given = {word.arg for word in node.keywords}
                assert "encoding" in given or len(node.args) > 1, f"line {node.lineno}"


WINDOWS = """
import errno, fcntl, multiprocessing, os, shutil, signal, sys, types
# Libraries have versions of their own for Windows: they are imported before it is played.
import accelerate, h5py, jinja2, matplotlib.pyplot, PIL.Image, psutil, rich, safetensors.torch, skimage.metrics
import sklearn.linear_model, subprocess, torch, torch.utils.tensorboard, torch_fidelity, torchvision, typer

def locking(handle, mode, count):
    try:
        flock(handle, LOCK_EX | (LOCK_NB if mode == 2 else 0))
    except OSError:
        raise OSError(errno.EACCES, "Permission denied")

flock, LOCK_EX, LOCK_NB, control, GETFL = fcntl.flock, fcntl.LOCK_EX, fcntl.LOCK_NB, fcntl.fcntl, fcntl.F_GETFL
msvcrt = types.ModuleType("msvcrt")
msvcrt.LK_LOCK, msvcrt.LK_NBLCK, msvcrt.locking = 1, 2, locking
sys.modules["msvcrt"] = msvcrt
for name in ("fcntl", "resource", "pwd", "grp", "termios", "syslog"):
    sys.modules[name] = None
for name in ("O_NONBLOCK", "O_CLOEXEC", "O_NOFOLLOW", "fork", "register_at_fork", "posix_fallocate", "geteuid",
             "sched_getaffinity", "getloadavg", "pread", "killpg", "mkfifo"):
    delattr(os, name)
for name in ("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM"):
    delattr(signal, name)
shutil._use_fd_functions = False
multiprocessing.set_start_method("spawn")

fsync, unlink, replace = os.fsync, os.unlink, os.replace

def flush(handle):
    if control(handle, GETFL) & os.O_ACCMODE == os.O_RDONLY:
        raise OSError(errno.EBADF, "Bad file descriptor")
    fsync(handle)

def refuse_open(path):
    name = os.path.realpath(path)
    for number in os.listdir("/proc/self/fd"):
        try:
            there = os.readlink(f"/proc/self/fd/{number}")
        except OSError:
            continue
        if there == name:
            raise PermissionError(errno.EACCES, "it is open", str(path))
    with open("/proc/self/maps") as maps:
        if any(line.rstrip().endswith(" " + name) for line in maps):
            raise PermissionError(errno.EACCES, "it is mapped", str(path))

def remove(path, **options):
    refuse_open(path)
    unlink(path, **options)

def put(source, target, **options):
    refuse_open(source)
    if os.path.exists(target):
        refuse_open(target)
    replace(source, target, **options)

os.fsync, os.unlink, os.remove, os.replace, os.rename = flush, remove, remove, put, put

from dmzcli.__main__ import main
for arguments in COMMANDS:
    sys.argv = ["dmz", *map(str, arguments)]
    try:
        main()
        code = 0
    except SystemExit as end:
        code = end.code
    print("ended:", code, arguments[0], flush=True)
    assert not code, arguments
"""


def test_the_commands_run_on_what_windows_has(python, tiny_settings):
    """No fork, no fcntl, fewer flags; nothing open is removed or replaced, nothing read-only is flushed."""
    train = ("train", "digits", *tiny_settings, "--run", "runs/a", "--device", "cpu")
    commands = [
        (*train, "--max-steps", 4),
        (*train, "--max-steps", 8),
        ("encode", "--run", "runs/a"),
        ("encode", "--run", "runs/a"),
        ("fit-prior", "--run", "runs/a", "--kind", "bernoulli"),
        ("fit-prior", "--run", "runs/a", "--kind", "chow-liu"),
        ("sample", "bernoulli", "-n", 4, "--steps", 2),
        ("probe", "--run", "runs/a"),
        ("likelihood", "--run", "runs/a", "-n", 4, "--every", 10),
        ("report", "--run", "runs/a"),
        ("info", "runs/a"),
        ("cache", "clean", "--yes"),
    ]
    said = python(f"COMMANDS = {commands!r}\n{WINDOWS}")
    assert said.count("ended: 0") == len(commands)
