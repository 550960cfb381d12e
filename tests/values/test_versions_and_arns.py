"""Names, ARNs and versions against their rules (spec/api.md 3)."""

from __future__ import annotations

import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagesmith.values.arn import BUILDS, RESOURCE_NAMES, VERSIONED, Arn, ArnError, slug_of
from imagesmith.values.version import NODE_MAX, Version, VersionError, VersionPattern

ROOT = "arn:aws:imagebuilder:us-east-1:111122223333"

node = st.integers(0, NODE_MAX)
small = st.integers(0, 4)
versions = st.builds(Version, node, node, node)
slugs = st.from_regex(r"[a-z0-9][a-z0-9-]{2,20}", fullmatch=True)
names = st.from_regex(r"[-_A-Za-z0-9][-_A-Za-z0-9 ]{1,30}[-_A-Za-z0-9]", fullmatch=True)


@st.composite
def arns(draw: st.DrawFn) -> Arn:
    """An ARN of any kind, with as much of its path as the kind may carry."""
    kind = draw(st.sampled_from(sorted(RESOURCE_NAMES)))
    version = build = None
    if kind in VERSIONED:
        version = draw(st.one_of(versions.map(str), st.sampled_from(["x.x.x", "1.x.x", "1.2.x", "2021.01.01"])))
    if kind in BUILDS:
        build = draw(st.one_of(st.none(), st.integers(1, 10**6).map(str)))
    return Arn(
        draw(st.sampled_from(["aws", "aws-cn", "aws-us-gov"])),
        draw(st.sampled_from(["us-east-1", "eu-central-1"])),
        draw(st.sampled_from(["111122223333", "aws", "third-party"])),
        kind,
        draw(slugs),
        version=version,
        build=build,
        family=draw(st.sampled_from(["build", "test", "distribution"])) if kind == "workflow" else None,
    )


@given(arns())
def test_an_arn_survives_its_text(arn: Arn) -> None:
    """Writing an ARN and reading it back gives the same, spelling of the version included."""
    assert Arn.parse(str(arn)) == arn


arn_pieces = st.lists(st.sampled_from(["arn", "aws", "imagebuilder", ":", "/", "image", "1.0.0", "x"]))


@given(st.text(max_size=80) | arn_pieces.map("".join))
def test_any_text_is_an_arn_or_refused(text: str) -> None:
    """No text does anything but parse to itself or raise ArnError."""
    with contextlib.suppress(ArnError):
        assert str(Arn.parse(text)) == text


@pytest.mark.parametrize(
    ("path", "slug", "version", "build"),
    [
        ("image-pipeline/web", "web", None, None),
        ("infrastructure-configuration/web", "web", None, None),
        ("distribution-configuration/web", "web", None, None),
        ("lifecycle-policy/web", "web", None, None),
        ("image-recipe/web/1.0.0", "web", "1.0.0", None),
        ("container-recipe/web/1.0.0", "web", "1.0.0", None),
        ("component/web/1.0.0", "web", "1.0.0", None),
        ("component/web/1.0.0/2", "web", "1.0.0", "2"),
        ("image/web/x.x.x", "web", "x.x.x", None),
        ("image/web/1.0.0/3", "web", "1.0.0", "3"),
    ],
)
def test_each_type_has_its_path(path: str, slug: str, version: str | None, build: str | None) -> None:
    """Unversioned types carry a slug, recipes a version, components and images a version and perhaps a build."""
    arn = Arn.parse(f"{ROOT}:{path}")
    assert (arn.slug, arn.version, arn.build, arn.family) == (slug, version, build, None)


