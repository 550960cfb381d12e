"""Actions on single files (spec/components.md 10.10 to 10.12, 10.15, 10.17 to 10.20).

Each entry is one call of a POSIX script inside the instance, so links and `..` resolve there and nowhere else;
contents travel on standard input and output.
"""

from __future__ import annotations

import posixpath
from types import MappingProxyType
from typing import Any, Final

from imagesmith.components.actions.base import (
    Action,
    ActionContext,
    ActionFailed,
    Entry,
    Outputs,
    each_entry,
    parent_of,
    path_argument,
    shell,
)
from imagesmith.components.schema import Schema, flag, inputs, text

MAX_CONTENT: Final = 16 * 1024 * 1024

ENCODINGS: Final = MappingProxyType(
    {
        "utf8": ("utf-8", b"\xef\xbb\xbf"),
        "utf16": ("utf-16-le", b"\xff\xfe"),
        "utf16-le": ("utf-16-le", b"\xff\xfe"),
        "utf16-be": ("utf-16-be", b"\xfe\xff"),
        "utf32": ("utf-32-le", b"\xff\xfe\x00\x00"),
        "utf32-le": ("utf-32-le", b"\xff\xfe\x00\x00"),
        "utf32-be": ("utf-32-be", b"\x00\x00\xfe\xff"),
    }
)
"""Name without its first hyphen -> the codec, and the byte-order mark that is dropped when reading (10.10)."""

_NAMES: Final = (
    *("utf8", "utf-8", "utf16", "utf-16", "utf16-LE", "utf-16-LE", "utf16-BE", "utf-16-BE"),
    *("utf32", "utf-32", "utf32-LE", "utf-32-LE", "utf32-BE", "utf-32-BE"),
)

ENCODING: Final = text("Encoding of the text.", default="utf8", enum=list(_NAMES), ignore_case=True)
PERMISSIONS: Final = text(
    "Octal digits, such as 0644.", pattern=r"^0*[0-7]{1,4}$", expected="octal digits such as 0644"
)
OWNER: Final = text("User name or number.", pattern=r"^[^-:\s][^:\s]*$", expected="a name or a number")
GROUP: Final = text("Group name or number.", pattern=r"^[^-:\s][^:\s]*$", expected="a name or a number")
OVERWRITE: Final = flag("Replace what is there; false makes that an error.", default=True)
POSIX_ONLY: Final = MappingProxyType({"windows": ("owner", "group", "permissions")})


