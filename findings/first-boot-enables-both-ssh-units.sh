#!/bin/sh
# A first boot of Debian 12 enables ssh.socket beside ssh.service, although the packages disable it.
#
# /etc/machine-id with the text `uninitialized` makes systemd 252 take a boot for the first one, and PID 1 then applies
# presets as `systemctl preset-all --preset-mode=enable-only` does. Debian ships no `disable *`, so every unit that the
# package scripts (or an administrator) left disabled is enabled, ssh.socket among them; both units want port 22. An
# empty /etc/machine-id gets an id too and changes no unit: who writes `uninitialized` into an image has to add presets.
#
# Needs: root, mmdebstrap, and an apt that reaches a mirror of Debian 12.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mmdebstrap --quiet --variant=minbase --mode=root --include=systemd,systemd-sysv,openssh-server bookworm "$folder/root" \
  >"$folder/log" 2>&1 || { tail -n 5 "$folder/log"; exit 1; }
inside() { chroot "$folder/root" "$@"; }
inside dpkg-query -W -f '${Package} ${Version}\n' systemd openssh-server
state() { inside systemctl is-enabled ssh.service ssh.socket | tr '\n' ' ' || :; }
echo "as installed (ssh.service ssh.socket): $(state)"
before=$(state)
inside systemctl disable apt-daily.timer 2>/dev/null
inside systemctl preset-all --preset-mode=enable-only 2>/dev/null
echo "after what a first boot does:          $(state)"
echo "apt-daily.timer, disabled by hand:     $(inside systemctl is-enabled apt-daily.timer)"
[ "$before" = "enabled disabled " ] && [ "$(state)" = "enabled enabled " ] &&
  [ "$(inside systemctl is-enabled apt-daily.timer)" = enabled ]
