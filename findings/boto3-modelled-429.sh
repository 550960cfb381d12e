#!/bin/sh
# boto3 1.44.8: the default retry mode repeats a 429 that a service does not declare, and not the one that it does.
#
# In the standard mode, the default since 1.44, botocore repeats a 429 with an unknown code, and ThrottlingException.
# EC2 Image Builder declares CallRateLimitExceededException with status 429, but its model does not call it retryable:
# a client that is over the rate gets it after one attempt. The legacy mode, the default of 1.43, repeats it, and so
# does the SDK for JavaScript (3.1046). An upgrade takes the retries away, and who tests with a made-up code does not
# see it. `imagebuilder` is one of several: the services with such an error are counted too.
#
# Needs: python3 with venv. All requests go to a server on the loopback.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check boto3==1.44.8 botocore==1.44.8 2>/dev/null
cat > try.py <<'P'
import collections
import http.server
import threading

import boto3
import botocore
import botocore.session
from botocore.config import Config


class Refuses(http.server.BaseHTTPRequestHandler):
    """Answers every request with status 429 and the code that the server has."""

    def do_POST(self):
        self.server.requests += 1
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(429)
        self.send_header("x-amzn-ErrorType", self.server.code)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refuses)
threading.Thread(target=server.serve_forever, daemon=True).start()


def attempts(code, **retries):
    server.code, server.requests = code, 0
    client = boto3.client(
        "imagebuilder", endpoint_url=f"http://127.0.0.1:{server.server_port}", region_name="us-east-1",
        aws_access_key_id="a", aws_secret_access_key="b", config=Config(retries={"total_max_attempts": 2, **retries}),
    )
    try:
        client.list_images()
    except client.exceptions.ClientError:
        return server.requests


print("boto3", boto3.__version__, "botocore", botocore.__version__)
seen = collections.defaultdict(list)
for code in ("CallRateLimitExceededException", "ThrottlingException", "NeverHeardOfException"):
    for retries in ({}, {"mode": "standard"}, {"mode": "adaptive"}, {"mode": "legacy"}):
        seen[code].append(attempts(code, **retries))
    print(f"{code}: attempts by default, standard, adaptive, legacy: {seen[code]}")
session = botocore.session.get_session()
known = botocore.retries.standard.ThrottledRetryableChecker._THROTTLED_ERROR_CODES
services = set()
for service in session.get_available_services():
    for shape in session.get_service_model(service).error_shapes:
        error = shape.metadata.get("error", {})
        if error.get("httpStatusCode") == 429 and "retryable" not in shape.metadata and shape.error_code not in known:
            services.add(service)
print(f"{len(services)} services declare such a 429: {', '.join(sorted(services)[:8])} ...")
raise SystemExit(
    seen != {"CallRateLimitExceededException": [1, 1, 1, 2], "ThrottlingException": [2] * 4, "NeverHeardOfException": [2] * 4}
    or "imagebuilder" not in services
)
P
venv/bin/python try.py
