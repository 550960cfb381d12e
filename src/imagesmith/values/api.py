"""The documents of the API between its layers: requests, answers and stored documents.

botocore's service model defines their members: every request is checked against it before, and every answer is
serialized by it. All three are read-only: a change is a new document.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

ApiRequest: TypeAlias = Mapping[str, Any]
"""The members of a request, without nulls. A pipeline's document is one too: it has the shape of CreateImage."""

ApiResponse: TypeAlias = Mapping[str, Any]
"""The output members of an operation."""

ApiDocument: TypeAlias = Mapping[str, Any]
"""A structure of the model: the stored document of a resource, its summary, or one of its members."""
