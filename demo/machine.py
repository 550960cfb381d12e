"""The machine demo: build a Debian machine with a web server through the API, boot the result, fetch its page.

The first run makes the managed base, which later runs reuse. Without KVM the machines are emulated, and every start
of one takes minutes instead of seconds.
"""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from services import HERE, REGION, address_of, demo_folder, end_on_signals, start_server
from web import build, console, make_client, run_command

NAME = "demo-machine"
EPOCH = 1_700_000_000
"""Seconds since here fit into a node of a version, which is less than 2**30."""


def ensure(client: Any, kind: str, **members: Any) -> str:
    """Create a configuration, or find that of an earlier run."""
    member = f"{kind}ConfigurationArn"
    listed = getattr(client, f"list_{kind}_configurations")()[f"{kind}ConfigurationSummaryList"]
    for item in listed:
        if item["name"] == NAME:
            return str(item["arn"])
    return str(getattr(client, f"create_{kind}_configuration")(name=NAME, **members)[member])


def start_build(client: Any, data_dir: Path) -> dict[str, Any]:
    """One build of a new recipe version; every run of the demo has its own."""
    version = f"1.0.{int(time.time()) - EPOCH}"
    component = client.create_component(
        name=NAME, semanticVersion=version, platform="Linux", data=(HERE / "machine-web.yml").read_text()
    )["componentBuildVersionArn"]
    recipe = client.create_image_recipe(
        name=NAME, semanticVersion=version, components=[{"componentArn": component}],
        parentImage=f"arn:aws:imagebuilder:{REGION}:aws:image/debian-12-x86/x.x.x",
    )["imageRecipeArn"]  # fmt: skip
    infrastructure = ensure(client, "infrastructure", instanceProfileName="demo", instanceTypes=["t3.micro"])
    image_name = {"name": "demo-machine-{{ imagebuilder:buildDate }}", "amiTags": {"made-by": "demo"}}
    distribution = ensure(
        client, "distribution",
        distributions=[
            {
                "region": REGION, "amiDistributionConfiguration": image_name,
                "ssmParameterConfigurations": [{"parameterName": "/demo/machine/ami"}],
            }
        ],
    )  # fmt: skip
    name = f"{NAME}-{version.rpartition('.')[2]}"
    pipeline = client.create_image_pipeline(
        name=name, imageRecipeArn=recipe, infrastructureConfigurationArn=infrastructure,
        distributionConfigurationArn=distribution,
    )["imagePipelineArn"]  # fmt: skip
    return build(client, pipeline, data_dir)


def main() -> None:
    """Run the demo."""
    started = time.monotonic()
    data_dir = demo_folder() / "machine-data"
    end_on_signals()
    with ExitStack() as stack:
        url = address_of(start_server(stack, data_dir, "registry.invalid"))
        console.print(f"server {url}")
        client = make_client(url, data_dir)
        image = start_build(client, data_dir)
        (ami,) = image["outputResources"]["amis"]
        console.rule(f"{ami['image']} {ami['name']}")
        for words in (("ami", "list"), ("ami", "show", ami["image"])):
            console.print(f"imagesmith {' '.join(words)}")
            console.print(run_command(data_dir, *words), soft_wrap=True, highlight=False)
    console.print(f"done in {time.monotonic() - started:.0f} s; the server is stopped")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("interrupted; the server is stopped")
