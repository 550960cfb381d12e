#!/bin/sh
# click 8.5.1: "Did you mean" does not know the commands of a group that loads them lazily.
#
# A group that overrides list_commands and get_command, as click's own page on lazy loading shows, has complete help, and
# its commands run. A misspelt command gets no suggestion all the same: it is compared with the names in the
# attribute `commands`, which such a group leaves empty, and not with what list_commands returns. Nothing fails; the
# hint that other groups of the same program have is just not there.
#
# Needs: python3 with venv.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check click==8.5.1 2>/dev/null
venv/bin/pip list --disable-pip-version-check 2>/dev/null | grep '^click'
venv/bin/python - <<'P'
import click
from click.testing import CliRunner


@click.command()
def image() -> None:
    """Do something with an image."""


class Lazy(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return ["image"]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        return image if name == "image" else None


eager = click.Group("eager", commands={"image": image})
hints = {}
for group in (eager, Lazy("lazy")):
    assert "image" in CliRunner().invoke(group, ["--help"]).output
    assert CliRunner().invoke(group, ["image"]).exit_code == 0
    answer = CliRunner().invoke(group, ["imge"]).output.splitlines()[-1]
    print(f"{group.name}: {answer}")
    hints[group.name] = "Did you mean" in answer
raise SystemExit(hints != {"eager": True, "lazy": False})
P
