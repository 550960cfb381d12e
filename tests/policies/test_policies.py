"""Resource policies: what they may say, and what they grant."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagesmith.policies.document import AccessRequest, PolicyRefused, ResourcePolicy, parse_policy
from imagesmith.policies.sharing import SHAREABLE, shared_actions, sharing_policy

OWNER, OTHER = "111122223333", "444455556666"
ARN = f"arn:aws:imagebuilder:eu-west-1:{OWNER}:component/hello/1.0.0/1"
USER = f"arn:aws:iam::{OTHER}:user/ci"
KEYS = {
    "aws:principalaccount": OTHER, "aws:principalarn": USER, "aws:requestedregion": "eu-west-1",
    "aws:resourceaccount": OWNER, "aws:currenttime": "2026-11-23T12:00:00.000Z", "aws:epochtime": "1795435200",
    "aws:resourcetag/team": "web",
}  # fmt: skip


def statement(**changes: Any) -> dict[str, Any]:
    base = {
        "Effect": "Allow", "Principal": {"AWS": [OTHER]}, "Action": "imagebuilder:GetComponent", "Resource": ARN,
    }  # fmt: skip
    return {name: value for name, value in {**base, **changes}.items() if value is not None}


def text_of(*statements: Any, version: Any = "2012-10-17", **more: Any) -> str:
    return json.dumps({"Version": version, "Statement": list(statements), **more})


def permits(policy: ResourcePolicy, **changes: Any) -> bool:
    asked = {
        "account": OTHER, "principal": USER, "action": "imagebuilder:GetComponent", "resource": ARN, "keys": KEYS,
    }  # fmt: skip
    return policy.permits(AccessRequest(**{**asked, **changes}))


@pytest.mark.parametrize(
    ("changes", "granted"),
    [
        ({}, True),
        ({"Principal": {"AWS": OTHER}}, True),
        ({"Principal": {"AWS": f"arn:aws:iam::{OTHER}:root"}}, True),
        ({"Principal": {"AWS": [USER]}}, True),
        ({"Principal": "*"}, True),
        ({"Principal": {"AWS": ["*"]}}, True),
        ({"Principal": {"AWS": ["999999999999"]}}, False),
        ({"Principal": {"AWS": [f"arn:aws:iam::{OTHER}:user/ci2"]}}, False),
        ({"Principal": {"AWS": [f"arn:aws:iam::{OTHER}:role/ci"]}}, False),
        ({"Action": ["imagebuilder:ListComponents", "imagebuilder:getcomponent"]}, True),
        ({"Action": "imagebuilder:ListComponents"}, False),
        ({"Action": "imagebuilder:Get*"}, True),
        ({"Resource": ["arn:aws:imagebuilder:eu-west-1:111122223333:component/*"]}, True),
        ({"Resource": ARN + "0"}, False),
        ({"Resource": ARN.upper()}, False),
    ],
)
def test_a_statement_grants_to_its_principals_its_actions_on_its_resources(
    changes: dict[str, Any], granted: bool
) -> None:
    """Names of actions do not distinguish upper and lower case, ARNs do."""
    assert permits(parse_policy(text_of(statement(**changes)))) is granted


@pytest.mark.parametrize(
    ("condition", "granted"),
    [
        ({"StringEquals": {"aws:PrincipalAccount": OTHER}}, True),
        ({"StringEquals": {"AWS:principalaccount": ["1", OTHER]}}, True),
        ({"StringEquals": {"aws:PrincipalAccount": "1"}}, False),
        ({"StringNotEquals": {"aws:PrincipalAccount": ["1", OTHER]}}, False),
        ({"StringNotEquals": {"aws:ResourceTag/none": "x"}}, True),
        ({"StringEquals": {"aws:ResourceTag/Team": "web"}}, True),
        ({"StringEquals": {"aws:ResourceTag/none": "web"}}, False),
        ({"StringEqualsIfExists": {"aws:ResourceTag/none": "web"}}, True),
        ({"StringEqualsIfExists": {"aws:ResourceTag/team": "db"}}, False),
        ({"StringEqualsIgnoreCase": {"aws:ResourceTag/team": "WEB"}}, True),
        ({"StringNotEqualsIgnoreCase": {"aws:ResourceTag/team": "WEB"}}, False),
        ({"StringLike": {"aws:RequestedRegion": "eu-*"}}, True),
        ({"StringEquals": {"aws:RequestedRegion": "eu-*"}}, False),
        ({"StringNotLike": {"aws:RequestedRegion": ["us-*", "eu-*"]}}, False),
        ({"ArnLike": {"aws:PrincipalArn": f"arn:aws:iam::{OTHER}:user/*"}}, True),
        ({"ArnEquals": {"aws:PrincipalArn": "arn:*:iam::user/ci:x"}}, False),
        ({"ArnEquals": {"aws:PrincipalArn": "arn:aws:iam::*:user/c?"}}, True),
        ({"ArnNotLike": {"aws:PrincipalArn": f"arn:aws:iam::{OTHER}:user/*"}}, False),
        ({"DateLessThan": {"aws:CurrentTime": "2026-11-23T12:00:01Z"}}, True),
        ({"DateLessThan": {"aws:CurrentTime": "2026-11-23T13:00:00+01:00"}}, False),
        ({"DateLessThanEquals": {"aws:CurrentTime": "2026-11-23T13:00:00+01:00"}}, True),
        ({"DateGreaterThan": {"aws:CurrentTime": "2026-11-23"}}, True),
        ({"NumericGreaterThanEquals": {"aws:EpochTime": 1795435200}}, True),
        ({"NumericNotEquals": {"aws:EpochTime": "1795435200"}}, False),
        ({"Null": {"aws:ResourceTag/none": True}}, True),
        ({"Null": {"aws:ResourceTag/team": "true"}}, False),
        ({"ForAnyValue:StringEquals": {"aws:ResourceTag/team": ["web", "db"]}}, True),
        ({"ForAnyValue:StringEquals": {"aws:ResourceTag/none": ["web"]}}, False),
        ({"ForAllValues:StringEquals": {"aws:ResourceTag/none": ["web"]}}, True),
        ({"StringEquals": {"aws:PrincipalAccount": OTHER, "aws:RequestedRegion": "us-east-1"}}, False),
        ({"StringEquals": {"aws:PrincipalAccount": OTHER}, "Null": {"aws:ResourceTag/team": "true"}}, False),
    ],
)
def test_every_condition_must_hold(condition: dict[str, Any], granted: bool) -> None:
    """Values of a key are alternatives; a missing key is as IAM documents it for each operator."""
    assert permits(parse_policy(text_of(statement(Condition=condition)))) is granted


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "not JSON"),
        ("[]", "must be a JSON object"),
        ("1", "must be a JSON object"),
        ("[" * 20000, "too deep"),
        ("{}", "Version"),
        (text_of(version="2020-01-01"), "Version"),
        ('{"Version": "2012-10-17"}', "Statement is missing"),
        ('{"Version": "2012-10-17", "Version": "2012-10-17", "Statement": []}', "'Version' appears twice"),
        (text_of("x"), "Statement[0] must be an object"),
        (text_of(Extra=1), "'Extra'"),
        (text_of(statement(), statement(Effect="Deny")), "Statement[1].Effect"),
        (text_of(statement(Effect=None)), "Effect"),
        (text_of(statement(NotAction="x")), "'NotAction'"),
        (text_of(statement(NotPrincipal={})), "'NotPrincipal'"),
        (text_of(statement(NotResource="x")), "'NotResource'"),
        (text_of(statement(Principal=None)), "Principal"),
        (text_of(statement(Principal=OTHER)), "Principal"),
        (text_of(statement(Principal={"Service": "x.amazonaws.com"})), "Principal"),
        (text_of(statement(Principal={"AWS": []})), "Principal.AWS"),
        (text_of(statement(Principal={"AWS": ["12"]})), "'12'"),
        (text_of(statement(Principal={"AWS": [f"arn:aws:iam::{OTHER}:user/*"]})), "user/*"),
        (text_of(statement(Action=None)), "Action"),
        (text_of(statement(Action="GetComponent")), "'GetComponent'"),
        (text_of(statement(Resource=[])), "Resource"),
        (text_of(statement(Resource=[1])), "Resource"),
        (text_of(statement(Resource="${aws:PrincipalAccount}")), "variable"),
        (text_of(statement(Condition=[])), "Condition must be an object"),
        (text_of(statement(Condition={"StringEquals": {}})), "StringEquals"),
        (text_of(statement(Condition={"StringIs": {"aws:PrincipalAccount": "1"}})), "StringIs"),
        (text_of(statement(Condition={"NullIfExists": {"aws:PrincipalAccount": "true"}})), "NullIfExists"),
        (text_of(statement(Condition={"StringEquals": {"aws:PrincipalOrgID": "o-1"}})), "aws:PrincipalOrgID"),
        (text_of(statement(Condition={"StringEquals": {"aws:ResourceTag/": "o-1"}})), "aws:ResourceTag/"),
        (text_of(statement(Condition={"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}})), "IpAddress"),
        (text_of(statement(Condition={"DateLessThan": {"aws:PrincipalAccount": "1"}})), "does not compare"),
        (text_of(statement(Condition={"DateLessThan": {"aws:CurrentTime": "soon"}})), "'soon'"),
        (text_of(statement(Condition={"ArnLike": {"aws:PrincipalArn": "me"}})), "'me'"),
        (text_of(statement(Condition={"Null": {"aws:PrincipalArn": "maybe"}})), "true or false"),
        (text_of(statement(Condition={"StringEquals": {"aws:PrincipalAccount": [{}]}})), "must be a string"),
        (text_of(statement(Condition={"StringEquals": {"aws:PrincipalAccount": "${x}"}})), "variable"),
    ],
)
def test_what_would_not_be_obeyed_is_refused_by_name(text: str, told: str) -> None:
    """The message names the element and what is expected there."""
    with pytest.raises(PolicyRefused) as refusal:
        parse_policy(text)
    assert told in str(refusal.value)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"Action": "imagebuilder:DeleteComponent"}, "imagebuilder:DeleteComponent"),
        ({"Action": "imagebuilder:*"}, "imagebuilder:*"),
        ({"Action": "imagebuilder:GetImage"}, "imagebuilder:GetImage"),
        ({"Resource": "*"}, "'*'"),
        ({"Resource": [ARN, ARN + "0"]}, ARN + "0"),
        ({"Principal": "*"}, "everybody"),
        ({"Principal": {"AWS": [OTHER, "*"]}}, "everybody"),
        ({"Principal": "*", "Condition": {"StringLike": {"aws:PrincipalAccount": "*"}}}, "everybody"),
        ({"Principal": "*", "Condition": {"StringEqualsIfExists": {"aws:PrincipalAccount": OTHER}}}, "everybody"),
        ({"Principal": "*", "Condition": {"StringNotEquals": {"aws:PrincipalAccount": OTHER}}}, "everybody"),
        ({"Principal": "*", "Condition": {"ArnLike": {"aws:PrincipalArn": "arn:aws:iam::*:root"}}}, "everybody"),
        ({"Principal": "*", "Condition": {"StringEquals": {"aws:RequestedRegion": "eu-west-1"}}}, "everybody"),
        ({"Principal": "*", "Condition": {"Null": {"aws:PrincipalAccount": "false"}}}, "everybody"),
    ],
)
def test_a_policy_shares_its_resource_for_reading_with_named_callers(changes: dict[str, Any], told: str) -> None:
    """Other actions, other resources and grants to everybody are refused."""
    with pytest.raises(PolicyRefused) as refusal:
        sharing_policy(text_of(statement(**changes)), kind="component", resource=ARN)
    assert told in str(refusal.value)


@pytest.mark.parametrize(
    "condition",
    [{"StringEquals": {"aws:PrincipalAccount": [OTHER]}}, {"ArnEquals": {"aws:PrincipalArn": USER}}],
)
def test_everybody_with_a_condition_on_the_caller_is_a_named_caller(condition: dict[str, Any]) -> None:
    """A statement for `*` that a condition limits to fixed accounts or identities does not grant to everybody."""
    policy = sharing_policy(text_of(statement(Principal="*", Condition=condition)), kind="component", resource=ARN)
    assert permits(policy)
    stranger = {**KEYS, "aws:principalaccount": "9" * 12, "aws:principalarn": "arn:aws:iam::999999999999:root"}
    assert not permits(policy, account="9" * 12, principal="arn:aws:iam::999999999999:root", keys=stranger)


def test_each_shareable_type_has_its_own_actions() -> None:
    """The read and the list operation of the type, as RAM's default permissions have them."""
    assert {kind: shared_actions(kind) for kind in sorted(SHAREABLE)} == {
        "component": ("imagebuilder:GetComponent", "imagebuilder:ListComponents"),
        "container-recipe": ("imagebuilder:GetContainerRecipe", "imagebuilder:ListContainerRecipes"),
        "image": ("imagebuilder:GetImage", "imagebuilder:ListImages"),
        "image-recipe": ("imagebuilder:GetImageRecipe", "imagebuilder:ListImageRecipes"),
    }


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from([0.5, 1e300]) | st.text("aA*:/$", max_size=8)
    | st.sampled_from(["*", OTHER, ARN, "Allow", "imagebuilder:GetComponent"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("aA*:/$", max_size=8), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(
    st.dictionaries(
        st.sampled_from(["Sid", "Effect", "Principal", "Action", "Resource", "Condition", "Other"]), _JSON
    )
)
def test_any_statement_is_read_or_refused_and_shares_with_nobody_else(given_statement: dict[str, Any]) -> None:
    """No document makes the reader fail in another way, and no accepted one grants a stranger's request."""
    try:
        policy = sharing_policy(text_of({**statement(), **given_statement}), kind="component", resource=ARN)
    except PolicyRefused:
        return
    stranger = {**KEYS, "aws:principalaccount": "9" * 12, "aws:principalarn": "arn:aws:iam::999999999999:root"}
    assert not permits(policy, account="9" * 12, principal="arn:aws:iam::999999999999:root", keys=stranger)
