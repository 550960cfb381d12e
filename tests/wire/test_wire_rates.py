"""Token buckets: counted per account and operation, on an injected clock, within bounded memory."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from imagesmith.accounts.keys import KeyRing
from imagesmith.settings import RateLimit
from imagesmith.wire.create import create_app
from imagesmith.wire.model import Api
from imagesmith.wire.rates import RateLimits
from imagesmith.wire.server import running
from testing.clocks import MovingClock
from testing.wire_samples import request
from testing.wire_support import KEY, Clock, Recorder, settings_for


def test_a_bucket_is_per_account_and_operation() -> None:
    """Each account has its own, an operation's own entry wins over `*`, and others are not limited."""
    clock = MovingClock()
    rates = RateLimits({"Get": RateLimit(0.5, 2), "*": RateLimit(1, 1)}, clock=clock)
    assert [rates.take("1", "Get") for _ in range(3)] == [0, 0, 2]
    assert rates.take("2", "Get") == 0
    assert [rates.take("1", "List") for _ in range(2)] == [0, 1]
    clock.advance(seconds=2)
    assert [rates.take("1", "Get") for _ in range(2)] == [0, 2]
    assert RateLimits({"Get": RateLimit(1, 1)}, clock=clock).take("1", "List") == 0


def test_a_clock_that_is_set_back_takes_nothing_away() -> None:
    """The bucket goes on from the new time."""
    clock = MovingClock()
    rates = RateLimits({"*": RateLimit(1, 3)}, clock=clock)
    assert rates.take("1", "Get") == 0
    clock.advance(hours=-1)
    assert [rates.take("1", "Get") for _ in range(3)] == [0, 0, 1]


def test_buckets_are_bounded() -> None:
    """The one that was not used for longest is forgotten first."""
    rates = RateLimits({"*": RateLimit(0.001, 1)}, clock=MovingClock(), most=10)
    for number in range(100):
        assert rates.take(str(number), "Get") == 0
    assert len(rates) == 10
    assert rates.take("99", "Get") > 0
    assert rates.take("0", "Get") == 0


@given(
    rate=st.floats(0.1, 100), burst=st.integers(1, 20), pauses=st.lists(st.floats(0, 5), min_size=1, max_size=60)
)
def test_never_more_than_burst_and_rate_allow(rate: float, burst: int, pauses: list[float]) -> None:
    """Over any time at most burst + rate * time requests pass, and one passes after the wait that was told."""
    clock = MovingClock()
    rates = RateLimits({"*": RateLimit(rate, burst)}, clock=clock)
    start, passed, wait = clock.now, 0, 0
    for pause in pauses:
        clock.advance(seconds=pause)
        wait = rates.take("1", "Get")
        passed += wait == 0
    assert passed <= burst + rate * (clock.now - start).total_seconds() + 1e-6
    if wait:
        clock.advance(seconds=wait)
        assert rates.take("1", "Get") == 0


@pytest.fixture
def limited(api: Api, tmp_path: Path) -> Iterator[str]:
    """A server that lets one request of each operation through in two seconds; gives its URL."""
    app = create_app(
        Recorder(frozenset(api.operations)), keys=KeyRing([KEY]), clock=Clock(), ids=lambda: str(uuid.uuid4()),
        api=api, settings=settings_for(tmp_path, rate_limits={"*": RateLimit(rate=0.5, burst=1)}),
    )  # fmt: skip
    with running(app) as url:
        yield url
    app.close()


def limited_client(url: str, **retries: Any) -> Any:
    config: Any = Config(retries=retries)  # type: ignore[arg-type]
    return boto3.Session(KEY.access_key_id, KEY.secret, region_name="eu-west-1").client(
        "imagebuilder", endpoint_url=url, config=config
    )


@pytest.mark.parametrize("mode", ["standard", "adaptive", "legacy"])
def test_sdks_come_back_by_themselves(limited: str, mode: str) -> None:
    """Every retry mode of boto3 tries again what came too fast, and succeeds."""
    client = limited_client(limited, mode=mode, max_attempts=6)
    attempts = [client.list_image_pipelines()["ResponseMetadata"]["RetryAttempts"] for _ in range(2)]
    assert attempts[0] == 0 and attempts[1] >= 1


def test_the_command_line_of_aws_comes_back_by_itself(limited: str, tmp_path: Path) -> None:
    """The AWS CLI succeeds when its first attempt came too fast."""
    limited_client(limited).list_image_pipelines()
    program = Path(sys.executable).with_name("aws")
    answer = subprocess.run(
        [program, "--endpoint-url", limited, "imagebuilder", "list-image-pipelines"],
        env={**os.environ, "AWS_ACCESS_KEY_ID": KEY.access_key_id, "AWS_SECRET_ACCESS_KEY": KEY.secret,
             "AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "eu-west-1", "HOME": str(tmp_path)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (answer.returncode, answer.stderr) == (0, "")


def test_every_operation_but_that_of_the_contract_is_throttled_alike(limited: str, api: Api) -> None:
    """ThrottlingException with both headers; UpdateImagePipeline keeps the name that its contract has."""
    codes = {item.name: item.rate_code for item in api.operations.values()}
    assert {name for name, code in codes.items() if code != "ThrottlingException"} == {"UpdateImagePipeline"}
    client = limited_client(limited, total_max_attempts=1)
    for name, call in (("UpdateImagePipeline", client.update_image_pipeline), ("GetImage", client.get_image)):
        members = {**request(api.operations[name].input)}
        call(**members)
        with pytest.raises(ClientError) as caught:
            call(**members)
        answer = caught.value.response
        assert answer["Error"]["Code"] == codes[name]
        assert answer["Error"]["Message"].startswith("Rate exceeded")
        headers = answer["ResponseMetadata"]["HTTPHeaders"]
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 429
        assert (headers["retry-after"], headers["x-amz-retry-after"]) == ("2", "2000")
