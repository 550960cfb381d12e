"""Lists of a registry in pages: where its `Link` header says that the next one is (RFC 8288, OCI distribution).

    Link: </v2/web/tags/list?last=b&n=2>; rel="next"  -->  tags/list?last=b&n=2

Only the query is taken: the next request goes to the same registry, with its credentials, whatever the link names.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import urlsplit

MAX_PAGES = 100
"""Pages of one list; more are refused, for a list that is cut would lie."""
MAX_BYTES = 64 * 1024 * 1024
_LINK = re.compile(r"<([^<>]*)>([^<]*)")
_NEXT = re.compile(r';\s*rel\s*=\s*"?next\b', re.IGNORECASE)


class BadLink(ValueError):
    """A link that leads to no page of the list."""


def next_page(path: str, link: str, read: Sequence[bytes]) -> str:
    """The path of the page behind that of `path`, below `/v2/REPOSITORY/`; empty if it is the last one.

    `link` is the value of the header, `read` are the pages so far. Raises BadLink.
    """
    own = path.partition("?")[0]
    for target, parameters in _LINK.findall(link):
        if not _NEXT.search(parameters):
            continue
        found = urlsplit(target)
        following = f"{own}?{found.query}"
        if following == path or not found.query or not (not found.path or found.path.endswith(f"/{own}")):
            raise BadLink(f"the next page of {own} is said to be at {target[:200]}")
        if len(read) >= MAX_PAGES or sum(map(len, read)) > MAX_BYTES:
            raise BadLink(f"{own} has more than {MAX_PAGES} pages, or {MAX_BYTES} bytes in them")
        return following
    return ""
