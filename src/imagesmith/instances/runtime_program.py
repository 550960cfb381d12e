"""The container runtime as buildah calls it: runc, with the control groups of a RUN read-only and no stray files.

    buildah --> runtime_program.py RUNC create --bundle FOLDER ... --> FOLDER/config.json, edited --> exec RUNC
                                   RUNC delete NAME --> RUNC --> its empty mount points are removed

buildah mounts control groups writable and has no option against it. A RUN that writes them could freeze itself, so
that no signal ends it, raise its own limits, or leave its group. Without control groups it would not see its
limits, which runtimes such as the JVM read to size themselves.

runc makes missing mount points (/proc, /etc/hosts and so on) in a root, and leaves them. They would be in the
image, so the empty ones are removed, as BuildKit does. By then no process of the RUN lives, and no link of the
image is followed: it could lead to the layers of other builds.

Only the standard library is used: the namespaces hold no other file of imagesmith.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

CONTROL_GROUPS = "/sys/fs/cgroup"
STUBS = "stubs.json"
RESERVED = "reserved-names.json"
WHITEOUT = ".wh."
MOST_NAMES = 5
MOST_LINKS = 40
VOLUMES = ("/userdata/overlay/", "/userdata/buildah-volumes/")
"""Parts of the sources of volumes: buildah makes them of the folder at a volume's path, and follows links there."""


def seal(config: dict[str, Any]) -> None:
    """Make every mount of control groups, or of a folder with them, read-only."""
    for mount in config.get("mounts") or []:
        place = os.path.normpath(str(mount.get("destination", "")))
        if (
            str(mount.get("type", "")).startswith("cgroup")
            or is_at_or_below(place, CONTROL_GROUPS)
            or place == "/sys"
        ):
            kept = [option for option in mount.get("options") or [] if option not in ("rw", "ro")]
            mount["options"] = [*kept, "ro"]


def linked_volume(config: dict[str, Any], root: str) -> str:
    """The first volume whose path in the root leads through a link, which may end in the layers of other builds."""
    for mount in config.get("mounts") or []:
        destination = str(mount.get("destination", ""))
        if any(part in str(mount.get("source", "")) for part in VOLUMES):
            place = root
            for word in destination.split("/"):
                place = os.path.join(place, word)
                if os.path.islink(place):
                    return destination
    return ""


def is_at_or_below(place: str, folder: str) -> bool:
    return place == folder or place.startswith(f"{folder}/")


def bundle_of(arguments: list[str]) -> str:
    """The folder of the container to create, as runc parses its options; empty for other commands."""
    if not {"create", "run"} & set(arguments):
        return ""
    for number, word in enumerate(arguments):
        name, equals, value = word.partition("=")
        if name in ("--bundle", "-bundle", "-b", "--b"):
            return value if equals else arguments[number + 1]
    return "."


def missing_places(root: str, destinations: list[str]) -> dict[str, Any]:
    """The mount points that are missing in a root, and the folders in which they will be made: when each folder was
    changed, and the names in it."""
    places: set[str] = set()
    folders: dict[str, Any] = {}
    for destination in destinations:
        there, lacking = resolve(root, destination)
        if lacking:
            status = os.lstat(os.path.join(root, *there))
            names = sorted(os.listdir(os.path.join(root, *there)))
            folders["/".join(there)] = [status.st_mtime_ns, names]
        places |= {"/".join([*there, *lacking[: number + 1]]) for number in range(len(lacking))}
    return {"places": sorted(places), "folders": folders}


def resolve(root: str, path: str) -> tuple[list[str], list[str]]:
    """The existing folders of a path, links resolved inside the root, and the missing rest."""
    there: list[str] = []
    left = [word for word in path.split("/") if word not in ("", ".")]
    links = 0
    while left:
        word = left.pop(0)
        if word == "..":
            there = there[:-1]
            continue
        place = os.path.join(root, *there, word)
        try:
            target = os.readlink(place)
        except FileNotFoundError:
            return there, [word, *(rest for rest in left if rest != "..")]
        except OSError:  # not a link
            there.append(word)
            continue
        links += 1
        if links > MOST_LINKS:
            break
        there = [] if target.startswith("/") else there
        left = [*(part for part in target.split("/") if part not in ("", ".")), *left]
    return there, []