def test_a_workflow_names_its_family() -> None:
    """The first segment of a workflow's path is build, test or distribution."""
    arn = Arn.parse(f"{ROOT}:workflow/build/web/1.0.0/2")
    assert (arn.family, arn.slug, arn.version, arn.build) == ("build", "web", "1.0.0", "2")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "arn:aws:imagebuilder:us-east-1:111122223333",
        "arn:aws:ec2:us-east-1:111122223333:image/web/1.0.0",
        f"{ROOT}:stack/web",
        f"{ROOT}:image-pipeline",
        f"{ROOT}:image-pipeline/",
        f"{ROOT}:image-pipeline/web/1.0.0",
        f"{ROOT}:image-recipe/web",
        f"{ROOT}:image-recipe/web/1.0.0/1",
        f"{ROOT}:component/web",
        f"{ROOT}:component/web//1",
        f"{ROOT}:component/web/1.0.0/1/2",
        f"{ROOT}:workflow/web/1.0.0",
        f"{ROOT}:workflow/build",
        f"{ROOT}:image/web/1.0.0:1",
    ],
)
def test_a_path_that_does_not_fit_its_type_is_refused(text: str) -> None:
    """Another service, an unknown type, and segments too few, too many or empty raise ArnError."""
    with pytest.raises(ArnError):
        Arn.parse(text)


def test_wildcards_and_replacements() -> None:
    """An `x` node is a wildcard; parts of an ARN can be replaced without touching the rest."""
    arn = Arn.parse(f"{ROOT}:component/web/1.2.3/4")
    assert not arn.has_wildcard and arn.with_version("1.x.x").has_wildcard
    assert not Arn.parse(f"{ROOT}:component/fox/1.0.0").has_wildcard
    assert str(arn.without_build) == f"{ROOT}:component/web/1.2.3"
    assert str(arn.with_version("2.0.0", 1)) == f"{ROOT}:component/web/2.0.0/1"


@given(versions, st.sampled_from(["component", "image", "image-recipe", "container-recipe"]))
def test_the_four_latest_references(version: Version, kind: str) -> None:
    """Each of the four members is there and names the right version, without build."""
    references = Arn.parse(f"{ROOT}:{kind}/web/{version}").latest_references()
    assert {member: text.rsplit("/", 1)[1] for member, text in references.items()} == {
        "latestVersionArn": "x.x.x",
        "latestMajorVersionArn": f"{version.major}.x.x",
        "latestMinorVersionArn": f"{version.major}.{version.minor}.x",
        "latestPatchVersionArn": str(version),
    }


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("MyWindows2016Pipeline", "mywindows2016pipeline"),
        ("My Image_v2", "my-image-v2"),
        ("a  b__c--d", "a--b--c--d"),
        ("plain-name", "plain-name"),
    ],
)
def test_a_slug_as_the_specification_shows(name: str, slug: str) -> None:
    """Lower case, hyphens for spaces and underscores, and repeated hyphens stay."""
    assert slug_of(name) == slug


@given(names)
def test_names_that_differ_only_in_case_and_separators_are_one(name: str) -> None:
    """A slug is its own slug, and swapping case, spaces and underscores does not change it."""
    slug = slug_of(name)
    assert re.fullmatch(r"[a-z0-9-]+", slug) and len(slug) == len(name)
    assert slug_of(slug) == slug_of(name.swapcase().replace("_", " ")) == slug


@given(versions)
def test_a_version_survives_its_text(version: Version) -> None:
    """Writing a version and reading it back gives the same."""
    assert Version.parse(str(version)) == version


@given(versions, versions)
def test_versions_are_ordered_by_number(one: Version, other: Version) -> None:
    """The order is that of the nodes as integers, never of the text."""
    assert (one < other) == (one.nodes < other.nodes)
    assert (one == other) == (one.nodes == other.nodes)


def test_leading_zeros_are_one_number() -> None:
    """`2021.01.01` and `2021.1.1` are the same version."""
    assert Version.parse("2021.01.01") == Version.parse("2021.1.1") == Version(2021, 1, 1)


@pytest.mark.parametrize(
    "text",
    ["", "1", "1.0", "1.0.0.0", "1.0.x", "x.x.x", "1..0", "-1.0.0", "1.0.0 ", " 1.0.0", "1.0.0\n", "a.b.c", "1.0.X",
     "+1.0.0", "1_0.0.0", "١.0.0", f"{NODE_MAX + 1}.0.0", f"0.0.{2**30}"],
)  # fmt: skip
def test_what_is_no_concrete_version_is_refused(text: str) -> None:
    """Other shapes, wildcards, signs, foreign digits and nodes over 2^30-1 raise VersionError."""
    with pytest.raises(VersionError):
        Version.parse(text)


