"""Which rule trains the best next classifier of digits: a code location of its own.

It trains some hundred classifiers, which nobody needs who only wants to know what to label next::

    dg launch -m labeling.replay --assets "*"
"""

from typing import Any

import dagster as dg

from labeling.paths import DATA_FOLDER

PROGRESS = DATA_FOLDER / "digits" / "replay.jsonl"
RULES = ("margin", "entropy", "random")


@dg.asset(key=["digits", "replay"], group_name="digits", kinds={"scikitlearn"})
def replay_of_digits(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    """Accuracy of classifiers that are trained round by round on what each rule asks for.

    All labels of these digits are known, so that it can be measured; half of them are for the test.
    A run that was interrupted goes on where it was: delete the file to begin anew.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    from dagster_active_learning import replay_metadata
    from dagster_active_learning.evaluation import replay

    digits: Any = load_digits()
    images, test_images, labels, test_labels = train_test_split(
        digits.data / 16, digits.target, test_size=0.5, stratify=digits.target, random_state=0
    )
    PROGRESS.parent.mkdir(parents=True, exist_ok=True)
    found = replay(
        train,
        images,
        labels,
        RULES,
        test_images=test_images,
        test_labels=test_labels,
        start=20,
        batch=20,
        rounds=6,
        seeds=range(10),
        progress=PROGRESS,
        report=context.log.info,
    )
    metadata = replay_metadata(found)
    return dg.MaterializeResult(metadata={**metadata, "progress": dg.MetadataValue.path(PROGRESS)})


def train(images: Any, labels: Any, wanted: Any, seed: int) -> Any:  # noqa: ARG001 - draws nothing
    """Class probabilities of the wanted images by a logistic regression from scratch."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    classifier = LogisticRegression(C=10, max_iter=300, tol=1e-3).fit(images, labels)
    class_probs = np.zeros((len(wanted), 10))
    # A digit that no label shows yet has no probability.
    class_probs[:, classifier.classes_] = classifier.predict_proba(wanted)
    return class_probs


defs = dg.Definitions(assets=[replay_of_digits])
