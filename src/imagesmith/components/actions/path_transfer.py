"""Copying and moving files and folders: common code and scripts of the four actions (spec/components.md 10.11 to
10.17)."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from typing import Final

from imagesmith.components.actions.base import (
    ActionContext,
    ActionFailed,
    TypedInputs,
    parent_of,
    path_argument,
    shell,
)
from imagesmith.components.actions.wildcards import pattern_argument, split_wildcard


@dataclass(frozen=True)
class _PathTransfer:
    """One entry as read. `name` is the last segment of the source, and may hold a `*`."""

    source: str
    folder: str
    name: str
    destination: str
    overwrite: str
    """`yes`, or empty."""

    @classmethod
    def of(cls, entry: TypedInputs, source: str) -> _PathTransfer:
        path = path_argument(source)
        folder, name = split_wildcard(path)
        return cls(
            source=path,
            folder=folder,
            name=name,
            destination=path_argument(entry["destination"]),
            overwrite="yes" if entry["overwrite"] else "",
        )

    @property
    def into(self) -> bool:
        """Whether the destination is the folder that receives the files."""
        return self.destination.endswith("/")

    @property
    def pattern(self) -> str:
        """The name for the shell's `case`; empty when it names one file."""
        return pattern_argument(self.name) if "*" in self.name else ""


def transfer_files(context: ActionContext, entry: TypedInputs, verb: str) -> None:
    """Copy (`cp`) or move (`mv`) one file, or all matching files. Raises ActionFailed."""
    asked = _PathTransfer.of(entry, entry["source"])
    if not asked.name:
        raise ActionFailed(f"'{asked.source}' names a folder, not a file")
    parent = asked.destination if asked.into else parent_of(asked.destination)
    head = (verb, asked.overwrite, asked.destination, parent)
    if asked.pattern:
        into = "yes" if asked.into else ""
        shell(context, _FILES + _FILES_MATCHES, *head, into, asked.folder, asked.pattern)
    else:
        shell(context, _FILES + _ONE_FILE, *head, asked.source)


def transfer_folders(context: ActionContext, entry: TypedInputs, verb: str) -> None:
    """`copy` or `move` one folder, or all matching folders. Raises ActionFailed."""
    asked = _PathTransfer.of(entry, entry["source"].rstrip("/") or "/")
    if asked.pattern and not asked.into:
        raise ActionFailed(f"'{asked.destination}' must end with a separator, because the source has a *")
    target = asked.destination.rstrip("/") or "/"
    target = target if "/" in target else f"./{target}"
    head = (verb, asked.overwrite)
    if asked.pattern:
        shell(context, _FOLDERS + _FOLDERS_MATCHES, *head, target, asked.folder, asked.pattern)
    elif asked.into:
        shell(context, _FOLDERS + _ONE_FOLDER, *head, posixpath.join(target, asked.name), asked.source, target)
    else:
        shell(context, _FOLDERS + _ONE_FOLDER, *head, target, asked.source, parent_of(target))


_FILES: Final = r"""
mkdir -p "$4" || exit 1
verb=$1 overwrite=$2
transfer() {
  [ -d "$2" ] && fail "$2: is a folder"
  if [ -e "$2" ] || [ -L "$2" ]; then
    [ "$overwrite" ] || fail "$2: exists, and 'overwrite' is false"
    [ "$1" -ef "$2" ] && return
    rm -f "$2" || exit 1
  fi
  umask 0
  if [ "$verb" = cp ]; then cp "$1" "$2" || exit 1; else mv "$1" "$2" || exit 1; fi
}
"""

_ONE_FILE: Final = r"""
[ -d "$5" ] && fail "$5: is a folder"
[ -e "$5" ] || fail "$5: no such file"
if [ -d "$3" ]; then
  case $3 in */) ;; *) [ "$2" ] || fail "$3: is a folder, and 'overwrite' is false" ;; esac
  transfer "$5" "${3%/}/${5##*/}"
else
  transfer "$5" "$3"
fi
"""

_FILES_MATCHES: Final = r"""
count=0
for file in "${6%/}"/* "${6%/}"/.[!.]* "${6%/}"/..?*; do
  case ${file##*/} in $7) ;; *) continue ;; esac
  [ -f "$file" ] || continue
  count=$((count + 1))
  [ "$5" ] || [ -d "$3" ] || [ "$count" = 1 ] || fail "$3: several files match, so it must end with a separator"
done
[ "$count" != 0 ] || fail "no file matches"
if [ "$5" ] || [ -d "$3" ]; then folder=1; else folder=; fi
for file in "${6%/}"/* "${6%/}"/.[!.]* "${6%/}"/..?*; do
  case ${file##*/} in $7) ;; *) continue ;; esac
  [ -f "$file" ] || continue
  if [ "$folder" ]; then transfer "$file" "${3%/}/${file##*/}"; else transfer "$file" "$3"; fi
done
"""

_FOLDERS: Final = r"""
verb=$1 overwrite=$2
transfer() {
  [ -d "$1" ] || fail "$1: no such folder"
  from=$(cd "$1" && pwd -P) || exit 1
  if [ -e "$2" ] || [ -L "$2" ]; then
    [ -d "$2" ] || fail "$2: exists and is not a folder"
    [ "$overwrite" ] || fail "$2: exists, and 'overwrite' is false"
    to=$(cd "$2" && pwd -P) || exit 1
    if [ "$verb" = move ]; then
      case ${from%/}/ in "${to%/}"/*) fail "$2: is the source, or contains it" ;; esac
    fi
  else
    above=$(cd "${2%/*}/" && pwd -P) || exit 1
    to=${above%/}/${2##*/}
  fi
  case ${to%/}/ in "${from%/}"/*) fail "$2: is inside the source" ;; esac
  if [ "$verb" = copy ]; then
    if [ -L "$1" ] && [ ! -e "$2" ]; then cp -P "$1" "$2"; return; fi
    mkdir -p "$2" && cp -a "$1/." "$2/" || exit 1
  else
    rm -rf "$2" && mv "$1" "$2" || exit 1
  fi
}
"""

_ONE_FOLDER: Final = r"""
[ -d "$4" ] || fail "$4: no such folder"
mkdir -p "$5" || exit 1
transfer "$4" "$3"
"""

_FOLDERS_MATCHES: Final = r"""
count=0
for folder in "${4%/}"/* "${4%/}"/.[!.]* "${4%/}"/..?*; do
  case ${folder##*/} in $5) ;; *) continue ;; esac
  [ -d "$folder" ] || continue
  [ "$count" = 0 ] && { mkdir -p "$3" || exit 1; }
  count=$((count + 1))
  transfer "$folder" "${3%/}/${folder##*/}"
done
[ "$count" != 0 ] || fail "no folder matches"
"""
