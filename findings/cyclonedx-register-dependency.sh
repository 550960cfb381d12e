#!/bin/sh
# cyclonedx-python-lib 11.12.0: one call of Bom.register_dependency takes time in the square of the dependencies.
#
# The call takes the whole list of dependencies at once, so it looks like one insertion. For each of them it searches
# the dependencies that are known so far from the beginning. Function calls are counted, not time: four times as many
# dependencies make more than ten times as many calls. A container image has thousands of packages.
#
# Needs: python3 with venv.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check cyclonedx-python-lib==11.12.0 2>/dev/null
venv/bin/pip list --disable-pip-version-check 2>/dev/null | grep cyclonedx
venv/bin/python - <<'P'
import cProfile
import pstats

from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType


def calls(count: int) -> int:
    image = Component(name="image", type=ComponentType.CONTAINER, bom_ref="image")
    held = [Component(name=f"p{n}", version="1", bom_ref=f"p{n}") for n in range(count)]
    bom = Bom(components=held)
    profile = cProfile.Profile()
    profile.runcall(bom.register_dependency, image, held)
    return pstats.Stats(profile).total_calls


few, many = calls(500), calls(2000)
print(f"calls for 500 dependencies: {few}, for 2,000: {many}, {many / few:.1f} times as many")
raise SystemExit(many / few < 10)
P
