"""What pages are made of: templates that escape what they are given, and pictures inside the file."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from dmzcli.system.files import atomic

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def inline_png(image: Image.Image) -> str:
    """A picture as the address of an ``img`` element: the PNG itself, in base64."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def drawn(figure: Figure) -> Image.Image:
    """A plot as a picture."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return Image.open(buffer)


def is_number(value: Any) -> bool:
    """Whether a cell is set to the right."""
    return isinstance(value, int | float)


def cell(value: Any) -> str:
    """A value as a table shows it: four digits of what is not whole.

    Example:
        >>> cell(0.123456), cell(12345), cell("digits")
        ('0.1235', '12345', 'digits')
    """
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def environment() -> Environment:
    """The templates of this folder. Everything is escaped, and a name that is not given is an error."""
    templates = Environment(
        loader=PackageLoader("dmzcli.reports", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {"png": inline_png, "cell": cell}
    templates.tests["number_cell"] = is_number
    return templates


def write_page(file: Path, template: str, **facts: Any) -> Path:
    """Renders a template into a file, whole or not at all.

    Arguments:
        file: The page.
        template: Name of a template in this folder's ``templates``.
        facts: What the template names.

    Returns:
        The file.
    """
    text = environment().get_template(template).render(**facts)
    with atomic(file) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return file
