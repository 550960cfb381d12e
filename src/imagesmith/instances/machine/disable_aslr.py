"""Makes commands of an emulated machine faster: programs are loaded at the same addresses each time.

TCG caches translated code by its address, and a program whose libraries move at every start is translated at every
start. So:

    the boot        the kernel gets `norandmaps` (direct_kernel_boot.py); once commands run, the setting is restored
    the commands    run below `setarch -R`, which their children inherit; the setting of the system is unchanged

Services that the guest's own manager starts get random addresses as usual, and the disk is not changed.
"""

from __future__ import annotations

from imagesmith.processes import Completed

PREFIX = ("setarch", "x86_64", "-R")

# "$1": undo the kernel's argument. 2 is the kernel's default, and files of sysctl.d are applied after it.
SCRIPT = """
if [ -n "$1" ]; then
  echo 2 >/proc/sys/kernel/randomize_va_space || exit 1
  /lib/systemd/systemd-sysctl --prefix=/kernel/randomize_va_space || exit 1
fi
setarch x86_64 -R true 2>/dev/null && echo same
exit 0
"""


def prefix_of(done: Completed) -> tuple[str, ...]:
    """The prefix of commands, from the output of SCRIPT; not every guest has the program."""
    return PREFIX if done.stdout.strip() == b"same" else ()
