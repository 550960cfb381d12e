"""Policies of access keys: what they permit, and how a text that cannot be obeyed is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from imagesmith.policies.access import AccessPolicy, parse_access_policy
from imagesmith.policies.document import AccessRequest, PolicyRefused

ACCOUNT = "123456789012"
OWN = f"arn:aws:imagebuilder:eu-west-1:{ACCOUNT}"
WEB = f"{OWN}:component/web/1.0.0/1"
NO_DELETE = {"Effect": "Allow", "NotAction": "imagebuilder:Delete*", "Resource": "*"}
ELSEWHERE = {"Effect": "Deny", "Action": "*"}
KEYS = {
    "aws:principalaccount": ACCOUNT, "aws:principalarn": f"arn:aws:iam::{ACCOUNT}:user/ci",
    "aws:requestedregion": "eu-west-1", "aws:currenttime": "2026-11-29T12:00:00+00:00",
    "aws:epochtime": "1795953600", "aws:sourceip": "10.1.2.3", "aws:securetransport": "true",
}  # fmt: skip


def permits(policy: AccessPolicy, operation: str, resource: str = WEB, **keys: str) -> bool:
    return policy.permits(
        AccessRequest(
            account=ACCOUNT, principal=KEYS["aws:principalarn"], action=f"imagebuilder:{operation}",
            resource=resource, keys={**KEYS, **{f"aws:{name}": value for name, value in keys.items()}},
        )
    )  # fmt: skip


def parsed(*statements: dict[str, Any]) -> AccessPolicy:
    return parse_access_policy(json.dumps({"Version": "2012-10-17", "Statement": list(statements)}))


def allow(**elements: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": "imagebuilder:*", "Resource": "*", **elements}


def deny(**elements: Any) -> dict[str, Any]:
    return {**allow(**elements), "Effect": "Deny"}


@pytest.mark.parametrize(
    ("policy", "operation", "permitted"),
    [
        ({}, "DeleteImage", True),
        ({"allow": ["imagebuilder:Get*"]}, "GetImage", True),
        ({"allow": ["imagebuilder:Get*"]}, "DeleteImage", False),
        ({"allow": ["imagebuilder:get?mage"]}, "GetImage", True),
        ({"allow": []}, "GetImage", False),
        ({"deny": ["imagebuilder:*Image"]}, "GetImage", False),
        ({"deny": ["imagebuilder:*Image"]}, "ListImages", True),
        ({"allow": ["*"], "deny": ["*"]}, "GetImage", False),
    ],
)
def test_in_the_short_form_deny_wins_and_left_out_means_all(
    policy: dict[str, Any], operation: str, permitted: bool
) -> None:
    """Stars and question marks as in IAM, whatever the case of the letters; resources are not looked at."""
    found = parse_access_policy(json.dumps(policy))
    assert permits(found, operation) is permitted
    assert not found.judges_references


def test_a_key_without_a_policy_may_do_everything() -> None:
    """An absent policy is no restriction; one that is written down may be one."""
    assert parse_access_policy("").is_unrestricted
    assert permits(AccessPolicy(), "DeleteImage")
    assert not parse_access_policy('{"allow": []}').is_unrestricted


@pytest.mark.parametrize(
    ("statements", "operation", "resource", "permitted"),
    [
        ([allow()], "DeleteComponent", WEB, True),
        ([], "GetComponent", WEB, False),
        ([allow(Action="imagebuilder:Get*")], "GetComponent", WEB, True),
        ([allow(Action=["imagebuilder:get*", "imagebuilder:List*"])], "DeleteComponent", WEB, False),
        ([allow(Action="*")], "DeleteComponent", WEB, True),
        ([allow(Resource=f"{OWN}:component/web/*")], "GetComponent", WEB, True),
        ([allow(Resource=f"{OWN}:component/web/*")], "GetComponent", f"{OWN}:component/web2/1.0.0/1", False),
        ([allow(Resource=f"{OWN}:component/WEB/*")], "GetComponent", WEB, False),
        ([allow(Resource="arn:aws:imagebuilder:*:*:component/*")], "GetComponent", WEB, True),
        ([allow(), deny(Resource=f"{OWN}:component/web/*")], "GetComponent", WEB, False),
        ([deny(Resource=f"{OWN}:component/web/*"), allow()], "GetComponent", WEB, False),
        ([allow(), deny(Action="imagebuilder:Delete*")], "DeleteComponent", WEB, False),
        ([allow(), deny(Action="imagebuilder:Delete*")], "GetComponent", WEB, True),
        ([{"Effect": "Allow", "NotAction": "imagebuilder:Delete*", "Resource": "*"}], "GetComponent", WEB, True),
        (
            [{"Effect": "Allow", "NotAction": "imagebuilder:Delete*", "Resource": "*"}],
            "DeleteComponent",
            WEB,
            False,
        ),
        ([allow(), {"Effect": "Deny", "Action": "*", "NotResource": f"{OWN}:*"}], "GetComponent", WEB, True),
        ([allow(), {"Effect": "Deny", "Action": "*", "NotResource": f"{OWN}:image/*"}], "GetComponent", WEB, False),
        ([deny()], "GetComponent", WEB, False),
    ],
)
def test_an_explicit_denial_wins_and_what_is_not_granted_is_denied(
    statements: list[dict[str, Any]], operation: str, resource: str, permitted: bool
) -> None:
    """As IAM evaluates the policies of an identity, in any order of the statements."""
    assert permits(parsed(*statements), operation, resource) is permitted


@pytest.mark.parametrize(
    ("condition", "keys", "permitted"),
    [
        ({"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}, {}, True),
        ({"IpAddress": {"aws:SourceIp": ["192.0.2.0/24", "10.1.2.3"]}}, {}, True),
        ({"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}, {"sourceip": "::ffff:10.9.9.9"}, True),
        ({"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}, {"sourceip": "2001:db8::1"}, False),
        ({"NotIpAddress": {"aws:SourceIp": "10.0.0.0/8"}}, {}, False),
        ({"IpAddress": {"aws:SourceIp": "2001:db8::/32"}}, {"sourceip": "2001:db8::1"}, True),
        ({"Bool": {"aws:SecureTransport": "true"}}, {}, True),
        ({"Bool": {"aws:SecureTransport": True}}, {"securetransport": "false"}, False),
        ({"StringEquals": {"aws:RequestedRegion": "eu-west-1"}}, {}, True),
        ({"StringEquals": {"aws:requestedregion": "us-east-1"}}, {}, False),
        ({"ArnLike": {"aws:PrincipalArn": f"arn:aws:iam::{ACCOUNT}:user/*"}}, {}, True),
        ({"DateLessThan": {"aws:CurrentTime": "2026-12-01T00:00:00Z"}}, {}, True),
        ({"DateLessThan": {"aws:CurrentTime": "2026-11-01T00:00:00Z"}}, {}, False),
    ],
)
def test_conditions_are_those_that_a_request_has(
    condition: dict[str, Any], keys: dict[str, str], permitted: bool
) -> None:
    """Address, transport, Region, caller and time."""
    assert permits(parsed(allow(Condition=condition)), "GetComponent", WEB, **keys) is permitted


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[]", "must be a JSON object"),
        ("{", "it is not JSON"),
        ('{"Allow": []}', 'with "allow" and "deny"'),
        ('{"allow": "imagebuilder:*"}', "allow must be a list"),
        ('{"deny": ["s3:GetObject"]}', "deny contains 's3:GetObject'"),
        ('{"deny": [5]}', "deny contains 5"),
        ('{"deny": [], "deny": []}', "'deny' appears twice"),
        (json.dumps({"allow": ["imagebuilder:*"] * 101}), "at most 100"),
        ('{"allow": [' + " " * 20_480 + "]}", "at most 20480"),
        (json.dumps({"Version": "2012-10-17"}), "Statement is missing"),
        (json.dumps({"Version": "2020-01-01", "Statement": []}), "Version must be one of"),
        (json.dumps({"Version": "2012-10-17", "Statement": [allow()] * 101}), "at most 100"),
    ],
)
def test_a_text_that_is_no_policy_is_refused(text: str, told: str) -> None:
    """With what was expected."""
    with pytest.raises(PolicyRefused) as caught:
        parse_access_policy(text)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("a", "Statement[0] must be an object"),
        (allow(Effect="allow"), "Effect must be Allow or Deny"),
        (allow(Principal="*"), "leave it out"),
        (allow(NotPrincipal="*"), "leave it out"),
        (allow(Acton="*"), "'Acton'"),
        (allow(Sid=5), "Sid must be a string"),
        (allow(Action="s3:GetObject"), "'s3:GetObject'"),
        (allow(Action=[]), "Action must be a string"),
        (allow(NotAction="*"), "needs either Action or NotAction"),
        ({"Effect": "Allow", "Resource": "*"}, "needs either Action or NotAction"),
        ({"Effect": "Allow", "Action": "*"}, "needs either Resource or NotResource"),
        (allow(Resource="component/web"), "expected * or an ARN"),
        (allow(Resource="arn:aws:imagebuilder:*:*:component/${aws:username}"), "without variables"),
        (allow(Condition={"StringEquals": {"aws:ResourceTag/team": "web"}}), "'aws:ResourceTag/team' is not known"),
        (allow(Condition={"StringEquals": {"aws:PrincipalOrgID": "o"}}), "'aws:PrincipalOrgID' is not known"),
        (allow(Condition={"IpAddress": {"aws:SourceIp": "10.0.0.0/33"}}), "expected an address or a network"),
        (allow(Condition={"Bool": {"aws:SecureTransport": "yes"}}), "must be true or false"),
        (allow(Condition={"BinaryEquals": {"aws:SourceIp": "x"}}), "the operator is not known"),
    ],
)
def test_what_would_not_be_obeyed_is_refused_by_name(statement: Any, told: str) -> None:
    """An element, key or operator that has no effect here is an error, never a silent grant."""
    with pytest.raises(PolicyRefused) as caught:
        parse_access_policy(json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
    assert told in str(caught.value)
