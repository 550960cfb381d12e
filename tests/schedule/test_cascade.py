"""A pipeline whose base is another pipeline's image follows it (`schedules.cascade`)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from imagesmith.settings import Schedules
from imagesmith.store import cascades
from imagesmith.store.database import Database
from testing.clock_support import NOON, OWN, Factory, MakeFactory, SetClock

SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)


def with_base(factory: Factory) -> Factory:
    """A pipeline `base` whose first image is AVAILABLE and was looked at, and a recipe `app` on its newest."""
    factory.recipe("base")
    factory.infrastructure()
    factory.pipeline(None, name="base", containerRecipeArn=f"{OWN}:container-recipe/base/x.x.x")
    build(factory)
    factory.recipe("app", parentImage=f"{OWN}:image/base/x.x.x")
    factory.scheduler.tick()
    return factory


def build(factory: Factory, name: str = "base", status: str = "AVAILABLE") -> str:
    """Start a pipeline by hand and end its run."""
    arn = f"{OWN}:image-pipeline/{name}"
    image = str(factory.call("StartImagePipelineExecution", imagePipelineArn=arn)["imageBuildVersionArn"])
    factory.finish(image, status)
    return image


def app(factory: Factory, name: str = "app", expression: str | None = None, **members: object) -> str:
    members.setdefault("containerRecipeArn", f"{OWN}:container-recipe/app/x.x.x")
    return factory.pipeline(expression, name=name, always=False, **members)  # type: ignore[arg-type]


def waiting(database: Database) -> list[str]:
    with database.read() as tx:
        return cascades.waiting_cascades(tx, 100)


@pytest.fixture
def chained(make_factory: MakeFactory) -> Factory:
    return with_base(make_factory(Schedules(cascade=True)))


def test_an_image_that_becomes_available_starts_what_is_built_on_it(
    database: Database, tmp_path: Path, now: SetClock
) -> None:
    """Once, with and without a schedule, as a SCHEDULED run with the image tags; the log says why."""
    chained = with_base(Factory(database, tmp_path / "data", clock=now, policy=Schedules(cascade=True)))
    plain = app(chained, imageTags={"team": "a"})
    timed = app(chained, "timed", "cron(0 9 * * ? *)")
    for _ in range(2):
        base = build(chained)
        images = chained.tick_at(now.now + SECOND)
        assert {chained.get(image).source for image in images} == {plain, timed}
        assert chained.tick_at(now.now + SECOND) == [] and waiting(database) == []
        for image in images:
            assert chained.get(image).document["buildType"] == "SCHEDULED"
            assert chained.get(image).document["containerRecipe"]["parentImage"] == base
            chained.finish(image)
        chained.tick_at(now.now + SECOND)
    assert chained.get(chained.images(plain)[0]).tags == {"team": "a"}
    assert chained.next_run(timed) == "2026-11-24T09:00:00.000Z" and chained.runs(timed) == []
    told = chained.log(plain)
    assert f"cascade | build: base base nothing -> 1.0.0/2, of {OWN}:image-pipeline/base" in told
    assert "cascade | build: base base 1.0.0/2 -> 1.0.0/3" in told


def test_without_the_switch_nothing_follows_and_nothing_piles_up(factory: Factory) -> None:
    """`schedules.cascade` is off by default; what was noted is forgotten."""
    factory.recipe("base")
    factory.pipeline(None, name="base", containerRecipeArn=f"{OWN}:container-recipe/base/x.x.x")
    build(factory)
    factory.recipe("app", parentImage=f"{OWN}:image/base/x.x.x")
    app(factory)
    build(factory)
    assert factory.tick_at(NOON + SECOND) == [] and waiting(factory.database) == []


def test_a_whole_chain_follows(chained: Factory) -> None:
    """base -> app -> top: each AVAILABLE image starts the next pipeline, and a failed one stops the chain."""
    middle = app(chained)
    build(chained)
    (first,) = chained.tick_at(NOON + SECOND)
    chained.finish(first)
    chained.recipe("top", parentImage=f"{OWN}:image/app/1.x.x")
    top = app(chained, "top", containerRecipeArn=f"{OWN}:container-recipe/top/1.0.0")
    chained.tick_at(NOON + 2 * SECOND)
    build(chained)
    (second,) = chained.tick_at(NOON + 3 * SECOND)
    assert chained.get(second).source == middle
    chained.finish(second)
    (third,) = chained.tick_at(NOON + 4 * SECOND)
    assert chained.get(third).source == top
    build(chained)
    (failing,) = chained.tick_at(NOON + 5 * SECOND)
    chained.finish(failing, "FAILED")
    assert chained.tick_at(NOON + 6 * SECOND) == []


@pytest.mark.parametrize(
    ("parent", "status", "disabled"),
    [
        ("1.0.0/1", "AVAILABLE", False),
        ("2.x.x", "AVAILABLE", False),
        ("x.x.x", "FAILED", False),
        ("x.x.x", "CANCELLED", False),
        ("x.x.x", "AVAILABLE", True),
    ],
)
def test_who_does_not_follow(chained: Factory, parent: str, status: str, disabled: bool) -> None:
    """A fixed base, another version, a base that was not built, a DISABLED pipeline."""
    if parent == "2.x.x":
        chained.recipe("base", "2.0.0")
        build(chained)
        pinned = {"containerRecipeArn": f"{OWN}:container-recipe/base/1.0.0"}
        chained.update(f"{OWN}:image-pipeline/base", **pinned)
    chained.recipe("other", parentImage=f"{OWN}:image/base/{parent}")
    chained.tick_at(NOON + SECOND)
    arn = app(chained, containerRecipeArn=f"{OWN}:container-recipe/other/1.0.0")
    if disabled:
        chained.update(arn, status="DISABLED")
    build(chained, status=status)
    assert chained.tick_at(NOON + 2 * SECOND) == []


def test_a_lower_version_of_the_base_is_not_followed(chained: Factory) -> None:
    """The wildcard still means the higher one, which the pipeline may have already."""
    arn = app(chained)
    chained.recipe("base", "2.0.0")
    build(chained)
    (image,) = chained.tick_at(NOON + SECOND)
    chained.finish(image)
    chained.update(f"{OWN}:image-pipeline/base", containerRecipeArn=f"{OWN}:container-recipe/base/1.0.0")
    build(chained)
    assert chained.tick_at(NOON + 2 * SECOND) == [] and len(chained.images(arn)) == 1


def test_a_tick_and_a_cascade_for_the_same_image_make_one_run(chained: Factory) -> None:
    """The schedule fires in the same moment: the run that it starts has the new base, which is enough."""
    app(chained, expression="cron(0 * * * ? *)")
    build(chained)
    assert len(chained.tick_at(NOON + HOUR)) == 1
    assert chained.tick_at(NOON + HOUR + SECOND) == []


def test_a_failed_cascade_is_no_failure_of_the_schedule(chained: Factory) -> None:
    """consecutiveFailures stays, and the pipeline is not disabled; the next image of the base tries again."""
    arn = app(chained, expression="cron(0 9 * * ? *)", failures=1)
    for moment in (1, 2):
        build(chained)
        (image,) = chained.tick_at(NOON + moment * SECOND)
        chained.finish(image, "FAILED")
        document = chained.get(arn).document
        assert document["consecutiveFailures"] == 0 and document["status"] == "ENABLED"
    assert "consecutive failures stay 0: an event run, FAILED" in chained.log(arn)


def test_a_circle_of_pipelines_is_not_followed(chained: Factory) -> None:
    """base <- app <- base: the image of app would build base again, and so on for ever."""
    app(chained)
    build(chained)
    (image,) = chained.tick_at(NOON + SECOND)
    chained.finish(image)
    chained.recipe("base", "1.0.1", parentImage=f"{OWN}:image/app/x.x.x")
    assert chained.tick_at(NOON + 2 * SECOND) == []
    assert "it would start a loop" in chained.log(f"{OWN}:image-pipeline/base")


def test_overlap_skip_holds_for_a_cascade_too(make_factory: MakeFactory) -> None:
    """A pipeline that is still building does not follow, and its log says so."""
    factory = with_base(make_factory(Schedules(cascade=True, overlap="skip")))
    arn = app(factory)
    build(factory)
    assert len(factory.tick_at(NOON + SECOND)) == 1
    build(factory)
    assert factory.tick_at(NOON + 2 * SECOND) == []
    assert "a build of this pipeline is still running (overlap = skip)" in factory.log(arn)


def test_a_pipeline_that_cannot_be_started_says_so_and_stops_no_other(chained: Factory) -> None:
    """A disabled component of one recipe: the log of its pipeline has the reason, the other one is built."""
    component = chained.component()
    parts = [{"componentArn": f"{OWN}:component/hello/1.0.0/1"}]
    chained.recipe("broken", parentImage=f"{OWN}:image/base/x.x.x", components=parts)
    broken = app(chained, "broken", containerRecipeArn=f"{OWN}:container-recipe/broken/1.0.0")
    good = app(chained)
    chained.edit(component, status="DISABLED")
    build(chained)
    (image,) = chained.tick_at(NOON + SECOND)
    assert chained.get(image).source == good
    assert f"no image could be started: The component {component} is DISABLED" in chained.log(broken)


def test_a_server_that_dies_before_it_is_done_leaves_the_rest_to_the_next(
    make_factory: MakeFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was started is not started again, what was not is started: the note goes last."""
    chained = with_base(make_factory(Schedules(cascade=True)))
    arns = [app(chained, f"app-{number}") for number in range(3)]
    base = build(chained)
    monkeypatch.setattr(chained.scheduler, "_batch", 2)

    def die() -> None:
        if len(chained.builds.started) == before + 2:
            raise KeyboardInterrupt

    before = len(chained.builds.started)
    chained.builds.on_start = die
    with pytest.raises(KeyboardInterrupt):
        chained.scheduler.tick()
    assert waiting(chained.database) == [base]
    again = make_factory(Schedules(cascade=True))
    again.scheduler.tick()
    assert waiting(chained.database) == []
    assert [len(chained.images(arn)) for arn in arns] == [1, 1, 1]


def test_two_servers_follow_an_image_once(database: Database, tmp_path: Path, now: SetClock) -> None:
    """Both see the same image; each dependent pipeline gets one run."""
    policy = Schedules(cascade=True)
    servers = [Factory(database, tmp_path / "data", clock=now, policy=policy) for _ in range(2)]
    first = with_base(servers[0])
    arns = [app(first, f"app-{number}") for number in range(10)]
    for server in servers:
        server.scheduler._batch = 3
    problems: list[BaseException] = []
    for _ in range(3):
        now.now += SECOND
        build(first)
        _at_the_same_time([_noting(server.scheduler.tick, problems) for server in servers])
        for server in servers:
            for image in server.builds.started:
                server.finish(image)
            server.builds.started.clear()
    assert problems == []
    assert [len(first.images(arn)) for arn in arns] == [3] * 10


def _noting(work: Callable[[], object], problems: list[BaseException]) -> Callable[[], None]:
    def run() -> None:
        try:
            work()
        except BaseException as problem:
            problems.append(problem)

    return run


def _at_the_same_time(works: list[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
