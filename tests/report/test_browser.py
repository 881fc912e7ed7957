"""A page in a real browser: filters, order, selection, keyboard, hostile names, 10,000 images."""

import csv
import json
import time
from dataclasses import replace

import numpy as np
import pytest

from chromium import SIZE, browser, shot
from report.pages import CLASSES, HOSTILE, a_list, a_page, box, candidates, draw_image, write

pytestmark = pytest.mark.slow

__all__ = ["browser", "shot"]

IDS = [f"image{number:03d}" for number in range(60)]


@pytest.fixture
def open_page(browser):
    """Open a page; afterwards it has said nothing in the console and asked nobody for anything."""
    contexts, said, asked = [], [], []

    def opened(path, **options):
        context = browser.new_context(viewport=SIZE, accept_downloads=True, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-ready]")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert said == []
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("pages")


@pytest.fixture(scope="module")
def photos(folder):
    return {
        one: draw_image(folder / f"{one}.jpg", (1_500, 1_000), seed=place)
        for place, one in enumerate(IDS[:-1])
    }


@pytest.fixture(scope="module")
def ranking(folder, photos):
    """A ranking of 60 images, of which one has no picture, and another ranking of half of them."""
    mask = [[300, 200, 900, 200, 900, 700]]
    objects = [box("dog", 150, 100, 600, 500, score=0.8, mask=mask), box("cat", 900, 200, 300, 300)]
    own = a_list(candidates(IDS, objects=objects, object_count=2))
    other = a_list(candidates(IDS[::-1][:30]), name="entropy")
    rng = np.random.default_rng(0)
    points = {
        one: (float(x), float(y))
        for one, (x, y) in zip(IDS, rng.uniform(0, 1, (60, 2)), strict=True)
    }
    page = a_page(own, other, uris=photos, points=points, points_label="60 images by two numbers.")
    return write(page, folder / "ranking.html").path


def shown(page, number=0):
    """The ids of all tiles of a list, in their order, from the first row to the last."""
    return page.evaluate(
        """async (number) => {
            const box = document.getElementById(`grid-${number}`), found = new Map();
            for (box.scrollTop = 0; ; box.scrollTop += box.clientHeight) {
                await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
                for (const tile of box.querySelectorAll(".tile")) {
                    found.set(Number(tile.dataset.place), tile.querySelector(".id").textContent);
                }
                if (box.scrollTop + box.clientHeight >= box.scrollHeight - 1) break;
            }
            box.scrollTop = 0;
            await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
            return [...found].sort((one, other) => one[0] - other[0]).map(([, id]) => id);
        }""",
        number,
    )


def test_all_images_are_shown_in_the_order_of_their_ranks(open_page, ranking):
    page = open_page(ranking)
    assert shown(page) == IDS
    assert "60 shown, 0 selected" in page.locator("#status").inner_text()
    assert page.locator("#grid-0 .tile").count() < 60, "only tiles in view are in the document"


def test_filters_and_orders(open_page, ranking):
    page = open_page(ranking)
    page.locator("#class").select_option(label="dog")
    dogs = IDS[1::3]
    assert shown(page) == dogs
    page.locator("#sort").select_option("score-down")
    assert shown(page) == dogs[::-1]
    page.locator("#low").fill("0.25")
    page.locator("#high").fill("0.5")
    scores = {one: place / 60 for place, one in enumerate(IDS)}
    assert shown(page) == [one for one in dogs[::-1] if 0.25 <= round(scores[one], 6) <= 0.5]
    page.get_by_role("button", name="Reset").click()
    assert shown(page) == IDS
    page.locator("#search").fill("IMAGE01")
    assert shown(page) == IDS[10:20]
    page.locator("#search").fill("eel vs cat")
    assert shown(page) == IDS[2::3]
    page.locator("#search").fill("nothing like it")
    assert shown(page) == []
    assert "0 shown" in page.locator("#status").inner_text()


