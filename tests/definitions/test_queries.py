"""Queries as they are shown: whole, unless they may hold a secret."""

import string
import traceback

import hypothesis.strategies as st
import pytest
from hypothesis import given

from dagster_active_learning.definitions.queries import secrets_withheld, shown_query
from dagster_active_learning.errors import PredictionReadError

WHOLE = [
    "FROM pool.scores",
    "SELECT image_id, class_probs FROM predictions WHERE model = 'resnet' ORDER BY 1 -- newest",
    "FROM read_parquet('s3://bucket/may/*.parquet') WHERE split = $partition_key",
    "FROM 'data/a?.csv'",
    "SELECT /* all */ * FROM t WHERE a = 'it''s'",
]


@pytest.mark.parametrize("query", WHOLE)
def test_a_query_without_secrets_is_shown_as_it_is(query):
    assert shown_query(query) == query


SHOWN = [
    ("FROM 'https://me:S3CRET@host/a.csv'", "FROM '…'"),
    ('FROM "https://me:S3CRET@host/a.csv"', 'FROM "…"'),
    ('SELECT "a b" FROM x.t WHERE token = \'S3CRET\'', 'SELECT "a b" FROM x.t WHERE token = \'…\''),
    ("FROM read_csv('https://host/a.csv?X-Amz-Signature=S3CRET')", "FROM read_csv('…')"),
    ("FROM 's3://b/a.csv?s3_access_key_id=S3CRET' LIMIT 7", "FROM '…' LIMIT 7"),
    ("CREATE SECRET (TYPE s3, KEY_ID 'S3CRET', SECRET 'S3CRET'); FROM t", "…; FROM t"),
    ("create secret (type s3, secret S3CRET); FROM t;", "…; FROM t"),
    ("SET s3_secret_access_key = S3CRET; SET x = 1;\nFROM t ; ", "…; FROM t"),
    ("SET s3_secret_access_key = S3CRET", "…"),
    ("FROM postgres_scan('host=h password=S3CRET', 'p', 't')", "FROM postgres_scan('…', '…', '…')"),
    ("FROM f('passwd', 'a''b; S3CRET')", "FROM f('…', '…')"),
    ("FROM f('password', E'a\\'; S3CRET')", "FROM f('…', '…')"),
    ("FROM f('password', $$it's S3CRET$$)", "FROM f('…', '…')"),
    ("FROM f('password', $a$ $$ S3CRET $a$, $partition_key)", "FROM f('…', '…', $partition_key)"),
    ("FROM t -- password S3CRET\nLIMIT 1", "FROM t \nLIMIT 1"),
    ("FROM t /* password S3CRET */", "…"),
    ("FROM t /* a /* b */ password S3CRET */", "…"),
    ("FROM f('password', 'S3CRET", "FROM f('…', '…'"),
    ("(WITH a AS (FROM b) FROM a WHERE pwd = 'S3CRET')", "(WITH a AS (FROM b) FROM a WHERE pwd = '…')"),
    ("ATTACH 'mysql:host=h passwd=S3CRET' AS m; FROM m.t", "…; FROM m.t"),
    ("FROM f(MAP {'Authorization': 'Bearer S3CRET'})", "FROM f(MAP {'…': '…'})"),
    ("FROM 'azure://box/a.csv' WHERE account_key = 'S3CRET'", "FROM '…' WHERE account_key = '…'"),
]  # fmt: skip


@pytest.mark.parametrize(("query", "shown"), SHOWN)
def test_a_query_that_may_hold_a_secret_is_shown_without_texts(query, shown):
    assert "S3CRET" in query
    assert shown_query(query) == shown


@given(st.text(string.printable))
def test_no_literal_of_such_a_query_is_shown_whatever_is_in_it(text):
    literal = f"{text}S3CRET".replace("'", "''")
    query = f"SELECT 'password', '{literal}', * FROM t"
    assert "S3CRET" not in shown_query(query)
    # What is no whole statement has nothing to show of its rest either.
    assert "S3CRET" not in shown_query(f"FROM f('password{literal}")


def failing(error, cause=None):
    raise error from cause


QUERY = "SELECT 'S3CRET' AS a, 'S3CR''ET', * FROM 'https://me:PASS@host/a.csv'"

FAULTS = [
    (RuntimeError("LINE 1: SELECT 'S3CRET' PASS"), None, "fails with RuntimeError"),
    (OSError("https://me:PASS@host/a.csv: 403"), None, "fails with OSError"),
    (PredictionReadError("row 1: S3CRET PASS"), OSError("PASS"), "fails with OSError"),
    (PredictionReadError("no column 'a': 'S3CRET', \"S3CR'ET\""), None, "no column 'a': '…', \"…\""),
]  # fmt: skip


@pytest.mark.parametrize(("error", "cause", "words"), FAULTS)
def test_an_error_of_such_a_query_repeats_no_secret(error, cause, words):
    with pytest.raises(PredictionReadError) as raised, secrets_withheld(QUERY):
        failing(error, cause)
    assert words in str(raised.value)
    shown = "".join(traceback.format_exception(raised.value))
    for secret in ("S3CRET", "PASS", "S3CR'ET"):
        assert secret not in shown


@pytest.mark.parametrize(("error", "cause", "words"), FAULTS)
def test_an_error_of_another_query_stays_as_it_is(error, cause, words):
    with pytest.raises(type(error)) as raised, secrets_withheld("FROM pool.scores"):
        failing(error, cause)
    assert raised.value is error
