"""The encodings that the text actions share (spec/components.md 10.10)."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from imagesmith.components.schema import text

ENCODINGS: Final = MappingProxyType(
    {
        "utf8": ("utf-8", b"\xef\xbb\xbf"),
        "utf16": ("utf-16-le", b"\xff\xfe"),
        "utf16-le": ("utf-16-le", b"\xff\xfe"),
        "utf16-be": ("utf-16-be", b"\xfe\xff"),
        "utf32": ("utf-32-le", b"\xff\xfe\x00\x00"),
        "utf32-le": ("utf-32-le", b"\xff\xfe\x00\x00"),
        "utf32-be": ("utf-32-be", b"\x00\x00\xfe\xff"),
    }
)
"""Name without its first hyphen -> the codec, and the byte-order mark that is dropped when reading
(spec/components.md 10.10)."""

_NAMES: Final = (
    *("utf8", "utf-8", "utf16", "utf-16", "utf16-LE", "utf-16-LE", "utf16-BE", "utf-16-BE"),
    *("utf32", "utf-32", "utf32-LE", "utf-32-LE", "utf32-BE", "utf-32-BE"),
)

ENCODING: Final = text("Encoding of the text.", default="utf8", enum=list(_NAMES), ignore_case=True)


def encode(content: str, encoding: str) -> bytes:
    """The bytes of a text, without a byte-order mark."""
    codec, _ = ENCODINGS[_plain_name(encoding)]
    return content.encode(codec, "surrogateescape" if codec == "utf-8" else "strict")


def decode(data: bytes, encoding: str) -> str:
    """The text of bytes; a byte-order mark is dropped. Raises UnicodeDecodeError."""
    codec, mark = ENCODINGS[_plain_name(encoding)]
    return data.removeprefix(mark).decode(codec)


def _plain_name(encoding: str) -> str:
    return encoding.lower().replace("utf-", "utf", 1)