def test_bars_of_classes_and_of_scores_filter(open_page, ranking):
    page = open_page(ranking)
    balance = page.locator("#balance button")
    assert balance.all_inner_texts()[0].split("\n") == ["cat", "20 of 20"]
    page.locator("#balance").get_by_text("eel").click()
    assert shown(page) == IDS[2::3]
    assert page.locator("#balance [aria-pressed=true]").count() == 1
    page.locator("#balance").get_by_text("eel").click()
    page.locator("#histogram .bin").first.click()
    high = float(page.locator("#high").input_value())
    assert shown(page) == [one for place, one in enumerate(IDS) if place / 60 <= high]
    assert 0 < len(shown(page)) < 10


@pytest.mark.parametrize("place", [0, -1])
def test_the_first_and_the_last_bar_show_their_images(open_page, tmp_path, place):
    # Rounded to six digits, the lowest would be lower and the highest higher.
    scores = np.linspace(0.12345649, 0.9876547, 50)
    rows = [
        replace(row, score=float(score))
        for row, score in zip(candidates(IDS[:50]), scores, strict=True)
    ]
    counts, edges = np.histogram(scores, 30)
    own = a_list(rows, counts=counts.tolist(), edges=edges.tolist())
    page = open_page(write(a_page(own), tmp_path / "page.html").path)
    page.locator("#histogram .bin").nth(place).click()
    assert len(shown(page)) == counts[place] > 0


def test_a_long_class_name_leaves_the_score_in_its_tile(open_page, tmp_path):
    rows = [replace(row, predicted_class="long" * 30) for row in candidates(["a"])]
    page = open_page(write(a_page(a_list(rows)), tmp_path / "page.html").path)
    tile, score = (
        page.locator(selector).bounding_box() for selector in (".tile", ".first > :last-child")
    )
    assert score["x"] + score["width"] <= tile["x"] + tile["width"]


def test_two_lists_stand_side_by_side(open_page, ranking):
    page = open_page(ranking)
    page.locator("#beside").select_option(label="entropy")
    assert shown(page, 1) == IDS[::-1][:30]
    assert "30 in both lists" in page.locator("#count-0").inner_text()
    page.locator("#common").select_option("one")
    assert shown(page) == IDS[:30]
    assert shown(page, 1) == []
    page.locator("#common").select_option("both")
    assert shown(page) == IDS[30:]
    first = page.locator("#grid-0 .tile").first.inner_text()
    assert "entropy: 30" in first
    page.locator("#beside").select_option(label="nothing")
    assert not page.locator("#grid-1").is_visible()
    assert shown(page) == IDS


def test_selection_is_copied_and_downloaded(open_page, ranking, tmp_path):
    page = open_page(ranking, permissions=["clipboard-read", "clipboard-write"])
    assert page.locator("#copy").is_disabled()
    marks = page.locator("#grid-0 .tile .mark")
    marks.nth(1).click()
    page.locator("#grid-0 .tile").nth(4).click(modifiers=["Shift"])
    assert "4 selected" in page.locator("#status").inner_text()
    assert page.locator("#grid-0 [aria-selected=true]").count() == 4
    marks.nth(2).click()
    chosen = [IDS[1], IDS[3], IDS[4]]
    page.get_by_role("button", name="Copy ids").click()
    page.locator("#done").get_by_text("3 ids copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()").splitlines() == chosen
    with page.expect_download() as download:
        page.get_by_role("button", name="Download ids").click()
    download.value.save_as(tmp_path / "ids.csv")
    with (tmp_path / "ids.csv").open(encoding="utf-8", newline="") as file:
        assert [row["image_id"] for row in csv.DictReader(file)] == chosen
    page.get_by_role("button", name="Clear selection").click()
    assert "0 selected" in page.locator("#status").inner_text()
    page.locator("#class").select_option(label="cat")
    page.get_by_role("button", name="Select shown").click()
    assert "20 selected" in page.locator("#status").inner_text()


def test_what_is_shown_in_two_lists_is_counted_and_selected_once(open_page, ranking):
    page = open_page(ranking)
    page.locator("#beside").select_option(label="entropy")
    page.locator("#low").fill("0.9")
    images = {*shown(page), *shown(page, 1)}
    assert f"{len(images)} shown" in page.locator("#status").inner_text()
    page.get_by_role("button", name="Select shown").click()
    assert f"{len(images)} selected" in page.locator("#status").inner_text()


