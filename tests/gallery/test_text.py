"""Names are hostile: whatever is in them is seen as it is, on one line, in the room there is."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dagster_active_learning.gallery.text import (
    literal,
    load_font,
    number_text,
    shorten,
    wrap,
)

FONT = load_font(11)

LITERAL = [
    ("plain", "cat", "cat"),
    ("letters of Europe", "Fußgänger трамвай ζέβρα", "Fußgänger трамвай ζέβρα"),
    ("line breaks", "a\r\nb\tc\u2028d", "a\\r\\nb\\tc\\u2028d"),
    ("what reverses text", "gnp.\u202eexe", "gnp.\\u202eexe"),
    ("invisible", "a\u200bb\0\ufeffc", "a\\u200bb\\x00\\ufeffc"),
    ("no glyph", "人\U0001f984", "\\u4eba\\U0001f984"),
    ("half a character", "a\ud800", "a\\ud800"),
    ("a letter in two parts, as file names of macOS have it", "e\u0301", "é"),
    ("marks that stack up", "q\u0301\u0301\u0489", "q\\u0301\\u0301\\u0489"),
    ("a backslash", "a\\nb", "a\\nb"),
    ("markup", "<b>$x^2$</b>", "<b>$x^2$</b>"),
    ("empty", "", ""),
]


@pytest.mark.parametrize(
    ("text", "shown"), [case[1:] for case in LITERAL], ids=[case[0] for case in LITERAL]
)
def test_text_is_shown_as_it_is(text, shown):
    assert literal(text) == shown


def test_both_ends_of_long_text_are_kept():
    shown = literal("a" * 5000 + "b" * 5000)
    assert len(shown) < 250
    assert shown.startswith("aaa")
    assert shown.endswith("bbb")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.6129, "0.613"),
        (-0.5, "-0.500"),
        (97.85, "97.850"),
        (12345.6, "12,346"),
        (1.5e9, "1.5e+09"),
        (1e300, "1e+300"),
        (float("nan"), "nan"),
        (float("inf"), "inf"),
    ],
)
def test_numbers_have_as_many_digits_as_people_read(value, shown):
    assert number_text(value) == shown


@pytest.mark.parametrize("middle", [False, True])
def test_what_is_left_out_is_the_end_or_the_middle(middle):
    shown = shorten("COCO_val2014_000000123456.jpg", FONT, 90, middle=middle)
    assert shown.startswith("CO")
    assert shown.endswith("456.jpg" if middle else "…")
    assert shown.count("…") == 1


@given(text=st.text(max_size=300), width=st.integers(20, 300), middle=st.booleans())
@settings(max_examples=200, deadline=None)
def test_shortened_text_fits_and_no_more_than_needed_is_left_out(text, width, middle):
    whole = literal(text)
    shown = shorten(text, FONT, width, middle=middle)
    assert FONT.getlength(shown) <= width
    assert "\n" not in shown
    if FONT.getlength(whole) <= width:
        assert shown == whole
    else:
        widest = max(map(FONT.getlength, whole))
        assert FONT.getlength(shown) > width - 2 * widest - 2


@given(text=st.text(max_size=300), lines=st.integers(1, 5))
@settings(max_examples=100, deadline=None)
def test_wrapped_text_fits(text, lines):
    wrapped = wrap(text, FONT, 100, lines)
    assert len(wrapped) <= lines
    assert all(FONT.getlength(line) <= 100 for line in wrapped)


def test_words_are_wrapped_whole():
    assert wrap("one two three four five six", FONT, 60, 3) == ["one two", "three four", "five six"]
    assert wrap("one two three four five six", FONT, 60, 2)[1].endswith("…")
