"""SSH access to a machine that neither its image nor its user data can disable, and its removal.

    /etc/ssh/sshd_config.d/00-imagesmith.conf     for root alone: our key first, no other rule of sshd applies
    /etc/ssh/imagesmith/authorized_keys           our public key
    /run/imagesmith/                              SSH servers of our own: the image's program, with ports, a
                                                  configuration and a host key that nobody else has

Written at every boot, before sshd and before cloud-init's users and keys, in two independent ways:

    tmpfiles.extra     a credential that systemd (252 or newer) finds in the SMBIOS strings of the machine: the
                       first two files
    vendor data        a boot hook of cloud-init: all three, and the key among root's own, where cloud-init leaves
                       lines that it did not write. The servers of our own are for an sshd whose configuration was
                       replaced: it may read no such folder, bar root, or not start at all

Keys in cloud-init's configuration are not enough: it merges member by member, so `users` of the user data replaces
ours, and with `disable_root` its key for root runs no commands. `LEAVE` removes every trace.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Final

from imagesmith.instances.machine.hardware import OWN_SSH_PORTS

_FOLDER: Final = "/etc/ssh/imagesmith"
KEYS: Final = f"{_FOLDER}/authorized_keys"
RULES: Final = "/etc/ssh/sshd_config.d/00-imagesmith.conf"
SERVER: Final = "/run/imagesmith"
"""Not on the disk: it is gone when the machine is."""

# A Match block is read before the rest of the file, and its lists replace the others. `-` matches no user.
_RULES_TEXT: Final = f"""\
# Only while this machine is built: removed before its disk becomes an image.
Match User root
  AuthorizedKeysFile {KEYS} .ssh/authorized_keys
  PermitRootLogin prohibit-password
  PubkeyAuthentication yes
  AuthenticationMethods any
  AllowUsers root
  DenyUsers -
  AllowGroups *
  DenyGroups -
  ForceCommand none
  ChrootDirectory none
Match all
"""

_SERVERS: Final = dict(zip(OWN_SSH_PORTS.values(), ("no", "yes"), strict=True))
"""Port -> whether it asks PAM: with PAM a root with an expired password runs nothing, without PAM a locked root."""
_SERVER_TEXT: Final = f"""\
HostKey {SERVER}/host_key
AuthorizedKeysFile {SERVER}/authorized_keys
AllowUsers root
PermitRootLogin prohibit-password
AuthenticationMethods publickey
PasswordAuthentication no
StrictModes no
PrintMotd no
"""

_HOOK: Final = """\
#!/bin/sh
umask 022
mkdir -p @FOLDER@ && echo '@KEY@' >@KEYS@
mkdir -p -m 700 /root/.ssh
grep -qF '@KEY@' /root/.ssh/authorized_keys 2>/dev/null || echo '@KEY@' >>/root/.ssh/authorized_keys
chmod 600 /root/.ssh/authorized_keys
if grep -qi '^[[:space:]]*include.*sshd_config\\.d' /etc/ssh/sshd_config /usr/etc/ssh/sshd_config 2>/dev/null; then
  mkdir -p /etc/ssh/sshd_config.d && cat >@RULES@ <<'END'
@RULES_TEXT@END
fi
command -v restorecon >/dev/null && restorecon -R /etc/ssh /root/.ssh
mkdir -p /run/sshd @SERVER@ && echo '@KEY@' >@SERVER@/authorized_keys && cat >@SERVER@/sshd_config <<'END'
@SERVER_TEXT@END
(umask 077 && cat >@SERVER@/host_key <<'END'
@HOST_KEY@
END
)
PATH=$PATH:/usr/sbin:/usr/lib/ssh
sshd=$(command -v sshd) || exit 0
for server in @SERVERS@; do
  port=${server%:*}
  "$sshd" -f @SERVER@/sshd_config -o "Port ${port}" -o "UsePAM ${server#*:}" -o "PidFile @SERVER@/${port}.pid"
done
exit 0
"""

# "$1", "$2": strings that identify our public key and the public key of the machine.
LEAVE: Final = f"""\
set -u
found=0
for pid in {SERVER}/*.pid; do [ ! -e "$pid" ] || kill "$(cat "$pid")"; done
rm -rf {SERVER} || exit 1
[ -e {_FOLDER} ] || [ -e {RULES} ] && found=1
rm -rf {_FOLDER} {RULES} || exit 1
for keys in $(grep -rlsF -e "$1" /root/.ssh /home/*/.ssh); do
  found=1
  left=$(grep -vF -e "$1" "$keys") || :
  if [ -n "$left" ]; then printf '%s\\n' "$left" >"$keys" || exit 1; else rm -f "$keys" || exit 1; fi
done
for file in $(grep -rlsF -e "$1" -e "$2" /var/lib/cloud /etc/ssh); do
  found=1
  rm -f "$file" "${{file%.pub}}" || exit 1
done
if [ $found = 1 ]; then sync; fstrim -a 2>/dev/null; fi
exit 0
"""


def tmpfiles_lines(key: str) -> str:
    """Lines of tmpfiles.d that write both files; `key` is a line of authorized_keys."""
    texts: Mapping[str, str] = {KEYS: f"{key}\n", RULES: _RULES_TEXT}
    lines = [f"d {_FOLDER} 0755 root root"]
    lines += [
        f"f+~ {path} 0644 root root - {base64.b64encode(text.encode()).decode()}" for path, text in texts.items()
    ]
    return "".join(f"{line}\n" for line in lines)


def boot_hook(key: str, host_key: str) -> str:
    """The same and the servers, as a script that cloud-init runs at every boot before any other part of its data.

    `host_key`: the private key of the machine.
    """
    words = {
        "@FOLDER@": _FOLDER, "@KEYS@": KEYS, "@RULES@": RULES, "@RULES_TEXT@": _RULES_TEXT, "@KEY@": key,
        "@SERVER@": SERVER, "@SERVER_TEXT@": _SERVER_TEXT, "@HOST_KEY@": host_key.strip(),
        "@SERVERS@": " ".join(f"{port}:{pam}" for port, pam in _SERVERS.items()),
    }  # fmt: skip
    text = _HOOK
    for word, value in words.items():
        text = text.replace(word, value)
    return text
