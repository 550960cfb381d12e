"""The answers to the questions of Windows' setup: an unattended installation, generalised, switched off at its end.

windowsPE     one disk, GPT: EFI, MSR, Windows; the edition of the index; no check for a TPM or Secure Boot
oobeSystem    audit mode, without an account
auditUser     sysprep: the first boot of each machine makes its own identity
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final
from xml.etree import ElementTree

FILE_NAME: Final = "Autounattend.xml"
"""Setup looks for it in the root of removable media."""

_NAMESPACE: Final = "urn:schemas-microsoft-com:unattend"
_WCM: Final = "http://schemas.microsoft.com/WMIConfig/2002/State"
_LOCALE: Final = "en-US"
_CHECKS: Final = ("BypassTPMCheck", "BypassSecureBootCheck", "BypassRAMCheck", "BypassCPUCheck")
_PARTITIONS: Final = (("EFI", "300", "FAT32"), ("MSR", "16", ""), ("Primary", "", "NTFS"))
_SYSPREP: Final = r"C:\Windows\System32\Sysprep\sysprep.exe /generalize /oobe /shutdown /quiet"

_Node = str | Mapping[str, "_Node"] | Sequence[Mapping[str, "_Node"]]


def answer_file(*, image_index: int) -> bytes:
    """The file for the edition of an index, which counts from 1."""
    ElementTree.register_namespace("", _NAMESPACE)
    ElementTree.register_namespace("wcm", _WCM)
    root = ElementTree.Element(f"{{{_NAMESPACE}}}unattend")
    for name, components in _passes(image_index).items():
        settings = _child(root, "settings", {"pass": name})
        for component, content in components.items():
            attributes = {
                "name": component, "processorArchitecture": "amd64", "publicKeyToken": "31bf3856ad364e35",
                "language": "neutral", "versionScope": "nonSxS",
            }  # fmt: skip
            _fill(_child(settings, "component", attributes), content)
    return bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True))


def _passes(image_index: int) -> Mapping[str, Mapping[str, Mapping[str, _Node]]]:
    locale: Mapping[str, _Node] = dict.fromkeys(
        ("InputLocale", "SystemLocale", "UILanguage", "UserLocale"), _LOCALE
    )
    language: Mapping[str, _Node] = {"SetupUILanguage": {"UILanguage": _LOCALE}, **locale}
    return {
        "windowsPE": {
            "Microsoft-Windows-International-Core-WinPE": language,
            "Microsoft-Windows-Setup": _setup(image_index),
        },
        "oobeSystem": {
            "Microsoft-Windows-International-Core": locale,
            "Microsoft-Windows-Deployment": {"Reseal": {"Mode": "Audit"}},
        },
        "auditUser": {"Microsoft-Windows-Deployment": {"RunSynchronous": {"RunSynchronousCommand": [
            {"Order": "1", "Path": _SYSPREP},
        ]}}},
    }  # fmt: skip


def _setup(image_index: int) -> Mapping[str, _Node]:
    key = r"HKLM\SYSTEM\Setup\LabConfig"
    commands = [
        {"Order": str(order), "Path": f"reg.exe add {key} /v {check} /t REG_DWORD /d 1 /f"}
        for order, check in enumerate(_CHECKS, 1)
    ]
    created = [
        {"Order": str(order), "Type": kind, **({"Size": size} if size else {"Extend": "true"})}
        for order, (kind, size, _) in enumerate(_PARTITIONS, 1)
    ]
    changed = [
        {"Order": str(order), "PartitionID": str(order), **({"Format": form} if form else {}),
         **({"Letter": "C"} if form == "NTFS" else {})}
        for order, (_, _, form) in enumerate(_PARTITIONS, 1)
    ]  # fmt: skip
    disk: Mapping[str, _Node] = {
        "DiskID": "0", "WillWipeDisk": "true", "CreatePartitions": {"CreatePartition": created},
        "ModifyPartitions": {"ModifyPartition": changed},
    }  # fmt: skip
    image: Mapping[str, _Node] = {
        "InstallFrom": {"MetaData": [{"Key": "/IMAGE/INDEX", "Value": str(image_index)}]},
        "InstallTo": {"DiskID": "0", "PartitionID": str(len(_PARTITIONS))},
    }
    return {
        "RunSynchronous": {"RunSynchronousCommand": commands},
        "DiskConfiguration": {"Disk": [disk]},
        "ImageInstall": {"OSImage": image},
        "UserData": {"AcceptEula": "true", "ProductKey": {"WillShowUI": "Never"}},
    }


def _fill(parent: ElementTree.Element, content: Mapping[str, _Node]) -> None:
    """Write members as elements; entries of a list are added ones."""
    for name, value in content.items():
        if isinstance(value, str):
            _child(parent, name).text = value
        elif isinstance(value, Mapping):
            _fill(_child(parent, name), value)
        else:
            for entry in value:
                _fill(_child(parent, name, {f"{{{_WCM}}}action": "add"}), entry)


def _child(
    parent: ElementTree.Element, name: str, attributes: Mapping[str, str] | None = None
) -> ElementTree.Element:
    return ElementTree.SubElement(parent, f"{{{_NAMESPACE}}}{name}", dict(attributes or {}))
