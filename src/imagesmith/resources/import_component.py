"""ImportComponent: a shell script becomes a component (spec/api.md 4.10)."""

from __future__ import annotations

from imagesmith.resources.call import Call
from imagesmith.resources.components import store_document
from imagesmith.resources.errors import invalid_value
from imagesmith.resources.sources import given_document
from imagesmith.values.api import ApiRequest, ApiResponse


def import_component(call: Call, request: ApiRequest) -> ApiResponse:
    """A new component, or the next build of a version whose content changed; the answer has no latest versions."""
    from imagesmith.components.shell_documents import ScriptRefused, shell_document  # late: cli/startup.py

    script, path = given_document(call, request, noun="script")
    try:
        text = shell_document(
            script,
            platform=request["platform"],
            type=request["type"],
            description=request.get("description", ""),
        )
    except ScriptRefused as error:
        raise invalid_value(path, f"The script cannot be imported: {error}.") from error
    answer = store_document(call, request, text=text, path=path)
    return {"componentBuildVersionArn": answer["componentBuildVersionArn"]}
