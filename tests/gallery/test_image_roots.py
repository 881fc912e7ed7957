"""Image files are read below their roots, whatever a manifest's author writes as a uri."""

import os
from pathlib import PurePosixPath
from urllib.parse import quote, unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dagster_active_learning.gallery import ImageRoots
from dagster_active_learning.gallery.image_roots import server_of
from dagster_active_learning.gallery.not_shown import NotShownError


@pytest.fixture
def pool(tmp_path, monkeypatch):
    """A folder with images and links, beside one that is private."""
    root, private = tmp_path / "pool", tmp_path / "private"
    for folder in (root / "images", private, tmp_path / "pool_of_others"):
        folder.mkdir(parents=True)
    (root / "a.png").touch()
    (root / "images" / "b.png").touch()
    (private / "c.png").touch()
    (root / "inside.png").symlink_to("images/b.png")
    (root / "out.png").symlink_to(private / "c.png")
    (root / "folder").symlink_to(private)
    (root / "loop.png").symlink_to("loop.png")
    (tmp_path / "link_to_pool").symlink_to(root)
    monkeypatch.chdir(root)
    return root


ALLOWED = [
    ("{root}/a.png", "{root}/a.png"),
    ("{root}/images/../a.png", "{root}/a.png"),
    ("{root}/./images//b.png", "{root}/images/b.png"),
    ("a.png", "{root}/a.png"),
    ("images/b.png", "{root}/images/b.png"),
    ("../pool/a.png", "{root}/a.png"),
    ("{root}/inside.png", "{root}/images/b.png"),
    ("{root}/../link_to_pool/a.png", "{root}/a.png"),
    ("{root}/missing.png", "{root}/missing.png"),
    ("{root}/..png", "{root}/..png"),
    ("file://{root}/a.png", "{root}/a.png"),
    ("file://localhost{root}/a.png", "{root}/a.png"),
    ("FILE://{root}/%61.png", "{root}/a.png"),
    ("local://{root}/a.png", "{root}/a.png"),
    ("{root}/%2e%2e/private/c.png", "{root}/%2e%2e/private/c.png"),
    ("{root}/C:\\Windows\\a.png", "{root}/C:\\Windows\\a.png"),
    ("data:image/png;base64,AAAA", "{root}/data:image/png;base64,AAAA"),
    ("http:/example.org/a.png", "{root}/http:/example.org/a.png"),
]


@pytest.mark.parametrize(("uri", "place"), ALLOWED)
def test_files_below_a_folder_have_a_place(pool, uri, place):
    roots = ImageRoots([pool])
    assert roots.place_of(uri.format(root=pool)) == place.format(root=pool)


OUTSIDE = [
    ("../private/c.png", "outside of"),
    ("{root}/../private/c.png", "outside of"),
    ("{root}/images/../../private/c.png", "outside of"),
    ("{root}/folder/../private/c.png", "outside of"),
    ("{root}_of_others/a.png", "outside of"),
    ("{root}", None),
    ("/etc/passwd", "outside of"),
    ("/proc/self/environ", "outside of"),
    ("/dev/zero", "outside of"),
    ("/", "outside of"),
    ("..", "outside of"),
    ("file:///etc/passwd", "outside of"),
    ("file://{root}/../private/c.png", "outside of"),
    ("file://{root}/%2e%2e/private/c.png", "outside of"),
    ("file://{root}/..%2fprivate/c.png", "outside of"),
    ("local:///etc/hostname", "outside of"),
    ("file://server/share/a.png", "another machine"),
    ("file://localhost.example.org/a.png", "another machine"),
    ("file://a.png", "another machine"),
    ("{root}/out.png", "a link"),
    ("{root}/folder/c.png", "a link"),
    ("file://{root}/out.png", "a link"),
    ("C:\\..\\..\\private\\c.png", None),
    ("\\\\server\\share\\a.png", None),
    ("http://127.0.0.1/a.png", "outside of image_roots: http://127.0.0.1/"),
    ("https://169.254.169.254/latest/meta-data", "outside of image_roots: https://169.254.169.254/"),
    ("s3://bucket/a.png", "outside of image_roots: s3://bucket/"),
    ("memory://x", "outside of image_roots: memory://x/"),
    ("dir://{root}/a.png", "outside of image_roots: dir:///"),
    ("zip://a.png::file://{root}/a.zip", "a chain"),
    ("simplecache::file://{root}/a.png", None),
    ("reference://x", "outside of image_roots"),
]  # fmt: skip


