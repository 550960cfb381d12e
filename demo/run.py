"""The demo: build a web server image through the API, change its recipe, build again, compare, read it back.

It keeps its data directory so that the next run finds the base image; what it started it stops, also when
interrupted. What it does is in web.py.
"""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack

from services import address_of, demo_folder, end_on_signals, start_registry, start_server


def main() -> None:
    """Run the whole demo."""
    started = time.monotonic()
    folder = demo_folder()
    data_dir = folder / "data"
    end_on_signals()
    with ExitStack() as stack:
        registry = start_registry(stack, folder)
        server = start_server(stack, data_dir, registry)
        from web import build_twice  # the client takes a second to import: the server starts meanwhile

        build_twice(address_of(server), registry, data_dir)
    print(f"done in {time.monotonic() - started:.0f} s; stopped the server and the registry")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("interrupted; stopped the server and the registry")
