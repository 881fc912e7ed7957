"""Replay of labeling: models are trained round by round on what each rule would have chosen.

Which function finds the errors of one model does not say which one trains the best next model. That
can be measured where all labels are known: each rule begins with the same labels, asks for more,
and a model is trained from scratch on them, with the same seeds for every rule.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dagster_active_learning.acquisition.functions import (
    ACQUISITION_FUNCTIONS,
    AcquisitionFunction,
)
from dagster_active_learning.acquisition.matrices import score_matrix
from dagster_active_learning.evaluation.finding_errors import Floats
from dagster_active_learning.rules import Rules

Trainer = Callable[[Any, Any, Any, int], npt.ArrayLike]
"""Takes labeled images, their labels, images to predict and a seed: trains a model from scratch and
returns class probabilities (n_predicted, n_classes)."""


@dataclass(frozen=True, kw_only=True)
class Round:
    """A round of a replay, as a rule sees it that is asked for images.

    Attributes:
        number: The number of the round, from 0.
        seed: The seed of the replay.
        class_probs: (n_unlabeled, n_classes) of the images without a label, by the model so far.
        unlabeled: (n_unlabeled,) their positions among all images, rising.
        labeled: (n_labeled,) the positions of those with a label.
        random: Draws numbers, the same ones each time that the replay is made.
    """

    number: int
    seed: int
    class_probs: npt.NDArray[Any]
    unlabeled: npt.NDArray[np.int64]
    labeled: npt.NDArray[np.int64]
    random: np.random.Generator


Rule = Callable[[Round, int], npt.ArrayLike]
"""Takes a round and a number of images; returns so many of ``Round.unlabeled``."""

RANDOM = "random"
"""The rule that asks for random images."""

_T_QUANTILES = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
    2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
    2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
"""The 97.5 % quantiles of Student's t for 1, 2, … degrees of freedom."""


@dataclass(frozen=True)
class Interval:
    """A mean over seeds and its interval of 95 %, by Student's t; NaN ends for one seed.

    Attributes:
        mean: The mean.
        low: The lower end.
        high: The upper end.
    """

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Replay:
    """The learning curves of a replay.

    Attributes:
        label_counts: (n_rounds + 1,) the number of labels that a model was trained on.
        seeds: The seeds, the same for every rule.
        accuracies: By rule (n_seeds, n_rounds + 1), the share of test images that a model got
            right.
    """

    label_counts: npt.NDArray[np.int64]
    seeds: Sequence[int]
    accuracies: Mapping[str, Floats]

    def areas(self, rule: str) -> Floats:
        """(n_seeds,) the area under each learning curve, by trapezoids, over its labels: 0 to 1."""
        counts = self.label_counts
        return np.trapezoid(self.accuracies[rule], counts, axis=1) / (counts[-1] - counts[0])

    def curve(self, rule: str) -> list[Interval]:
        """The mean accuracy of each round, with its interval over the seeds."""
        return [_interval(column) for column in self.accuracies[rule].T]

    def difference(self, rule: str, against: str) -> Interval:
        """The difference of two rules' areas, seed by seed: far better known than either."""
        return _interval(self.areas(rule) - self.areas(against))

    def answer(self, against: str = "margin") -> str:
        """What follows for the other rules, in one sentence, where intervals exclude 0.

        Args:
            against: The rule that the others are compared with.

        Raises:
            ValueError: If it was not replayed.
        """
        others = {row["rule"]: row for row in self.table(against) if row["rule"] != against}
        named = {
            rule: f"{rule} ({100 * row['difference']:+.2f} points of area, 95 % interval "
            f"{100 * row['difference_low']:+.2f} to {100 * row['difference_high']:+.2f})"
            for rule, row in others.items()
        }
        of = f"{len(self.seeds)} seeds"
        if better := [named[rule] for rule, row in others.items() if row["difference_low"] > 0]:
            return f"{' and '.join(better)} trained better models than {against}; {of}"
        if worse := [named[rule] for rule, row in others.items() if row["difference_high"] < 0]:
            return f"{against} trained better models than {' and '.join(worse)}; {of}"
        return f"no difference found, keep {against} ({of})"

    def table(self, against: str = "margin") -> list[dict[str, Any]]:
        """One row per rule, the largest area first: its area and its difference with intervals.

        Args:
            against: The rule that the others are compared with.

        Raises:
            ValueError: If it was not replayed.
        """
        if against not in self.accuracies:
            raise ValueError(
                f"against is {against!r}, expected one of {', '.join(self.accuracies)}"
            )
        rows: list[dict[str, Any]] = []
        for rule in self.accuracies:
            area, other = _interval(self.areas(rule)), self.difference(rule, against)
            rows.append(
                {
                    "rule": rule,
                    "area": area.mean,
                    "area_low": area.low,
                    "area_high": area.high,
                    "difference": other.mean,
                    "difference_low": other.low,
                    "difference_high": other.high,
                    "last_accuracy": float(self.accuracies[rule][:, -1].mean()),
                }
            )
        return sorted(rows, key=lambda row: -row["area"])


