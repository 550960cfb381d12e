"""A program: runs the commands of the AWS CLI that standard input names, in one process, as its users type them.

{"url", "calls": [...], "known": {...}}   ->   [{"answer"} or {"code", "message"}, ...]
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import sys
from typing import Any

from awscli.clidriver import create_clidriver
from botocore import xform_name

from testing.client_calls import ClientCall, kept_values, resolved

_ERROR = re.compile(r"An error occurred \((\w+)\) when calling the \w+ operation: (.*)", re.DOTALL)


def run(url: str, item: ClientCall, known: dict[str, str], driver: Any) -> dict[str, Any]:
    """One command, with the JSON of its members."""
    members = resolved(item.members, known)
    words = [
        "imagebuilder", xform_name(item.operation, "-"), "--endpoint-url", url, "--output", "json",
        "--cli-input-json", json.dumps(members),
    ]  # fmt: skip
    if item.pages:
        words += ["--page-size", str(item.size)] if item.operation != "ListImageScanFindingAggregations" else []
    said, wrong = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(wrong):
        status = driver.main(words)
    if status == 0:
        answer = json.loads(said.getvalue() or "{}")
        known.update(kept_values(item, answer))
        return {"answer": {item.pages: answer[item.pages]} if item.pages else answer}
    found = _ERROR.search(wrong.getvalue())
    if found is None:
        raise RuntimeError(f"{' '.join(words)}: {wrong.getvalue()}")
    return {"code": found[1], "message": found[2].strip()}


def main() -> None:
    asked = json.load(sys.stdin)
    known = dict(asked["known"])
    driver = create_clidriver()
    answers = [run(asked["url"], ClientCall(**item), known, driver) for item in asked["calls"]]
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
