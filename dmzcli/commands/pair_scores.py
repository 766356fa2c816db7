"""``dmz evaluate --pair``: translations against their targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dmzcli.commands import options as common
from dmzcli.commands.console import Console, table
from dmzcli.generation.recipe import Recipe

if TYPE_CHECKING:
    from dmzcli.evaluation.features import Extractor


def score_pair(
    talk: Console,
    name: str,
    direction: str,
    prior: str | None,
    data: tuple[str | None, Sequence[str], Mapping[str, Any]],
    how: tuple[str, int, int, Recipe, float, int],
    features: str | None,
    weights: Path | None,
    out: Path | None,
    batch_size: int | None,
    device: str | None,
) -> None:
    """Scores a pair's translations and prints the card.

    Arguments:
        talk: The console.
        name: The pair.
        direction: ``A-to-B`` or ``B-to-A``.
        prior: The map.
        data: The set of pairs (``None`` for the pair's own), settings of the data, entries of its table.
        how: The held-out split, pairs of each split at most, draws, recipe, temperature, seed.
        features, weights: The network, and a file of its weights.
        out: The card's file.
        batch_size, device: As for all commands.
    """
    from dmzcli.codes.pair import find_map
    from dmzcli.runs.pair import find_pair

    pair = find_pair(name)
    find_map(pair, direction, prior)  # complains here and now
    for run in pair.sides(direction):
        common.tell_stopped(talk, run)
    from dmzcli.evaluation.features import check_known, create
    from dmzcli.evaluation.pair_card import evaluate_pair, extractor_or_reason, usual_pair_features
    from dmzcli.evaluation.sources import ENOUGH_TO_LEARN
    from dmzcli.generation.inputs import load_pairs, pair_data
    from dmzcli.generation.translate import Translator

    if features is not None:
        check_known(features)
    against, settings, flags = data
    split, count, draws, recipe, temperature, seed = how
    pairs = load_pairs(
        pair_data(pair, against, settings, flags), lambda config: common.load_dataset(talk, config)
    )
    translator = Translator.load(pair, direction, prior, device)
    target = pairs.b if direction == "A-to-B" else pairs.a

    def made() -> Extractor:
        wanted = features or usual_pair_features(target, ENOUGH_TO_LEARN)
        return create(wanted, target, translator.decoder.device, weights, talk=talk)

    extractor = made() if features is not None else extractor_or_reason(made)
    card = evaluate_pair(
        *(translator, pairs, ("train", split), count, draws, recipe, extractor, seed, temperature),
        *(batch_size, out, talk),
    )
    for warning in card.warnings:
        talk.say(f"warning: {warning}")
    for what, why in card.absent.items():
        talk.say(f"not measured: {what}: {why}")
    talk.result(card.facts(), table(card.title(), card.table()))
