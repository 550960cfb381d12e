"""The service model of botocore, read once and kept as small frozen objects.

It is the only source of routes, members, types, constraints, enumerations and error statuses. botocore's own shape
objects are not kept: they search the model on each access and hold all documentation.

Invariants: a (method, literal path) pair names one operation; a path has at most one label, at its end; every
type is one of SUPPORTED. A model that breaks one of them is refused when it is loaded, never at a request.
"""

from __future__ import annotations

import gzip
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal

import botocore
import orjson
from botocore.loaders import Loader
from botocore.model import ListShape, MapShape, OperationModel, ServiceModel, StringShape, StructureShape
from botocore.model import Shape as ModelShape

from imagesmith.wire.known import Unknown, described, recorded

_log = logging.getLogger(__name__)

SERVICE: Final = "imagebuilder"
API_VERSION: Final = "2019-12-02"

SUPPORTED: Final = frozenset(
    {"structure", "list", "map", "string", "boolean", "integer", "long", "double", "timestamp"}
)

OVERRIDES: Final[Mapping[str, Mapping[str, int]]] = MappingProxyType({"ClientToken": {"max": 36}})
"""Shape -> constraints where the user's contract is narrower than the model (docs/update-image-pipeline.md)."""

COMMON_STATUSES: Final[Mapping[str, int]] = MappingProxyType(
    {
        "MissingAuthenticationTokenException": 403,
        "IncompleteSignatureException": 400,
        "UnrecognizedClientException": 403,
        "InvalidSignatureException": 403,
        "ExpiredTokenException": 403,
        "ThrottlingException": 429,
        "ValidationException": 400,
        "SerializationException": 400,
        "InternalFailure": 500,
        "ServiceUnavailable": 503,
        "UnknownOperationException": 404,
        "NotImplementedException": 501,
    }
)
"""Codes that all services share and no model declares (spec/api.md 2.4)."""

_RATE_CODES: Final[Mapping[str, str]] = MappingProxyType({"UpdateImagePipeline": "CallRateLimitExceededException"})
"""Operations whose contract names the service's own code, which no SDK retries. The others declare it as well, and
use what every service shares: SDKs retry that."""

Location = Literal["body", "query", "path"]
_LOCATIONS: Final[Mapping[str, Location]] = MappingProxyType({"querystring": "query", "uri": "path"})


class ModelError(RuntimeError):
    """The installed botocore describes this service in a way that this layer does not support."""


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """A type with its constraints. `minimum` and `maximum` bound a length or, for numbers, the value."""

    name: str
    type: str
    members: Mapping[str, Member] = field(default_factory=dict)
    """Of a structure, in the model's order."""
    item: Shape | None = None
    """Of a list: its members. Of a map: its values."""
    key: Shape | None = None
    minimum: int | None = None
    maximum: int | None = None
    pattern: str | None = None
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """A member of a structure. `wire_name` is its name in the query or the path."""

    name: str
    shape: Shape
    required: bool
    location: Location
    wire_name: str


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """An operation with its route, its shapes and its error codes."""

    name: str
    method: str
    path: str
    """Literal path, or the text before the one label."""
    label: str | None
    """Wire name of the path label."""
    input: Shape
    output: Shape
    invalid_code: str
    """The error code for a member that breaks the model."""
    rate_code: str
    """The error code for requests above the rate limit."""
    locations: frozenset[Location]
    """Where the members of the input are sent."""


@dataclass(frozen=True, slots=True, eq=False)
class Api:
    """The whole service: operations by name and by route, HTTP statuses by error code."""

    operations: Mapping[str, Operation]
    routes: Mapping[tuple[str, str], Operation]
    """(method, literal path) -> operation without a label."""
    labelled: tuple[Operation, ...]
    statuses: Mapping[str, int]
    unknown: Unknown = field(default_factory=Unknown)
    """What botocore describes and the code does not implement."""

    @classmethod
    def load(cls) -> Api:
        """Read the model that the installed botocore ships. Raises ModelError."""
        return cls.of(builtin_model(), *_models_of_the_user())

    @classmethod
    def of(cls, model: ServiceModel, *others: ServiceModel) -> Api:
        """The API that a service model describes. Raises ModelError.

        `others`, which clients of this machine may use, only add to what the code does not implement.
        """
        unknown = Unknown.of(model, *others, known=recorded())
        for line in unknown.tops():
            _log.warning(
                "botocore %s knows %s, which this version does not: refused in requests", botocore.__version__, line
            )
        shapes = _Shapes(unknown)
        operations = [_operation(model.operation_model(name), shapes) for name in model.operation_names]
        statuses = {_code(shape): int(shape.metadata["error"]["httpStatusCode"]) for shape in model.error_shapes}
        routes = {(item.method, item.path): item for item in operations if item.label is None}
        labelled = tuple(item for item in operations if item.label is not None)
        if len(routes) + len({(item.method, item.path) for item in labelled}) != len(operations):
            raise ModelError("two operations of the model share one route")
        return cls(
            operations=MappingProxyType({item.name: item for item in operations}),
            routes=MappingProxyType(routes),
            labelled=labelled,
            statuses=MappingProxyType({**COMMON_STATUSES, **statuses}),
            unknown=unknown,
        )

    def route(self, method: str, raw_path: str) -> tuple[Operation, str] | None:
        """The operation at a received path (still encoded), and the text of its label, also encoded."""
        operation = self.routes.get((method, raw_path))
        if operation is not None:
            return operation, ""
        for operation in self.labelled:
            if method == operation.method and raw_path.startswith(operation.path) and raw_path != operation.path:
                return operation, raw_path[len(operation.path) :]
        return None

    def status_of(self, code: str) -> int:
        """The HTTP status of an error code; an undeclared code is the caller's fault."""
        return self.statuses.get(code, 400)