def replay(
    trainer: Trainer,
    images: Any,
    labels: npt.ArrayLike,
    rules: Sequence[str] | Mapping[str, Rule],
    *,
    test_images: Any,
    test_labels: npt.ArrayLike,
    start: int | npt.ArrayLike,
    batch: int,
    rounds: int,
    seeds: Sequence[int] = tuple(range(10)),
    progress: str | PathLike[str] | None = None,
    report: Callable[[str], None] | None = None,
) -> Replay:
    """Train models round by round on the images that each rule asks for, whose labels are known.

    Args:
        trainer: Trains a model from scratch; see ``Trainer``. Labels come as indices of classes.
        images: (n_images, …) an array, or whatever can be indexed with an array of positions.
        labels: (n_images,) the index of each image's class.
        rules: Names of acquisition functions for whole images, and ``"random"``; or rules of your
            own by their names, see ``Rule``.
        test_images: Images to measure accuracy on, which no rule may ask for.
        test_labels: (n_test,) the index of each one's class.
        start: How many random images have labels at the beginning, other ones with each seed and
            the same for every rule; or their positions.
        batch: Images that are asked for in a round; of equal scores the first.
        rounds: How often images are asked for.
        seeds: Seeds of the beginning, of random images and of the trainer.
        progress: A file that keeps each finished pair of rule and seed; a replay that was
            interrupted goes on where it was. Other labels or rounds are noticed, another trainer
            is not: give it a file of its own. By default nothing is kept.
        report: Told of each pair that is finished; by default a bar in a terminal.

    Raises:
        ValueError: If a rule is unknown, there are fewer images than are asked for, or ``progress``
            is the file of another replay.

    Example:
        >>> def train(images, labels, wanted, seed):
        ...     centers = [images[labels == 0].mean(), images[labels == 1].mean()]
        ...     distance = np.abs(np.subtract.outer(wanted, centers))
        ...     return distance[:, ::-1] / distance.sum(axis=1, keepdims=True)
        >>> images = np.linspace(0, 1, 100)
        >>> labels = (images > 0.5).astype(int)
        >>> found = replay(train, images, labels, ["margin", "random"], test_images=images,
        ...                test_labels=labels, start=[0, 10, 99], batch=2, rounds=3, seeds=range(3),
        ...                report=lambda line: None)
        >>> found.label_counts.tolist(), found.accuracies["margin"].shape
        ([3, 5, 7, 9], (3, 4))
    """
    known, truth = np.asarray(labels, np.int64), np.asarray(test_labels, np.int64)
    by_name = _rules_by_name(rules)
    first = start if isinstance(start, int) else len(np.asarray(start))
    if first < 1 or batch < 1 or rounds < 1 or first + batch * rounds > known.size:
        raise ValueError(
            f"start {first}, batch {batch} and rounds {rounds} ask for {first + batch * rounds} "
            f"of {known.size} images: expected at least 1 each and no more than there are"
        )
    begun = start if isinstance(start, int) else np.asarray(start).tolist()
    identity = [known.tolist(), truth.tolist(), begun, batch, rounds]
    file = None if progress is None else Path(progress)
    sha256 = hashlib.sha256(json.dumps(identity).encode()).hexdigest()
    done = {} if file is None else _read_progress(file, sha256)
    pairs = [(rule, seed) for seed in seeds for rule in rules]
    learning = _Learning(trainer, images, known, test_images, truth, start, batch, rounds)
    for number, (rule, seed) in enumerate(pairs, 1):
        if (rule, seed) not in done:
            curve = list(learning.curve(by_name[rule], seed))
            done[rule, seed] = curve
            if file is not None:
                _keep(file, sha256, rule, seed, curve)
        _tell(report, number, len(pairs), rule, seed)
    return Replay(
        label_counts=first + batch * np.arange(rounds + 1),
        seeds=[*seeds],
        accuracies={
            rule: np.array([done[rule, seed] for seed in seeds], np.float64) for rule in rules
        },
    )


