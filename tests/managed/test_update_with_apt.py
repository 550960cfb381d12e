"""UpdateOS with the real apt, on a repository of packages made for it."""

from __future__ import annotations

import itertools

import pytest

from imagesmith.components.grammar import parse_component
from imagesmith.components.runner import DocumentRun, run_documents
from imagesmith.components.services import SystemClock
from imagesmith.instances.container import ContainerInstance

pytestmark = [pytest.mark.tool, pytest.mark.timeout(1200)]

DOCUMENT = r"""
name: update
schemaVersion: 1.0
phases:
  - name: build
    steps:
      - name: Repository
        action: ExecuteBash
        inputs:
          commands:
            - |
              set -e
              mkdir -p /srv/repo
              package() { # name version depends
                mkdir -p /tmp/p/DEBIAN
                printf '%s\n' "Package: $1" "Version: $2" 'Architecture: all' 'Maintainer: x <x@x>' \
                  "${3:+Depends: $3}" 'Description: x' | sed '/^$/d' >/tmp/p/DEBIAN/control
                deb=/srv/repo/$1_$2_all.deb
                dpkg-deb --build -Zgzip /tmp/p "$deb" >/dev/null
                sum=$(sha256sum <"$deb")
                cat /tmp/p/DEBIAN/control >>/srv/repo/Packages
                printf '%s\n' "Filename: ./$1_$2_all.deb" "Size: $(stat -c %s $deb)" "SHA256: ${sum%% *}" '' \
                  >>/srv/repo/Packages
                rm -rf /tmp/p
              }
              : >/srv/repo/Packages
              package kernel-1 1; package kernel-meta 1 kernel-1
              package ex-held 1; package ex-free 1; package other 1
              dpkg -i /srv/repo/*_1_all.deb >/dev/null
              package kernel-2 1; package kernel-meta 2 kernel-2
              package ex-held 2; package ex-free 2; package other 2; package ex-new 1
              rm -f /etc/apt/sources.list /etc/apt/sources.list.d/*
              echo 'deb [trusted=yes] file:/srv/repo ./' >/etc/apt/sources.list
              apt-mark hold ex-held
      - name: Update
        action: UpdateOS
        inputs: {exclude: ["ex-*"]}
      - name: Look
        action: ExecuteBash
        inputs:
          commands:
            - dpkg-query -W kernel-2 kernel-meta ex-held ex-free other | tr '\t\n' '= '
            - echo "held $(apt-mark showhold)"
      - name: Failing
        action: UpdateOS
        onFailure: Ignore
        inputs: {include: ["no-such-package"], exclude: ["ex-*"]}
      - name: Included
        action: UpdateOS
        inputs: {include: ["ex-*"], exclude: ["ex-h*"]}
      - name: LookAgain
        action: ExecuteBash
        inputs:
          commands:
            - dpkg-query -W ex-held ex-free | tr '\t\n' '= '; echo "held $(apt-mark showhold)"
"""


def test_apt_updates_kernels_and_leaves_every_hold_as_it_was(launch: ContainerInstance) -> None:
    """A glob of exclusions with a match that the image holds, a meta package that wants a new one, a failure."""
    parsed = parse_component(DOCUMENT)
    assert parsed.document is not None
    numbers = itertools.count()
    documents = [DocumentRun(parsed.document, "update")]
    result = run_documents(documents, launch, clock=SystemClock(), ids=lambda: str(next(numbers)))
    assert result.status == "success"
    steps = {step.name: step for step in result.steps}
    assert steps["Look"].outputs[0]["stdout"] == (
        "ex-free=1 ex-held=1 kernel-2=1 kernel-meta=2 other=2 held ex-held"
    )
    assert steps["Failing"].status == "ignoredFailure"
    assert steps["LookAgain"].outputs[0]["stdout"] == "ex-free=2 ex-held=1 held ex-held"
