#!/bin/sh
# mke2fs -d ARCHIVE (e2fsprogs 1.47.2) drops every extended attribute but security.capability, and all ACLs.
#
# Since 1.47.1 the value of -d may be an archive instead of a folder. The manual page says that either is copied, and
# of a folder every attribute is: user.*, SELinux labels, IMA signatures, ACLs. Of an archive with the same attributes
# only security.capability arrives: status 0 and no warning. A labelled root made through a pipe of tar is unlabelled.
#
# Needs: root, mmdebstrap, and an apt that reaches a mirror of Debian 13.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mmdebstrap --quiet --variant=apt --mode=root --include=e2fsprogs,libarchive13t64,attr,acl,libcap2-bin trixie \
  "$folder/root" >"$folder/log" 2>&1 || { tail -n 5 "$folder/log"; exit 1; }
cat >"$folder/root/try.sh" <<'T'
set -eu
export LC_ALL=C PATH=/usr/sbin:/usr/bin
dpkg-query -W -f '${Package} ${Version}\n' e2fsprogs libarchive13t64 tar
mkdir /src && cd /src
echo text >file
setfattr -n user.note -v kept file
setfattr -n security.selinux -v system_u:object_r:etc_t:s0 file
setfacl -m u:7:r file
cp /bin/true program && setcap cap_net_raw+ep program
cd /
tar --xattrs --xattrs-include='*' --acls --format=pax -cf src.tar -C src .
names() { # names SOURCE: the attributes in a file system made from it
    rm -f image && truncate -s 16M image && mke2fs -q -t ext4 -d "$1" image 2>errors
    grep -v mtab errors >&2 || :
    for file in file program; do debugfs -R "ea_list $file" image 2>/dev/null; done | grep -oE '^ +[a-z][^ ]+' | sort | tr -d '\n'
}
echo "in the archive:   $(grep -aoE 'SCHILY\.(xattr\.[a-z.]+|acl\.access)' src.tar | sort -u | tr '\n' ' ')"
echo "from the folder: $(names src)"
echo "from the archive:$(names src.tar)"
[ "$(names src)" = '  security.capability  security.selinux  system.posix_acl_access  user.note' ]
[ "$(names src.tar)" = '  security.capability' ]
T
chroot "$folder/root" sh /try.sh
