#!/bin/sh
# cloud-init 25.1 calls the user data that its own make-mime wrote invalid.
#
# `cloud-init schema -c FILE` is the check of user data before a boot. User data in several parts is what
# `cloud-init devel make-mime` writes, and what a boot reads. The check answers "Unrecognized user-data header" and
# "Invalid schema", status 1, whatever the parts are; each part by itself is valid. Its list of allowed first lines leaves
# MIME out. A cloud-config-archive, the other way to write several parts, is the opposite: status 0 for any content.
#
# Needs: root, mmdebstrap, and an apt that reaches a mirror of Debian 13.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mmdebstrap --quiet --variant=apt --mode=root --include=cloud-init trixie "$folder/root" >"$folder/log" 2>&1 ||
  { tail -n 5 "$folder/log"; exit 1; }
cat >"$folder/root/try.sh" <<'T'
set -eu
export LC_ALL=C PATH=/usr/sbin:/usr/bin
dpkg-query -W -f '${Package} ${Version}\n' cloud-init
cd /tmp
printf '#cloud-config\nruncmd: [[ls]]\n' >part
cloud-init devel make-mime -a part:cloud-config >parts
printf '#cloud-config-archive\n- type: text/cloud-config\n  content: "runcmd: 5"\n- 5\n' >archive
python3 - <<'P'
from cloudinit import user_data
from cloudinit.handlers import type_from_starts_with

message = user_data.convert_string(open("parts").read())
print("a boot reads:  ", [part.get_content_type() for part in message.walk()])
P
check() { status=0; cloud-init schema -c "$1" >answer 2>&1 || status=$?; echo "status $status, $(grep -oE 'Unrecognized user-data header|Valid schema|not currently evaluated' answer | head -n 1)"; }
for name in part parts archive; do echo "$name: $(check $name)"; done
[ "$(check part)" = "status 0, Valid schema" ]
[ "$(check parts)" = "status 1, Unrecognized user-data header" ]
[ "$(check archive)" = "status 0, not currently evaluated" ]
T
chroot "$folder/root" sh /try.sh
