"""Actions on folders, links and listings (spec/components.md 10.13, 10.14, 10.16 to 10.18)."""

from __future__ import annotations

import posixpath
from typing import Final

from imagesmith.components.actions.base import (
    Action,
    ActionContext,
    ActionFailed,
    Outputs,
    TypedInputs,
    list_action,
    parent_of,
    path_argument,
    shell,
    text_of,
)
from imagesmith.components.actions.files import MAX_CONTENT
from imagesmith.components.actions.path_transfer import transfer_folders
from imagesmith.components.actions.shared_inputs import (
    GROUP,
    NOT_WINDOWS,
    OVERWRITE,
    OWNER,
    PERMISSIONS,
    POSIX_ONLY,
    transfer_inputs,
)
from imagesmith.components.actions.wildcards import star_pattern
from imagesmith.components.schema import flag, inputs, text

_PATH: Final = text("Path of the folder.", minLength=1)


def actions() -> tuple[Action, ...]:
    transfer = transfer_inputs("A folder", "The new folder, or its parent when it ends with a separator.")
    return (
        *_making_actions(),
        list_action("CopyFolder", "Copies folders with their contents.", copy_folder, transfer),
        list_action("MoveFolder", "Moves or renames folders.", move_folder, transfer),
        list_action(
            "DeleteFolder",
            "Deletes a folder; a missing folder is not an error.",
            delete_folder,
            inputs(
                {"path": _PATH, "force": flag("Delete it with its contents.", default=False)}, required=("path",)
            ),
        ),
        list_action(
            "ListFiles",
            "Lists the files of a folder.",
            list_files,
            inputs(
                {
                    "path": _PATH,
                    "fileNamePattern": text("Pattern of the names; * matches any text.", default="*"),
                    "recursive": flag("Also list sub-folders.", default=False),
                },
                required=("path",),
            ),
            outputs=("files",),
        ),
    )


def _making_actions() -> tuple[Action, ...]:
    return (
        list_action(
            "CreateFolder",
            "Creates a folder, and its parents; the contents of an existing folder are kept.",
            create_folder,
            inputs(
                {"path": _PATH, "owner": OWNER, "group": GROUP, "permissions": PERMISSIONS, "overwrite": OVERWRITE},
                required=("path",),
            ),
            unsupported_inputs=POSIX_ONLY,
        ),
        list_action(
            "CreateSymlink",
            "Creates a symbolic link.",
            create_symlink,
            inputs(
                {
                    "path": text("The link.", minLength=1),
                    "target": text("What it points to.", minLength=1),
                    "force": flag("Replace an existing link.", default=False),
                },
                required=("path", "target"),
            ),
            platforms=NOT_WINDOWS,
        ),
    )


def create_folder(context: ActionContext, entry: TypedInputs) -> None:
    shell(
        context,
        _CREATE,
        path_argument(entry["path"]),
        "yes" if entry["overwrite"] else "",
        entry.get("owner", ""),
        entry.get("group", ""),
        entry.get("permissions", ""),
    )


def create_symlink(context: ActionContext, entry: TypedInputs) -> None:
    path = path_argument(entry["path"].rstrip("/") or "/")
    target = entry["target"]
    force = "yes" if entry["force"] else ""
    shell(context, _LINK, path, parent_of(path), path_argument(target), force)


def copy_folder(context: ActionContext, entry: TypedInputs) -> None:
    transfer_folders(context, entry, "copy")


def move_folder(context: ActionContext, entry: TypedInputs) -> None:
    transfer_folders(context, entry, "move")


def delete_folder(context: ActionContext, entry: TypedInputs) -> None:
    path = path_argument(entry["path"])
    shell(context, _DELETE, path.rstrip("/") or "/", "yes" if entry["force"] else "")


def list_files(context: ActionContext, entry: TypedInputs) -> Outputs:
    names = star_pattern(entry["fileNamePattern"])
    _, paths = list_folder(context, path_argument(entry["path"]), recursive=entry["recursive"])
    return {"files": ",".join(sorted(path for path in paths if names.match(posixpath.basename(path))))}


def list_folder(context: ActionContext, folder: str, *, recursive: bool) -> tuple[str, list[str]]:
    """The full paths of a folder and of its files. Raises ActionFailed."""
    completed = shell(context, _LIST, folder, "yes" if recursive else "", limit=MAX_CONTENT)
    if completed.dropped:
        raise ActionFailed(f"{folder} contains more files than can be listed")
    root, *paths = text_of(completed.stdout).split("\0")
    return root, paths[:-1]


_CREATE: Final = r"""
if [ -d "$1" ]; then
  [ "$2" ] || fail "$1: exists, and 'overwrite' is false"
elif [ -e "$1" ] || [ -L "$1" ]; then
  fail "$1: exists and is not a folder"
fi
mkdir -p "$1" || exit 1
[ -z "$3$4" ] || chown "$3${4:+:$4}" "$1" || exit 1
[ -z "$5" ] || chmod "$5" "$1" || exit 1
"""

_LINK: Final = r"""
if [ -L "$1" ]; then
  [ "$4" ] || fail "$1: the link exists, and 'force' is false"
elif [ -e "$1" ]; then
  fail "$1: exists and is not a link"
fi
mkdir -p "$2" || exit 1
case $3 in
  /*) [ -e "$3" ] || fail "$3: no such file or folder" ;;
  *) [ -e "$2/$3" ] || fail "$3: no such file or folder beside the link" ;;
esac
rm -f "$1" && ln -s "$3" "$1"
"""

_DELETE: Final = r"""
if [ -L "$1" ]; then fail "$1: is a link, not a folder; use DeleteFile"; fi
[ -e "$1" ] || exit 0
[ -d "$1" ] || fail "$1: is not a folder; use DeleteFile"
[ "$(cd "$1" && pwd -P)" = / ] && fail "$1: is the root of the file system"
if [ "$2" ]; then rm -rf "$1"; exit; fi
for path in "$1"/* "$1"/.[!.]* "$1"/..?*; do
  if [ -e "$path" ] || [ -L "$path" ]; then fail "$1: is not empty, and 'force' is false"; fi
done
rmdir "$1"
"""

_LIST: Final = r"""
[ -d "$1" ] || fail "$1: no such folder"
case $1 in
  /*) folder=$1 ;;
  *) folder=$PWD/${1#./} ;;
esac
recursive=$2
printf '%s\0' "$folder"
list() {
  for file in "${1%/}"/* "${1%/}"/.[!.]* "${1%/}"/..?*; do
    if [ -d "$file" ]; then
      if [ "$recursive" ] && [ ! -L "$file" ]; then list "$file"; fi
    elif [ -e "$file" ] || [ -L "$file" ]; then
      printf '%s\0' "$file"
    fi
  done
}
list "$folder"
"""

# $1 copy or move, $2 overwrite. A target inside its source (or, moving, around it) would destroy the source.
