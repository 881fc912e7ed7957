"""Reasons why images are candidates, in words a person understands at a glance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from dagster_active_learning.text import shown

if TYPE_CHECKING:
    import polars as pl

    from dagster_active_learning.acquisition.functions import AcquisitionFunction, Phrase
    from dagster_active_learning.rules import Rules

ID_BYTES = 60

_Classes = Sequence[tuple[str, float]]


def candidate_reason(
    function: AcquisitionFunction,
    predictions: pl.DataFrame | None,
    *,
    class_names: Sequence[str],
    rules: Rules,
    has_quarantined: bool,
    alike_id: str | None = None,
) -> str:
    """Reason for an image's score, such as ``3 vs 8: 0.41 / 0.39`` or ``worst of 4 objects: …``.

    Of several predictions the reason is the most uncertain under the function, or, where they are a
    committee, their mean or how they vote.

    Args:
        function: The acquisition function.
        predictions: What the model said about the image: class_probs, score and category of each
            prediction, or of the first of them where prediction_count says that there are more;
            None if it said nothing.
        class_names: The classes, in the order of the class probabilities.
        rules: How predictions are scored.
        has_quarantined: Whether the image has rows in quarantine.
        alike_id: The id of predictions that differs from the image's in form only, if any.
    """
    if predictions is None:
        if has_quarantined:
            return "all its rows are in quarantine"
        if alike_id is not None:
            return f"no predictions, but of {shown(alike_id, ID_BYTES)!a}: the same image?"
        return "no objects" if rules.objects else "no predictions"
    phrase = function.phrase_of(rules.inputs)
    row = _mean(predictions) if rules.committee else _worst(function, predictions, rules)
    if phrase == "votes":
        words = _vote_words(predictions, class_names, independent=rules.inputs == "independent")
    elif phrase == "object_score":
        words = _score_words(row, class_names)
    elif row["class_probs"] is not None:
        words = _PHRASES[phrase](list(zip(class_names, row["class_probs"], strict=True)))
    else:
        words = _binary_words(row)
    count = predictions["prediction_count"][0] if "prediction_count" in predictions.columns else 0
    if predictions.height > 1:
        of_what = "objects" if rules.objects else "predictions"
        all_of_them = f" of {count:,}" if count > predictions.height else ""
        first = "the first " if all_of_them else ""
        which = "votes" if phrase == "votes" else "mean" if rules.committee else "worst"
        return f"{which} of {first}{predictions.height:,}{all_of_them} {of_what}: {words}"
    return f"only object: {words}" if rules.objects else words


def _worst(
    function: AcquisitionFunction, predictions: pl.DataFrame, rules: Rules
) -> dict[str, Any]:
    """The most uncertain prediction."""
    if predictions.height == 1:
        return predictions.row(0, named=True)
    import numpy as np

    from dagster_active_learning.acquisition.batches import score_predictions

    (batch,) = predictions.select("class_probs", "score").rechunk().to_arrow().to_batches()
    scores = score_predictions(batch, rules).under(function.name)
    lowest = function.label_first_under(rules.aggregation) == "lowest"
    place = int(np.argmin(scores if lowest else -scores))
    return predictions.row(place, named=True)


def _mean(predictions: pl.DataFrame) -> dict[str, Any]:
    """A prediction that is the mean of the votes of a committee."""
    import numpy as np

    votes = np.array(predictions["class_probs"].to_list(), np.float64)
    return {"class_probs": votes.mean(axis=0).tolist()}


def _vote_words(predictions: pl.DataFrame, class_names: Sequence[str], *, independent: bool) -> str:
    """The classes that members vote for, the most votes first."""
    votes: Counter[str] = Counter()
    for class_probs in predictions["class_probs"].to_list():
        if independent:
            votes.update(name for name, p in zip(class_names, class_probs, strict=True) if p > 0.5)
        else:
            likeliest: int = class_probs.index(max(class_probs))
            votes[class_names[likeliest]] += 1
    return ", ".join(f"{name} {count}" for name, count in votes.most_common()) or "for no class"


def _score_words(row: dict[str, Any], class_names: Sequence[str]) -> str:
    class_probs, score, category = row["class_probs"], row["score"], row["category"]
    if score is None:
        score = max(class_probs)
    if category is None and class_probs is not None:
        category = class_names[class_probs.index(max(class_probs))]
    return f"{score:.2f}" if category is None else f"{category} {score:.2f}"


def _binary_words(row: dict[str, Any]) -> str:
    name = "object" if row["category"] is None else row["category"]
    return _names_and_numbers([(name, row["score"]), (f"not {name}", 1 - row["score"])])


def _undecided_classes(classes: _Classes) -> str:
    # Each class is a question of its own, undecided at 0.5.
    nearest = sorted(classes, key=lambda item: abs(item[1] - 0.5))[:2]
    return "undecided: " + ", ".join(f"{name} {value:.2f}" for name, value in nearest)


def _no_class_above(classes: _Classes) -> str:
    name, value = _likeliest(classes)[0]
    return f"no class above {value:.2f} ({name})"


def _likeliest(classes: _Classes) -> _Classes:
    return sorted(classes, key=lambda item: -item[1])


def _names_and_numbers(classes: _Classes) -> str:
    names = " vs ".join(name for name, _ in classes)
    return f"{names}: " + " / ".join(f"{value:.2f}" for _, value in classes)


_PHRASES: dict[Phrase, Callable[[_Classes], str]] = {
    "two_classes": lambda classes: _names_and_numbers(_likeliest(classes)[:2]),
    "three_classes": lambda classes: _names_and_numbers(_likeliest(classes)[:3]),
    "undecided_classes": _undecided_classes,
    "no_class_above": _no_class_above,
}
"""The words for each kind of phrase, made of the names and probabilities of the classes."""