@pytest.mark.parametrize(("uri", "reason"), OUTSIDE)
def test_what_is_outside_of_a_folder_has_no_place(pool, uri, reason):
    roots = ImageRoots([pool])
    if reason is None:
        # Odd names of files that may be there.
        assert roots.place_of(uri.format(root=pool)).startswith(str(pool))
        return
    with pytest.raises(NotShownError, match=reason):
        roots.place_of(uri.format(root=pool))


@pytest.mark.parametrize("uri", ["{root}/a\0.png", "\0", "{root}/" + "x" * 5_000, "x/" * 5_000])
def test_what_is_no_path_is_refused_or_cannot_be_opened(pool, uri):
    try:
        place = ImageRoots([pool]).place_of(uri.format(root=pool))
    except (ValueError, OSError):
        return
    with pytest.raises(OSError, match="too long"):
        os.stat(place)


def test_a_link_to_itself_is_not_below_another_place(pool):
    assert ImageRoots([pool]).place_of(f"{pool}/loop.png") == f"{pool}/loop.png"


def test_further_roots_allow_more(pool):
    private = pool.parent / "private"
    roots = ImageRoots.of_manifest(pool / "manifest.csv", [private, "s3://bucket/images/"])
    assert roots.place_of(f"{pool}/out.png") == f"{private}/c.png"
    assert roots.place_of("s3://bucket/images/a.png") == "s3://bucket/images/a.png"


@pytest.mark.parametrize(
    ("manifest", "root"),
    [
        ("{root}/m.csv", "{root}"),
        ("m.csv", "."),
        ("images/m.csv", "images"),
        ("{root}/images", "{root}/images"),
        ("file://{root}/m.csv", "file://{root}"),
        ("s3://bucket/pool/m.csv", "s3://bucket/pool"),
        ("https://example.org/pool/m.csv?signature=a/b", "https://example.org/pool"),
        ("https://example.org/m.csv", "https://example.org"),
    ],
)
def test_the_root_of_a_manifest_is_its_folder(pool, manifest, root):
    roots = ImageRoots.of_manifest(manifest.format(root=pool))
    assert roots.roots == (root.format(root=pool),)


WEB = ("https://example.org/pool/my images", "http://user:pa55@example.org:8080/p")
BUCKET = (
    "s3://bucket/pool/",
    "abfs://container@account.example.org/pool",
    "github://org:repo@main/",
)

SAME_PLACE = [
    (WEB, "https://example.org/pool/my images/a.png"),
    (WEB, "https://example.org/pool/my%20images/a.png"),
    (WEB, "HTTPS://EXAMPLE.org:443/pool/my%20images/a/b.png?signature=%2F..%2F#x"),
    (WEB, "https://example.org/pool/my images/a;b/..c.png"),
    (WEB, "https://example.org/pool/my images/a%2Fb.png"),
    (WEB, "https://example.org/pool/my images?file=a.png"),
    (WEB, "https://example.org/pool/my images/кот.png"),
    (WEB, "http://example.org:8080/p/a.png"),
    (WEB, "http://user:pa55@example.org:8080/p/a.png"),
    (BUCKET, "s3://bucket/pool/a b#c?d.png"),
    (BUCKET, "abfs://container@account.example.org/pool/a.png"),
    (BUCKET, "github://org:repo@main/images/a.png"),
]


@pytest.mark.parametrize(("roots", "uri"), SAME_PLACE)
def test_files_below_an_address_are_read_as_they_are(roots, uri):
    assert ImageRoots(roots).place_of(uri) == uri


