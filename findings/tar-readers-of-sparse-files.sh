#!/bin/sh
# bsdtar writes holes without being asked, and mkfs.erofs --tar and genext2fs -a then silently store other files.
#
# `bsdtar -cf` takes any file with a hole as sparse: it is named GNUSparseFile.0/NAME in its header, and its real name
# and size are in pax records. `mkfs.erofs --tar=f` (erofs-utils 1.8.6) knows those records not: status 0, no warning,
# NAME is gone and GNUSparseFile.0/NAME holds a map of the holes and the data. A sparse entry of GNU's own format
# (`tar -S`, type S) it leaves out, with status 0 as well. genext2fs 1.5.0 reads both through libarchive, but makes a
# file that is one hole an empty one. `bsdtar --no-read-sparse -cf` writes what every reader understands.
#
# Needs: root, mmdebstrap, and an apt that reaches a mirror of Debian 13.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mmdebstrap --quiet --variant=apt --mode=root --include=erofs-utils,libarchive-tools,genext2fs,e2fsprogs trixie \
  "$folder/root" >"$folder/log" 2>&1 || { tail -n 5 "$folder/log"; exit 1; }
cat >"$folder/root/try.sh" <<'T'
set -eu
export LC_ALL=C PATH=/usr/sbin:/usr/bin
dpkg-query -W -f '${Package} ${Version}\n' erofs-utils libarchive-tools genext2fs tar
mkdir /src && cd /src
truncate -s 3M hole                      # one hole
printf data >tail && truncate -s 2M tail # data, then a hole
cd /
stored() { # stored IMAGE: the files of an EROFS image, with their sizes
    rm -rf out && fsck.erofs --extract=/out "$1" >/dev/null 2>&1
    (cd out && find . -type f -printf '%P=%s\n' | sort | tr '\n' ' ')
}
bsdtar -cf bsd.tar -C src hole tail
tar -Scf gnu.tar -C src hole tail
bsdtar --no-read-sparse -cf plain.tar -C src hole tail
echo "bsdtar lists:             $(bsdtar -tvf bsd.tar | awk '{printf "%s=%s ", $9, $5}')"
for name in bsd gnu plain; do
    mkfs.erofs --quiet --tar=f $name.erofs $name.tar >/dev/null 2>&1 || { echo "mkfs.erofs fails on $name.tar"; exit 1; }
    echo "mkfs.erofs of $name.tar:  $(stored $name.erofs)"
done
genext2fs -b 8192 -a bsd.tar ext2 >/dev/null 2>&1
sizes=$(for name in hole tail; do debugfs -R "stat $name" ext2 2>/dev/null | grep -m1 -o 'Size: [0-9]*' | sed "s/Size: /$name=/"; done)
echo "genext2fs of bsd.tar:     $(echo $sizes)"
[ "$(stored bsd.erofs)" = 'GNUSparseFile.0/hole=512 GNUSparseFile.0/tail=4608 ' ]
[ "$(stored gnu.erofs)" = '' ]
[ "$(stored plain.erofs)" = 'hole=3145728 tail=2097152 ' ]
[ "$(echo $sizes)" = 'hole=0 tail=2097152' ]
T
chroot "$folder/root" sh /try.sh
