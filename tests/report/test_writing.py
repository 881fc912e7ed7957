"""The file of a page: all that it shows is data, and bounded, and it is whole or not there."""

import base64
import html
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO

import pytest
from PIL import Image

from dagster_active_learning.report import writing
from dagster_active_learning.report.contents import PageImage
from report.pages import CLASSES, HOSTILE, a_list, a_page, box, candidates, draw_image, write


class Scripts(HTMLParser):
    """The scripts of a page as a browser finds their ends, and every other element's attributes."""

    def __init__(self, text):
        super().__init__()
        self.found, self.attributes, self.text = {}, [], []
        self._open = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        if tag == "script":
            self._open = dict(attrs).get("id", "script")
            self.found[self._open] = ""
        else:
            self.attributes.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag == "script":
            self._open = None

    def handle_data(self, data):
        if self._open is None:
            self.text.append(data)
        else:
            self.found[self._open] += data


def data_of(path):
    return json.loads(Scripts(path.read_text("utf-8")).found["data"])


def test_all_images_of_all_lists_are_in_it(tmp_path):
    ids = [f"image {number}" for number in range(700)]
    lists = [a_list(candidates(ids)), a_list(candidates(ids[::-1][:50]), name="entropy")]
    written = write(a_page(*lists), tmp_path / "page.html")
    data = data_of(written.path)
    assert data["ids"] == ids
    assert [one["name"] for one in data["lists"]] == ["margin", "entropy"]
    assert [data["ids"][image] for image in data["lists"][1]["images"]] == ids[::-1][:50]
    assert data["lists"][0]["scores"] == [each.score for each in lists[0].candidates]
    assert [data["classes"][place]["name"] for place in data["lists"][0]["classes"][:4]] == [
        *CLASSES,
        "cat",
    ]
    assert written.bytes == written.path.stat().st_size
    assert (written.candidate_count, written.picture_count) == (700, 0)


def test_each_score_is_within_the_edges_of_the_histogram(tmp_path):
    scores = [0.12345678912, 0.5, 0.98765432198]
    rows = [
        replace(row, score=score)
        for row, score in zip(candidates(["a", "b", "c"]), scores, strict=True)
    ]
    edges = [scores[0], 0.5, scores[-1]]
    page = a_page(a_list(rows, counts=[1, 2], edges=edges))
    (made,) = data_of(write(page, tmp_path / "page.html").path)["lists"]
    assert made["scores"] == scores
    assert made["edges"] == edges


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_does_not_have_are_null(tmp_path, number):
    found = box("cat", number, 0, 5, 5, score=number, mask=[[number] * 6])
    first, second = candidates(["a", "b"], objects=[found], object_count=1)
    uris = {one: draw_image(tmp_path / f"{one}.png") for one in "ab"}
    page = a_page(
        a_list([replace(first, score=number), second], counts=[1, 1], edges=[0, 0.5, number]),
        uris=uris,
        points={"a": (number, 0.5), "b": (0.25, 0.5)},
    )
    text = Scripts(write(page, tmp_path / "page.html").path.read_text("utf-8")).found["data"]

    def refuse(constant):
        raise AssertionError(constant)

    data = json.loads(text, parse_constant=refuse)
    (made,) = data["lists"]
    assert made["scores"] == [None, second.score]
    assert (made["counts"], made["edges"]) == ([], [])
    assert data["points"] == [None, [0.25, 0.5]]
    assert data["found"][0] == [[0, None, None, None]]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_any_text_is_data_and_nothing_else(tmp_path, text):
    path = write(page_of(text), tmp_path / "page.html").path
    plain = write(page_of("text"), tmp_path / "plain.html").path
    scripts, expected = (Scripts(one.read_text("utf-8")) for one in (path, plain))
    assert scripts.found.keys() == expected.found.keys()
    assert scripts.found["script"] == expected.found["script"]
    # No element more, and none with another attribute.
    assert scripts.attributes == expected.attributes
    data = json.loads(scripts.found["data"])
    assert data["ids"] == [text, f"{text}2"]
    assert data["classes"][0]["name"] == data["lists"][0]["reasons"][0] == text
    shown = re.sub(r"\s+", " ", "".join(scripts.text))
    assert re.sub(r"\s+", " ", text).strip() in shown