OTHER_PLACE = [
    # Another host, port or protocol.
    (WEB, "https://example.com/pool/my images/a.png"),
    (WEB, "https://sub.example.org/pool/my images/a.png"),
    (WEB, "https://example.org.evil.net/pool/my images/a.png"),
    (WEB, "https://example.org./pool/my images/a.png"),
    (WEB, "https://example.org:8443/pool/my images/a.png"),
    (WEB, "https://example.org:/pool/my images/a.png"),
    (WEB, "http://example.org/pool/my images/a.png"),
    (WEB, "ftp://example.org/pool/my images/a.png"),
    (WEB, "https:///pool/my images/a.png"),
    # A user that makes the host look like another.
    (WEB, "https://example.org@evil.net/pool/my images/a.png"),
    (WEB, "https://example.org:443@evil.net/pool/my images/a.png"),
    (WEB, "https://evil.net@example.org@evil.net/pool/my images/a.png"),
    (WEB, "https://evil.net\\@example.org/pool/my images/a.png"),
    (WEB, "https://example.org\\@evil.net/pool/my images/a.png"),
    (WEB, "https://evil.net#@example.org/pool/my images/a.png"),
    (WEB, "https://evil.net?@example.org/pool/my images/a.png"),
    # Credentials that are not the root's, or are written so that they look like a host or a path.
    (WEB, "https://user:12pa55/x@example.org/a.png"),
    (WEB, "https://pa55/x@example.org/a.png"),
    (WEB, "https://pa55?x@example.org/a.png"),
    (WEB, "https://user:pa55#x@example.org/a.png"),
    (WEB, "https://user:pa55@example.org/pool/my images/a.png"),
    (WEB, "http://user:other@example.org:8080/p/a.png"),
    # Another folder.
    (WEB, "https://example.org/pool/a.png"),
    (WEB, "https://example.org/pool/my images of others/a.png"),
    (WEB, "https://example.org//pool/my images/a.png"),
    (WEB, "https://example.org/pool%2Fmy images/a.png"),
    (WEB, "https://example.org"),
    (WEB, "https://example.org?/pool/my images/a.png"),
    # A way up, in encodings.
    (WEB, "https://example.org/pool/my images/../../private.png"),
    (WEB, "https://example.org/pool/my images/%2e%2E/private.png"),
    (WEB, "https://example.org/pool/my images/.%2e/private.png"),
    (WEB, "https://example.org/pool/my images/..%2fprivate.png"),
    (WEB, "https://example.org/pool/my images/..%5cprivate.png"),
    (WEB, "https://example.org/pool/my images/..\\private.png"),
    (WEB, "https://example.org/pool/my images/%252e%252e/private.png"),
    (WEB, "https://example.org/pool/my images/%25252e%25252e/private.png"),
    (WEB, "https://example.org/pool/my images/" + ("%" + "25" * 9 + "2e") * 2 + "/private.png"),
    (WEB, "https://example.org/pool/my images/..;x=1/private.png"),
    (WEB, "https://example.org/pool/my images/.%2e%3bx/private.png"),
    (WEB, "https://example.org/pool/my images/\uff0e\uff0e/private.png"),
    (WEB, "https://example.org/pool/my images/\u2025\uff0fprivate.png"),
    (WEB, "https://example.org/pool/my images/%E2%80%A5/private.png"),
    (WEB, "https://example.org/pool/my images/\u2024\u2024/private.png"),
    # Letters that are, or become, others.
    (WEB, "https://ex\u0430mple.org/pool/my images/a.png"),
    (WEB, "https://example\u3002org/pool/my images/a.png"),
    (WEB, "https://\uff45xample.org/pool/my images/a.png"),
    (WEB, "https://example.org\uff0f@evil.net/pool/my images/a.png"),
    (WEB, "https://evil.net\uff03@example.org/pool/my images/a.png"),
    (WEB, "https://example.org\u200b/pool/my images/a.png"),
    (WEB, "https://example%2eorg/pool/my images/a.png"),
    # Numbers that are an address.
    (WEB, "http://2130706433/p/a.png"),
    (WEB, "http://0x7f.1/p/a.png"),
    (WEB, "http://[::1]:8080/p/a.png"),
    # What ends a line or a header.
    (WEB, "https://example.org/pool/my images/a%0d%0aHost:evil.net"),
    (WEB, "https://example.org\r\n/pool/my images/a.png"),
    (WEB, "https://example.org/pool/my images/a%00.png"),
    (WEB, "https://exam\tple.org/pool/my images/a.png"),
    # Chains, and more than a server takes.
    (WEB, "zip://a.png::https://example.org/pool/my images/a.zip"),
    (WEB, "https://example.org/pool/my images/a.png::file:///etc/passwd"),
    (WEB, "https://example.org/pool/my images/" + "a" * 10_000),
    (WEB, "file:///etc/passwd"),
    (WEB, "/etc/passwd"),
    (WEB, "a.png"),
    # Keys are compared as they are.
    (BUCKET, "s3://bucket/private/a.png"),
    (BUCKET, "s3://bucket/p%6Fol/a.png"),
    (BUCKET, "s3://Bucket/pool/a.png"),
    (BUCKET, "s3://bucket/pool/../private/a.png"),
    (BUCKET, "s3a://bucket/pool/a.png"),
    (BUCKET, "gs://bucket/pool/a.png"),
    (BUCKET, "s3://key:secret@bucket/pool/a.png"),
    (BUCKET, "abfs://private@account.example.org/pool/a.png"),
    (BUCKET, "github://org:repo@other/a.png?main"),
    (BUCKET, "github://other:repo@main/a.png"),
    (BUCKET, "simplecache://bucket/pool/a.png"),
]