def test_of_many_classes_the_most_frequent_and_the_chosen_have_a_bar(open_page, tmp_path):
    rows = [
        replace(row, predicted_class=f"class {place // 2}")
        for place, row in enumerate(candidates([f"{number}" for number in range(259)]))
    ]
    page = open_page(write(a_page(a_list(rows)), tmp_path / "page.html").path)
    bars = page.locator("#balance button")
    assert bars.count() == 100
    assert page.locator("#balance-rest").inner_text().startswith("30 more classes have no bar")
    page.locator("#class").select_option(label="class 129")
    assert bars.count() == 101
    assert bars.last.inner_text().split("\n") == ["class 129", "1 of 1"]
    assert shown(page) == ["258"]


def test_all_is_done_with_the_keyboard(open_page, ranking):
    page = open_page(ranking)
    page.locator("#search").focus()
    reached = []
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
        if reached[-1] == "grid-0":
            break
    for control in (
        "class",
        "low",
        "high",
        "sort",
        "beside",
        "boxes",
        "masks",
        "scatter",
        "select-shown",
        "grid-0",
    ):
        assert control in reached
    active = "document.getElementById(document.activeElement.getAttribute('aria-activedescendant'))"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    page.keyboard.press("Shift+ArrowRight")
    assert page.evaluate(f"{active}.querySelector('.id').textContent") == IDS[2]
    assert page.evaluate(f"{active}.getAttribute('aria-selected')") == "true"
    assert "2 selected" in page.locator("#status").inner_text()
    page.keyboard.press("End")
    assert page.evaluate(f"{active}.querySelector('.id').textContent") == IDS[-1]
    assert page.evaluate(f"{active}.getAttribute('aria-posinset')") == "60"
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    dialog = page.locator("dialog")
    assert dialog.is_visible()
    page.keyboard.press("ArrowRight")
    assert page.locator("#image-id").inner_text() == IDS[1]
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert page.locator("#image-id").inner_text() == IDS[0]
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Escape")
    assert not dialog.is_visible()
    assert page.evaluate("document.activeElement.id") == "grid-0"
    assert page.evaluate(f"{active}.querySelector('.id').textContent") == IDS[1]
    page.keyboard.press("Control+a")
    assert "60 selected" in page.locator("#status").inner_text()


def test_every_control_has_a_name(open_page, ranking):
    page = open_page(ranking)
    page.locator("#beside").select_option(label="entropy")
    unnamed = page.evaluate(
        """[...document.querySelectorAll("input, select, button, [role=listbox], canvas")]
            .filter((each) => !each.closest("[hidden]"))
            .filter((each) => !(each.labels?.length || each.textContent.trim() || each.getAttribute("aria-labelledby")))
            .map((each) => each.outerHTML)"""
    )
    assert unnamed == []


def test_an_image_is_opened_as_large_as_the_page_has_it(open_page, ranking):
    page = open_page(ranking)
    page.locator("#grid-0 .tile .stage").first.click()
    picture = page.locator("#image-stage img")
    picture.wait_for()
    assert picture.evaluate("image => [image.naturalWidth, image.naturalHeight]") == [1024, 683]
    assert "1,500 x 1,000 pixels" in page.locator("#image-note").inner_text()
    facts = page.locator("#image-facts").inner_text()
    assert "cat vs dog: 0.41 / 0.40" in facts
    assert page.locator("#image-objects li").all_inner_texts() == ["dog 0.80", "cat 0.50"]
    # The box is where it is in the file, and the tags of classes stand at the boxes.
    frame = page.locator("#image-stage .frame").bounding_box()
    drawn = page.locator("#image-stage rect").first.bounding_box()
    left, top = (
        (drawn["x"] - frame["x"]) / frame["width"],
        (drawn["y"] - frame["y"]) / frame["height"],
    )
    assert (left, top) == pytest.approx((0.1, 0.1), abs=0.01)
    assert drawn["width"] / frame["width"] == pytest.approx(600 / 1_500, abs=0.01)
    assert page.locator("#image-stage path").count() == 1
    assert page.locator("#image-stage .tag").all_inner_texts() == ["dog 0.80", "cat 0.50"]
    page.get_by_role("button", name="Next").click()
    page.get_by_role("button", name="Select", exact=True).click()
    page.get_by_role("button", name="Close").click()
    assert "1 selected" in page.locator("#status").inner_text()