def actions() -> tuple[Action, ...]:
    path = text("Path of the file.", minLength=1)

    def files(name: str, summary: str, run: Any, schema: Schema, **more: Any) -> Action:
        return Action(name, summary, schema, each_entry(run), shape="list", **more)

    content = text("The text.", default="")
    transfer = inputs(
        {
            "source": text("A file; * may stand after the last separator.", minLength=1),
            "destination": text("The new file, or a folder when it ends with a separator.", minLength=1),
            "overwrite": OVERWRITE,
        },
        required=("source", "destination"),
    )
    return (
        files(
            "AppendFile",
            "Adds text to the end of a file.",
            append_file,
            inputs({"path": path, "content": content, "encoding": ENCODING}, required=("path",)),
        ),
        files(
            "CreateFile",
            "Creates a file, and its folders.",
            create_file,
            inputs(
                {
                    "path": path,
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
        files("CopyFile", "Copies files.", copy_file, transfer),
        files("MoveFile", "Moves or renames files.", move_file, transfer),
        files(
            "DeleteFile",
            "Deletes files; what is not there is no error.",
            delete_file,
            inputs(
                {"path": text("A file; * may stand after the last separator.", minLength=1)}, required=("path",)
            ),
        ),
        files(
            "ReadFile",
            "Gives the text of a file.",
            read_file,
            inputs(
                {
                    "path": path,
                    "encoding": ENCODING,
                    "printFileContent": flag("Also print it to the log.", default=False),
                },
                required=("path",),
            ),
            outputs=("content",),
        ),
        files(
            "SetFileEncoding",
            "Re-encodes a UTF-8 file in place.",
            set_file_encoding,
            inputs({"path": path, "encoding": ENCODING}, required=("path",)),
        ),
    )


def encode(content: str, encoding: str) -> bytes:
    """The bytes of a text, without a byte-order mark."""
    codec, _ = ENCODINGS[_plain_name(encoding)]
    return content.encode(codec, "surrogateescape" if codec == "utf-8" else "strict")


def decode(data: bytes, encoding: str) -> str:
    """The text of bytes; a byte-order mark is dropped. Raises UnicodeDecodeError."""
    codec, mark = ENCODINGS[_plain_name(encoding)]
    return data.removeprefix(mark).decode(codec)


def _plain_name(encoding: str) -> str:
    return encoding.lower().replace("utf-", "utf", 1)


def pattern_argument(name: str) -> str:
    """A name with `*` as a pattern of the shell's `case`, everything else literal."""
    return "".join(char if char == "*" or char.isalnum() else f"\\{char}" for char in name)


def split_wildcard(path: str) -> tuple[str, str]:
    """Folder and last segment; `*` may stand in the last one only. Raises ActionFailed."""
    folder, name = posixpath.split(path)
    if "*" in folder:
        raise ActionFailed(f"'{path}': * may stand after the last separator only")
    return folder or ".", name


def append_file(context: ActionContext, entry: Entry) -> None:
    path = path_argument(entry["path"])
    data = _encoded(entry)
    script = '[ -f "$1" ] || fail "$1: no such file"; cat >>"$1"'
    shell(context, script, path, input=data)


def create_file(context: ActionContext, entry: Entry) -> None:
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


def copy_file(context: ActionContext, entry: Entry) -> None:
    _transfer(context, entry, "cp")


def move_file(context: ActionContext, entry: Entry) -> None:
    _transfer(context, entry, "mv")


def delete_file(context: ActionContext, entry: Entry) -> None:
    path = path_argument(entry["path"])
    folder, name = split_wildcard(path)
    if "*" in name:
        shell(context, _DELETE_MATCHES, folder, pattern_argument(name))
    else:
        shell(context, _DELETE, path)


def read_file(context: ActionContext, entry: Entry) -> Outputs:
    path = path_argument(entry["path"])
    data = _read(context, path)
    try:
        content = decode(data, entry["encoding"])
    except UnicodeDecodeError as error:
        raise ActionFailed(f"{path} is not {entry['encoding']}: {error.reason} at byte {error.start}") from error
    if entry["printFileContent"]:
        context.output("stdout", data)
    return {"content": content}


def set_file_encoding(context: ActionContext, entry: Entry) -> None:
    path = path_argument(entry["path"])
    try:
        content = decode(_read(context, path), "utf8")
    except UnicodeDecodeError as error:
        raise ActionFailed(f"{path} is not UTF-8: {error.reason} at byte {error.start}") from error
    shell(context, 'cat >"$1"', path, input=encode(content, entry["encoding"]))


def _encoded(entry: Entry) -> bytes:
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


def _transfer(context: ActionContext, entry: Entry, verb: str) -> None:
    source, destination = path_argument(entry["source"]), path_argument(entry["destination"])
    folder, name = split_wildcard(source)
    if not name:
        raise ActionFailed(f"'{source}' names a folder, not a file")
    into_folder = destination.endswith("/")
    overwrite = "yes" if entry["overwrite"] else ""
    parent = destination if into_folder else parent_of(destination)
    if "*" in name:
        shell(
            context,
            _TRANSFER + _TRANSFER_MATCHES,
            verb,
            overwrite,
            destination,
            parent,
            "yes" if into_folder else "",
            folder,
            pattern_argument(name),
        )
    else:
        shell(context, _TRANSFER + _TRANSFER_ONE, verb, overwrite, destination, parent, source)


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

# Names that begin with a dot match `*` too; the shell's own expansion would leave them out.
_DELETE_MATCHES: Final = r"""
for file in "${1%/}"/* "${1%/}"/.[!.]* "${1%/}"/..?*; do
  case ${file##*/} in $2) ;; *) continue ;; esac
  if [ -d "$file" ] && [ ! -L "$file" ]; then continue; fi
  if [ -e "$file" ] || [ -L "$file" ]; then rm -f "$file" || exit 1; fi
done
"""

# $1 cp or mv, $2 overwrite, $3 destination, $4 its folder. The target is removed first: a copy through an old link
# would change a file elsewhere. With umask 0 the copy has the mode of its source.
_TRANSFER: Final = r"""
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

_TRANSFER_ONE: Final = r"""
[ -d "$5" ] && fail "$5: is a folder"
[ -e "$5" ] || fail "$5: no such file"
if [ -d "$3" ]; then
  case $3 in */) ;; *) [ "$2" ] || fail "$3: is a folder, and 'overwrite' is false" ;; esac
  transfer "$5" "${3%/}/${5##*/}"
else
  transfer "$5" "$3"
fi
"""

_TRANSFER_MATCHES: Final = r"""
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
