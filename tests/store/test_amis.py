"""The AMI catalog and launch templates, on both databases."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from imagesmith.store import amis
from imagesmith.store.amis import Ami, AmiNameTaken, ami_id_for
from imagesmith.store.database import Database

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
ACCOUNT, REGION = "123456789012", "eu-west-1"


def entry(name: str, **members: object) -> Ami:
    ami_id = ami_id_for(ACCOUNT, REGION, name, source="arn:one")
    values = {
        "digest": "sha256:" + "1" * 64,
        "created": NOW,
        "image_arn": "arn:one",
        "document": {"tags": {"a": "b"}},
    }
    return Ami(ami_id, ACCOUNT, REGION, name, **{**values, **members})  # type: ignore[arg-type]


def test_ids_have_the_form_of_amis_and_stand_for_their_source() -> None:
    """Seventeen hexadecimal digits; the same source gives the same id, any other member another one."""
    given = ami_id_for(ACCOUNT, REGION, "web", source="arn:one")
    assert len(given) == 21 and given.startswith("ami-") and int(given[4:], 16) >= 0
    others = {
        ami_id_for("210987654321", REGION, "web", source="arn:one"),
        ami_id_for(ACCOUNT, "us-east-1", "web", source="arn:one"),
        ami_id_for(ACCOUNT, REGION, "other", source="arn:one"),
        ami_id_for(ACCOUNT, REGION, "web", source="arn:two"),
    }
    assert given == ami_id_for(ACCOUNT, REGION, "web", source="arn:one") and len(others | {given}) == 5


def test_registering_again_changes_nothing_and_a_name_has_one_owner(database: Database) -> None:
    """The same entry twice is one; another image with its name is refused, in another region it is not."""
    web = entry("web")
    other = Ami("ami-" + "2" * 17, ACCOUNT, REGION, "web", "sha256:" + "2" * 64, NOW)
    for _ in range(2):
        with database.write("s") as tx:
            amis.put_ami(tx, web)
    with database.write("s") as tx, pytest.raises(AmiNameTaken, match=f"used by {web.ami_id}"):
        amis.put_ami(tx, other)
    with database.write("s") as tx:
        amis.put_ami(tx, replace(other, region="us-east-1"))
    with database.read() as tx:
        assert amis.get_ami(tx, web.ami_id) == web and amis.get_ami(tx, "ami-00000000") is None
        assert amis.list_amis(tx, account=ACCOUNT, region=REGION) == [web]
        assert amis.digests_in_use(tx) == {web.digest, other.digest}


def test_lists_are_newest_first_and_entries_can_go(database: Database) -> None:
    """Filters narrow the list; a removed entry is gone and its name free."""
    old, new = entry("old", created=NOW), entry("new", created=NOW + timedelta(seconds=1), image_arn="arn:two")
    with database.write("s") as tx:
        amis.put_ami(tx, old)
        amis.put_ami(tx, new)
    with database.write("s") as tx:
        assert [ami.name for ami in amis.list_amis(tx)] == ["new", "old"]
        assert [ami.name for ami in amis.list_amis(tx, image_arn="arn:two")] == ["new"]
        assert amis.list_amis(tx, account="210987654321") == []
        amis.remove_ami(tx, old.ami_id)
        assert [ami.name for ami in amis.list_amis(tx)] == ["new"]


def test_templates_count_their_versions(database: Database) -> None:
    """Another AMI is another version, the same one is not."""
    with database.write("s") as tx:
        numbers = [
            amis.put_launch_template(tx, ACCOUNT, REGION, "lt-1", ami_id=ami_id, default=True)
            for ami_id in ("ami-1", "ami-2", "ami-1")
        ]
        assert numbers == [1, 2, 1]
