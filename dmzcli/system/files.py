"""Files that are whole or absent: atomic writes, and readers that name what is wrong with a file.

Everything is written to a temporary file, flushed to the disk and renamed over the target, so that no reader and no
kill ever meets half a file.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dmzcli.errors import UserError
from dmzcli.system import reading
from dmzcli.system.locks import writing
from dmzcli.system.refusals import user_errors
from dmzcli.system.tensors import ENTRY, check, metadata_in
from dmzcli.system.tensors import write as write_tensors

if TYPE_CHECKING:
    import torch


WEIGHTS_BYTES = 1 << 36
"""Most bytes of weights that are read as a whole."""


def cache_root() -> Path:
    """``$DMZ_CACHE``, or ``~/.cache/dmz``: what can be made again at any time."""
    root = os.environ.get("DMZ_CACHE")
    return Path(root).expanduser() if root else Path.home() / ".cache" / "dmz"


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yields a temporary file; renames it onto ``path`` when the block succeeds.

    It lies in the temporary folder of the place that ``path`` is written in, see :mod:`dmzcli.system.locks`; where
    none is held, ``path`` itself is the place for as long as the block lasts.

    Raises:
        UserError: The disk is full, the folder cannot be written, or another process is writing the file.
    """
    path = Path(path)
    with user_errors(path):
        if path.exists():
            reading.check_regular(path)  # a rename would replace a device, too
    with user_errors(path), writing(path) as folder:
        temporary = folder / f"{secrets.token_hex(4)}{path.suffix}"
        try:
            temporary.touch(exist_ok=False)
            yield temporary
            with temporary.open("r+b") as stream:  # Windows flushes nothing that is open for reading alone
                os.fsync(stream.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def write_json(path: str | Path, value: Any) -> None:
    """Writes ``value`` as indented JSON, whole or not at all."""
    with atomic(path) as temporary:
        text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
        # A path that is no UTF-8 has lone surrogates, whose escapes are JSON's own.
        temporary.write_bytes(text.encode("utf-8", "backslashreplace"))


def markdown(rows: Sequence[Mapping[str, str]]) -> str:
    """Rows as a Markdown table with one column per key of the first."""
    lines = [list(rows[0]), ["---"] * len(rows[0]), *([*row.values()] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def write_markdown(path: str | Path, rows: Sequence[Mapping[str, str]]) -> None:
    """Writes rows as a Markdown table, whole or not at all."""
    with atomic(path) as temporary:
        temporary.write_text(markdown(rows), encoding="utf-8")


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
    """Writes tensors as safetensors, with their checksums, whole or not at all."""
    with atomic(path) as temporary, temporary.open("r+b") as stream:
        write_tensors(stream, tensors, metadata or {})


def load_tensors(path: str | Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Reads a safetensors file: its tensors on the CPU, and its metadata.

    Raises:
        UserError: The file is missing, truncated, altered, or not safetensors.
    """
    path = Path(path)
    with _tensor_file(path) as stream:

        def copied(name: str) -> torch.Tensor:
            # A view of the file would keep it mapped, so that Windows replaces it by nothing, and change with it.
            tensor: torch.Tensor = stream.get_tensor(name).clone()
            return tensor

        return check(path, list(stream.keys()), copied, stream.metadata() or {})


def load_signed(path: str | Path) -> tuple[dict[str, torch.Tensor], dict[str, str], str]:
    """The same with the SHA-256 of the very bytes that were read, whatever the path names by now.

    The file lies in memory as a whole for a moment, beside its tensors.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    path = Path(path)
    content = reading.read_bytes(path, WEIGHTS_BYTES)
    try:
        tensors = load(content)
    except SafetensorError as error:
        raise _not_whole(path) from error
    found, metadata = check(path, list(tensors), tensors.__getitem__, metadata_in(content))
    return found, metadata, hashlib.sha256(content).hexdigest()


def first_not_finite(tensors: Mapping[str, torch.Tensor]) -> str | None:
    """The name of the first tensor that holds a number that is not finite, if any."""
    return next(
        (k for k, v in tensors.items() if v.is_floating_point() and not bool(v.isfinite().all())), None
    )


def read_metadata(path: str | Path) -> dict[str, str]:
    """The metadata of a safetensors file alone; raises as :func:`load_tensors`."""
    with _tensor_file(Path(path), "np") as stream:  # which imports no torch
        metadata = stream.metadata() or {}
    return {name: text for name, text in metadata.items() if name != ENTRY}


@contextmanager
def _tensor_file(path: Path, framework: str = "pt") -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    with user_errors(path):
        with reading.opened(path):
            pass  # safe_open's own errors do not tell a folder from a file, and it would wait for a FIFO
        try:
            with safe_open(path, framework=framework) as stream:
                yield stream
        except SafetensorError as error:
            raise _not_whole(path) from error


def _not_whole(path: Path) -> UserError:
    return UserError(
        f"{path} is not a whole safetensors file: it is truncated or damaged",
        "restore the file or make it anew",
    )


def sha256(path: str | Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with user_errors(Path(path)), reading.opened(path) as stream:
        return sha256_of(stream)


def sha256_of(stream: BufferedReader) -> str:
    """The SHA-256 of an open file, whatever its path names by now; computed once while the file is as it is."""
    facts = os.fstat(stream.fileno())
    key = (facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)
    if key not in _digests:
        stream.seek(0)
        _digests[key] = hashlib.file_digest(stream, "sha256").hexdigest()
    return _digests[key]


_digests: dict[tuple[int, ...], str] = {}