def page_of(text):
    """A page with a text wherever one of somebody else's may stand."""
    of_all = {"predicted_class": text, "reason": text, "chosen_by": text}
    rows = [
        replace(row, **of_all, objects=[box(text, 0, 0, 1, 1)])
        for row in candidates([text, f"{text}2"])
    ]
    return a_page(
        a_list(rows, name=text),
        title=text,
        facts=[(text, text)],
        class_names=[text],
        points={text: (0.5, 0.5)},
        points_label=text,
    )


def test_it_may_ask_for_nothing_and_run_only_its_own_script(tmp_path):
    import hashlib

    content = write(a_page(a_list(candidates(["a"]))), tmp_path / "page.html").path.read_text(
        "utf-8"
    )
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', content)
    rules = dict(rule.strip().split(" ", 1) for rule in html.unescape(policy).split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    for name, pattern in (
        ("script-src", r"<script>(.*?)</script>"),
        ("style-src", r"<style>(.*?)</style>"),
    ):
        (part,) = re.findall(pattern, content, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()
        assert rules[name] == f"'sha256-{digest}'"
    assert not re.findall(
        r'(?:src|href)="|https?://(?!www\.w3\.org/2000/svg)|@import|url\(', content
    )


def test_no_place_of_a_file_stands_in_it(tmp_path):
    uri = "https://me:s3cret@example.org/a.png?X-Amz-Signature=0f3a"
    page = a_page(a_list(candidates(["a"])), images={"a": PageImage(uri=uri)})
    content = write(page, tmp_path / "page.html", roots=["/nowhere"]).path.read_text("utf-8")
    assert "s3cret" not in content
    assert "0f3a" not in content
    assert data_of(tmp_path / "page.html")["notes"] == [
        "outside of image_roots: https://example.org/…"
    ]


def picture(scripts, name, place=None):
    content = json.loads(scripts.found[name])
    return Image.open(BytesIO(base64.b64decode(content if place is None else content[place])))


def test_pictures_are_small_ones_and_large_ones_of_images_with_more_pixels(tmp_path):
    uris = {
        "photo": draw_image(tmp_path / "photo.png", (3_000, 2_000)),
        "icon": draw_image(tmp_path / "icon.png", (40, 30)),
        "gone": str(tmp_path / "gone.png"),
    }
    path = write(a_page(a_list(candidates(list(uris))), uris=uris), tmp_path / "page.html").path
    scripts, data = Scripts(path.read_text("utf-8")), data_of(path)
    small = picture(scripts, "small-0", 0)
    assert (small.format, list(small.size)) == ("WEBP", data["sizes"][0])
    assert picture(scripts, "large-0").size == (1024, 683)
    assert picture(scripts, "small-0", 1).size == (40, 30)
    assert not {"large-1", "large-2"} & scripts.found.keys()
    assert data["stored"] == [[3_000, 2_000], [40, 30], None]
    assert data["sizes"][2] is None
    assert data["notes"][data["missing"][2]] == "no such file"


def test_few_pixels_are_kept_as_they_are(tmp_path):
    uri = draw_image(tmp_path / "digit.png", (8, 8))
    path = write(a_page(a_list(candidates(["a"])), uris={"a": uri}), tmp_path / "page.html").path
    made = picture(Scripts(path.read_text("utf-8")), "small-0", 0)
    with Image.open(uri) as original:
        assert made.convert("RGB").tobytes() == original.convert("RGB").tobytes()


def test_what_is_left_out_for_want_of_room_is_said(tmp_path, monkeypatch):
    ids = [str(number) for number in range(8)]
    uris = {one: draw_image(tmp_path / f"{one}.png", (1_200, 900), seed=int(one)) for one in ids}
    monkeypatch.setattr(writing, "SMALL_BYTES", 1_500)
    monkeypatch.setattr(writing, "MOST_LARGE", 2)
    monkeypatch.setattr(writing, "MOST_OBJECTS", 16)
    rows = candidates(ids, objects=[box("cat", 1, 1, 5, 5)] * 9, object_count=1_000)
    page = a_page(a_list(rows, candidate_count=20_000), uris=uris)
    path = write(page, tmp_path / "page.html").path
    scripts, data = Scripts(path.read_text("utf-8")), data_of(path)
    shown = [place for place, size in enumerate(data["sizes"]) if size]
    assert shown == list(range(len(shown)))
    assert 0 < len(shown) < 8
    assert data["notes"] == ["no room for it on this page"]
    assert len([name for name in scripts.found if name.startswith("large-")]) <= 2
    assert {len(objects) for objects in data["found"]} == {2}
    text = "".join(scripts.text)
    assert "The first 8 of 20,000 images" in text
    assert f"Small pictures of {len(shown)} of 8 images" in text


@pytest.mark.parametrize(
    ("limits", "masks"),
    [({}, 12), ({"MASK_BYTES": 100}, 3), ({"MASK_BYTES": 0}, 0), ({"MASK_SECONDS": 0.0}, 0)],
    ids=str,
)
def test_masks_that_there_is_no_room_for_are_boxes_and_said_so(
    tmp_path, monkeypatch, limits, masks
):
    for name, value in limits.items():
        monkeypatch.setattr(writing, name, value)
    # A path of 44 characters.
    with_mask = box("cat", 0, 0, 150, 100, mask=[[0, 0, 150, 0, 150, 100]])
    others = [box("dog", 0, 0, 9, 9), box("eel", 0, 0, 9, 9, mask={"size": [9], "counts": [9]})]
    rows = candidates(["a", "b", "c"], objects=[with_mask] * 4 + others)
    uris = {one: draw_image(tmp_path / f"{one}.png") for one in "abc"}
    path = write(a_page(a_list(rows), uris=uris), tmp_path / "page.html").path
    found = [each for of_image in data_of(path)["found"] for each in of_image]
    assert len(found) == 18
    assert all(corners for _, _, corners, _ in found)
    # Those of the first images are drawn.
    drawn = [bool(outline) for label, _, _, outline in found if label == 0]
    assert drawn == [True] * masks + [False] * (12 - masks)
    text = "".join(Scripts(path.read_text("utf-8")).text)
    assert f"Masks of {masks} of 15 objects" in text


def test_a_page_takes_the_place_of_the_former_one_and_leaves_nothing_else(tmp_path):
    folder = tmp_path / "new" / "folder"
    for title in ("first", "second"):
        write(a_page(a_list(candidates(["a"])), title=title), folder / "page.html")
    assert [path.name for path in folder.iterdir()] == ["page.html"]
    assert "second" in (folder / "page.html").read_text("utf-8")


def test_a_page_that_cannot_be_written_whole_leaves_the_former_one(tmp_path, monkeypatch):
    write(a_page(a_list(candidates(["a"])), title="first"), tmp_path / "page.html")

    def fail(small):
        yield ["x"]
        raise OSError("no space left")

    monkeypatch.setattr(writing, "_chunks", fail)
    with pytest.raises(OSError, match="no space left"):
        write(a_page(a_list(candidates(["b"])), title="second"), tmp_path / "page.html")
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
    assert "first" in (tmp_path / "page.html").read_text("utf-8")


def test_an_empty_list_is_a_page(tmp_path):
    assert data_of(write(a_page(a_list([])), tmp_path / "page.html").path)["ids"] == []
