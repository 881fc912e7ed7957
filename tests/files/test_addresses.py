"""Addresses as they are shown: no user, password or query, wherever they stand."""

import re
import string
import time
import traceback

import hypothesis.strategies as st
import pytest
from hypothesis import given

from dagster_active_learning.files.addresses import (
    redacted,
    shown_address,
    with_account,
    without_secrets,
)

SHOWN = [
    ("https://host/a.csv", "https://host/a.csv"),
    ("https://host:8443/a.csv", "https://host:8443/a.csv"),
    ("https://[::1]:8443/a.csv", "https://[::1]:8443/a.csv"),
    ("https://me@host/a.csv", "https://host/a.csv"),
    ("https://me:pass@host/a.csv", "https://host/a.csv"),
    ("https://me:pass@[::1]:80/a.csv", "https://[::1]:80/a.csv"),
    ("https://me:p@ss@host/a@2.csv", "https://host/a@2.csv"),
    ("https://me:pa/ss@host/a.csv", "https://host/a.csv"),
    ("https://me:p%2Fa%40ss@host/a.csv", "https://host/a.csv"),
    ("https://me:p?ss@host/a.csv", "https://host/a.csv"),
    ("https://me:p#ss@host/a.csv", "https://host/a.csv"),
    ("https://host/a.csv?X-Amz-Signature=0f", "https://host/a.csv"),
    ("https://host/a.csv?sig=a/b@c", "https://host/a.csv"),
    ("https://host/a.csv#token=0f", "https://host/a.csv"),
    ("https://host?token=0f", "https://host"),
    ("HTTPS://host/a.csv?token", "HTTPS://host/a.csv"),
    ("ftp://me:pass@host/*.csv", "ftp://host/*.csv"),
    ("sftp://me@host:22/p/*.csv", "sftp://host:22/p/*.csv"),
    ("smb://work;me:pass@host/share/a.csv", "smb://host/share/a.csv"),
    ("s3://bucket/a-?.csv", "s3://bucket/a-?.csv"),
    ("s3://bucket/a?b=1/c.csv", "s3://bucket/a"),
    ("s3://bucket/me@here/*.csv", "s3://bucket/me@here/*.csv"),
    ("s3://bucket/a.csv?s3_secret_access_key=0f", "s3://bucket/a.csv"),
    ("gs://bucket/{partition_key}/*.csv", "gs://bucket/{partition_key}/*.csv"),
    ("abfs://box@account.dfs.core.windows.net/a", "abfs://box@account.dfs.core.windows.net/a"),
    ("abfss://me:pass@account/a", "abfss://account/a"),
    ("abfs://box@account/a.csv?sig=0f", "abfs://box@account/a.csv"),
    ("zip://*.csv::https://me:pass@host/a.zip?sig=0f", "zip://*.csv::https://host/a.zip"),
    ("simplecache::https://me:pass@host/a.csv", "simplecache::https://host/a.csv"),
    ("memory://a:b/c.csv", "memory://a:b/c.csv"),
    ("file:///data/a@b?.csv", "file:///data/a@b?.csv"),
    ("md:pool?motherduck_token=0f", "md:pool"),
    ("/data/a@b?c=d.csv", "/data/a@b?c=d.csv"),
    ("C:/data/a.csv", "C:/data/a.csv"),
    ("a::b.csv", "a::b.csv"),
    ("", ""),
]


@pytest.mark.parametrize(("address", "shown"), SHOWN)
def test_an_address_is_shown_without_its_secrets(address, shown):
    assert shown_address(address) == shown
    assert shown_address(shown) == shown, "what is shown is shown as it is"
    assert shown in redacted(f"cannot open {address} now", address)


SECRET = (
    st.text(string.ascii_letters + string.digits + "%+-._~!$*=,:@/?#&")
    .map(lambda text: f"{text}S3CRET")
    # Nothing tells "me:80/pass@host/a.csv" from a file "pass@host/a.csv" at the port 80 of "me",
    # nor "me:a@b/pass@host/a.csv" from such a file of the host "b".
    .filter(lambda text: not re.search(r"^\d*/|@[^/]*/", text))
)