@dataclass(frozen=True)
class _Learning:
    """What a replay does again for each rule and seed; the arguments of ``replay``."""

    trainer: Trainer
    images: Any
    labels: npt.NDArray[np.int64]
    test_images: Any
    truth: npt.NDArray[np.int64]
    start: int | npt.ArrayLike
    batch: int
    rounds: int

    def curve(self, rule: Rule, seed: int) -> Iterator[float]:
        """The accuracy of each round."""
        random, start, n_test = np.random.default_rng(seed), self.start, self.truth.size
        # Drawn in any case, so that every rule goes on from the same state.
        shuffled = random.permutation(self.labels.size)
        labeled = shuffled[:start] if isinstance(start, int) else np.asarray(start, np.int64)
        for number in range(self.rounds + 1):
            is_last = number == self.rounds
            rest = np.setdiff1d(np.arange(self.labels.size), labeled)
            wanted = self.test_images if is_last else _joined(self.test_images, self.images[rest])
            class_probs = self._class_probs(labeled, wanted, seed)
            yield float((class_probs[:n_test].argmax(axis=1) == self.truth).mean())
            if not is_last:
                asked = Round(
                    number=number,
                    seed=seed,
                    class_probs=class_probs[n_test:],
                    unlabeled=rest,
                    labeled=labeled,
                    random=random,
                )
                labeled = np.concatenate([labeled, self._chosen(rule, asked)])

    def _class_probs(
        self, labeled: npt.NDArray[np.int64], wanted: Any, seed: int
    ) -> npt.NDArray[Any]:
        trained_on = self.images[labeled], self.labels[labeled]
        class_probs = np.asarray(self.trainer(*trained_on, wanted, seed))
        if class_probs.ndim != 2 or len(class_probs) != len(wanted):
            raise ValueError(
                f"the trainer returned the shape {class_probs.shape} for {len(wanted)} images: "
                "expected (n_predicted, n_classes)"
            )
        return class_probs

    def _chosen(self, rule: Rule, asked: Round) -> npt.NDArray[np.int64]:
        chosen = np.asarray(rule(asked, self.batch), np.int64)
        possible = np.intersect1d(chosen, asked.unlabeled)
        if not possible.size == chosen.size == self.batch:
            raise ValueError(
                f"a rule was asked for {self.batch} images in round {asked.number} and returned "
                f"{chosen.size}, of which {possible.size} are different ones without a label"
            )
        return chosen


def _joined(first: Any, second: Any) -> Any:
    return np.concatenate([np.asarray(first), np.asarray(second)])


def _rules_by_name(rules: Sequence[str] | Mapping[str, Rule]) -> Mapping[str, Rule]:
    if isinstance(rules, Mapping):
        if not rules:
            raise ValueError("rules is empty, expected one rule or more by their names")
        return rules
    functions = [each for each in ACQUISITION_FUNCTIONS.values() if each.level == "image"]
    possible: dict[str, Rule] = {RANDOM: _at_random}
    possible |= {function.name: partial(_first_by, function) for function in functions}
    unknown = [rule for rule in rules if rule not in possible]
    if unknown or not rules or len(set(rules)) != len(rules):
        raise ValueError(f"rules is {list(rules)!r}, expected different ones of {[*possible]}")
    return {rule: possible[rule] for rule in rules}


def _at_random(asked: Round, count: int) -> npt.NDArray[np.int64]:
    return asked.random.choice(asked.unlabeled, count, replace=False)


def _first_by(function: AcquisitionFunction, asked: Round, count: int) -> npt.NDArray[np.int64]:
    scores, _ = score_matrix(np.ascontiguousarray(asked.class_probs), [function], Rules())
    if np.isnan(scores[0]).any():
        raise ValueError(
            "the trainer returned class probabilities that are not finite, not in 0..1 or do not "
            "add up to 1"
        )
    sign = -1 if function.label_first == "highest" else 1
    return asked.unlabeled[np.argsort(sign * scores[0], kind="stable")[:count]]


def _read_progress(file: Path, sha256: str) -> dict[tuple[str, int], list[float]]:
    if not file.exists():
        return {}
    done: dict[tuple[str, int], list[float]] = {}
    text = file.read_text("utf-8")
    whole = ""
    for line in text.splitlines(keepends=True):
        if not line.endswith("\n"):
            break  # Cut by the interruption.
        entry = json.loads(line)
        if entry["replay"] != sha256:
            raise ValueError(
                f"progress is the file {file} of another replay: other labels, start, batch or "
                "rounds; name another file, or delete it"
            )
        done[entry["rule"], entry["seed"]] = entry["accuracies"]
        whole += line
    if whole != text:
        file.write_text(whole, "utf-8")
    return done


def _keep(file: Path, sha256: str, rule: str, seed: int, curve: Sequence[float]) -> None:
    entry = {"replay": sha256, "rule": rule, "seed": seed, "accuracies": [*curve]}
    with file.open("a", encoding="utf-8") as opened:
        opened.write(json.dumps(entry) + "\n")


def _tell(
    report: Callable[[str], None] | None, number: int, total: int, rule: str, seed: int
) -> None:
    text = f"replayed {rule} with seed {seed}: {number} of {total}"
    if report is not None:
        report(text)
    elif sys.stderr.isatty():
        blocks = 30 * number // total
        bar = "█" * blocks + "·" * (30 - blocks)
        sys.stderr.write(f"\r{bar} {text}\x1b[K" + "\n" * (number == total))
        sys.stderr.flush()


def _interval(values: Floats) -> Interval:
    mean, count = float(np.mean(values)), values.size
    if count < 2:
        return Interval(mean, math.nan, math.nan)
    quantile = _T_QUANTILES[min(count - 1, len(_T_QUANTILES)) - 1]
    half = quantile * float(np.std(values, ddof=1)) / math.sqrt(count)
    return Interval(mean, mean - half, mean + half)
