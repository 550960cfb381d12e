"""The model as it is loaded from the installed botocore."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from botocore.loaders import Loader
from botocore.model import ServiceModel

from imagesmith.wire.model import API_VERSION, SERVICE, Api, ModelError, builtin_model


@pytest.fixture
def description() -> dict[str, Any]:
    return copy.deepcopy(dict(Loader().load_service_model(SERVICE, "service-2", API_VERSION)))


def test_all_operations_have_a_route_of_their_own(api: Api) -> None:
    """77 operations: 74 literal paths, and three methods of the one labelled path."""
    assert len(api.operations) == 77
    assert len(api.routes) == 74
    assert {(item.method, item.path, item.label) for item in api.labelled} == {
        ("GET", "/tags/", "resourceArn"), ("POST", "/tags/", "resourceArn"), ("DELETE", "/tags/", "resourceArn"),
    }  # fmt: skip
    for operation in api.operations.values():
        found = api.route(operation.method, operation.path + ("x" if operation.label else ""))
        assert found == (operation, "x" if operation.label else "")


def test_tag_operations_alone_have_their_own_code(api: Api) -> None:
    """InvalidParameterException is declared, and so used, by the three tag operations only."""
    own = {item.name for item in api.operations.values() if item.invalid_code == "InvalidParameterException"}
    assert own == {"TagResource", "UntagResource", "ListTagsForResource"}


def test_the_model_is_what_the_loader_of_botocore_returns(description: dict[str, Any]) -> None:
    """It is read without the loader, which is slow; no correction of botocore is left out."""
    found, expected = builtin_model(), ServiceModel(description, SERVICE)
    assert (found.metadata, found.operation_names) == (expected.metadata, expected.operation_names)
    assert json.dumps(members(found)) == json.dumps(members(expected))


def members(model: ServiceModel) -> list[tuple[str, str, dict[str, Any], list[str]]]:
    """All shapes in the model's order, with their types, constraints and members."""
    shapes = [model.shape_for(name) for name in model.shape_names]
    return [
        (shape.name, shape.type_name, dict(shape.metadata), list(getattr(shape, "members", ()))) for shape in shapes
    ]


def test_models_of_the_user_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, description: dict[str, Any]
) -> None:
    """A model in AWS_DATA_PATH changes what clients send, never what the server accepts."""
    folder = tmp_path / SERVICE / API_VERSION
    folder.mkdir(parents=True)
    (folder / "service-2.json").write_text("{}")
    monkeypatch.setenv("AWS_DATA_PATH", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(Api.load().operations) == len(description["operations"])


def broken(description: dict[str, Any]) -> str:
    with pytest.raises(ModelError) as caught:
        Api.of(ServiceModel(description, SERVICE))
    return str(caught.value)


def test_a_model_with_an_unknown_type_is_refused_at_start(description: dict[str, Any]) -> None:
    """A type that this layer cannot check is found when the server starts, not at a request."""
    description["shapes"]["ClientToken"]["type"] = "blob"
    assert "ClientToken is a blob" in broken(description)


def test_a_model_with_a_recursive_shape_is_refused_at_start(description: dict[str, Any]) -> None:
    """Requests have a bounded depth because no shape contains itself."""
    description["shapes"]["Schedule"]["members"]["again"] = {"shape": "Schedule"}
    assert "Schedule contains itself" in broken(description)


def test_a_model_with_an_unknown_location_is_refused_at_start(description: dict[str, Any]) -> None:
    """Members in headers are not known here."""
    description["shapes"]["GetImageRequest"]["members"]["imageBuildVersionArn"]["location"] = "header"
    assert "travels in the header" in broken(description)


def test_a_model_with_two_operations_at_one_route_is_refused_at_start(description: dict[str, Any]) -> None:
    """A route names one operation."""
    description["operations"]["GetImage"]["http"]["requestUri"] = "/GetImageRecipe"
    assert "share one route" in broken(description)


def test_a_model_with_a_greedy_label_is_refused_at_start(description: dict[str, Any]) -> None:
    """Only one label, at the end of the path, is known here."""
    description["operations"]["TagResource"]["http"]["requestUri"] = "/tags/{resourceArn+}"
    assert "unknown form" in broken(description)
