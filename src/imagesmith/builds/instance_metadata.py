"""`{{ aws:imds:PATH }}`: metadata of a run's instance, without a request to it (spec/components.md 4.1).

For a machine these are the values of its metadata service. A container has no such service: it gets the values that
apply to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from imagesmith.instances.machine.instance import MachineInstance
from imagesmith.instances.machine.metadata import GuestMetadata, meta_data
from imagesmith.instances.protocol import Instance

_OF_A_MACHINE: Final = frozenset({"hostname", "local-hostname", "local-ipv4", "mac", "ami-id", "instance-type"})
"""Paths of a machine's values: a container could only get the values of its host, which it must not read."""


@dataclass(frozen=True)
class InstanceMetadata:
    """The Metadata source for the components of a run."""

    account: str
    region: str
    instance: Instance
    instance_id: str

    def get(self, path: str) -> str:
        path = path.strip("/")
        machine = self.instance
        values = machine.options.metadata if isinstance(machine, MachineInstance) else None
        if values is None:
            if path in _OF_A_MACHINE:
                raise LookupError(f"a {machine.kind} has no '{path}': it is not a machine")
            values = GuestMetadata(instance_id=self.instance_id, account=self.account, region=self.region)
        found = meta_data(values, path)
        if found is None:
            raise LookupError(f"there is no value for '{path}'")
        return found