def builtin_model() -> ServiceModel:
    """The model that the installed botocore ships.

    Only botocore's own data: a model in ~/.aws/models or AWS_DATA_PATH must not change what is accepted.
    """
    folder = Path(Loader.BUILTIN_DATA_PATH, SERVICE, API_VERSION)
    shipped, corrections = folder / "service-2.json.gz", folder / "service-2.sdk-extras.json"
    if shipped.exists() and not corrections.exists():
        # botocore's loader first lists the folders of all services, then parses with the standard library: 20 ms
        # of every start, against 6
        return ServiceModel(orjson.loads(gzip.decompress(shipped.read_bytes())), SERVICE)
    loader = Loader(extra_search_paths=[Loader.BUILTIN_DATA_PATH], include_default_search_paths=False)
    return ServiceModel(loader.load_service_model(SERVICE, "service-2", API_VERSION), SERVICE)


def _models_of_the_user() -> list[ServiceModel]:
    """The model that clients of this machine use instead, if there is a readable one."""
    if not any(path.expanduser().exists() for path in _user_model_paths()):
        return []
    from botocore.session import Session  # the settings of AWS tools may name more folders

    loader = Session().get_component("data_loader")
    folders = [Path(folder) / SERVICE for folder in loader.search_paths if folder != Loader.BUILTIN_DATA_PATH]
    if not any(folder.is_dir() for folder in folders):
        return []
    try:
        model = ServiceModel(loader.load_service_model(SERVICE, "service-2", API_VERSION), SERVICE)
        list(described(model))
    except Exception as error:  # a user's file, which is only inspected
        _log.warning("the model of %s in AWS_DATA_PATH or ~/.aws/models cannot be read: %r", SERVICE, error)
        return []
    return [model]


def _user_model_paths() -> list[Path]:
    """Signs of a model besides the built-in one; without any of them a start skips the search."""
    settings = os.environ.get("AWS_CONFIG_FILE", "~/.aws/config")
    folders = filter(None, os.environ.get("AWS_DATA_PATH", "").split(os.pathsep))
    return [Path(os.path.expandvars(path)) for path in (Loader.CUSTOMER_DATA_PATH, settings, *folders)]


class _Shapes:
    """Converts botocore's shapes, each once."""

    def __init__(self, unknown: Unknown) -> None:
        self._unknown = unknown
        self._done: dict[str, Shape] = {}
        self._open: set[str] = set()

    def get(self, source: ModelShape) -> Shape:
        name = source.name
        if name in self._done:
            return self._done[name]
        if name in self._open:
            raise ModelError(f"shape {name} contains itself; validation here assumes that none does")
        if source.type_name not in SUPPORTED:
            raise ModelError(f"shape {name} is a {source.type_name}; known here: {', '.join(sorted(SUPPORTED))}")
        self._open.add(name)
        shape = self._build(source)
        self._open.discard(name)
        self._done[name] = shape
        return shape

    def _build(self, source: ModelShape) -> Shape:
        limits = {**source.metadata, **OVERRIDES.get(source.name, {})}
        members: dict[str, Member] = {}
        item = key = None
        if isinstance(source, StructureShape):
            members = {name: self._member(source, name) for name in source.members}
        elif isinstance(source, ListShape):
            item = self.get(source.member)
        elif isinstance(source, MapShape):
            key, item = self.get(source.key), self.get(source.value)
        return Shape(
            name=source.name,
            type=source.type_name,
            members=MappingProxyType(members),
            item=item,
            key=key,
            minimum=limits.get("min"),
            maximum=limits.get("max"),
            pattern=limits.get("pattern"),
            choices=tuple(source.enum) if isinstance(source, StringShape) else (),
        )

    def _member(self, structure: StructureShape, name: str) -> Member:
        source = structure.members[name]
        location = source.serialization.get("location")
        if location is not None and location not in _LOCATIONS:
            raise ModelError(f"member {structure.name}.{name} travels in the {location}, which is not known here")
        return Member(
            name=name,
            shape=self.get(source),
            required=name in structure.required_members and (structure.name, name) not in self._unknown.members,
            location="body" if location is None else _LOCATIONS[location],
            wire_name=source.serialization.get("name", name),
        )


def _code(error: ModelShape) -> str:
    """The code of an error in answers: the name of its shape, unless the model states another."""
    return str(error.metadata.get("error", {}).get("code", error.name))


def _operation(source: OperationModel, shapes: _Shapes) -> Operation:
    path, _, rest = source.http["requestUri"].partition("{")
    if rest and (not rest.endswith("}") or "{" in rest or rest.endswith("+}")):
        raise ModelError(f"operation {source.name} has a path of an unknown form: {source.http['requestUri']}")
    empty = Shape(name="Empty", type="structure")
    given = shapes.get(source.input_shape) if source.input_shape is not None else empty
    declared = {_code(shape) for shape in source.error_shapes}
    # The tag operations declare a code of their own for bad members, and only it (spec/api.md 4.7).
    own = "InvalidParameterException"
    return Operation(
        name=source.name,
        method=source.http["method"],
        path=path,
        label=rest.removesuffix("}") or None,
        input=given,
        output=shapes.get(source.output_shape) if source.output_shape is not None else empty,
        invalid_code=own if own in declared else "InvalidParameterValueException",
        rate_code=_RATE_CODES.get(source.name, "ThrottlingException"),
        locations=frozenset(member.location for member in given.members.values()),
    )
