"""ADD of URLs: through the network of a sandbox, bounded, checked and never half."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import ssl
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from imagesmith.copying.copier import FileCopier
from imagesmith.copying.request import CopyFailed, CopyLimits, CopyRequest, CopyResult, UrlSource
from imagesmith.instances.network import host_addresses, listen_inside
from testing.copy_support import described, paths_in
from testing.file_server import Reply, serving
from testing.network import listener

pytestmark = pytest.mark.tool
PORT = 8099
HOME = f"http://127.0.0.1:{PORT}"


@contextmanager
def served(
    copier: FileCopier, replies: Mapping[str, Reply], tls: ssl.SSLContext | None = None
) -> Iterator[list[str]]:
    """Answer on the loopback of the copier's own network."""
    namespace = copier.start("outbound").namespace("net")
    with serving(listen_inside(namespace, "127.0.0.1", PORT), replies, tls) as seen:
        yield seen


def add(
    copier: FileCopier, target: Path, url: str, to: str = "/x/", *, checksum: str = "", **options: Any
) -> CopyResult:
    limits = options.pop("limits", None)
    request = CopyRequest(sources=(UrlSource(url, checksum),), destination=to, **options)
    return copier.copy(request, source=None, target=target, limits=limits)


def test_a_file_arrives_as_docker_would_have_it(copier: FileCopier, tmp_path: Path) -> None:
    """Named by its URL, mode 0600, changed when the server says, owned by root; its digest is known."""
    body = bytes(range(256)) * 10_000
    replies = {
        "/a/b%20c.bin?q=1": Reply(body, headers={"Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"}),
        "/plain": Reply(b"p", length=-1),
        "/": Reply(b"r"),
    }
    with served(copier, replies) as seen:
        result = add(copier, tmp_path, f"{HOME}/a/b%20c.bin?q=1#fragment")
        add(copier, tmp_path, f"{HOME}/plain", "/y")
        add(copier, tmp_path, HOME, "/z", chmod="640", chown="3:4")
    (download,) = result.downloads
    assert (download.size, download.sha256) == (len(body), hashlib.sha256(body).hexdigest())
    place = tmp_path / "x/b c.bin"
    assert place.read_bytes() == body and place.stat().st_mtime == 1445412480
    assert described(place)["mode"] == 0o600 and described(place)["owner"] == (0, 0)
    assert (tmp_path / "y").read_bytes() == b"p" and (tmp_path / "y").stat().st_mtime == 0
    assert described(tmp_path / "z")["mode"] == 0o640 and described(tmp_path / "z")["owner"] == (3, 4)
    assert seen[0].startswith("GET /a/b%20c.bin?q=1 HTTP/1.1\r\n") and "Authorization" not in seen[0]


def test_redirections_are_followed_to_http_alone(copier: FileCopier, tmp_path: Path) -> None:
    """The name stays that of the URL in the Dockerfile; a file of the sandbox is not reached."""
    replies = {
        "/old": Reply(status="302 Found", headers={"Location": "/new"}),
        "/new": Reply(b"new"),
        "/file": Reply(status="302 Found", headers={"Location": "file:///etc/hosts"}),
        "/ftp": Reply(status="301 Moved", headers={"Location": "ftp://127.0.0.1/x"}),
        "/ring": Reply(status="302 Found", headers={"Location": "/ring"}),
    }
    with served(copier, replies):
        add(copier, tmp_path, f"{HOME}/old")
        assert (tmp_path / "x/old").read_bytes() == b"new"
        for path in ("/file", "/ftp"):
            with pytest.raises(CopyFailed, match=r"neither http nor https|not allowed"):
                add(copier, tmp_path, HOME + path)
        with pytest.raises(CopyFailed, match="redirect"):
            add(copier, tmp_path, f"{HOME}/ring")
    assert paths_in(tmp_path / "x") == ["old"]


