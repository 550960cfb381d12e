"""`imagesmith share`: what this account shares with others by policies of its resources."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from imagesmith.cli.context import CommandFailed, data_dir_option, json_option, settings_of
from imagesmith.cli.lazy import PlainGroup
from imagesmith.cli.listing import Listing
from imagesmith.cli.screen import echo
from imagesmith.cli.store import changed_store, opened_store
from imagesmith.policies.document import PolicyRefused, parse_policy
from imagesmith.store.policies import StoredPolicy, get_policy, policies_of_account, put_policy


@click.group(cls=PlainGroup)
def share() -> None:
    """Show and promote what is shared with other accounts by resource policies."""


@share.command("list")
@data_dir_option
@json_option
def list_shares(data_dir: Path, as_json: bool) -> None:
    """List the shared resources of this account and region.

    \b
    Example:  imagesmith share list --json --data-dir ./data
    """
    settings = settings_of(data_dir)
    with opened_store(settings) as tx:
        found = policies_of_account(tx, settings.account, settings.region)
    shared = [(policy, principals) for policy in found if (principals := _principals(policy))]
    documents = [
        {"arn": policy.arn, "principals": list(principals), "promoted": policy.promoted}
        for policy, principals in shared
    ]
    rows = [
        [policy.arn, ", ".join(principals), "yes" if policy.promoted else "no"] for policy, principals in shared
    ]
    columns = ("arn", "principals", "promoted")
    Listing(columns, rows, documents, empty="no shared resources").show(as_json=as_json)


@share.command("promote")
@click.argument("arn")
@data_dir_option
def promote(arn: str, data_dir: Path) -> None:
    """Show the resource ARN in lists of the accounts that its policy names.

    \b
    Example:  imagesmith share promote arn:aws:imagebuilder:us-east-1:000000000000:component/web/1.0.0/1

    A resource that is shared by its policy alone can be used by its ARN, and is in no list. This is
    PromoteResourceShareCreatedFromPolicy of AWS RAM; it holds until a policy without statements.
    """
    settings = settings_of(data_dir)
    with changed_store(settings) as tx:
        policy = get_policy(tx, arn)
        if policy is None or not _principals(policy):
            raise CommandFailed(f"{arn} is not shared", "put its policy first; see: imagesmith share list")
        put_policy(tx, replace(policy, promoted=True))
    echo(f"lists with owner Shared show {arn}")


def _principals(policy: StoredPolicy) -> tuple[str, ...]:
    """The principals of all statements, each once; none when the policy shares nothing."""
    try:
        grants = parse_policy(policy.text).grants
    except PolicyRefused as error:
        raise CommandFailed(f"the policy of {policy.arn} was put by another version: {error}") from error
    return tuple(dict.fromkeys(principal for grant in grants for principal in grant.principals))
