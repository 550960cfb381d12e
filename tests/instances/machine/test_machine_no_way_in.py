"""User data that leaves builds no way into a real Debian: the error says so at once, and why."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagesmith.instances.protocol import InstanceError
from testing.machines import MadeBase, launch_with_user_data

pytestmark = [pytest.mark.tool, pytest.mark.timeout(1500)]

REFUSED = """\
#cloud-config
vendor_data: {enabled: false}
write_files: [{path: /etc/ssh/sshd_config, content: "PermitRootLogin no"}]
"""
SILENT = """\
#cloud-config
vendor_data: {enabled: false}
bootcmd: [[systemctl, mask, --now, ssh.service]]
"""


@pytest.mark.parametrize(
    ("user_data", "said", "speed"),
    [(REFUSED, r"refuses the login", 1), (SILENT, "no SSH server that answers", 4)],
    ids=["refused", "silent"],
)
def test_user_data_that_leaves_no_way_in_is_named_at_once(
    machine_base: MadeBase, tmp_path: Path, user_data: str, said: str, speed: float
) -> None:
    """Soon after cloud-init has ended, with what is wrong and where it may come from.

    A silent guest is given up after two minutes, in which it does nothing: they pass four times as fast here.
    """
    with pytest.raises(InstanceError, match=rf"(?s){said}.*userDataOverride.*finished at") as failed:
        launch_with_user_data(tmp_path, machine_base, user_data.encode(), [], speed=speed)
    assert "did not accept SSH within" not in str(failed.value)
