"""DuckDB queries as they are stored and shown: without what may be a secret."""

from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import contextmanager

from dagster_active_learning.errors import PredictionReadError
from dagster_active_learning.files.addresses import SHORTEST_SECRET

_MAY_BE_SECRET = re.compile(
    r"secret|passw|pwd|token|credential|signature|bearer|authorization|connection_string"
    r"|(api|access|account)_?key|key_id|\bsig=|\bAKIA|://[^\s'\"/]*@|[?&][\w.%-]+=",
    re.IGNORECASE,
)
"""Words of queries that hold secrets. To find more than there are hides a few literals; the table
and view names that tell queries apart stay."""

_QUOTED = re.compile(
    r"""
    (?<![\w$])[eE]'(?P<escaped>(?:\\.|''|[^'\\])*)(?:'|\Z)
    | '(?P<text>(?:''|[^'])*)(?:'|\Z)
    | \$(?P<tag>(?:[A-Za-z_]\w*)?)\$(?P<dollars>.*?)(?:\$(?P=tag)\$|\Z)
    | "(?P<name>(?:""|[^"])*)(?:"|\Z)
    | (?P<comment>--[^\n]*)
    """,
    re.DOTALL | re.VERBOSE,
)

_READS = re.compile(r"\s*\(*\s*(SELECT|FROM|WITH|VALUES|TABLE|PIVOT|UNPIVOT|SUMMARIZE)\b", re.I)


def shown_query(query: str) -> str:
    """A query as it is, or, if it may hold a secret, with ``…`` for all that may be one.

    Those are the texts in quotes, comments, and every statement but the last, which alone gives
    rows: another one may set a secret without quotes.

    Example:
        >>> shown_query("FROM read_csv('https://host/may.csv?sig=0f3a', header = true)")
        "FROM read_csv('…', header = true)"
    """
    if not _MAY_BE_SECRET.search(query):
        return query
    if "/*" in query:  # Such comments nest, which regular expressions do not.
        return "…"
    *before, last = _QUOTED.sub(_hidden, query).strip().rstrip("; \n\t").split(";")
    shown = last.strip() if _READS.match(last) else "…"
    return f"…; {shown}" if before else shown


def _hidden(quoted: re.Match[str]) -> str:
    if quoted["comment"] is not None:
        return ""
    name = quoted["name"]
    if name is None:
        return "'…'"
    is_secret = not re.fullmatch(r"[\w .-]*", name) or _MAY_BE_SECRET.search(name)
    return '"…"' if is_secret else quoted[0]


@contextmanager
def secrets_withheld(query: str) -> Generator[None]:
    """Errors of a query that may hold a secret repeat none of it.

    DuckDB's messages repeat lines of the query, addresses and values: of those only the kind of the
    error is shown.

    Raises:
        PredictionReadError: In place of any error, if the query may hold a secret.
    """
    try:
        yield
    except Exception as error:
        if not _MAY_BE_SECRET.search(query):
            raise
        if isinstance(error, PredictionReadError) and not error.__cause__ and "/*" not in query:
            message = _without_literals(str(error), query)
        else:
            kind = type(error.__cause__ or error).__name__
            message = (
                f"the query {shown_query(query)!r} fails with {kind}: what it says is not shown, "
                "as the query may hold a secret and the error repeat it; run the query in DuckDB "
                "to see it, or keep the secret out of it, in a persistent secret of DuckDB"
            )
        raise PredictionReadError(message) from None


def _without_literals(text: str, query: str) -> str:
    """A text of our own, in which columns may have the names that DuckDB makes of literals."""
    literals: set[str] = set()
    for quoted in _QUOTED.finditer(query):
        for content in quoted.group("escaped", "text", "dollars", "name"):
            if content is not None and _hidden(quoted) != quoted[0]:
                literals |= {content, content.replace("''", "'"), repr(content)[1:-1]}
    for literal in sorted(literals, key=len, reverse=True):
        if len(literal) >= SHORTEST_SECRET:
            text = text.replace(literal, "…")
    return text
