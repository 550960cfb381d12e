#!/bin/sh
# dockerfile-parse 2.0.1 names base images that a build never sees.
#
# The library answers `baseimage` and `parent_images`, which scanners and updaters of images act on. Two common things
# of a Dockerfile it reads wrongly, with neither an error nor a warning:
#   RUN <<EOF       the lines of a here-document are taken for instructions: its `FROM x` is a base image, its
#                   `LABEL a=b` a label. Here-documents are in Docker's syntax since 2021.
#   ${NAME:-value}  the modifier is not known: `FROM app:${NAME:-2}` with ARG NAME=1 is `app:1:-2}`.
# The package `dockerfile` (3.4.0), which is Docker's own parser, reads the same text as a build does.
#
# Needs: python3 with venv.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check dockerfile-parse==2.0.1 dockerfile==3.4.0 2>/dev/null
venv/bin/pip list --disable-pip-version-check 2>/dev/null | grep -i dockerfile
cat > try.py <<'P'
import dockerfile
from dockerfile_parse import DockerfileParser

TEXTS = {
    "here-document": "FROM app:1\nRUN <<EOF\nFROM other:2\nLABEL a=b\nEOF\n",
    "modifier": "ARG NAME=1\nFROM app:${NAME:-2}\n",
}
seen = {}
for name, text in TEXTS.items():
    with open("Dockerfile", "w") as file:
        file.write(text)
    parser = DockerfileParser(".")
    docker = [found.cmd for found in dockerfile.parse_string(text)]
    seen[name] = (parser.baseimage, parser.parent_images, dict(parser.labels), docker)
    print(f"{name}: base image {parser.baseimage!r} of {parser.parent_images}, labels {dict(parser.labels)}; Docker's parser: {docker}")
raise SystemExit(
    seen
    != {
        "here-document": ("other:2", ["app:1", "other:2"], {"a": "b"}, ["FROM", "RUN"]),
        "modifier": ("app:1:-2}", ["app:1:-2}"], {}, ["ARG", "FROM"]),
    }
)
P
venv/bin/python try.py