def test_boxes_and_masks_can_be_hidden_and_a_missing_picture_says_why(open_page, ranking):
    page = open_page(ranking)
    box_of_first, path = page.locator("#grid-0 rect").first, page.locator("#grid-0 path").first
    assert box_of_first.is_visible()
    page.get_by_label("Boxes").uncheck()
    assert not box_of_first.is_visible()
    assert path.is_visible()
    page.get_by_label("Masks").uncheck()
    assert not path.is_visible()
    page.locator("#search").fill(IDS[-1])
    assert "no uri" in page.locator("#grid-0 .missing").inner_text()
    page.locator("#grid-0 .tile .stage").click()
    assert "no uri" in page.locator("#image-stage .missing").inner_text()


def test_a_rectangle_on_the_plane_filters(open_page, ranking):
    page = open_page(ranking)
    canvas = page.locator("#scatter")
    canvas.scroll_into_view_if_needed()
    place = canvas.bounding_box()
    data = json.loads(
        page.locator("#data").inner_text()
        or page.evaluate("document.getElementById('data').textContent")
    )
    points = np.array(data["points"])
    shares = (points - points.min(axis=0)) / np.ptp(points, axis=0)
    x, y = 0.02 + 0.96 * shares[:, 0], 0.98 - 0.96 * shares[:, 1]
    page.mouse.move(place["x"] + 0.1 * place["width"], place["y"] + 0.2 * place["height"])
    page.mouse.down()
    page.mouse.move(place["x"] + 0.5 * place["width"], place["y"] + 0.9 * place["height"], steps=4)
    page.mouse.up()
    inside = (x >= 0.1) & (x <= 0.5) & (y >= 0.2) & (y <= 0.9)
    assert shown(page) == [one for one, here in zip(IDS, inside, strict=True) if here]
    assert 5 < inside.sum() < 40
    canvas.focus()
    page.keyboard.press("Escape")
    assert shown(page) == IDS
    page.keyboard.press("ArrowLeft")
    few = shown(page)
    for _ in range(4):
        page.keyboard.press("+")
    assert set(few) < set(shown(page))
    page.get_by_role("button", name="Reset").click()
    assert shown(page) == IDS


def test_hostile_names_are_text(open_page, tmp_path):
    rows = candidates(HOSTILE)
    rows = [
        type(row)(**{**vars(row), "predicted_class": text, "reason": text, "chosen_by": text})
        for row, text in zip(rows, HOSTILE, strict=True)
    ]
    uri = draw_image(tmp_path / "a.png")
    rows[0] = type(rows[0])(**{**vars(rows[0]), "objects": [box(HOSTILE[0], 10, 10, 50, 50)]})
    page_of_them = a_page(
        a_list(rows, name=HOSTILE[0]),
        a_list(rows, name=HOSTILE[1]),
        title=HOSTILE[0],
        facts=[(HOSTILE[2], HOSTILE[1])],
        class_names=HOSTILE[:3],
        uris={HOSTILE[0]: uri},
    )
    page = open_page(write(page_of_them, tmp_path / "page.html").path)
    assert shown(page) == HOSTILE
    assert page.locator("h1").inner_text() == HOSTILE[0]
    page.locator("#beside").select_option("1")
    page.locator("#class").select_option("1")
    assert shown(page, 1) == [HOSTILE[1]]
    page.locator("#class").select_option("")
    page.locator("#chosen").select_option(HOSTILE[4])
    assert shown(page) == [HOSTILE[4]]
    page.locator("#chosen").select_option("")
    for place in range(len(HOSTILE)):
        page.locator("#grid-0 .tile .stage").nth(place).click()
        assert page.locator("#image-id").evaluate("each => each.textContent") == HOSTILE[place]
        page.get_by_role("button", name="Close").click()
    assert page.evaluate("window.hacked") is None


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark_have_contrast(open_page, ranking, shot_of, scheme):
    page = open_page(ranking, color_scheme=scheme)
    colors = page.evaluate(
        """["body", ".note", ".caption .id", "#status"].map((name) => {
            const each = document.querySelector(name);
            let ground = each;
            while (getComputedStyle(ground).backgroundColor === "rgba(0, 0, 0, 0)") ground = ground.parentElement;
            return [getComputedStyle(each).color, getComputedStyle(ground).backgroundColor];
        })"""
    )
    for text, ground in colors:
        # The contrast that WCAG 2.2 asks of small text.
        assert contrast(text, ground) >= 4.5
    lightness = luminance(colors[0][1])
    assert lightness > 0.5 if scheme == "light" else lightness < 0.1
    shot_of(page, f"report_{scheme}")


