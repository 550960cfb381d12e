"""What makes commands of an emulated machine faster: programs at the same addresses each time they run.

TCG keeps what it has translated under the address of the code, and a program whose libraries lie elsewhere at every
start is translated at every start. So:

    the boot            the kernel is told `norandmaps` (direct.py); once commands run, the setting is put right
    the commands        run below `setarch -R`, which they hand on to what they start; the setting stays as it is

Services that the guest's own manager starts are placed at random, as ever, and nothing of it is on the disk.
"""

from __future__ import annotations

from imagesmith.processes import Completed

PREFIX = ("setarch", "x86_64", "-R")

# "$1": what the kernel was told is to be undone. 2 is the kernel's default, and files of sysctl.d come after it.
SCRIPT = """
if [ -n "$1" ]; then
  echo 2 >/proc/sys/kernel/randomize_va_space || exit 1
  /lib/systemd/systemd-sysctl --prefix=/kernel/randomize_va_space || exit 1
fi
setarch x86_64 -R true 2>/dev/null && echo same
exit 0
"""


def prefix_of(done: Completed) -> tuple[str, ...]:
    """What commands are to begin with, by what SCRIPT said; not every guest has the program."""
    return PREFIX if done.stdout.strip() == b"same" else ()
