"""CelebA's lists: which attributes a face has, and which split it is in, as their publishers write them.

``list_attr_celeba.txt`` is a line with the number of faces, a line with the attributes' names, then
``000001.jpg -1  1 …`` with any number of blanks between; CelebAMask-HQ's file is alike. ``list_eval_partition.txt`` is
``000001.jpg 0``. The CSV copies have a header that starts with ``image_id``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dmzcli.data.dataset import SPLITS
from dmzcli.errors import UserError
from dmzcli.system.reading import read_bytes

_AGAIN = "download the file again"
_VALUES = {"-1": 0, "1": 1}


@dataclass(frozen=True, eq=False)
class Attributes:
    """The attributes of N faces.

    Arguments:
        row: The position of each face by its file's name.
        names: A names.
        values: uint8 of 0 and 1, shape (N, A).
    """

    row: dict[str, int]
    names: tuple[str, ...]
    values: np.ndarray

    def of(self, names: list[str], where: Path) -> np.ndarray:
        """The values of these faces, shape (len(names), A).

        Raises:
            UserError: One of them is not in the list.
        """
        missing = next((name for name in names if name not in self.row), None)
        if missing is not None:
            raise UserError(f"{where} has no line for {missing}", _AGAIN)
        return self.values[[self.row[name] for name in names]]


def read_attributes(path: Path) -> Attributes:
    """Reads a list of attributes, text or CSV.

    Raises:
        UserError: The file is missing, truncated, or no such list.
    """
    lines = _lines(path)
    if _is_csv(lines):
        head, first, announced = lines[0].split(",")[1:], 1, None
    else:
        if len(lines) < 2 or not _number(lines[0].strip()):
            raise UserError(
                f"{path} does not start with the number of its faces, but with {_start(lines)}", _AGAIN
            )
        head, first, announced = lines[1].split(), 2, int(lines[0])
    names = tuple(name.strip() for name in head)
    rows: dict[str, int] = {}
    values = bytearray()
    for number, line in enumerate(lines[first:], first + 1):
        name, *marks = _parts(line, first == 1)
        try:
            values += bytes([_VALUES[mark] for mark in marks])
        except KeyError as error:
            raise UserError(f"{path}, line {number}: {error} is neither -1 nor 1", _AGAIN) from error
        if len(marks) != len(names):
            raise UserError(
                f"{path}, line {number}: {len(marks)} values, but {len(names)} attributes", _AGAIN
            )
        if name in rows:
            raise UserError(f"{path}, line {number}: {name} is there twice", _AGAIN)
        rows[name] = len(rows)
    if announced not in (None, len(rows)):
        raise UserError(f"{path} announces {announced:,} faces, and holds {len(rows):,}", _AGAIN)
    return Attributes(rows, names, np.frombuffer(bytes(values), np.uint8).reshape(len(rows), len(names)))


def read_partition(path: Path) -> dict[str, int]:
    """Reads CelebA's official splits: 0 train, 1 valid, 2 test, by file name, in the order of the file.

    Raises:
        UserError: The file is missing, truncated, or no such list.
    """
    lines = _lines(path)
    first = 1 if _is_csv(lines) else 0
    codes: dict[str, int] = {}
    for number, line in enumerate(lines[first:], first + 1):
        parts = _parts(line, first == 1)
        if len(parts) != 2 or parts[1] not in {str(code) for code in range(len(SPLITS))}:
            raise UserError(f"{path}, line {number}: '{line[:60]}' is no file name and 0, 1 or 2", _AGAIN)
        if parts[0] in codes:
            raise UserError(f"{path}, line {number}: {parts[0]} is there twice", _AGAIN)
        codes[parts[0]] = int(parts[1])
    if not codes:
        raise UserError(f"{path} is empty", _AGAIN)
    return codes


def read_mapping(path: Path) -> dict[str, str]:
    """Reads CelebA-HQ's ``CelebA-HQ-to-CelebA-mapping.txt``: CelebA's file name by the number in CelebA-HQ.

    Raises:
        UserError: The file is missing, or no such list.
    """
    lines = _lines(path)
    if not lines or lines[0].split() != ["idx", "orig_idx", "orig_file"]:
        raise UserError(
            f"{path} does not start with 'idx orig_idx orig_file', but with {_start(lines)}", _AGAIN
        )
    mapping = {}
    for number, line in enumerate(lines[1:], 2):
        parts = line.split()
        if len(parts) != 3 or not _number(parts[0]) or not _number(Path(parts[2]).stem):
            raise UserError(f"{path}, line {number}: '{line[:60]}' is not of three columns", _AGAIN)
        mapping[parts[0]] = parts[2]
    return mapping


def _lines(path: Path) -> list[str]:
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no text file", _AGAIN) from error
    return [line for line in text.splitlines() if line.strip()]


def _number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 19


def _is_csv(lines: list[str]) -> bool:
    return bool(lines) and lines[0].startswith("image_id,")


def _parts(line: str, csv: bool) -> list[str]:
    return [part.strip() for part in line.split(",")] if csv else line.split()


def _start(lines: list[str]) -> str:
    return f"'{lines[0][:40]}'" if lines else "nothing"