def luminance(color):
    numbers = [
        int(number) / 255 for number in color.removeprefix("rgb(").removesuffix(")").split(",")
    ]
    linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in numbers]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


@pytest.fixture
def shot_of(tmp_path):
    import os
    from pathlib import Path

    folder = Path(os.environ.get("SCREENSHOTS_FOLDER", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    return lambda page, name: page.screenshot(path=folder / f"{name}.png")


def test_a_page_of_10_000_images(open_page, tmp_path):
    """All of them are shown, filtered and sorted; the figures are printed."""
    ids = [f"image{number:05d}" for number in range(10_000)]
    (tmp_path / "images").mkdir()
    uris = {
        one: draw_image(tmp_path / "images" / f"{one}.jpg", (320, 240), seed=place)
        for place, one in enumerate(ids)
    }
    rng = np.random.default_rng(0)
    points = {
        one: tuple(point)
        for one, point in zip(ids, rng.normal(size=(10_000, 2)).tolist(), strict=True)
    }
    page = a_page(
        a_list(candidates(ids, objects=[box("dog", 30, 30, 90, 90)] * 4, object_count=4)),
        a_list(candidates(ids[::-1][:1_000]), name="entropy"),
        uris=uris,
        points=points,
    )
    started = time.perf_counter()
    written = write(page, tmp_path / "page.html")
    seconds = time.perf_counter() - started
    print(
        f"10,000 images: {written.bytes / 1e6:.1f} MB, {written.picture_count:,} pictures, written in {seconds:.1f} s"
    )
    assert written.picture_count == 10_000
    opened = open_page(written.path)
    usable = opened.evaluate("performance.now()")
    opened.wait_for_load_state("load")
    whole = opened.evaluate("performance.now()")
    first = opened.locator("#grid-0 .tile img").first
    first.wait_for()
    print(f"usable after {usable:.0f} ms, read after {whole:.0f} ms")
    times = opened.evaluate(
        """() => {
            const timed = (id, value) => {
                const start = performance.now();
                const each = document.getElementById(id);
                each.value = value;
                each.dispatchEvent(new Event("input", { bubbles: true }));
                document.getElementById("grid-0").getBoundingClientRect();
                return Math.round(performance.now() - start);
            };
            return { class: timed("class", "1"), all: timed("class", ""), score: timed("sort", "score-down"), id: timed("sort", "id"), search: timed("search", "image09"), beside: (timed("search", ""), timed("beside", "1")) };
        }"""
    )
    print(f"milliseconds to filter and sort: {times}")
    opened.locator("#beside").select_option("")
    opened.locator("#sort").select_option("rank")
    opened.locator("#grid-0").focus()
    opened.keyboard.press("End")
    last = opened.locator("#grid-0 .tile.active")
    assert last.locator(".id").inner_text() == ids[-1]
    last.locator("img").wait_for()
    assert opened.locator("#grid-0 .tile").count() < 100
    opened.locator("#class").select_option(label=CLASSES[1])
    assert "3,333 shown" in opened.locator("#status").inner_text()
