#!/usr/bin/env bash
# Debian 12's buildah 1.28 takes more away than it made:
#   RUN --mount=type=tmpfs,target=/data   Docker: /data is there again after the command; buildah: removed with its files
#   bud --force-rm, FROM parent AS a,     Docker: a parent with a name stays; buildah: removed, as the image of the
#   FROM a                                stage `a`, which has no instructions, is the parent itself
set -euo pipefail
export LC_ALL=C
command -v buildah >/dev/null && command -v busybox >/dev/null || {
    apt-get update -qq && apt-get install -qq -y buildah busybox-static >/dev/null
}
buildah --version
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
tool=(buildah --root "$dir/root" --runroot "$dir/run" --storage-driver vfs)
mkdir "$dir/context"
cp "$(command -v busybox)" "$dir/context/busybox"
echo kept >"$dir/context/file"

build() { # build NAME [OPTION...]: make an image of that name from $dir/NAME
    "${tool[@]}" bud --isolation=chroot --layers=false --quiet --pull-never --format=docker --file="$dir/$1" \
        --tag="localhost/$1" "${@:2}" "$dir/context" >/dev/null 2>"$dir/errors" || { cat "$dir/errors"; exit 1; }
}

printf 'FROM scratch\nCOPY busybox /busybox\nCOPY file /data/file\n' >"$dir/parent"
printf 'FROM localhost/parent\nRUN --mount=type=tmpfs,target=/data ["/busybox", "true"]\n' >"$dir/mounted"
printf 'FROM localhost/parent AS a\nFROM a\nLABEL b=c\n' >"$dir/staged"

build parent
build mounted
found=$("${tool[@]}" mount "$("${tool[@]}" from --pull-never localhost/mounted)")
echo "after the mount: $(ls "$found" | tr '\n' ' ')"
test -e "$found/busybox" && test ! -e "$found/data"
build staged --force-rm
left=$("${tool[@]}" images --format '{{.Name}}' | sort | tr '\n' ' ')
echo "images: $left"
! grep -q 'localhost/parent' <<<"$left"
