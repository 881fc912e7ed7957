"""The Markdown files as tests read them: what they tell users to do is what is tested."""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt

PROJECT = Path(__file__).parents[1]
DOCUMENTS = sorted(
    path.relative_to(PROJECT).as_posix()
    for pattern in ("*.md", ".github/**/*.md", "pipelines/*.md", "pipelines/labeling/**/*.md")
    for path in PROJECT.glob(pattern)
)
README = (PROJECT / "README.md").read_text("utf-8")


@cache
def tokens(document):
    """A document as CommonMark understands it."""
    return MarkdownIt().enable("table").parse((PROJECT / document).read_text("utf-8"))


@dataclass(frozen=True)
class Block:
    """A block of code: its name is the last word in quotes before it, or that of a comment."""

    document: str
    line: int
    language: str
    text: str
    name: str

    def __str__(self):
        return f"{self.document}:{self.line}"


def blocks(document, language=None):
    """The blocks of code of a document, of one language or all."""
    found, before = [], ""
    for token in tokens(document):
        if token.type in ("inline", "html_block"):
            before = token.content.strip()
        elif token.type in ("fence", "code_block") and token.map:
            name = re.search(r"^<!-- (.+) -->$|`([^`]+)`(?:, [^`]*)?:$", before)
            name = (name[1] or name[2]) if name else ""
            found.append(Block(document, token.map[0] + 1, token.info, token.content, name))
            before = ""
    return [block for block in found if language in (None, block.language)]


def readme_commands(name):
    """The lines of the README's block of shell commands below a comment with a name."""
    found = [block for block in blocks("README.md", "bash") if block.name == name]
    assert len(found) == 1, f"README.md has {len(found)} blocks {name}"
    return found[0].text.splitlines()
