"""Actions on single files (spec/components.md 10.10 to 10.12, 10.15, 10.17 to 10.20).

Each entry is one call of a POSIX script inside the instance, so links and `..` resolve there and nowhere else;
contents pass through standard input and output.
"""

from __future__ import annotations

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
)
from imagesmith.components.actions.encodings import ENCODING, decode, encode
from imagesmith.components.actions.path_transfer import transfer_files
from imagesmith.components.actions.shared_inputs import (
    GROUP,
    OVERWRITE,
    OWNER,
    PERMISSIONS,
    POSIX_ONLY,
    transfer_inputs,
)
from imagesmith.components.actions.wildcards import pattern_argument, split_wildcard
from imagesmith.components.schema import flag, inputs, text

MAX_CONTENT: Final = 16 * 1024 * 1024


_PATH: Final = text("Path of the file.", minLength=1)


def actions() -> tuple[Action, ...]:
    transfer = transfer_inputs("A file", "The new file, or a folder when it ends with a separator.")
    return (
        *_writing_actions(),
        list_action("CopyFile", "Copies files.", copy_file, transfer),
        list_action("MoveFile", "Moves or renames files.", move_file, transfer),
        list_action(
            "DeleteFile",
            "Deletes files; a missing file is not an error.",
            delete_file,
            inputs(
                {"path": text("A file; * is allowed after the last separator.", minLength=1)}, required=("path",)
            ),
        ),
        list_action(
            "ReadFile",
            "Returns the text of a file.",
            read_file,
            inputs(
                {
                    "path": _PATH,
                    "encoding": ENCODING,
                    "printFileContent": flag("Also print it to the log.", default=False),
                },
                required=("path",),
            ),
            outputs=("content",),
        ),
        list_action(
            "SetFileEncoding",
            "Re-encodes a UTF-8 file in place.",
            set_file_encoding,
            inputs({"path": _PATH, "encoding": ENCODING}, required=("path",)),
        ),
    )


def _writing_actions() -> tuple[Action, ...]:
    content = text("The text.", default="")
    return (
        list_action(
            "AppendFile",
            "Adds text to the end of a file.",
            append_file,
            inputs({"path": _PATH, "content": content, "encoding": ENCODING}, required=("path",)),
        ),
        list_action(
            "CreateFile",
            "Creates a file, and its folders.",
            create_file,
            inputs(
                {
                    "path": _PATH,
                    "content": content,
                    "encoding": ENCODING,
                    "owner": OWNER,
                    "group": GROUP,
                    "permissions": PERMISSIONS,
                    "overwrite": OVERWRITE,
                },
                required=("path",),
            ),
            unsupported_inputs=POSIX_ONLY,
        ),
    )


def append_file(context: ActionContext, entry: TypedInputs) -> None:
    path = path_argument(entry["path"])
    data = _encoded(entry)
    script = '[ -f "$1" ] || fail "$1: no such file"; cat >>"$1"'
    shell(context, script, path, input=data)


def create_file(context: ActionContext, entry: TypedInputs) -> None:
    path = path_argument(entry["path"])
    if path.endswith("/"):
        raise ActionFailed(f"'{path}' names a folder, not a file")
    shell(
        context,
        _CREATE,
        path,
        parent_of(path),
        "yes" if entry["overwrite"] else "",
        entry.get("owner", ""),
        entry.get("group", ""),
        entry.get("permissions", ""),
        input=_encoded(entry),
    )


def copy_file(context: ActionContext, entry: TypedInputs) -> None:
    transfer_files(context, entry, "cp")


def move_file(context: ActionContext, entry: TypedInputs) -> None:
    transfer_files(context, entry, "mv")


def delete_file(context: ActionContext, entry: TypedInputs) -> None:
    path = path_argument(entry["path"])
    folder, name = split_wildcard(path)
    if "*" in name:
        shell(context, _DELETE_MATCHES, folder, pattern_argument(name))
    else:
        shell(context, _DELETE, path)


def read_file(context: ActionContext, entry: TypedInputs) -> Outputs:
    path = path_argument(entry["path"])
    data = _read(context, path)
    try:
        content = decode(data, entry["encoding"])
    except UnicodeDecodeError as error:
        raise ActionFailed(f"{path} is not {entry['encoding']}: {error.reason} at byte {error.start}") from error
    if entry["printFileContent"]:
        context.output("stdout", data)
    return {"content": content}


def set_file_encoding(context: ActionContext, entry: TypedInputs) -> None:
    path = path_argument(entry["path"])
    try:
        content = decode(_read(context, path), "utf8")
    except UnicodeDecodeError as error:
        raise ActionFailed(f"{path} is not UTF-8: {error.reason} at byte {error.start}") from error
    shell(context, 'cat >"$1"', path, input=encode(content, entry["encoding"]))


def _encoded(entry: TypedInputs) -> bytes:
    try:
        return encode(entry["content"], entry["encoding"])
    except UnicodeEncodeError as error:
        raise ActionFailed(f"the content cannot be written as {entry['encoding']}: {error.reason}") from error


def _read(context: ActionContext, path: str) -> bytes:
    completed = shell(
        context,
        '[ -d "$1" ] && fail "$1: is a folder"; [ -e "$1" ] || fail "$1: no such file"; cat "$1"',
        path,
        limit=MAX_CONTENT,
    )
    if completed.dropped:
        raise ActionFailed(f"{path} is larger than {MAX_CONTENT} bytes")
    return completed.stdout


_CREATE: Final = r"""
[ -d "$1" ] && fail "$1: is a folder"
if [ -e "$1" ] || [ -L "$1" ]; then
  [ "$3" ] || fail "$1: exists, and 'overwrite' is false"
fi
mkdir -p "$2" || exit 1
cat >"$1" || exit 1
[ -z "$4$5" ] || chown "$4${5:+:$5}" "$1" || exit 1
[ -z "$6" ] || chmod "$6" "$1" || exit 1
"""

_DELETE: Final = r"""
[ -d "$1" ] && [ ! -L "$1" ] && fail "$1: is a folder; use DeleteFolder"
[ -e "$1" ] || [ -L "$1" ] || exit 0
rm -f "$1"
"""

# Names that begin with a dot match `*` too; the shell's own expansion would omit them.
_DELETE_MATCHES: Final = r"""
for file in "${1%/}"/* "${1%/}"/.[!.]* "${1%/}"/..?*; do
  case ${file##*/} in $2) ;; *) continue ;; esac
  if [ -d "$file" ] && [ ! -L "$file" ]; then continue; fi
  if [ -e "$file" ] || [ -L "$file" ]; then rm -f "$file" || exit 1; fi
done
"""

# $1 cp or mv, $2 overwrite, $3 destination, $4 its folder. The target is removed first: a copy through an old link
# would change a file elsewhere. With umask 0 the copy has the mode of its source.
