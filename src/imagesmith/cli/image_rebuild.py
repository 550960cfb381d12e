"""`imagesmith image rebuild`: builds an image again from its provenance alone, compares, and attests agreement."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from imagesmith.cli.context import CommandFailed, data_dir_option, json_option, print_json, settings_of
from imagesmith.cli.screen import echo


@dataclass(frozen=True)
class RebuildComparison:
    """What a rebuild found; `differences` are lines for people, none when the digests are equal."""

    image: str
    original: str
    rebuilt: str
    differences: tuple[str, ...]
    attested: str = ""
    """The id of the key that signed the agreement."""

    def to_json(self) -> dict[str, Any]:
        return {
            "image": self.image, "original": self.original, "rebuilt": self.rebuilt,
            "reproduced": self.original == self.rebuilt, "differences": list(self.differences),
            "attestedBy": self.attested,
        }  # fmt: skip


@click.command()
@click.argument("reference")
@click.option(
    "--key", "key_file", type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Public key to check the provenance with.  [default: the key of the data directory]",
)  # fmt: skip
@click.option(
    "--log", "log_file", type=click.Path(path_type=Path, dir_okay=False), help="Write the log of the rebuild here."
)
@data_dir_option
@json_option
def rebuild(
    reference: str, key_file: Path | None, log_file: Path | None, data_dir: Path, as_json: bool
) -> None:  # fmt: skip
    """Build an image again from its provenance alone, and compare it with the first one, bit for bit.

    \b
    REFERENCE is a digest, an ARN, NAME, NAME/1.0.0, NAME/1.0.0/3 or an AMI of a reproducible build
    (the tag imagesmith:reproducible). Works without a server, beside one, and on any host whose
    data directory or shared store has the image and its parent.
    Equal: a signed statement says so beside the image. Different: each file that differs is
    printed, and the exit status is 1.
    Example:  imagesmith image rebuild web/1.0.0/1 --data-dir ./data
    """
    # imported late: `imagesmith --help` should not load what builds
    from imagesmith.cli.build_process import failures_as_sentences, isolate_process
    from imagesmith.cli.image_rebuild_run import compare
    from imagesmith.cli.rights import become_root

    settings = settings_of(data_dir)
    become_root()
    isolate_process()
    with failures_as_sentences(settings, holder="rebuild", work="rebuild"):
        found = compare(settings, reference, key_file, log_file)
    if as_json:
        print_json(found.to_json())
    else:
        _print(found)
    if found.original != found.rebuilt:
        raise CommandFailed(f"{reference} is not reproduced: the second build is {found.rebuilt}")


def _print(found: RebuildComparison) -> None:
    echo(f"image      {found.image}")
    echo(f"original   {found.original}")
    echo(f"rebuilt    {found.rebuilt}")
    for line in found.differences:
        echo(f"differs    {line}")
    if found.attested:
        echo(f"reproduced: attested with key {found.attested[:16]}")
