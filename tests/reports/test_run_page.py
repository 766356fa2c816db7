"""Parts of the page: what is drawn is what was measured, and names cannot break it."""

import numpy as np
import pytest

from dmzcli.analysis.probes.linear import Probe
from dmzcli.reports.run_page import _html_table, confusion_plot, reconstructions, training_curve


def test_tables_escape_what_they_hold():
    text = _html_table([{"<name>": "<script>alert('&')</script>", "n": 3, "x": 0.123456}])
    assert "<script>" not in text and "&lt;script&gt;" in text and "&lt;name&gt;" in text
    assert '<td class="n">3</td>' in text and '<td class="n">0.1235</td>' in text


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [{"step": 1, "loss": 0.5}],
        [{"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.4, "valid_loss": 0.45}],
    ],
)
def test_a_curve_of_any_length(rows):
    image = training_curve(rows)
    assert image.width > 400 and len(np.unique(np.asarray(image.convert("L")))) > 10


@pytest.mark.parametrize("classes", [2, 10])
def test_a_confusion_of_any_size(classes):
    probe = Probe("bits", 4, 1.0, True, 0.5, 0.5, np.eye(classes, dtype=np.int64) * 7)
    assert confusion_plot(probe, tuple(f"<{i}>" for i in range(classes))).width > 200


def test_reconstructions_are_below_their_originals(model, run, digits):
    from dmzcli.codes.table import BitTable

    table = BitTable.read(run.bits)
    sheet = reconstructions(model, digits, table, steps=2, count=3)
    scale = 4  # tiles of 8 pixels are enlarged to 32
    originals = digits.images[digits.rows("test")[:3]]
    for i, image in enumerate(originals):
        left = i * 9 * scale
        assert np.array_equal(sheet[: 8 * scale : scale, left : left + 8 * scale : scale], image)
    assert sheet.shape == (17 * scale, 26 * scale, 1)
