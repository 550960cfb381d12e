"""Which images a Dockerfile takes things from besides its own stages, and which of them it may name. Pure.

buildah looks an image up in the storage first, by name, by id and by any beginning of an id that is unique there;
the storage holds the images of everybody's builds. So a template may name images of registries and nothing else.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

_ARGUMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?:=(.*))?")
_EXPANSION = re.compile(r"\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)(?::([-+])([^}$]*))?\})")
_ID = re.compile(r"(?:sha256:)?[0-9a-fA-F]+")
_REFERENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]*")
_LOCAL_STORES = (
    "containers-storage", "docker-archive", "docker-daemon", "dir", "oci", "oci-archive", "openshift", "ostree",
    "sif", "tarball",
)  # fmt: skip

PLATFORM = {
    "TARGETPLATFORM": "linux/amd64", "TARGETOS": "linux", "TARGETARCH": "amd64", "TARGETVARIANT": "",
    "BUILDPLATFORM": "linux/amd64", "BUILDOS": "linux", "BUILDARCH": "amd64", "BUILDVARIANT": "",
}  # fmt: skip
"""Arguments that every builder knows."""


@dataclass(frozen=True)
class Use:
    """One place where a Dockerfile names an image or a stage; `index` is that of the instruction."""

    index: int
    image: str
    problem: str = ""
    """Why the image may not be named; empty when it may."""


def image_uses(instructions: Iterable[tuple[str, str]]) -> Iterator[Use]:
    """Every image outside the Dockerfile that its instructions name, in order.

    `instructions` are (name in upper case, whole text). Stages, their numbers and `scratch` are left out.
    """
    arguments: dict[str, str] = dict(PLATFORM)
    stages: list[str] = []
    for index, (name, text) in enumerate(instructions):
        line = text.replace("\\\n", " ")
        if name == "ARG" and not stages:
            arguments |= _declared(line, arguments)
        if name == "FROM":
            words = [word for word in line.split()[1:] if not word.startswith("--")]
            image = _expand(words[0], arguments) if words else ""
            if image != "scratch" and image.lower() not in stages:
                yield Use(index, image, _problem(image))
            stages.append(words[2].lower() if len(words) == 3 and words[1].lower() == "as" else "")
            continue
        for image in _sources(line):
            earlier = image.isdigit() and int(image) < len(stages)
            if not earlier and image.lower() not in stages:
                yield Use(index, image, _problem(image))


def takes_from_images(trigger: str) -> bool:
    """Whether an ONBUILD trigger of an image names another image."""
    return any(True for _ in _sources(trigger))


def _sources(line: str) -> Iterator[str]:
    """What `--from=` and the `from=` of `--mount=` name, quotes and escapes undone as buildah does."""
    for option in _options(line):
        name, _, value = option.partition("=")
        if name == "--from":
            yield value
        elif name == "--mount":
            members = (member.strip().partition("=") for member in value.split(","))
            yield from (source for key, _, source in members if key == "from")


def _options(line: str) -> Iterator[str]:
    """The options at the beginning of an instruction, behind ONBUILD too."""
    words = shlex.shlex(line, posix=True, punctuation_chars=False)
    words.whitespace_split = True
    words.commenters = ""
    expected = 1
    try:
        for word in words:
            if expected:
                expected += 1 if word.upper() == "ONBUILD" else 0
                expected -= 1
            elif not word.startswith("--"):
                return
            else:
                yield word
    except ValueError:  # a quote that is never closed: not among the options, or buildah refuses it as well
        return


def _declared(line: str, known: Mapping[str, str]) -> dict[str, str]:
    declared: dict[str, str] = {}
    for word in line.split()[1:]:
        found = _ARGUMENT.fullmatch(word)
        if found and found.group(2) is not None:
            declared[found.group(1)] = _expand(found.group(2).strip("\"'"), {**known, **declared})
    return declared


def _expand(text: str, arguments: Mapping[str, str]) -> str:
    def value(found: re.Match[str]) -> str:
        plain, braced, kind, other = found.groups()
        known = arguments.get(plain or braced, "")
        if kind == "-":
            return known or other
        if kind == "+":
            return other if known else ""
        return known

    return _EXPANSION.sub(value, text)


def _problem(image: str) -> str:
    if "$" in image or not image:
        return "it is empty or holds an argument that has no value"
    name = image.removeprefix("docker://")
    if not _REFERENCE.fullmatch(name):
        return "it is not the name of an image"
    if _ID.fullmatch(name):
        return "it may be an id or its beginning; write the image with its registry, like docker.io/library/name"
    if name.partition(":")[0] in _LOCAL_STORES:
        return "it is not in a registry"
    return ""