@given(st.sampled_from(["https", "http", "ftp", "sftp", "s3", "webhdfs"]), SECRET, st.booleans())
def test_no_password_is_shown_whatever_is_in_it(scheme, password, has_port):
    port = ":8080" if has_port else ""
    address = f"{scheme}://someone:{password}@host{port}/a/b.csv"
    for text in (shown_address(address), redacted(f"x {address}: 403", address)):
        assert "S3CRET" not in text
        assert "someone" not in text


@given(SECRET)
def test_no_query_is_shown_whatever_is_in_it(signature):
    address = f"https://host/a/b.csv?X-Amz-Credential=AKIA&X-Amz-Signature={signature}"
    assert shown_address(address) == "https://host/a/b.csv"
    for text in (f"x {address}: 403", f"x {signature}", f"URL('{address}')"):
        assert "S3CRET" not in redacted(text, address)


TEXTS = [
    "403 for https://me:p%40ss/word@host/a.csv",
    "login of me with p@ss/word failed",
    "{'user': 'me', 'password': 'p%40ss/word'}",
    "https://other:p%40ss/word@elsewhere/b?sig=p@ss/word redirects",
]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("kind", [OSError, ValueError, KeyError, RuntimeError])
def test_an_error_about_an_address_repeats_no_secret(text, kind):
    def fail():
        try:
            raise kind(text)
        except kind as error:
            raise RuntimeError(text) from error

    with (
        pytest.raises(OSError, match="RuntimeError: ") as error,
        without_secrets("https://me:p%40ss/word@host/a.csv"),
    ):
        fail()
    shown = "".join(traceback.format_exception(error.value))
    for secret in ("p%40ss", "p@ss", "ss/word"):
        assert secret not in str(error.value)
        assert secret not in shown.replace('without_secrets("https://me:p%40ss/word@host', "")
    assert error.value.__cause__ is None
    assert error.value.__suppress_context__


@pytest.mark.parametrize("path", ["/data/a.csv", "https://host/a.csv", "s3://bucket/a?.csv"])
def test_an_error_about_an_address_without_secrets_stays_as_it_is(path):
    fault = FileNotFoundError("no such file")
    with pytest.raises(FileNotFoundError) as error, without_secrets(path):
        raise fault
    assert error.value is fault


def test_a_missing_package_is_named():
    fault = ImportError("install s3fs")
    with pytest.raises(ImportError, match="s3fs"), without_secrets("https://me:pass@host/a"):
        raise fault


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('{"a": "https://me:pass@host/a?sig=1", "b": 1}', '{"a": "https://host/a", "b": 1}'),
        ("x=1https://me:pass@host/a.", "x=1https://host/a."),
        ("(s3://b/a.png?versionId=1 and s3://b/?.png)", "(s3://b/a.png and s3://b/?.png)"),
        ("cmd:me@host?a=b and 5@x?a=b", "cmd:me@host?a=b and 5@x?a=b"),
    ],
)
def test_any_address_in_a_text_is_without_secrets(text, shown):
    assert redacted(text) == shown


def test_a_long_word_is_looked_through_once():
    start = time.perf_counter()
    assert redacted("a" * 300_000) == "a" * 300_000
    assert time.perf_counter() - start < 1


WITH_ACCOUNT = [
    ("abfs://box/a/b.csv", "abfs://box@me.dfs.core.windows.net/a/*", "abfs://box@me.dfs.core.windows.net/a/b.csv"),
    ("abfs://box/a/b.csv", "abfss://box@me.blob.core.windows.net/**/b.csv", "abfss://box@me.blob.core.windows.net/a/b.csv"),
    ("abfs://box/b@c.csv", "ABFSS://box@me/*.csv", "ABFSS://box@me/b@c.csv"),
    ("abfs://box/a/b.csv", "abfs://box/a/*.csv", "abfs://box/a/b.csv"),
    ("abfs://box/a@b/c.csv", "az://box/a@b/*.csv", "abfs://box/a@b/c.csv"),
    ("s3://box/a.csv", "s3://box/*.csv", "s3://box/a.csv"),
    ("sftp://host/a.csv", "sftp://me@host/a.csv", "sftp://host/a.csv"),
]  # fmt: skip


@pytest.mark.parametrize(("address", "path", "whole"), WITH_ACCOUNT)
def test_a_file_has_the_account_that_its_path_names(address, path, whole):
    assert with_account(address, path) == whole
