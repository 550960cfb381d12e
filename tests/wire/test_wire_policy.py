"""Policies of access keys: what they permit, and what a key file may say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from imagesmith.wire.keys import KeyRing, KeysError
from imagesmith.wire.policy import Policy

ENTRY: dict[str, Any] = {
    "accessKeyId": "AKIA" + "A" * 16, "secretAccessKey": "s" * 40, "account": "123456789012",
}  # fmt: skip


def ring(folder: Path, **members: Any) -> KeyRing:
    path = folder / "keys.json"
    path.touch(mode=0o600)
    path.write_text(json.dumps({"keys": [ENTRY | members]}))
    return KeyRing.open(folder, ENTRY["account"])


@pytest.mark.parametrize(
    ("policy", "operation", "permitted"),
    [
        ({}, "DeleteImage", True),
        ({"allow": ["imagebuilder:Get*"]}, "GetImage", True),
        ({"allow": ["imagebuilder:Get*"]}, "DeleteImage", False),
        ({"allow": ["imagebuilder:get?mage"]}, "GetImage", True),
        ({"allow": []}, "GetImage", False),
        ({"deny": ["imagebuilder:*Image"]}, "GetImage", False),
        ({"deny": ["imagebuilder:*Image"]}, "ListImages", True),
        ({"allow": ["*"], "deny": ["*"]}, "GetImage", False),
    ],
)
def test_deny_wins_and_left_out_means_all(
    tmp_path: Path, policy: dict[str, Any], operation: str, permitted: bool
) -> None:
    """Stars and question marks as in IAM, whatever the case of the letters."""
    [key] = ring(tmp_path, policy=policy).keys
    assert key.policy.permits(operation) is permitted


def test_a_key_without_a_policy_may_do_everything(tmp_path: Path) -> None:
    """The first pair and older key files stay as they were."""
    assert ring(tmp_path).keys[0].policy == Policy()
    assert Policy().permits("DeleteImage")


@pytest.mark.parametrize(
    ("policy", "told"),
    [
        ([], 'must be an object with "allow" and "deny"'),
        ({"Allow": []}, 'must be an object with "allow" and "deny"'),
        ({"allow": "imagebuilder:*"}, "allow must be a list"),
        ({"deny": ["s3:GetObject"]}, "deny contains 's3:GetObject'"),
        ({"deny": [5]}, "deny contains 5"),
        ({"allow": ["imagebuilder:*"] * 101}, "at most 100"),
    ],
)
def test_a_bad_policy_is_named(tmp_path: Path, policy: Any, told: str) -> None:
    """With the file, the entry and what was expected."""
    with pytest.raises(KeysError) as caught:
        ring(tmp_path, policy=policy)
    assert "keys.json: keys[0].policy" in str(caught.value) and told in str(caught.value)
