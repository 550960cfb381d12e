#!/bin/sh
# mke2fs -d of e2fsprogs 1.47.0 gives each file the times of access and of change (atime, ctime) of the file that it
# copies, also with E2FSPROGS_FAKE_TIME: only the times of creation and those of lost+found are the given one. Nobody can
# set the time of change of a file, so two file systems of equal folders differ, unless debugfs writes it afterwards.
set -eu
version=$(mke2fs -V 2>&1 | sed -n '1s/mke2fs \([0-9.]*\).*/\1/p')
echo "mke2fs $version"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for name in one two; do
  mkdir "$work/$name"
  echo text >"$work/$name/file"
  touch -d @1700000000 "$work/$name/file" "$work/$name"
  [ "$name" = two ] || sleep 2
done
for name in one two; do
  E2FSPROGS_FAKE_TIME=1700000000 SOURCE_DATE_EPOCH=1700000000 mke2fs -q -F -t ext4 \
    -U 00000000-0000-4000-8000-000000000001 -E hash_seed=00000000-0000-4000-8000-000000000002 \
    -d "$work/$name" "$work/$name.img" 8M
  debugfs -R 'stat /file' "$work/$name.img" 2>/dev/null | grep 'time:'
done
if cmp -s "$work/one.img" "$work/two.img"; then
  echo "they are equal: the behaviour has changed"
  exit 1
fi
for name in one two; do
  for inode in 2 11 12; do
    printf 'sif <%s> ctime @1700000000\nsif <%s> atime @1700000000\n' "$inode" "$inode"
  done | debugfs -w -f - "$work/$name.img" >/dev/null 2>&1
done
cmp "$work/one.img" "$work/two.img"
echo "different until debugfs had written the times of change"
