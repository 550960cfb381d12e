"""Commented starter documents for authors."""

from __future__ import annotations

from pathlib import Path

from imagesmith.cli.context import CommandFailed


def write_starter(file: Path, text: str, *, force: bool) -> None:
    """Write a document; replaces an existing file only with `force`. Raises CommandFailed."""
    if file.exists() and not force:
        raise CommandFailed(f"{file} exists", "choose another name, or --force")
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CommandFailed(f"{file} cannot be written: {error.strerror}") from error


def quoted(text: str) -> str:
    """The text as a YAML scalar."""
    plain = text.replace(" ", "").isalnum() and not text[0].isdigit()
    return text if plain else "'" + text.replace("'", "''").replace("\n", " ") + "'"
