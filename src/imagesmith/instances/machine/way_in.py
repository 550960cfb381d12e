"""SSH access to a machine that neither its image nor its user data can disable, and its removal.

    /etc/ssh/sshd_config.d/00-imagesmith.conf     for root alone: our key first, no other rule of sshd applies
    /etc/ssh/imagesmith/authorized_keys           our public key

Written at every boot, before sshd and before cloud-init's users and keys, in two independent ways:

    tmpfiles.extra     a credential that systemd (252 or newer) finds in the SMBIOS strings of the machine
    vendor data        a boot hook of cloud-init, for older systems; it adds the key to root's own too, where
                       cloud-init leaves lines that it did not write: for an sshd that reads no such folder, and for
                       user data that replaces sshd's configuration by one that does not

Keys in cloud-init's configuration are not enough: it merges member by member, so `users` of the user data replaces
ours, and with `disable_root` its key for root runs no commands. `LEAVE` removes every trace.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Final

_FOLDER: Final = "/etc/ssh/imagesmith"
KEYS: Final = f"{_FOLDER}/authorized_keys"
RULES: Final = "/etc/ssh/sshd_config.d/00-imagesmith.conf"

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

_HOOK: Final = """\
#cloud-boothook
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
exit 0
"""

# "$1", "$2": strings that identify our public key and the public key of the machine.
LEAVE: Final = f"""\
set -u
found=0
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
        f"f+~ {place} 0644 root root - {base64.b64encode(text.encode()).decode()}" for place, text in texts.items()
    ]
    return "".join(f"{line}\n" for line in lines)


def boot_hook(key: str) -> bytes:
    """The same as a part of cloud-init's data, which runs it at every boot before any other part."""
    words = {
        "@FOLDER@": _FOLDER, "@KEYS@": KEYS, "@RULES@": RULES, "@RULES_TEXT@": _RULES_TEXT, "@KEY@": key,
    }  # fmt: skip
    text = _HOOK
    for word, value in words.items():
        text = text.replace(word, value)
    return text.encode()