def remove_stubs(root: str, stubs: dict[str, Any]) -> None:
    """Remove the empty mount points, and restore the times of folders without other changes."""
    for place in reversed(stubs["places"]):  # sorted: a folder precedes its content
        *above, name = place.split("/")
        with contextlib.suppress(OSError), opened(root, above) as folder:
            status = os.lstat(name, dir_fd=folder)
            if stat.S_ISDIR(status.st_mode):
                os.rmdir(name, dir_fd=folder)
            elif stat.S_ISREG(status.st_mode) and status.st_size == 0:
                os.unlink(name, dir_fd=folder)
    for place, (changed, names) in stubs["folders"].items():
        with contextlib.suppress(OSError), opened(root, [word for word in place.split("/") if word]) as folder:
            if sorted(os.listdir(folder)) == names:
                os.utime(folder, ns=(os.fstat(folder).st_atime_ns, changed))


@contextlib.contextmanager
def opened(root: str, words: list[str]) -> Iterator[int]:
    """A descriptor of a folder below a root; no link is followed."""
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for word in words:
            below = os.open(word, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            os.close(folder)
            folder = below
        yield folder
    finally:
        os.close(folder)


def reserved_names(root: str) -> list[str]:
    """The first files in a mounted root that a layer cannot carry, because their names mark deleted files there.
    Only files written since the mount are examined, or all files where there is no overlay."""
    top = upper_of(root) or root
    found: list[str] = []
    for folder, folders, files in os.walk(top):
        names = [name for name in (*folders, *files) if name.startswith(WHITEOUT)]
        found += ["/" + os.path.relpath(os.path.join(folder, name), top) for name in names]
        if len(found) >= MOST_NAMES:
            break
    return sorted(found)[:MOST_NAMES]


def note_reserved(record: str, root: str) -> None:
    """Record the reserved names that a RUN left in the root of its stage, for each stage: COPY reads other stages.

    The last RUN of a stage counts: it may have removed files of an earlier one.
    """
    noted: dict[str, list[str]] = {}
    with contextlib.suppress(FileNotFoundError), open(record, encoding="utf-8") as file:
        noted = json.load(file)
    # the path of the root differs for each RUN
    noted[upper_of(root) or str(os.stat(root).st_ino)] = reserved_names(root)
    with open(record, "w", encoding="utf-8") as file:
        json.dump(noted, file)


def upper_of(root: str) -> str:
    """The upper folder of an overlay; empty for another file system."""
    place = os.path.realpath(root)
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        mounted = [line.split() for line in file]
    options = next((words[-1] for words in reversed(mounted) if words[4].replace("\\040", " ") == place), "")
    values = [option.partition("=")[2] for option in options.split(",") if option.startswith("upperdir=")]
    return values[0] if values and os.path.isdir(values[0]) else ""


def root_of(bundle: str, config: dict[str, Any]) -> str:
    return os.path.join(bundle, str(config["root"]["path"]))


def bundle_of_running(runtime: str, name: str) -> str:
    """The bundle of a created container; empty if there is none."""
    done = subprocess.run([runtime, "state", name], capture_output=True, check=False)
    try:
        return str(json.loads(done.stdout)["bundle"])
    except (ValueError, KeyError, TypeError):
        return ""


def delete(runtime: str, arguments: list[str]) -> int:
    """Delete a container from the runtime, and clean its root; returns the status."""
    bundle = bundle_of_running(runtime, arguments[-1])
    status = subprocess.run([runtime, *arguments], check=False).returncode
    if bundle and status == 0:
        with contextlib.suppress(OSError, ValueError, KeyError):
            with open(os.path.join(bundle, "config.json"), encoding="utf-8") as file:
                root = root_of(bundle, json.load(file))
            with open(os.path.join(bundle, STUBS), encoding="utf-8") as file:
                remove_stubs(root, json.load(file))
            note_reserved(os.path.join(os.path.dirname(bundle), RESERVED), root)
    return status


def main() -> None:
    runtime, *arguments = sys.argv[1:]
    if "delete" in arguments:
        sys.exit(delete(runtime, arguments))
    bundle = bundle_of(arguments)
    if bundle:
        place = os.path.join(bundle, "config.json")
        with open(place, encoding="utf-8") as file:
            config = json.load(file)
        linked = linked_volume(config, root_of(bundle, config))
        if linked:
            sys.exit(f"the volume {linked} leads through a link, which may leave the image: name the folder itself")
        seal(config)
        with open(place, "w", encoding="utf-8") as file:
            json.dump(config, file)
        destinations = [str(mount.get("destination", "")) for mount in config.get("mounts") or []]
        with open(os.path.join(bundle, STUBS), "w", encoding="utf-8") as file:
            json.dump(missing_places(root_of(bundle, config), destinations), file)
    os.execvp(runtime, [runtime, *arguments])


if __name__ == "__main__":
    main()
