"""The bytes of a safetensors file of ours: the same for the same tensors, and with a SHA-256 of each.

The format is that of safetensors, https://huggingface.co/docs/safetensors: the header's length as a 64-bit number, a
header of JSON, the tensors' bytes. It is written by plain file operations, tensor after tensor, so that the system's
errors are told as they are and nothing lies twice in memory. The metadata entry ``dmz-sha256`` is a JSON object of
names and digests; that of the empty name is of the other entries, as sorted JSON.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from dmzcli.errors import Unchecked, UserError
from dmzcli.system.reading import loads_object

if TYPE_CHECKING:
    import torch

ENTRY = "dmz-sha256"
_TYPES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint8": "U8",
    "bool": "BOOL",
}


def write(stream: IO[bytes], tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> None:
    """Writes tensors, one at a time from wherever they are.

    Raises:
        OSError: The disk refuses.
        ValueError: A type is none of safetensors'.
    """
    facts: dict[str, Any] = {}
    start = 0
    ordered = sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0]))
    for name, tensor in ordered:  # the widest first, so that all are aligned
        kind = _TYPES.get(str(tensor.dtype).removeprefix("torch."))
        if kind is None:
            raise ValueError(f"tensors of {tensor.dtype} cannot be written")
        end = start + tensor.numel() * tensor.element_size()
        facts[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [start, end]}
        start = end
    digests = dict.fromkeys(tensors, "0" * 64)
    stream.write(_header(facts, metadata, digests))
    for name, tensor in ordered:
        content = _bytes(tensor)
        digests[name] = hashlib.sha256(content).hexdigest()
        stream.write(content)
    stream.seek(0)
    stream.write(_header(facts, metadata, digests))


def check(
    path: Path, names: list[str], tensor: Callable[[str], torch.Tensor], metadata: Mapping[str, str]
) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """The tensors and the metadata of a file, found to be those that were written.

    Arguments:
        path: Its name in errors.
        names: What it holds.
        tensor: Reads a tensor.
        metadata: All of it; a file without checksums is of others, or of an earlier version, and told by a warning.

    Raises:
        UserError: A tensor, or the metadata, is not what was written.
    """
    rest = {name: text for name, text in metadata.items() if name != ENTRY}
    if ENTRY not in metadata:
        if any(text.startswith('{"": "') for text in rest.values()):
            raise _altered(path, "its metadata differ")
        warnings.warn(
            f"{path} carries no checksums, being of an earlier version or of others: it is read unchecked",
            Unchecked,
            stacklevel=3,
        )
        return {name: tensor(name) for name in names}, rest
    try:
        digests = loads_object(metadata[ENTRY])
    except ValueError:
        digests = {}
    if digests.pop("", None) != _of_metadata(rest):
        raise _altered(path, "its metadata differ")
    if digests.keys() != set(names):
        raise _altered(path, "it holds other tensors")
    tensors = {}
    for name in names:
        tensors[name] = tensor(name)
        if hashlib.sha256(_bytes(tensors[name])).hexdigest() != digests[name]:
            raise _altered(path, f"the SHA-256 of {name} differs")
    return tensors, rest


def metadata_in(content: bytes) -> dict[str, str]:
    """The metadata of a file whose bytes were found to be safetensors."""
    length = int.from_bytes(content[:8], "little")
    return dict(json.loads(content[8 : 8 + length]).get("__metadata__") or {})


def _altered(path: Path, how: str) -> UserError:
    return UserError(f"{path} is altered: {how} from what was written", "restore the file or make it anew")


def _bytes(tensor: torch.Tensor) -> memoryview:
    import torch

    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


def _of_metadata(metadata: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(dict(metadata), sort_keys=True).encode()).hexdigest()


def _header(facts: Mapping[str, Any], metadata: Mapping[str, str], digests: Mapping[str, str]) -> bytes:
    checks = json.dumps({"": _of_metadata(metadata), **digests}, sort_keys=True)
    about = {**dict(sorted(metadata.items())), ENTRY: checks}
    text = json.dumps({"__metadata__": about, **facts}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