def test_a_checksum_is_held(copier: FileCopier, tmp_path: Path) -> None:
    """A download that is not what was asked for fails with both digests."""
    digest = hashlib.sha256(b"good").hexdigest()
    with served(copier, {"/f": Reply(b"good"), "/g": Reply(b"evil")}):
        add(copier, tmp_path, f"{HOME}/f", checksum=f"sha256:{digest}")
        with pytest.raises(CopyFailed, match="digest mismatch .* the checksum is sha256:" + digest) as failed:
            add(copier, tmp_path, f"{HOME}/g", checksum=f"sha256:{digest}")
    assert failed.value.source == 0


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (Reply(b"half", length=100), "ended after 4 of 100 bytes"),
        (Reply(b"4\r\nhalf\r\n", headers={"Transfer-Encoding": "chunked"}, length=-1), "the download ended after"),
        (Reply(b"x", "500 Oops"), "the server answered 500 Oops"),
        (Reply(b"x", "404 Not Found"), "the server answered 404 Not Found"),
        (Reply(b"", length=3000), "3000 bytes are more than the 2000"),
        (Reply(b"x" * 3000, length=-1), "more than the 2000 bytes"),
        (Reply(b"", "nonsense"), "127.0.0.1"),
    ],
)
def test_a_download_is_whole_or_fails(copier: FileCopier, tmp_path: Path, reply: Reply, words: str) -> None:
    """Cut bodies, error pages and endless files are failures that name the URL."""
    with served(copier, {"/f": reply}), pytest.raises(CopyFailed, match="/f") as failed:
        add(copier, tmp_path, f"{HOME}/f", limits=CopyLimits(download=2000))
    assert words in str(failed.value)


def test_a_url_without_a_name_needs_a_destination_with_one(copier: FileCopier, tmp_path: Path) -> None:
    """As Docker's reference says."""
    with served(copier, {"/": Reply(b"x")}):
        for url in (HOME, f"{HOME}/", f"{HOME}/.."):
            with pytest.raises(CopyFailed, match="has no file name"):
                add(copier, tmp_path, url)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http:///x", "not a server"),
        ("http://127.0.0.1:99999/x", "not a server"),
        ("http://[::1/x", "not a URL"),
        ("http://no.such.host.example/x", "Name or service not known"),
        ("http://127.0.0.1:9/x", "Connection refused"),
    ],
)
def test_a_url_that_leads_nowhere_fails_with_its_reason(
    copier: FileCopier, tmp_path: Path, url: str, words: str
) -> None:
    """And is named."""
    with pytest.raises(CopyFailed, match=words):
        add(copier, tmp_path, url)


def test_names_that_http_cannot_carry_are_escaped(copier: FileCopier, tmp_path: Path) -> None:
    """Blanks and letters beyond ASCII; the file has the name as it is written."""
    with served(copier, {"/%C3%A4%20b/%C3%B6?q=%C3%BC": Reply(b"x")}):
        add(copier, tmp_path, f"HTTP://localhost:{PORT}/ä b/ö?q=ü")
    assert paths_in(tmp_path) == ["x/", "x/ö"]


def test_a_password_goes_to_its_server_alone(copier: FileCopier, tmp_path: Path) -> None:
    """Not to another one that it leads to, and into no message and no record."""
    replies = {
        "/a": Reply(b"x"), "/b": Reply(status="302 Found", headers={"Location": f"http://localhost:{PORT}/a"}),
        "/c": Reply(b"", "403 Forbidden"),
    }  # fmt: skip
    with served(copier, replies) as seen:
        result = add(copier, tmp_path, f"http://ana:se%3Acret@127.0.0.1:{PORT}/a")
        add(copier, tmp_path, f"http://ana:se%3Acret@127.0.0.1:{PORT}/b")
        with pytest.raises(CopyFailed, match="403 Forbidden") as failed:
            add(copier, tmp_path, f"http://ana:se%3Acret@127.0.0.1:{PORT}/c")
    assert ["Authorization: Basic YW5hOnNlOmNyZXQ=" in text for text in seen] == [True, True, False, True]
    assert "cret" not in f"{result} {failed.value}"


