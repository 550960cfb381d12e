"""What the metadata service of a build's machine is told to tell."""

from __future__ import annotations

from dataclasses import replace

import pytest

from imagesmith.builds.steps.context import StepRun
from imagesmith.builds.steps.machine import guest_metadata
from imagesmith.distribution.destinations.catalog_region import own_id
from imagesmith.instances.machine.metadata import GuestMetadata
from imagesmith.instances.machine.options import MachineOptions
from imagesmith.recipes.plan import PlannedMachine, PlannedParent
from testing.plans import ACCOUNT, PLAN, REGION

pytestmark = pytest.mark.tool

OPTIONS = MachineOptions(user_data=b"#!/bin/sh")


def test_a_build_knows_its_parent_and_its_owner(run: StepRun) -> None:
    """Account and Region of the run, the parent's id, the first type of the infrastructure, the user data."""
    machine = PlannedMachine(instance_types=("m5.large", "m5.xlarge"), tokens_required=True)
    run = replace(run, plan=replace(PLAN, machine=machine))
    assert guest_metadata(run, {}, OPTIONS) == GuestMetadata(
        instance_id=run.own_instance,
        account=ACCOUNT,
        region=REGION,
        ami_id=PLAN.parent.reference,
        instance_type="m5.large",
        user_data=b"#!/bin/sh",
        tokens_required=True,
    )


def test_a_parent_that_is_in_no_catalog_has_no_id(run: StepRun) -> None:
    """The managed base is no AMI, so there is none to tell; an override is one."""
    arn = f"arn:aws:imagebuilder:{REGION}:aws:image/debian-12-x86/1.0.0/1"
    run = replace(run, plan=replace(PLAN, parent=PlannedParent("managed", arn)))
    assert guest_metadata(run, {}, OPTIONS).ami_id == ""
    assert guest_metadata(run, {"imageIdOverride": "ami-2"}, OPTIONS).ami_id == "ami-2"


def test_a_test_knows_the_image_that_it_tests(run: StepRun) -> None:
    """The AMI that the run made."""
    run = replace(run, type="TEST", digest="sha256:" + "1" * 64)
    assert guest_metadata(run, {}, OPTIONS).ami_id == own_id(run.plan)


def test_the_type_is_the_one_that_the_machine_was_given(run: StepRun) -> None:
    """The types of the step come before those of the infrastructure."""
    run = replace(run, plan=replace(PLAN, machine=PlannedMachine(instance_types=("m5.large",))))
    assert guest_metadata(run, {"instanceTypesOverride": ["c5.large"]}, OPTIONS).instance_type == "c5.large"
