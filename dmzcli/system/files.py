"""Files that are whole or absent: atomic writes, and readers that name what is wrong with a file.

Everything is written to a temporary file in the target's own folder, flushed to the disk and renamed
over the target, so that no reader and no kill ever meets half a file.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dmzcli.errors import UserError
from dmzcli.system import reading
from dmzcli.system.refusals import refusal

if TYPE_CHECKING:
    import torch


def cache_root() -> Path:
    """``$DMZ_CACHE``, or ``~/.cache/dmz``: what can be made again at any time."""
    root = os.environ.get("DMZ_CACHE")
    return Path(root).expanduser() if root else Path.home() / ".cache" / "dmz"


@contextmanager
def user_errors(path: Path) -> Iterator[None]:
    """Turns the file system's refusals about ``path`` into a :class:`UserError`."""
    try:
        yield
    except OSError as error:
        raise refusal(error, path) from error


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path beside ``path``; renames it onto ``path`` when the block succeeds.

    Raises:
        UserError: The disk is full, or the folder cannot be written.
    """
    path = Path(path)
    with user_errors(path):
        if path.exists():
            reading.check_regular(path)  # a rename would replace a device, too
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        os.close(handle)
    temporary = Path(name)
    try:
        with user_errors(path):
            yield temporary
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)
            with temporary.open("rb") as stream:
                os.fsync(stream.fileno())
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def sweep(path: str | Path) -> None:
    """Removes the temporary files that killed writers of ``path`` left beside it."""
    path = Path(path)
    with user_errors(path):
        for stale in path.parent.glob(f".{escape(path.name)}.*.tmp"):
            stale.unlink(missing_ok=True)


def write_json(path: str | Path, value: Any) -> None:
    """Writes ``value`` as indented JSON, whole or not at all."""
    with atomic(path) as temporary:
        text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
        # A path that is no UTF-8 has lone surrogates, whose escapes are JSON's own.
        temporary.write_bytes(text.encode("utf-8", "backslashreplace"))


def write_markdown(path: str | Path, rows: Sequence[Mapping[str, str]]) -> None:
    """Writes rows as a Markdown table with one column per key of the first, whole or not at all."""
    lines = [list(rows[0]), ["---"] * len(rows[0]), *([*row.values()] for row in rows)]
    with atomic(path) as temporary:
        temporary.write_text("".join(f"| {' | '.join(line)} |\n" for line in lines), encoding="utf-8")


def read_json(path: str | Path) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
        UserError: The file is missing, truncated, or not a JSON object.
    """
    path = Path(path)
    try:
        value = reading.loads(reading.read_bytes(path))
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON: {error}", "restore the file or make it anew") from error
    if not isinstance(value, dict):
        raise UserError(f"{path} holds a JSON {type(value).__name__}, not an object", "check the path")
    return value


def save_tensors(
    path: str | Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Writes tensors as safetensors, whole or not at all."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    with atomic(path) as temporary:
        try:
            save_file(
                {k: v.detach().contiguous() for k, v in tensors.items()}, temporary, dict(metadata or {})
            )
        except SafetensorError as error:  # its I/O errors carry the system's code in their text only
            code = re.search(r"os error (\d+)", str(error))
            number = int(code[1]) if code else errno.ENOSPC if "No space left" in str(error) else None
            if number is None:
                raise
            raise OSError(number, os.strerror(number)) from error


def load_tensors(path: str | Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Reads a safetensors file: its tensors on the CPU, and its metadata.

    Raises:
        UserError: The file is missing, truncated, or not safetensors.
    """
    with _tensor_file(Path(path)) as stream:
        return {name: stream.get_tensor(name) for name in stream.keys()}, dict(stream.metadata() or {})


def first_not_finite(tensors: Mapping[str, torch.Tensor]) -> str | None:
    """The name of the first tensor that holds a number that is not finite, if any."""
    return next(
        (k for k, v in tensors.items() if v.is_floating_point() and not bool(v.isfinite().all())), None
    )


def read_metadata(path: str | Path) -> dict[str, str]:
    """The metadata of a safetensors file alone; raises as :func:`load_tensors`."""
    with _tensor_file(Path(path)) as stream:
        return dict(stream.metadata() or {})


@contextmanager
def _tensor_file(path: Path) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    with user_errors(path):
        with reading.opened(path):
            pass  # safe_open's own errors do not tell a folder from a file, and it would wait for a FIFO
        try:
            with safe_open(path, framework="pt") as stream:
                yield stream
        except SafetensorError as error:
            raise UserError(
                f"{path} is not a whole safetensors file: it is truncated or damaged",
                "restore the file or make it anew",
            ) from error


def sha256(path: str | Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with user_errors(Path(path)):
        facts = reading.check_regular(path)
        return _sha256(str(Path(path).absolute()), facts.st_size, facts.st_mtime_ns)


@lru_cache(maxsize=1024)
def _sha256(path: str, size: int, modified: int) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