def test_a_server_is_believed_by_its_certificate(
    copier: FileCopier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of an authority that this machine trusts; the sandbox has no certificates of its own."""
    certificate = self_signed(tmp_path, "localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    url = f"https://localhost:{PORT}/x"
    with served(copier, {"/x": Reply(b"x")}, context):
        with pytest.raises(CopyFailed, match="certificate verify failed"):
            add(copier, tmp_path, url)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        add(copier, tmp_path, url)
        with pytest.raises(CopyFailed, match=r"certificate is not valid for '127\.0\.0\.1'"):
            add(copier, tmp_path, f"https://127.0.0.1:{PORT}/x")
    assert (tmp_path / "x/x").read_bytes() == b"x"


def self_signed(folder: Path, name: str) -> Path:
    """A file with a key and a certificate for a server."""
    place = folder / "server.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-days", "2", "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}", "-keyout", place,
         "-out", folder / "cert.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    with place.open("ab") as file:
        file.write((folder / "cert.pem").read_bytes())
    return place


def test_this_machine_cannot_be_reached(copier: FileCopier, tmp_path: Path) -> None:
    """Neither its loopback, nor its own addresses, nor metadata services, as for a RUN."""
    addresses = host_addresses(Path("/proc/net/fib_trie").read_text())
    assert addresses
    for address in (*addresses, "127.0.0.1"):
        with listener("0.0.0.0") as port, pytest.raises(CopyFailed, match=address.replace(".", r"\.")):
            add(copier, tmp_path, f"http://{address}:{port}/x")
    for url in ("http://169.254.169.254/latest/meta-data/", "http://169.254.1.1/x", "http://10.0.2.2/x"):
        with pytest.raises(CopyFailed):
            add(copier, tmp_path, url)
    assert paths_in(tmp_path) == ["x/"] or "x/x" not in paths_in(tmp_path)


def test_a_build_without_network_downloads_nothing(tmp_path: Path) -> None:
    """It is said before anything is tried."""
    copier = FileCopier("copying-none-files", disk=tmp_path, network="none")
    with copier, pytest.raises(CopyFailed, match="switched off"):
        add(copier, tmp_path, f"{HOME}/x")


def archive() -> bytes:
    """A tar with a folder, files, links of both kinds, and a pax attribute."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as file:
        for name, kind, target in (
            ("top", tarfile.DIRTYPE, ""), ("top/file", tarfile.REGTYPE, ""),
            ("./top/hard", tarfile.LNKTYPE, "top/file"), ("top/soft", tarfile.SYMTYPE, "file"),
            ("made/above/file", tarfile.REGTYPE, ""),
        ):  # fmt: skip
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.mtime, member.uid, member.gid = kind, target, 1234567, 11, 12
            member.mode = 0o2750 if kind == tarfile.DIRTYPE else 0o4640
            data = b"content" if kind == tarfile.REGTYPE else b""
            member.size = len(data)
            member.pax_headers = {"SCHILY.xattr.user.key": "value"} if name == "top/file" else {}
            file.addfile(member, io.BytesIO(data))
    return stream.getvalue()


def zstd(data: bytes) -> bytes:
    return subprocess.run(["zstd", "-q", "-c"], input=data, capture_output=True, check=True).stdout


@pytest.mark.parametrize("compress", [bytes, gzip.compress, bz2.compress, lzma.compress, zstd])
def test_an_archive_is_unpacked_when_asked(copier: FileCopier, tmp_path: Path, compress: Any) -> None:
    """Whatever its compression; owners, modes, times, links and attributes are those of the archive."""
    packed = compress(archive())
    with served(copier, {"/a": Reply(packed)}):
        add(copier, tmp_path, f"{HOME}/a", "/x", unpack=True)
        add(copier, tmp_path, f"{HOME}/a", "/packed")
        add(copier, tmp_path, f"{HOME}/a", "/owned", unpack=True, chown="1:2")
    assert paths_in(tmp_path / "x") == [
        "made/", "made/above/", "made/above/file", "top/", "top/file", "top/hard", "top/soft -> file",
    ]  # fmt: skip
    top, file = tmp_path / "x/top", tmp_path / "x/top/file"
    assert (
        described(top)["mode"] == 0o2750 and described(top)["owner"] == (11, 12) and top.stat().st_mtime == 1234567
    )
    assert described(file)["mode"] == 0o4640 and described(file)["attributes"] == {"user.key": b"value"}
    assert file.samefile(tmp_path / "x/top/hard") and file.stat().st_mtime == 1234567
    assert described(tmp_path / "x/made")["mode"] == 0o755
    assert (tmp_path / "packed").read_bytes() == packed
    assert described(tmp_path / "owned/top/soft")["owner"] == (1, 2)


def test_what_is_no_archive_is_copied_as_it_is(copier: FileCopier, tmp_path: Path) -> None:
    """Also when it is to be unpacked, as in Docker: the content decides."""
    with served(copier, {"/a.tar": Reply(b"no archive"), "/b.gz": Reply(gzip.compress(b"text"))}):
        add(copier, tmp_path, f"{HOME}/a.tar", unpack=True)
        add(copier, tmp_path, f"{HOME}/b.gz", "/y", unpack=True)
    assert (tmp_path / "x/a.tar").read_bytes() == b"no archive" and described(tmp_path / "y")["mode"] == 0o600


@pytest.mark.parametrize("compress", [bytes, gzip.compress, bz2.compress, lzma.compress, zstd])
@pytest.mark.parametrize("damage", ["cut", "header"])
def test_a_damaged_archive_fails(copier: FileCopier, tmp_path: Path, compress: Any, damage: str) -> None:
    """Half of its files are never a success: a cut header or compression, or a broken header inside."""
    whole = archive()
    middle = whole.index(b"top/soft")
    if damage == "header":
        broken = compress(whole[:middle] + b"TOP/soft" + whole[middle + 8 :])
    else:
        broken = whole[: middle + 100] if compress is bytes else compress(whole)[:-20]
    with served(copier, {"/a": Reply(broken)}), pytest.raises(CopyFailed, match="the archive cannot be read"):
        add(copier, tmp_path, f"{HOME}/a", "/x", unpack=True)


def hostile(*entries: tuple[str, bytes, str]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as file:
        for name, kind, target in entries:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            member.size = 4 if kind == tarfile.REGTYPE else 0
            file.addfile(member, io.BytesIO(b"evil"[: member.size]))
    return stream.getvalue()


@pytest.mark.parametrize(
    "entries",
    [
        [("../../out", tarfile.REGTYPE, "")],
        [("l", tarfile.SYMTYPE, "/"), ("l/out", tarfile.REGTYPE, "")],
        [("l", tarfile.SYMTYPE, "../../.."), ("l/out", tarfile.REGTYPE, "")],
        [("l", tarfile.SYMTYPE, "../.."), ("l", tarfile.DIRTYPE, ""), ("l/out", tarfile.REGTYPE, "")],
        [("h", tarfile.LNKTYPE, "../../secret"), ("h", tarfile.REGTYPE, "")],
        [("l", tarfile.SYMTYPE, "/secret"), ("h", tarfile.LNKTYPE, "l"), ("h", tarfile.REGTYPE, "")],
        [("/out", tarfile.REGTYPE, "")],
        [("l", tarfile.SYMTYPE, "/proc/self/root"), ("l/out", tarfile.REGTYPE, "")],
    ],
)
def test_an_archive_never_leaves_its_destination(
    copier: FileCopier, tmp_path: Path, entries: list[tuple[str, bytes, str]]
) -> None:
    """No name, link or hard link of it writes beside the folder: it fails, or lands inside."""
    target = tmp_path / "target"
    target.mkdir()
    (tmp_path / "secret").write_text("kept")
    (target / "secret").write_text("kept")
    with served(copier, {"/a": Reply(hostile(*entries))}), suppress(CopyFailed):
        add(copier, target, f"{HOME}/a", "/x/y", unpack=True)
    outside = [path for path in paths_in(tmp_path) if not path.startswith("target/x/")]
    assert outside == ["secret", "target/", "target/secret"]
    assert (tmp_path / "secret").read_text() == "kept" == (target / "secret").read_text()
