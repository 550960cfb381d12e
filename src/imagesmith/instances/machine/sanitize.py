"""Removes content that must not be in an image: secrets, and data that must differ between its machines.

Runs inside, as the last commands before the shutdown; afterwards no login is possible, only the open connection
remains. Sections and flag files follow spec/workflows.md 5.7; DIRECTORY is the working directory:

    DIRECTORY/perform_cleanup             without it nothing happens: the default user data makes it
    DIRECTORY/skip_cleanup_ssh_files      keeps one section
"""

from __future__ import annotations

from imagesmith.artifacts.first_boot import FIRST_BOOT
from imagesmith.instances.command import Command
from imagesmith.instances.protocol import Instance, InstanceError

_SECONDS = 900.0

MARKER = 'mkdir -p -- "$1" && : >"$1/perform_cleanup"'
"""A script that asks for the clean-up; "$1" is the working directory."""

# "$1": the working directory. Every section prints what it did; a missing file is not a failure, a file that cannot
# be removed is one.
SCRIPT = (
    r"""
set -u
cd "$1" 2>/dev/null || cd /
[ -e "$1/perform_cleanup" ] || { echo "Skipping cleanup"; exit 0; }
rm -f "$1/perform_cleanup"
failed=0
wanted() {
  if [ -e "$1/skip_cleanup_$2" ]; then echo "kept: $3 (skip_cleanup_$2)"; return 1; fi
  echo "removed: $3"
}
gone() { rm -rf -- "$@" || failed=1; }
flags=$(mktemp -d); for flag in "$1"/skip_cleanup_*; do [ -e "$flag" ] && : >"$flags/${flag##*/}"; done
if wanted "$flags" cloudinit_files "state, logs and generated files of cloud-init"; then
  gone /etc/sudoers.d/90-cloud-init-users /etc/locale.conf /var/log/cloud-init.log /var/log/cloud-init-output.log
  gone /var/lib/cloud/instance /var/lib/cloud/instances /var/lib/cloud/sem /var/lib/cloud/data
  gone /etc/netplan/50-cloud-init.yaml /etc/network/interfaces.d/50-cloud-init /etc/systemd/network/10-cloud-init-*
  gone /etc/udev/rules.d/70-persistent-net.rules
fi
if wanted "$flags" instance_files "host name, random seed, marks of first boots"; then
  gone /etc/.updated /etc/aliases.db /etc/hostname /var/lib/misc/postfix.aliasesdb-stamp /var/.updated
  gone /var/lib/postfix/master.lock /var/spool/postfix/pid/master.pid
  gone /var/cache/yum/x86_64/2/.gpgkeyschecked.yum
  # Stopping the service writes a seed; after that nothing does.
  systemctl stop systemd-random-seed.service 2>/dev/null
  gone /var/lib/systemd/random-seed /var/lib/systemd/credential.secret
fi
if wanted "$flags" ssh_files "host keys, authorized keys, known hosts"; then
  gone /etc/ssh/ssh_host_*_key /etc/ssh/ssh_host_*_key.pub
  for home in /root /home/*; do gone "$home/.ssh/authorized_keys" "$home/.ssh/known_hosts"; done
fi
if wanted "$flags" instance_log_files "logs"; then
  find /var/log -xdev -type f \( -name '*.gz' -o -name '*.[0-9]' -o -name '*.old' \) -exec rm -f {} + || failed=1
  find /var/log -xdev -type f ! -path '/var/log/journal/*' \
    -exec sh -c 'for file; do : >"$file"; done' sh {} + || failed=1
fi
wanted "$flags" toe_files "logs of components" && gone "$1"/TOE_*
wanted "$flags" ssm_log_files "logs of the agent" && gone /var/log/amazon/ssm
# Until the shutdown the journal goes to memory: otherwise it would be on the disk again.
journalctl --relinquish-var >/dev/null 2>&1
echo "removed: journals, leases, histories, temporary files, downloaded packages, machine-id"
for home in /root /home/*; do
  gone "$home/.bash_history" "$home/.ash_history" "$home/.lesshst" "$home/.viminfo"
done
gone /var/log/sa/sa* /var/lib/dhcp/* /var/lib/dhclient/* /var/lib/rsyslog/imjournal.state /var/log/journal/*
gone /var/cache/apt/archives/*.deb /var/cache/apt/archives/partial/* /var/cache/dnf /var/cache/yum
find /var/tmp -xdev -mindepth 1 ! -path '*/systemd-private-*' -delete || failed=1
find /tmp -xdev -mindepth 1 ! -path '*/systemd-private-*' -delete || failed=1
"""
    + FIRST_BOOT.rstrip("\n")
    + r""" || failed=1
sync
# What was freed becomes holes of the disk, so the image holds nothing of it.
fstrim -a 2>/dev/null || echo "free space could not be trimmed"
exit $failed
"""
)


def sanitize(instance: Instance, *, directory: str) -> str:
    """Clean a machine before its disk becomes an image; returns the log lines. Raises InstanceError."""
    done = instance.run(Command(["/bin/sh", "-c", SCRIPT, "sanitize", directory], timeout=_SECONDS))
    if done.timed_out or done.returncode != 0:
        raise InstanceError(f"sanitising the {instance.kind} failed ({done.ending}): {done.tail(5)}")
    return done.stdout.decode(errors="replace").strip()
