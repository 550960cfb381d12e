"""A botocore newer than the code: what it adds is told at the start, and refused instead of dropped."""

from __future__ import annotations

import copy
import json
import uuid
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.loaders import Loader
from botocore.model import ServiceModel

from imagesmith.accounts.keys import KeyRing
from imagesmith.wire.create import create_app
from imagesmith.wire.known import described, recorded
from imagesmith.wire.model import API_VERSION, SERVICE, Api, builtin_model
from imagesmith.wire.server import running
from testing.wire_samples import request
from testing.wire_support import KEY, Clock, Recorder, settings_for


@pytest.fixture
def newer() -> dict[str, Any]:
    """A model with a new operation, members at the top and below, one of them required, and enumeration values."""
    model = copy.deepcopy(dict(Loader().load_service_model(SERVICE, "service-2", API_VERSION)))
    shapes = model["shapes"]
    model["operations"]["PolishImage"] = {
        "name": "PolishImage", "http": {"method": "PUT", "requestUri": "/PolishImage"},
        "input": {"shape": "UpdateImagePipelineRequest"},
    }  # fmt: skip
    shapes["UpdateImagePipelineRequest"]["members"]["polish"] = {"shape": "Polish"}
    shapes["UpdateImagePipelineRequest"]["required"].append("polish")
    shapes["Polish"] = {"type": "structure", "members": {"grade": {"shape": "NonEmptyString"}}}
    shapes["Schedule"]["members"]["jitter"] = {"shape": "NonEmptyString"}
    shapes["WorkflowConfiguration"]["members"]["polish"] = {"shape": "Polish"}
    shapes["PipelineStatus"]["enum"].append("PAUSED")
    shapes["OnWorkflowFailure"]["enum"].append("POLISH")
    return model


def client_with(url: str, folder: Path, model: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    place = folder / SERVICE / API_VERSION
    place.mkdir(parents=True)
    (place / "service-2.json").write_text(json.dumps(model))
    monkeypatch.setenv("AWS_DATA_PATH", str(folder))
    return boto3.Session(KEY.access_key_id, KEY.secret, region_name="eu-west-1").client(
        "imagebuilder",
        endpoint_url=url,
        config=Config(parameter_validation=False, retries={"total_max_attempts": 1}),
    )


USES: list[tuple[dict[str, Any], str]] = [
    ({"polish": {"grade": "high"}}, "parameter 'polish' is not valid. polish is not known"),
    ({"polish": {}}, "parameter 'polish' is not valid. polish is not known"),
    ({"schedule": {"jitter": "1"}}, "parameter 'schedule.jitter' is not valid. jitter is not known"),
    ({"status": "PAUSED"}, "parameter 'status' is not valid. status has the value PAUSED, which is not known"),
    (
        {"workflows": [{"workflowArn": "x"}, {"workflowArn": "y", "onFailure": "POLISH"}]},
        "'workflows[1].onFailure' is not valid. onFailure has the value POLISH, which is not known",
    ),
    ({"workflows": [{"polish": {"grade": "a"}}]}, "'workflows[0].polish' is not valid"),
]


@pytest.mark.parametrize("of", ["botocore", "AWS_DATA_PATH"])
@pytest.mark.parametrize(("given", "expected"), USES)
def test_what_only_a_newer_botocore_knows_is_refused(
    newer: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, of: str,
    given: dict[str, Any], expected: str,
) -> None:  # fmt: skip
    """By name, with the documented error; what does not use it is carried out, also without what it requires."""
    if of == "botocore":
        api = Api.of(ServiceModel(newer, SERVICE))
    else:
        client_with("http://127.0.0.1:1", tmp_path / "models", newer, monkeypatch)
        api = Api.load()
    dispatcher = Recorder(recorded())
    app = create_app(
        dispatcher, keys=KeyRing([KEY]), settings=settings_for(tmp_path), clock=Clock(),
        ids=lambda: str(uuid.uuid4()), api=api,
    )  # fmt: skip
    members = {**request(Api.of(builtin_model()).operations["UpdateImagePipeline"].input), "clientToken": "t"}
    with running(app) as url:
        client = client_with(url, tmp_path / "of-client", newer, monkeypatch)
        with pytest.raises(ClientError) as caught:
            client.update_image_pipeline(**{**members, **given})
        assert caught.value.response["Error"]["Code"] == "InvalidParameterValueException"
        assert expected in caught.value.response["Error"]["Message"]
        assert dispatcher.operation == ""
        client.update_image_pipeline(**members)
        assert dispatcher.operation == "UpdateImagePipeline"
        with pytest.raises(ClientError) as caught:
            client.polish_image(**members)
        assert caught.value.response["Error"]["Code"] in ("NotImplementedException", "UnknownOperationException")
        assert "PolishImage" in caught.value.response["Error"]["Message"]
    app.close()


def test_what_is_not_known_is_logged_at_the_start(newer: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    """One line each: an operation stands for its members, a member for what is below it."""
    Api.of(ServiceModel(newer, SERVICE))
    told = [record.getMessage().split(" knows ")[1].split(",")[0] for record in caplog.records]
    assert "PolishImage" in told and not [line for line in told if line.startswith("PolishImage.")]
    assert {"UpdateImagePipeline.polish", "UpdateImagePipeline.schedule.jitter"} <= set(told)
    assert {"CreateImagePipeline.status=PAUSED", "CreateImage.workflows[].onFailure=POLISH"} <= set(told)
    assert "UpdateImagePipeline.polish.grade" not in told


def test_the_list_is_that_of_the_locked_botocore(caplog: pytest.LogCaptureFixture) -> None:
    """Read the code against what is new, then run script/known-model. Nothing is logged for it."""
    assert recorded() == frozenset(described(builtin_model()))
    Api.load()
    assert caplog.records == []
