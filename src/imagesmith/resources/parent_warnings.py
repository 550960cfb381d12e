"""Warnings about a parent that a run may still find: shown when a recipe is created, and by a plan."""

from __future__ import annotations

from imagesmith.recipes.parents import is_ami_id
from imagesmith.resources.call import Call
from imagesmith.store.amis import get_ami, may_launch


def parent_warning(call: Call, parent: str) -> str:
    """Why a build on a parent would fail today, or an empty text. An AMI may still be registered until then."""
    if not is_ami_id(parent):
        return ""
    found = get_ami(call.tx, parent)
    if found is None or not may_launch(found, call.account):
        hint = "add a disk with: imagesmith base add"
        return f"the parent image {parent} is not in the catalog of AMIs of account {call.account}; {hint}"
    if found.region != call.region:
        return f"the parent image {parent} is an AMI of {found.region}, not of {call.region}"
    return ""