def test_the_largest_node_is_accepted() -> None:
    """Each node goes up to 2^30-1 = 1073741823."""
    assert Version.parse("1073741823.1073741823.1073741823").nodes == (NODE_MAX,) * 3


def test_a_number_of_any_length_is_refused_in_time() -> None:
    """A node of thousands of digits is a VersionError like any other that is too large."""
    with pytest.raises(VersionError):
        Version.parse(f"{'9' * 5000}.0.0")


@given(st.tuples(*[st.one_of(st.just("x"), node.map(str))] * 3))
def test_a_wildcard_for_reading_has_only_wildcards_to_its_right(nodes: tuple[str, str, str]) -> None:
    """`1.x.x` reads, `x.2.x` and `1.x.8` do not."""
    text = ".".join(nodes)
    fits = re.fullmatch(r"(\d+\.){3}|(\d+\.)*(x\.)+", text + ".") is not None
    if fits:
        assert VersionPattern.for_reading(text).is_exact == ("x" not in nodes)
    else:
        with pytest.raises(VersionError):
            VersionPattern.for_reading(text)


@given(st.sampled_from(["x.x.x", "1.x.x", "1.2.x", "1.2.3"]), st.builds(Version, small, small, small))
def test_a_pattern_matches_its_numbers(text: str, version: Version) -> None:
    """A wildcard node matches any number, a number only itself."""
    wanted = [None if part == "x" else int(part) for part in text.split(".")]
    matches = all(want in (None, got) for want, got in zip(wanted, version.nodes, strict=True))
    assert VersionPattern.parse(text).matches(version) == matches


patterns = st.tuples(*[st.one_of(st.just("x"), small.map(str))] * 3).map(".".join)


@given(patterns, st.lists(st.builds(Version, small, small, small), max_size=12))
def test_the_automatic_number_is_the_next_free_one(text: str, existing: list[Version]) -> None:
    """The first `x` becomes one more than the highest under the same prefix, or 0; later `x` become 0."""
    given_nodes = text.split(".")
    result = VersionPattern.parse(text).next_after(existing)
    assert all(part in ("x", str(number)) for part, number in zip(given_nodes, result.nodes, strict=True))
    if "x" not in given_nodes:
        assert result == Version.parse(text)
        return
    first = given_nodes.index("x")
    siblings = [item.nodes[first] for item in existing if item.nodes[:first] == result.nodes[:first]]
    assert result.nodes[first] == (max(siblings) + 1 if siblings else 0)
    rest = zip(given_nodes[first + 1 :], result.nodes[first + 1 :], strict=True)
    assert all(number == 0 for part, number in rest if part == "x")
    assert result not in existing


@pytest.mark.parametrize(
    ("pattern", "existing", "result"),
    [
        ("1.x.0", [], "1.0.0"),
        ("x.x.x", [], "0.0.0"),
        ("x.x.x", ["0.0.0", "3.7.1"], "4.0.0"),
        ("1.2.x", ["1.2.9", "1.3.40"], "1.2.10"),
        ("1.x.5", ["1.0.5", "1.1.0"], "1.2.5"),
        ("x.2.x", ["1.0.0"], "2.2.0"),
    ],
)
def test_the_automatic_number_by_example(pattern: str, existing: list[str], result: str) -> None:
    """An `x` may stand before a number when a recipe is created."""
    assert str(VersionPattern.parse(pattern).next_after(map(Version.parse, existing))) == result


def test_no_number_is_left_after_the_largest() -> None:
    """A row of versions that is full raises VersionError instead of passing the limit."""
    with pytest.raises(VersionError):
        VersionPattern.parse("1.x.0").next_after([Version(1, NODE_MAX, 0)])
