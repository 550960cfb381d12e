"""Execution roles: named in a request, configured by the operator, obeyed by the run (spec/api.md 4.4).

No [roles] in the settings   any well-formed name is accepted and nothing is withheld
[roles.NAME] configured      an unknown role is a bad value; a role that the caller may not pass is forbidden;
                             the rights of the role become part of the plan of each run

The role is checked when a pipeline or an image is created or updated. A caller that may start a pipeline runs it
under the role that was passed then, as on AWS.
"""

from __future__ import annotations

from imagesmith.distribution.role_access import role_name
from imagesmith.recipes.plan import PlannedRole
from imagesmith.resources.call import Call
from imagesmith.resources.errors import forbidden, invalid_value
from imagesmith.settings import Role
from imagesmith.values.api import ApiRequest
from imagesmith.values.globs import matches_any

_MEMBER = "executionRole"


def check_role(call: Call, request: ApiRequest) -> None:
    """Check that the role of a request exists and that the caller may pass it. Raises ApiError."""
    text = request.get(_MEMBER)
    if text is None or not call.settings.roles:
        return
    owner, name = _parts(text)
    refusal = forbidden(f"User: {call.caller.principal} may not pass the execution role {text} to a run.")
    if owner not in ("", call.account):
        raise refusal
    role = _configured(call, name, text)
    known_as = [call.caller.principal, call.caller.access_key_id]
    if not any(matches_any(role.passed_by, identity) for identity in known_as if identity):
        raise refusal


def planned_role(call: Call, text: str) -> PlannedRole | None:
    """The rights of a run under a role, as configured now; None withholds nothing. Raises ApiError."""
    if not text or not call.settings.roles:
        return None
    name = _parts(text)[1]
    role = _configured(call, name, text)
    return PlannedRole(
        name=name,
        registries=role.registries,
        buckets=role.buckets,
        secrets=role.secrets,
        log_groups=role.log_groups,
        hosts=role.hosts,
    )


def _parts(text: str) -> tuple[str, str]:
    """The account of a role's ARN, or nothing for a bare name; and the name with its path."""
    if not text.startswith("arn:"):
        return "", text
    return text.partition(":role/")[0].rpartition(":")[2], role_name(text)


def _configured(call: Call, name: str, text: str) -> Role:
    role = call.settings.roles.get(name)
    if role is None:
        raise invalid_value(_MEMBER, f"The execution role {text} does not exist. Configure it as [roles.{name}].")
    return role
