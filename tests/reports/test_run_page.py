"""Plots and sheets of the page on a run: what is drawn is what was measured."""

import numpy as np
import pytest

from dmzcli.analysis.probes.linear import Probe
from dmzcli.reports.html import drawn
from dmzcli.reports.run_page import confusion_plot, reconstructions, training_curve


@pytest.mark.parametrize(
    ("rows", "lines"),
    [
        ([], {}),
        ([{"step": 1, "loss": 0.5}], {"loss": [[1, 0.5]]}),
        (
            [
                {"step": 1, "loss": 0.5},
                {"step": 2, "valid_loss": 0.45},
                {"step": 4, "loss": 0.4, "valid_loss": 0.3},
            ],
            {"loss": [[1, 0.5], [4, 0.4]], "valid loss": [[2, 0.45], [4, 0.3]]},
        ),
    ],
)
def test_a_curve_goes_through_what_was_logged(rows, lines):
    figure = training_curve(rows)
    (axes,) = figure.axes
    assert {line.get_label(): line.get_xydata().tolist() for line in axes.lines} == lines
    legend = axes.get_legend()
    assert {text.get_text() for text in legend.texts} == set(lines) if lines else legend is None
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_yscale()) == ("step", "loss", "log")
    dark = np.asarray(drawn(figure).convert("L")) < 128  # axes and labels, whatever the lines
    assert 0 < dark.mean() < 0.2


@pytest.mark.parametrize("classes", [2, 10])
def test_a_confusion_has_every_count_at_its_true_row_and_predicted_column(classes):
    confusion = np.triu(np.arange(classes**2).reshape(classes, classes))  # not symmetric, and with zeros
    names = tuple(f"<{i}>" for i in range(classes))
    figure = confusion_plot(Probe("bits", 4, 1.0, True, 0.5, 0.5, confusion), names)
    (axes,) = figure.axes
    counts = np.zeros_like(confusion)
    for text in axes.texts:
        column, row = text.get_position()
        counts[row, column] = int(text.get_text())
    assert np.array_equal(counts, confusion) and len(axes.texts) == np.count_nonzero(confusion)
    assert np.array_equal(axes.images[0].get_array(), confusion)
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("true", "predicted")
    for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
        assert tuple(label.get_text() for label in labels) == names
    light = {text.get_text() for text in axes.texts if text.get_color() == "white"}
    assert light == {str(count) for count in confusion.flat if count > confusion.max() / 2}


def test_reconstructions_are_below_their_originals(model, digits):
    from dmzcli.codes.encode import bits_of
    from dmzcli.data.dataset import spread
    from dmzcli.diffusion.samplers import create
    from dmzcli.generation.decode import decode
    from dmzcli.system.png import LINE

    images = digits.images[spread(digits.rows("test"), 13)]
    split, sheet = reconstructions(model, digits, steps=2, count=13)
    scale = 6  # images of 8 pixels are enlarged to 48
    assert split == "test" and sheet.shape == (4 * (8 * scale + LINE + 2) + 2, 10 * 9 * scale + 4, 3)
    sampler = create("ancestral", model.config.diffusion, 2)
    decoded = decode(model, bits_of(model, images), sampler, range(13), seed=0)
    for row, shown in enumerate((images[:10], decoded[:10], images[10:], decoded[10:])):
        top = row * (8 * scale + LINE + 2) + LINE
        for i, image in enumerate(shown):
            left = 2 + i * 9 * scale
            tile = sheet[top : top + 8 * scale : scale, left : left + 8 * scale : scale]
            assert np.array_equal(tile, image.repeat(3, axis=2))
