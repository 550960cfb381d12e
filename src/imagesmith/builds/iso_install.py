"""An ISO in a bucket is installed on an empty disk, which becomes the AMI of an image.

The ISO is started in the sandbox of machines, as a parent disk is: it may contain anything.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from imagesmith.artifacts.disks import DiskError
from imagesmith.builds.disk_import import download, record_disk
from imagesmith.builds.failures import StepFailed
from imagesmith.builds.work import Work
from imagesmith.instances.machine.windows_answers import FILE_NAME, answer_file
from imagesmith.instances.protocol import InstanceError

ROOT_GB: Final = 64
MEMORY_MB: Final = 4096
"""What Windows 11 asks for at least."""
SECONDS: Final = 6 * 3600.0
"""The longest installation; without KVM it takes hours."""


def install_object(work: Work) -> str:
    """Install the ISO at the plan's `s3://` address; returns the digest of the disk, which is the output.

    Raises StepFailed, Cancelled.
    """
    # loaded late: a server without machines does not import QEMU's client
    from imagesmith.instances.machine.installation import Installation, install

    context, machine = work.worker_context, work.plan.machine
    assert machine is not None
    factory = context.machines
    options = factory.options(machine.instance_types)
    options = replace(options, firmware="uefi", root_gb=ROOT_GB, memory_mb=max(options.memory_mb, MEMORY_MB))
    name = f"install-{work.plan.image_arn.rpartition(':image/')[2].replace('/', '-')}"
    with work.timed("install"), context.disks.draft() as iso:
        download(work, work.plan.parent.reference, iso)
        installation = Installation(
            iso=iso, answers={FILE_NAME: answer_file(image_index=machine.image_index)}, options=options,
            seconds=SECONDS,
        )  # fmt: skip
        try:
            path = install(
                factory.folder / name, installation, accelerator=factory.accelerator, limits=factory.limits,
                cancellation=work.cancellation, on_line=lambda line: work.log.line("install", line),
            )  # fmt: skip
            disk = context.disks.capture(path, cancellation=work.cancellation)
        except InstanceError as error:
            raise StepFailed(f"{work.plan.parent.reference} was not installed: {error}") from error
        except DiskError as error:
            raise StepFailed(f"the installed disk cannot be kept: {error}") from error
        finally:
            factory.remove(name)
    if machine.secure_boot:
        work.log.line("install", "Secure Boot is recorded with the AMI; machines here start without it")
    return record_disk(work, disk, more={"bootMode": "uefi", "secureBoot": machine.secure_boot})
