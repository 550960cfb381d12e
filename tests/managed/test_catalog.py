"""The managed components as documents."""

from __future__ import annotations

import pytest

from imagesmith.components.grammar import parse_component
from imagesmith.components.model import component_type
from imagesmith.managed.catalog import ManagedComponent, managed_component, managed_components
from imagesmith.values.arn import slug_of

NAMED = pytest.mark.parametrize("component", managed_components(), ids=lambda item: item.name)


@NAMED
def test_documents_are_sound(component: ManagedComponent) -> None:
    """Each document is read without an error or a warning, small enough to be given inline, named as its slug."""
    parsed = parse_component(component.text, platform=component.platform)
    assert parsed.problems == ()
    assert parsed.document is not None
    assert len(component.text) <= 16000
    assert component.name == slug_of(component.name)
    assert component.description == parsed.document.description
    tests = "test" in component.name or component.name.startswith("validate-")
    assert (component_type(parsed.document) == "TEST") == tests


def test_expected_names() -> None:
    """The names that people know from the service are here."""
    names = {component.name for component in managed_components()}
    assert names >= {
        "update-linux",
        "hello-world-linux",
        "simple-boot-test-linux",
        "reboot-linux",
        "reboot-test-linux",
        "python-3-linux",
        "aws-cli-version-2-linux",
        "chrony-time-configuration-test",
        "linux-hardening-baseline",
        "linux-hardening-baseline-test",
    }


def test_lookup() -> None:
    """A name gives its newest version; an unknown one is a LookupError that says the name."""
    assert managed_component("hello-world-linux").version == "1.0.0"
    with pytest.raises(LookupError, match="no-such-thing"):
        managed_component("no-such-thing")
