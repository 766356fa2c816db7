"""The pieces of a page: what is given stands in it whole, and cannot break it."""

import base64
import io
from pathlib import Path

import jinja2
import numpy as np
import pytest
from PIL import Image

from dmzcli.reports.html import environment, inline_png, write_page


@pytest.fixture
def pieces():
    return environment().get_template("pieces.html").module


def test_tables_escape_what_they_hold(pieces):
    text = str(pieces.table([{"<name>": "<script>alert('&')</script>", "n": 3, "x": 0.123456}]))
    assert "<script>" not in text and "&lt;script&gt;" in text and "&lt;name&gt;" in text
    assert '<td class="n">3</td>' in text and '<td class="n">0.1235</td>' in text


def test_facts_escape_what_they_hold(pieces):
    text = str(pieces.facts({"a<b": '"<i>"'}))
    assert "<i>" not in text and "<th>a&lt;b</th>" in text


def test_captions_cannot_leave_their_attribute(pieces):
    image = Image.new("L", (2, 2))
    text = str(pieces.figure(image, '"><script>'))
    assert "<script>" not in text and text.count('alt="&#34;&gt;&lt;script&gt;"') == 1


def test_pictures_are_inside_the_page():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    kind, data = inline_png(Image.fromarray(pixels)).split(",")
    assert kind == "data:image/png;base64"
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))), pixels)


def test_a_template_that_lacks_a_fact_writes_nothing():
    with pytest.raises(jinja2.UndefinedError):
        write_page(Path("page.html"), "run.html", title="x")
    assert not Path("page.html").exists()


def test_pages_follow_the_readers_colors_and_width():
    """One base page: dark where the reader's system is, as wide as the screen, and nothing fetched."""
    text = (environment().loader.get_source(environment(), "page.html"))[0]
    assert "prefers-color-scheme:dark" in text and 'content="width=device-width' in text
    assert "http:" not in text and "https:" not in text and "<script" not in text
