"""What labeling batches are worth: a model is retrained on what each rule chooses, again and again.

Small models on scikit-learn's digits, and on Fashion-MNIST where Debian's dataset-fashion-mnist is
installed, from scratch after each batch, with the package's own replay, ranking and choosing. The
rules of a seed begin with the same images: their differences are paired.
"""

import gzip
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from dagster_active_learning import score_images
from dagster_active_learning.evaluation import Replay, Round, replay
from dagster_active_learning.ranking.batch import Draw, Embeddings, select_batch
from dagster_active_learning.ranking.batch_rules import BatchRules
from dagster_active_learning.ranking.gradients import GradientOrder
from dagster_active_learning.ranking.sampling import uniform_numbers
from dagster_active_learning.ranking.total_order import rank_images
from measuring import Settings, Table

ROUNDS = 8
FASHION = Path("/usr/share/datasets/fashion-mnist")
MAX_DISTANCE = 0.5
"""Copies are .23 apart, and different images that are nearest 1 to 2."""

Floats = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Images:
    """Images, pixels from 0 to 1, with their labels."""

    vectors: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]

    def at(self, rows: npt.NDArray[np.int64]) -> "Images":
        return Images(self.vectors[rows], self.labels[rows])


@dataclass(frozen=True)
class Replayed:
    """A set of images that is replayed.

    Attributes:
        load: Reads all images.
        pool: What is made of those that are not for the test.
        test_count: Images of each class for the test.
        batch: Images in a batch, and at the beginning.
        rules: The rules that are compared with margin.
    """

    load: Callable[[], Images]
    pool: Callable[[Images, np.random.Generator], Images]
    test_count: int
    batch: int
    rules: tuple[str, ...]


def tables(settings: Settings) -> Iterator[Table]:
    seeds, rounds = (2, 2) if settings.quick else (20, ROUNDS)
    rows: list[list[str]] = []
    for set_name, replayed in _sets().items():
        names = ("margin", *replayed.rules)
        found = _of_all_seeds([_replay(replayed, names, seed, rounds) for seed in range(seeds)])
        for rule in names:
            difference = found.difference(rule, "margin")
            half = 100 * (difference.high - difference.mean)
            shown = "" if rule == "margin" else f"{100 * difference.mean:+.2f} ± {half:.2f}"
            area = f"{100 * found.areas(rule).mean():.2f}"
            rows.append([set_name, rule, area, shown, TARGETS.get((set_name, rule), "")])
    yield Table(
        f"Replay: {rounds} batches, {seeds} seeds",
        "Logistic regression, retrained after each batch (20 digits, 50 of Fashion-MNIST); area under "
        "the curve of its accuracy on other images, as many of each class, in points. The difference "
        "from margin with its 95 % interval is over pairs of the same seed. Long tail: the classes "
        "have from 118 digits down to 3, from 1,000 images of Fashion-MNIST down to 20. Duplicated: "
        "200 digits, each five times with a little noise.",
        ("images", "rule", "area", "difference", "target"),
        rows,
    )


def _digits() -> Images:
    digits = load_digits()
    return Images((digits.data / 16).astype(np.float32), digits.target)


@cache
def _fashion() -> Images:
    """The test images of Fashion-MNIST and as many others, 14 x 14 means of their pixels."""
    parts: list[Images] = []
    for name in ("t10k", "train"):
        with gzip.open(FASHION / f"{name}-images-idx3-ubyte.gz") as file:
            pixels = np.frombuffer(file.read(16 + 20_000 * 784), np.uint8, offset=16)
        with gzip.open(FASHION / f"{name}-labels-idx1-ubyte.gz") as file:
            labels = np.frombuffer(file.read(8 + 20_000), np.uint8, offset=8).astype(np.int64)
        means = pixels.reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4)) / 255
        parts.append(Images(means.reshape(len(labels), 196).astype(np.float32), labels))
    vectors = np.concatenate([part.vectors for part in parts])
    return Images(vectors, np.concatenate([part.labels for part in parts]))


def _plain(pool: Images, random: np.random.Generator) -> Images:
    return pool


def _long_tailed(pool: Images, random: np.random.Generator, *, most: int, fewest: int) -> Images:
    kept: list[npt.NDArray[np.int64]] = []
    for place, label in enumerate(random.permutation(10)):
        of_class = np.flatnonzero(pool.labels == label)
        kept.append(of_class[: round(most * (fewest / most) ** (place / 9))])
    return pool.at(np.concatenate(kept))


def _fashion_tailed(pool: Images, random: np.random.Generator) -> Images:
    others = pool.at(random.permutation(len(pool.labels)))
    return _long_tailed(others, random, most=1000, fewest=20)


def _duplicated(pool: Images, random: np.random.Generator) -> Images:
    copies = pool.at(np.repeat(random.permutation(len(pool.labels))[:200], 5))
    noise = random.normal(scale=0.02, size=copies.vectors.shape).astype(np.float32)
    return Images(copies.vectors + noise, copies.labels)


