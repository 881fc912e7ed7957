"""Links of the Markdown files lead somewhere, and each guide is linked from the README."""

import re
from urllib.parse import unquote, urlsplit

import pytest

from documents import DOCUMENTS, PROJECT, tokens


def links(document):
    """The targets of links and images of a document."""
    return [
        str(child.attrs["href" if child.type == "link_open" else "src"])
        for token in tokens(document)
        for child in token.children or ()
        if child.type in ("link_open", "image")
    ]


def anchors(document):
    """The headings of a document as GitHub names them."""
    headings = [
        following.content
        for token, following in zip(tokens(document), tokens(document)[1:], strict=False)
        if token.type == "heading_open"
    ]
    names, seen = set(), {}
    for heading in headings:
        name = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        count = seen[name] = seen.get(name, -1) + 1
        names.add(f"{name}-{count}" if count else name)
    return names


LINKS = [(document, link) for document in DOCUMENTS for link in links(document)]


@pytest.mark.parametrize(("document", "link"), LINKS)
def test_a_link_leads_to_a_file_a_heading_or_an_address(document, link):
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        local = parts.hostname in ("127.0.0.1", "localhost")
        assert parts.scheme == ("http" if local else "https")
        assert local or re.fullmatch(r"([\w-]+\.)+[a-z]{2,}", parts.hostname or "")
        return
    target = (PROJECT / document).parent / unquote(parts.path) if parts.path else PROJECT / document
    assert target.exists(), f"{document} links to {parts.path}, which is not there"
    assert target.resolve().is_relative_to(PROJECT)
    if parts.fragment:
        name = target.resolve().relative_to(PROJECT).as_posix()
        assert parts.fragment in anchors(name), (
            f"{document}: {name} has no heading #{parts.fragment}"
        )


@pytest.mark.parametrize("document", DOCUMENTS)
def test_a_picture_has_words_for_those_who_do_not_see_it(document):
    pictures = [
        child
        for token in tokens(document)
        for child in token.children or ()
        if child.type == "image"
    ]
    assert all(len(picture.content) > 10 for picture in pictures)


def test_every_guide_is_linked_from_the_readme():
    guides = {name for name in DOCUMENTS if name.startswith(".github/docs/")}
    assert guides | {"CHANGELOG.md", "pipelines/README.md"} <= {*links("README.md")}
