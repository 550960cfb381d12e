"""Starts the program where it is mounted: below a folder of its own, without the rest of imagesmith."""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), "../../..")))

from imagesmith.copying.program.main import main

main(sys.argv[1:])
