"""What must not be in an image: whatever is secret, or would be the same in every machine made from it.

Runs inside, as the last commands before the shutdown; afterwards nobody gets in any more, only the open connection
lasts. Each item can be kept with a marker file, as in AWS's own cleanup script: FOLDER/skip_cleanup_ssh_files
and so on.
"""

from __future__ import annotations

from imagesmith.instances.protocol import Instance, InstanceError

_SECONDS = 900.0
_MARKERS = "/tmp"  # noqa: S108 - a folder of the guest

# "$1": where marker files are. Every part prints what it did; what is not there is no failure.
SCRIPT = r"""
set -u
kept() { [ -e "$1/skip_cleanup_$2" ] && echo "kept: $2 ($1/skip_cleanup_$2)"; }
markers=$1
if ! kept "$markers" cloudinit_files; then
  echo "cloud-init: state, logs, generated network files"
  rm -rf /var/lib/cloud/instance /var/lib/cloud/instances /var/lib/cloud/sem /var/lib/cloud/data
  rm -f /etc/sudoers.d/90-cloud-init-users /etc/netplan/50-cloud-init.yaml /etc/network/interfaces.d/50-cloud-init
  rm -f /etc/systemd/network/10-cloud-init-* /etc/udev/rules.d/70-persistent-net.rules /etc/machine-info
fi
if ! kept "$markers" ssh_files; then
  echo "ssh: host keys, authorized keys, known hosts"
  rm -f /etc/ssh/ssh_host_*_key /etc/ssh/ssh_host_*_key.pub
  for home in /root /home/*; do
    rm -f "$home/.ssh/authorized_keys" "$home/.ssh/authorized_keys2" "$home/.ssh/known_hosts"
  done
fi
if ! kept "$markers" history_files; then
  echo "histories of shells"
  for home in /root /home/*; do
    rm -f "$home"/.bash_history "$home"/.ash_history "$home"/.zsh_history "$home"/.lesshst "$home"/.viminfo
  done
fi
if ! kept "$markers" machine_id_files; then
  echo "machine-id, random seed, host name"
  [ ! -e /etc/machine-id ] || : >/etc/machine-id
  [ -L /var/lib/dbus/machine-id ] || rm -f /var/lib/dbus/machine-id
  # Stopping the service writes a seed; after that nothing does.
  systemctl stop systemd-random-seed.service 2>/dev/null
  rm -f /var/lib/systemd/random-seed /var/lib/systemd/credential.secret
  [ ! -e /etc/hostname ] || echo localhost >/etc/hostname
fi
if ! kept "$markers" log_files; then
  echo "logs"
  rm -rf /var/log/journal/* /var/log/amazon
  find /var/log -xdev -type f \( -name '*.gz' -o -name '*.[0-9]' -o -name '*.old' \) -exec rm -f {} +
  find /var/log -xdev -type f -exec sh -c 'for file; do : >"$file"; done' sh {} +
  rm -f /var/lib/dhcp/* /var/lib/NetworkManager/*.lease
fi
if ! kept "$markers" package_files; then
  echo "downloaded packages"
  rm -f /var/cache/apt/archives/*.deb /var/cache/apt/archives/partial/* /var/cache/apt/*.bin
  rm -rf /var/cache/dnf/* /var/cache/yum/*
fi
if ! kept "$markers" tmp_files; then
  echo "temporary files"
  find /var/tmp -xdev -mindepth 1 -delete 2>/dev/null
  find /tmp -xdev -mindepth 1 ! -name 'systemd-private-*' ! -path '*/systemd-private-*' -delete 2>/dev/null
fi
sync
# What was freed becomes holes of the disk, so the image holds nothing of it.
fstrim -a 2>/dev/null || echo "free space could not be trimmed"
exit 0
"""


def sanitize(instance: Instance, *, markers: str = _MARKERS) -> str:
    """Clean a machine before its disk becomes an image; give what was done, line by line. Raises InstanceError."""
    done = instance.run(["/bin/sh", "-c", SCRIPT, "sanitize", markers], timeout=_SECONDS)
    if done.timed_out or done.returncode != 0:
        raise InstanceError(f"sanitising {instance.kind} failed ({done.ending}): {done.tail(5)}")
    return done.stdout.decode(errors="replace").strip()