@pytest.mark.parametrize(("roots", "uri"), OTHER_PLACE)
def test_what_is_not_below_an_address_has_no_place(roots, uri):
    with pytest.raises(NotShownError) as error:
        ImageRoots(roots).place_of(uri)
    assert "pa55" not in str(error.value)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    "root",
    ["", "https://exämple.org/", "https://user:secret@evil\\@x/", "s3://bucket/../a", "zip://a::s3://secret@b", "file://server/share", "https://x/" + "a" * 9_000, "https://secret:x/../y@host"],
)  # fmt: skip
def test_a_root_that_is_no_place_is_refused_without_its_secrets(root):
    with pytest.raises(ValueError, match="expected a folder, or an address") as error:
        ImageRoots([root])
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("uri", "server"),
    [
        ("a/b.png", ""),
        ("/a/b.png", ""),
        ("C:\\a.png", ""),
        ("file:///a", ""),
        ("s3://bucket/a.png", "s3://bucket"),
        ("HTTPS://user:secret@Example.org:81/a?key=secret", "https://example.org:81"),
        ("https://user:se@cret@example.org?key=secret", "https://example.org"),
    ],
)
def test_the_server_of_a_uri_has_no_secrets(uri, server):
    assert server_of(uri) == server


PIECES = st.sampled_from(
    ["..", ".", "/", "\\", "%2e", "%2f", "%252e", "pool", "pool/", "private", "a.png", "link", "\uff0e", ";", "//", "file://", "@", ":", "?", "#", " "]
)  # fmt: skip


@given(pieces=st.lists(PIECES, max_size=10))
@settings(max_examples=500, deadline=None)
def test_no_combination_leaves_the_folder(tmp_path_factory, pieces):
    base = tmp_path_factory.getbasetemp() / "combinations"
    root = base / "pool"
    (base / "private").mkdir(parents=True, exist_ok=True)
    root.mkdir(exist_ok=True)
    if not (root / "link").is_symlink():
        (root / "link").symlink_to("../private")
    uri = f"{root}/{''.join(pieces)}"
    try:
        place = ImageRoots([root]).place_of(uri)
    except NotShownError:
        return
    assert PurePosixPath(os.path.realpath(place)).is_relative_to(os.path.realpath(root))


@given(pieces=st.lists(PIECES, max_size=10), encodings=st.integers(0, 3))
@settings(max_examples=500, deadline=None)
def test_no_combination_leaves_the_address(pieces, encodings):
    path = "".join(pieces)
    for _ in range(encodings):
        path = quote(path, safe="/")
    uri = f"https://example.org/pool/{path}"
    try:
        place = ImageRoots(["https://example.org/pool"]).place_of(uri)
    except NotShownError:
        return
    seen = place.removeprefix("https://example.org").partition("?")[0].partition("#")[0]
    for _ in range(5):
        assert os.path.normpath(seen).startswith("/pool")
        assert (os.path.normpath(seen) + "/").startswith("/pool/")
        seen = unquote(seen)
