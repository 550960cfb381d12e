#!/bin/sh
# mtools dates a file of 1970 to 2098: SOURCE_DATE_EPOCH=0, or a source whose time was clamped to 0 or 1.
#
# FAT counts years from 1980 in seven bits. mtools (4.0.32, and 4.0.48 of Debian 13) subtracts without a look at
# the sign: 1970 becomes 2098 and 1979 becomes 2107, for files and folders, with status 0. What `mcopy -m` copies in
# and out again is of 2098. Clocks, `make` and update checks that compare times take such a boot partition for one of
# the future. From 315532800, the beginning of 1980, the times are right.
#
# Needs: Debian's package mtools.
set -eu
export LC_ALL=C TZ=UTC
command -v mcopy >/dev/null || { echo "apt-get install mtools"; exit 2; }
mcopy --version 2>&1 | head -n 1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
echo text >file
years() { # years EPOCH: the years of a folder and of a file, made under that SOURCE_DATE_EPOCH
    rm -f disk && truncate -s 4M disk
    SOURCE_DATE_EPOCH=$1 mformat -i disk ::
    SOURCE_DATE_EPOCH=$1 mmd -i disk ::folder
    SOURCE_DATE_EPOCH=$1 mcopy -i disk file ::
    mdir -i disk :: | grep -E '^(folder|file) ' | grep -oE '[0-9]{4}-[0-9]{2}-[0-9]{2}' | tr '\n' ' '
}
for epoch in 0 315532799 315532800; do
    echo "SOURCE_DATE_EPOCH=$epoch ($(date -d @$epoch +%F)): $(years $epoch)"
done
touch -d @1 file
mcopy -o -m -i disk file :: && mkdir back && mcopy -m -i disk ::file back/
echo "copied in and out:  $(date -r file +%F) became $(date -r back/file +%F)"
[ "$(years 0)" = '2098-01-01 2098-01-01 ' ]
[ "$(years 315532799)" = '2107-12-31 2107-12-31 ' ]
[ "$(years 315532800)" = '1980-01-01 1980-01-01 ' ]
[ "$(date -r back/file +%F)" = 2098-01-01 ]
