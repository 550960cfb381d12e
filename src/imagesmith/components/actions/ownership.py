"""Actions that change owners and permissions (spec/components.md 10.21)."""

from __future__ import annotations

from typing import Final

from imagesmith.components.actions.base import Action, ActionContext, TypedInputs, list_action, path_argument, shell
from imagesmith.components.actions.shared_inputs import GROUP, NOT_WINDOWS, OWNER, PERMISSIONS
from imagesmith.components.schema import flag, inputs, text


def actions() -> tuple[Action, ...]:
    file, folder = text("Path of the file.", minLength=1), text("Path of the folder.", minLength=1)
    recursive = flag("Also everything below it.", default=True)

    return (
        list_action(
            "SetFileOwner",
            "Changes the owner of a file; a link's target when the path is a link.",
            set_file_owner,
            inputs({"path": file, "owner": OWNER, "group": GROUP}, required=("path", "owner")),
            platforms=NOT_WINDOWS,
        ),
        list_action(
            "SetFolderOwner",
            "Changes the owner of a folder.",
            set_folder_owner,
            inputs(
                {"path": folder, "owner": OWNER, "group": GROUP, "recursive": recursive}, required=("path", "owner")
            ),
            platforms=NOT_WINDOWS,
        ),
        list_action(
            "SetFilePermissions",
            "Changes the mode of a file.",
            set_file_permissions,
            inputs({"path": file, "permissions": PERMISSIONS}, required=("path", "permissions")),
            platforms=NOT_WINDOWS,
        ),
        list_action(
            "SetFolderPermissions",
            "Changes the mode of a folder.",
            set_folder_permissions,
            inputs(
                {"path": folder, "permissions": PERMISSIONS, "recursive": recursive},
                required=("path", "permissions"),
            ),
            platforms=NOT_WINDOWS,
        ),
    )


def set_file_owner(context: ActionContext, entry: TypedInputs) -> None:
    _set_owner(context, entry, _FILE, "")


def set_folder_owner(context: ActionContext, entry: TypedInputs) -> None:
    _set_owner(context, entry, _FOLDER, "-R" if entry["recursive"] else "")


def set_file_permissions(context: ActionContext, entry: TypedInputs) -> None:
    shell(context, _FILE + 'chmod "$2" "$1"', path_argument(entry["path"]), entry["permissions"])


def set_folder_permissions(context: ActionContext, entry: TypedInputs) -> None:
    flag = "-R" if entry["recursive"] else ""
    shell(context, _FOLDER + 'chmod $3 "$2" "$1"', path_argument(entry["path"]), entry["permissions"], flag)


def _set_owner(context: ActionContext, entry: TypedInputs, check: str, flag: str) -> None:
    shell(context, check + _CHOWN, path_argument(entry["path"]), entry["owner"], entry.get("group", ""), flag)


_FILE: Final = """
[ -e "$1" ] || fail "$1: no such file"
[ -d "$1" ] && fail "$1: is a folder"
"""

_FOLDER: Final = """
[ -d "$1" ] || fail "$1: no such folder"
"""

# Without a group, a named owner implies its own; a bare number may belong to no user, and then changes nothing
# but the owner.
_CHOWN: Final = r"""
group=$3
if [ -z "$group" ]; then
  group=$(id -g "$2" 2>/dev/null) || {
    case $2 in *[!0-9]*) fail "$2: no such user" ;; esac
    group=
  }
fi
chown $4 "$2${group:+:$group}" "$1"
"""
