#!/bin/sh
# rpm 4.18.0 of Debian 12: a query of a SUSE database (ndb) lists nothing and ends with status 0.
#
# Debian's rpm is built without ndb. Of a folder that holds Packages.db with a package it says that none is installed:
# no error and no warning, for it makes an empty SQLite database beside it. When the backend is named, it warns, takes
# a "dummy database" and ends with status 0 as well. A scanner that asks the rpm of its host takes such an image for
# one without packages.
#
# Needs: python3 with venv, Debian's package rpm. The ndb database is written by the rpm 4.16 in the PyPI package
# rpm-inspector-rpm.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
command -v rpmbuild >/dev/null || { echo "apt-get install rpm"; exit 2; }
rpm --version
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check rpm-inspector-rpm==4.16.1.3.210404 2>/dev/null
programs=$(echo "$folder"/venv/lib/python3*/site-packages/rpm_inspector_rpm/bin)
writer() {
    "$programs/rpm" --rcfile="$programs/rpmrc" --define '_db_backend ndb' --dbpath /db --root "$folder/root" \
        --define '_rpmlock_path /db/.rpm.lock' "$@"
}
cat > alpha.spec <<'S'
Name: alpha
Version: 1
Release: 1
Summary: A package
License: MIT
BuildArch: noarch
%description
A package
%files
S
rpmbuild -bb --quiet --define "_topdir $folder" alpha.spec
mkdir -p root/db
writer -i --justdb --nodeps --nosignature --ignorearch --ignoreos RPMS/noarch/*.rpm
echo "rpm 4.16 with ndb: $(writer -qa)"
cp -r root/db plain
cp -r root/db named
plain=$(rpm --dbpath "$folder/plain" -qa 2>&1) && echo "Debian's rpm: status 0, answer '$plain'"
named=$(rpm --dbpath "$folder/named" --define '_db_backend ndb' -qa 2>&1) && echo "with ndb named: status 0, '$named'"
[ "$(writer -qa)" = alpha-1-1.noarch ] && [ -z "$plain" ] && ! echo "$named" | grep -q alpha
