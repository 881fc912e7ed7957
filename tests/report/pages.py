"""Pages of made-up images, for tests of what is written and seen."""

import numpy as np
from PIL import Image

from dagster_active_learning.gallery import ImageRoots, Thumbnails
from dagster_active_learning.report.contents import (
    Page,
    PageCandidate,
    PageImage,
    PageList,
    PageObject,
)
from dagster_active_learning.report.pictures import Pictures
from dagster_active_learning.report.writing import write_page

CLASSES = ["cat", "dog", "eel"]

HOSTILE = [
    "</script><script>window.hacked = 1</script>",
    "<!-- <script>",
    "<img src=x onerror=window.hacked=2>",
    "{{ 7 * 7 }} {% raw %}",
    "'\"`${window.hacked = 3}`",
    "line\nbreak\u2028 and \u2029 and nul \0",
    "🦊 ä 中文 \u202e reversed",
    "x" * 10_000,
]


def candidates(ids, **settings):
    """Images ranked in their order, with scores that rise from 0 and classes in turn."""
    return [
        PageCandidate(
            rank=place + 1,
            image_id=image_id,
            score=round(place / len(ids), 6),
            predicted_class=CLASSES[place % 3],
            reason=f"{CLASSES[place % 3]} vs {CLASSES[(place + 1) % 3]}: 0.41 / 0.40",
            **settings,
        )
        for place, image_id in enumerate(ids)
    ]


def a_list(rows, name="margin", **settings):
    return PageList(
        name=name,
        score_label="p(1) - p(2), probability",
        label_first="lowest",
        candidates=rows,
        candidate_count=settings.pop("candidate_count", len(rows)),
        **settings,
    )


def a_page(*lists, uris=None, **settings):
    ids = dict.fromkeys(each.image_id for one in lists for each in one.candidates)
    return Page(
        **{
            "title": "Labeling candidates by margin",
            "facts": [("pool", "signs")],
            "class_names": CLASSES,
            "lists": lists,
            "images": {
                image_id: PageImage(uri=None if uris is None else uris.get(image_id))
                for image_id in ids
            },
            **settings,
        }
    )


def write(page, path, roots=("/",)):
    places = ImageRoots(roots)
    with Thumbnails(places, seconds=600) as thumbnails, Pictures(thumbnails, places) as pictures:
        return write_page(page, path, pictures)


def draw_image(path, size=(300, 200), seed=0):
    """A file of smooth noise, which is as large as a photo's."""
    coarse = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), np.uint8)
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(path)
    return str(path)


def box(label, *bbox, score=0.5, mask=None):
    return PageObject(label=label, score=score, bbox=bbox, mask=mask)
