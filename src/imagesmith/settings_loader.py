"""Reads the settings from a TOML file and the environment; nothing else reads either.

Order of precedence: command line, environment (IMAGESMITH_*), file, defaults. What a key may be is declared in
settings.py and settings_sections.py: a new key needs nothing here.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin, get_type_hints

from imagesmith.settings import Settings, SettingsError
from imagesmith.values.damaged import misplaced
from imagesmith.values.declared import Keys, plain_type, problem, rule_of

DATA_DIR_VARIABLE: Final = "IMAGESMITH_DATA_DIR"


def load_settings(
    data_dir: Path, *, file: Path | None, environment: Mapping[str, str], overrides: Mapping[str, Any]
) -> Settings:
    """Read the settings. Raises SettingsError.

    `overrides` holds what the command line gave (None: not given), by dotted key: `port`, `workers.name`.
    """
    path = file or data_dir / "settings.toml"
    table: dict[str, Any] = {}
    if file is not None or path.exists():
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise SettingsError(f"settings file {path}: {misplaced(error) or error}") from error
    if "data_dir" in table:
        raise SettingsError(f"{path}: data_dir cannot be set in a file; use --data-dir or set {DATA_DIR_VARIABLE}")
    labels: dict[str, str] = {}
    for variable, keys, kind in environment_names():
        text = environment.get(variable)
        if text is None:
            continue
        value = _of_text(variable, text, kind)
        _put(table, keys, value)
        labels[".".join(keys)] = variable
    for dotted, value in overrides.items():
        if value is not None:
            keys = tuple(dotted.split("."))
            _put(table, keys, value)
            labels[dotted] = f"--{keys[-1].replace('_', '-')}: {dotted}"
    settings: Settings = _build(Settings, {**table, "data_dir": data_dir}, str(path), labels=labels)
    _check_together(settings, path)
    return replace(settings, data_dir=data_dir.absolute())


def _check_together(settings: Settings, path: Path) -> None:
    """Raise SettingsError for members that mean nothing without each other, or beside each other."""
    for name, hook in settings.hooks.items():
        if bool(hook.command) == bool(hook.url):
            raise SettingsError(f"{path}: hooks.{name} needs either a command or a url")
    for name, image in settings.managed_images.items():
        if sum(map(bool, (image.base, image.registry, image.disk))) != 1:
            raise SettingsError(f"{path}: managed_images.{name} needs one of base, registry and disk")
        if bool(image.disk) != bool(image.checksum):
            raise SettingsError(f"{path}: managed_images.{name} needs a checksum with a disk, and only there")
    logins = {
        f"registries.{key}: username and password_file": (registry.username, registry.password_file)
        for key, registry in settings.registries.items()
    }
    logins["s3_access_key_id and s3_secret_key_file"] = (settings.s3_access_key_id, settings.s3_secret_key_file)
    if settings.tls.self_signed and (settings.tls.certificate or settings.tls.key):
        raise SettingsError(f"{path}: tls.self_signed makes a certificate; leave out tls.certificate and tls.key")
    logins["tls.certificate and tls.key"] = (settings.tls.certificate, settings.tls.key)
    for both, (name, file_of_secret) in logins.items():
        if bool(name) != bool(file_of_secret):
            raise SettingsError(f"{path}: {both} belong together; set both or neither")


def _put(table: dict[str, Any], keys: tuple[str, ...], value: Any) -> None:
    """Set a member; what should be a table and is none stays, and is refused with the rest."""
    *group, name = keys
    for key in group:
        table = table.setdefault(key, {})
    if isinstance(table, dict):
        table[name] = value


def misspelt_variables(environment: Mapping[str, str]) -> list[tuple[str, str]]:
    """Variables that look like settings but are not, each with the probably intended one, or "".

    A warning and no refusal: Kubernetes sets such variables for a service that is called imagesmith.
    """
    known = [name for name, _, _ in environment_names()] + [DATA_DIR_VARIABLE]
    return [
        (name, next(iter(get_close_matches(name, known, n=1, cutoff=0.8)), ""))
        for name in sorted(environment)
        if name.startswith("IMAGESMITH_") and name not in known
    ]


def environment_names() -> list[tuple[str, tuple[str, ...], Any]]:
    """Variables such as IMAGESMITH_BUILDS_MEMORY_MB, each with the keys that it stands for and their type."""
    found: list[tuple[str, tuple[str, ...], Any]] = []
    for name, hint in get_type_hints(Settings).items():
        if is_dataclass(hint):
            found += [
                (f"IMAGESMITH_{name}_{member}".upper(), (name, member), kind)
                for member, kind in get_type_hints(hint).items()
            ]
        elif hint in (str, int, bool) or get_origin(hint) is Literal:
            found.append((f"IMAGESMITH_{name}".upper(), (name,), hint))
    return found


def _of_text(variable: str, text: str, kind: Any) -> Any:
    try:
        if kind is int:
            return int(text)
        return {"true": True, "false": False}[text.lower()] if kind is bool else text
    except (ValueError, KeyError) as error:
        expected = "true or false" if kind is bool else "a number"
        raise SettingsError(f"{variable} is {text!r}, expected {expected}") from error


def _build(
    kind: Any, table: Mapping[str, Any], where: str, *, keys: tuple[str, ...] = (), labels: Mapping[str, str]
) -> Any:
    """A frozen settings class from a table; every unknown key, wrong type and value without meaning is an error.

    `keys`: where the table is. `labels`: dotted keys that did not come from the file, and what to call them.
    """
    hints = get_type_hints(kind, include_extras=True)
    known = {item.name for item in fields(kind)}
    key_path = ": ".join((where, *keys))
    unknown = sorted(set(table) - known)
    if unknown:
        raise SettingsError(f"{key_path}: unknown key {unknown[0]!r}; known here: {', '.join(sorted(known))}")
    values: dict[str, Any] = {}
    for name, value in table.items():
        dotted = ".".join((*keys, name))
        values[name] = _member(hints[name], value, name, where, keys=keys, labels=labels)
        wrong = problem(hints[name], values[name])
        if wrong:
            raise SettingsError(f"{labels.get(dotted, f'{where}: {dotted}')} is {wrong}")
    needed = [item.name for item in fields(kind) if item.default is MISSING and item.default_factory is MISSING]
    missing = [name for name in needed if name not in values]
    if missing:
        raise SettingsError(f"{key_path}: the key {missing[0]!r} is missing")
    return kind(**values)


def _member(
    hint: Any, value: Any, name: str, where: str, *, keys: tuple[str, ...], labels: Mapping[str, str]
) -> Any:
    """The value of one member, in the type that it has. Raises SettingsError."""
    wanted = plain_type(hint)
    key_path = ": ".join((where, *keys, name))
    rule = rule_of(hint)
    if isinstance(rule, Keys):
        section = get_args(wanted)[1]
        if not (isinstance(value, dict) and all(isinstance(entry, dict) for entry in value.values())):
            raise SettingsError(f"{key_path} must be a table of tables, like [{name}.NAME]")
        for key in value:
            if not rule.text.admits(key):
                raise SettingsError(f"{key_path} has the key {key!r}, expected {rule.text}")
        return {key: _build(section, entry, where, keys=(name, key), labels=labels) for key, entry in value.items()}
    if wanted == tuple[str, ...]:
        if not (isinstance(value, list) and all(isinstance(item, str) for item in value)):
            raise SettingsError(f"{key_path} must be a list of strings")
        return tuple(value)
    if is_dataclass(wanted):
        if not isinstance(value, dict):
            raise SettingsError(f"{key_path} must be a table")
        return _build(wanted, value, where, keys=(name,), labels=labels)
    plain = str if get_origin(wanted) is Literal else wanted
    if plain is float and type(value) is int:
        return float(value)
    if plain in (str, int, bool, float) and type(value) is not plain:
        raise SettingsError(f"{key_path} is {value!r}, expected {plain.__name__}")
    return value
