#!/usr/bin/env bash
# Debian 12's buildah 1.28 drops parts of a Dockerfile without a word, where Docker reads or refuses them:
#   CMD ["a"] && b      Docker: text for the shell, as it is no JSON; buildah: the command is a, `&& b` is gone
#   ENV A=1 before FROM Docker: refused, there is no stage yet; buildah: built, without A
#   ARG of a stage      Docker: known in a stage FROM that stage; buildah: empty there
set -euo pipefail
export LC_ALL=C
command -v buildah >/dev/null || { apt-get update -qq && apt-get install -qq -y buildah >/dev/null; }
buildah --version
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
tool=(buildah --root "$dir/root" --runroot "$dir/run" --storage-driver vfs)
mkdir "$dir/context"

config() { # config NAME: the configuration of the image that $dir/NAME makes
    "${tool[@]}" bud --isolation=chroot --layers=false --quiet --format=docker --iidfile="$dir/id" \
        --file="$dir/$1" "$dir/context" >/dev/null 2>"$dir/errors" || { cat "$dir/errors"; exit 1; }
    "${tool[@]}" inspect --type=image --format '{{.Docker.Config.Cmd}} {{.Docker.Config.Env}}' "$(cat "$dir/id")"
}

printf 'FROM scratch\nCMD ["a"] && b\n' >"$dir/tail"
printf 'ENV A=1\nFROM scratch\nCMD ["x"]\n' >"$dir/early"
printf 'FROM scratch AS one\nARG X=1\nFROM one\nENV B=$X\n' >"$dir/child"

found=$(config tail)
echo "text behind JSON:  $found"
grep -qF '[a] [' <<<"$found"
found=$(config early)
echo "ENV before FROM:   $found"
grep -qF '[x] [' <<<"$found" && ! grep -qF 'A=1' <<<"$found"
found=$(config child)
echo "ARG of a stage:    $found"
grep -qE 'B=\]' <<<"$found"