TURNS, NO_DUPLICATES, BADGE = "classes in turn", "near-duplicates out", "badge"

RULES: Mapping[str, Mapping[str, Any]] = {
    "margin": {"class_turns": False},
    TURNS: {},
    NO_DUPLICATES: {"class_turns": False, "max_distance": MAX_DISTANCE},
    BADGE: {"choose_by": "badge"},
}

FASHION_TAIL = "long tail of Fashion-MNIST"

TARGETS = {
    ("plain", TURNS): "> -0.5",
    ("plain", NO_DUPLICATES): "> -0.5",
    ("long tail", TURNS): "interval above 0",
    (FASHION_TAIL, TURNS): "interval above 0",
    ("duplicated", NO_DUPLICATES): "interval above 0",
}


def _sets() -> Mapping[str, Replayed]:
    rules = (TURNS, NO_DUPLICATES, BADGE)
    digits_tail = partial(_long_tailed, most=118, fewest=3)
    sets = {
        "plain": Replayed(_digits, _plain, 60, 20, rules),
        "long tail": Replayed(_digits, digits_tail, 60, 20, rules),
        "duplicated": Replayed(_digits, _duplicated, 60, 20, rules),
    }
    if FASHION.exists():
        sets[FASHION_TAIL] = Replayed(_fashion, _fashion_tailed, 200, 50, (TURNS, BADGE))
    return sets


def _replay(replayed: Replayed, names: tuple[str, ...], seed: int, rounds: int) -> Replay:
    """The learning curves of the rules, on the images of one seed."""
    random = np.random.default_rng(seed)
    images = replayed.load()
    order = random.permutation(len(images.labels))
    # As many test images of each class.
    by_class = [order[images.labels[order] == label] for label in range(10)]
    n_test = replayed.test_count
    test = images.at(np.concatenate([rows[:n_test] for rows in by_class]))
    rest = np.sort(np.concatenate([rows[n_test:] for rows in by_class]))
    pool = replayed.pool(images.at(rest), random)
    batch = replayed.batch
    common: dict[str, Any] = {"size": batch, "queue_length": 10 * batch, "random_share": 0}
    return replay(
        _trained,
        pool.vectors,
        pool.labels,
        {name: partial(_next_images, pool, BatchRules(**common, **RULES[name])) for name in names},
        test_images=test.vectors,
        test_labels=test.labels,
        start=random.permutation(len(pool.labels))[:batch],
        batch=batch,
        rounds=rounds,
        seeds=[seed],
    )


def _of_all_seeds(found: Sequence[Replay]) -> Replay:
    """Replays of one seed each, whose images are others, as one."""
    return Replay(
        found[0].label_counts,
        [seed for each in found for seed in each.seeds],
        {
            rule: np.concatenate([each.accuracies[rule] for each in found])
            for rule in found[0].accuracies
        },
    )


def _trained(images: Floats, labels: Floats, wanted: Floats, seed: int) -> Floats:
    model = LogisticRegression(C=10, max_iter=300, tol=1e-3).fit(images, labels)
    class_probs = np.zeros((len(wanted), 10))
    class_probs[:, model.classes_] = model.predict_proba(wanted)
    return class_probs


def _next_images(
    pool: Images, rules: BatchRules, asked: Round, count: int
) -> npt.NDArray[np.int64]:
    """The images that the package chooses next."""
    rows, class_probs = asked.unlabeled, asked.class_probs
    ids = [str(row) for row in rows]
    scores = score_images(class_probs, ids)
    frame = pl.DataFrame(
        {"image_id": ids, "score": scores["margin"], "prediction_count": np.ones(len(ids), int)}
    )
    ranked = rank_images([frame], "lowest", limit=rules.queue_length, seed=asked.seed)
    place = {image_id: at for at, image_id in enumerate(ids)}
    at = [place[image_id] for image_id in ranked["image_id"]]
    predicted = [str(label) for label in class_probs[at].argmax(axis=1)]
    queue = ranked.select("image_id").with_columns(predicted_class=pl.Series(predicted))
    described = {image_id: (name, 1) for image_id, name in queue.iter_rows()}
    order = None
    if rules.choose_by == "badge":
        chosen_ids = queue["image_id"].to_list()
        uniform = uniform_numbers(f"{asked.number}", asked.seed)
        order = GradientOrder(chosen_ids, class_probs[at], pool.vectors[rows[at]], uniform)
    embeddings = None
    if rules.max_distance:
        known = [str(row) for row in asked.labeled]
        embeddings = Embeddings([str(row) for row in range(len(pool.labels))], pool.vectors, known)
    chosen = select_batch(
        queue,
        Draw([], len(ids)),
        described,
        rules,
        size=count,
        embeddings=embeddings,
        order=order,
    )
    return np.array([int(image_id) for image_id in chosen.images["image_id"]])
