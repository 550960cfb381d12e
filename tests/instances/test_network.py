"""What the network of a sandbox is made of."""

from __future__ import annotations

import os
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagesmith.instances.network import host_addresses, hosts_text, resolver_text, start_slirp
from imagesmith.namespaces.build_namespace import BuildNamespace
from imagesmith.namespaces.maker import NamespaceMaker

TREE = """\
Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
Local:
  +-- 0.0.0.0/0 3 0 5
     +-- 127.0.0.0/8 2 0 2
        |-- 127.0.0.1
           /32 host LOCAL
     +-- 192.0.2.0/24 2 0 2
        |-- 192.0.2.2
           /32 host LOCAL
        |-- 192.0.2.255
           /32 link BROADCAST
"""


def test_own_addresses_are_the_local_ones_but_loopback() -> None:
    """Broadcast addresses, networks and 127/8 are not the machine's addresses on the network."""
    assert host_addresses(TREE) == ["192.0.2.2"]


@given(st.lists(st.ip_addresses(v=4).map(str), max_size=8))
def test_every_local_address_is_found_once(addresses: list[str]) -> None:
    """Whatever the tree holds, each address that is not loopback is given exactly once."""
    tree = "".join(f"        |-- {address}\n           /32 host LOCAL\n" for address in addresses)
    expected = sorted({address for address in addresses if not ip_address(address).is_loopback})
    assert host_addresses(tree * 2) == expected


@pytest.mark.parametrize(("kind", "text"), [("outbound", "nameserver 10.0.2.3\n"), ("none", "")])
def test_the_resolver_follows_the_network(kind: str, text: str) -> None:
    """Without network there is nobody to ask."""
    assert resolver_text(kind) == text  # type: ignore[arg-type]


def test_the_host_table_knows_the_own_name() -> None:
    """Programs that look up their own name find it."""
    assert "127.0.1.1\tbuild\n" in hosts_text("build")


@pytest.mark.tool
def test_a_network_that_cannot_be_started_leaves_no_pipe() -> None:
    """Whatever fails: here, the namespace has ended."""
    namespace = BuildNamespace.of_free_ids(NamespaceMaker())
    namespace.close()
    network = os.open("/proc/self/ns/net", os.O_RDONLY)
    try:
        before = list(Path("/proc/self/fd").iterdir())
        with pytest.raises((OSError, ValueError)):
            start_slirp(network, namespace)
        assert len(list(Path("/proc/self/fd").iterdir())) == len(before)
    finally:
        os.close(network)
