"""Builds whose image holds packages with known vulnerabilities."""

from __future__ import annotations

import json
from pathlib import Path

from testing.pipeline_support import Forge, RunningServer
from testing.scan_samples import STATUS, TRACKER


def debian(forge: Forge, **members: str) -> str:
    """A component that makes the tiny image look like a Debian with known vulnerable packages."""
    script = (
        "mkdir -p /var/lib/dpkg /srv/x.dist-info\n"
        f"cat > /var/lib/dpkg/status <<'EOF'\n{STATUS}EOF\n"
        "printf 'ID=debian\\nNAME=\"Debian GNU/Linux\"\\nVERSION_ID=12\\n' > /etc/os-release\n"
        "printf 'Name: Jinja2\\nVersion: 3.1.2\\n' > /srv/x.dist-info/METADATA\n"
    )
    return forge.component(build=script, **members)


def feed(server: RunningServer, tmp_path: Path) -> None:
    (tmp_path / "tracker.json").write_text(json.dumps(TRACKER))
    assert "3 advisories" in server.command("advisories", "import", str(tmp_path / "tracker.json"))
