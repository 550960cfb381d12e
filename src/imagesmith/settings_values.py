"""What the values of settings may be: addresses, paths, names, counts, each with the text that errors say."""

from __future__ import annotations

from typing import Final

from imagesmith.values.declared import Range, Text
from imagesmith.values.names import REGION

MOST_PER_SECOND: Final = 1_000_000
ADDRESS: Final = r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9]([A-Za-z0-9._-]{0,253}[A-Za-z0-9])?)"
PORT: Final = r"([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"

ANY: Final = Text(r".*", "a string of one line", optional=True)
SOME: Final = Text(r".+", "a string of one line that is not empty")
WORKER: Final = Text(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", "1 to 63 letters, digits, `.`, `_` and `-`", optional=True)
DATABASE: Final = Text(
    rf"postgresql(\+psycopg)?://(\S*@)?({ADDRESS}(:{PORT})?)?(/[^\s/?]*)?(\?\S*)?",
    "postgresql+psycopg://USER:PASSWORD@HOST/NAME",
    optional=True,
)
PATH: Final = Text(r".+", "a path", optional=True)
URL: Final = Text(rf"https?://([^/@\s]+@)?{ADDRESS}(:{PORT})?(/\S*)?", "http://HOST or https://HOST", optional=True)
MIRROR: Final = Text(rf"https?://{ADDRESS}(:{PORT})?(/\S*)?|file:///\S+", "http://HOST/PATH", optional=True)
HOST: Final = Text(r"[0-9A-Fa-f]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f.]*(%\w+)?|" + ADDRESS, "a host name or an address")
REGISTRY: Final = Text(
    rf"{ADDRESS}(:{PORT})?(/[a-z0-9][a-z0-9._/-]*)?", "HOST, HOST:PORT or HOST:PORT/PATH, without a scheme"
)
SLUG: Final = Text(r"[a-z0-9][a-z0-9_-]{0,126}", "the name of a managed image, like amazon-linux-2023-x86")
BASE: Final = Text(r"[a-z0-9][a-z0-9-]{0,126}", "the name of a base; see: imagesmith base list", optional=True)
CHECKSUM: Final = Text(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}", "sha256:HEX or sha512:HEX", optional=True)
PLATFORM: Final = Text(r"Linux|Windows|macOS", "`Linux`, `Windows` or `macOS`", optional=True)
DISK: Final = Text(
    rf"https?://{ADDRESS}(:{PORT})?(/\S*)?|file:///\S+|/\S+",
    "a path, file:///PATH or https://HOST/PATH",
    optional=True,
)
REGION_NAME: Final = Text(REGION, "a Region, like eu-west-1")
OF_REGION: Final = Text(rf"([0-9]{{12}}/)?{REGION}", "a Region, or ACCOUNT/REGION")
OPERATION: Final = Text(r"\*|[A-Z][A-Za-z]{2,63}", "an operation, or * for all others")
COUNT: Final = Range(0, 1_000_000)
CPUS: Final = Range(1, 512)


def seconds(low: int, high: int) -> Range:
    return Range(low, high, "seconds")


def megabytes(low: int) -> Range:
    return Range(low, 16_777_216, "MiB")
