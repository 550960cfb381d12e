// Runs the calls that standard input names with the JavaScript SDK, in one process.
//
//     {"url", "calls": [...], "known": {...}}   ->   [{"answer"} or {"code", "message"}, ...]
const { createRequire } = require("node:module");
const sdk = createRequire(process.argv[2] + "/")("@aws-sdk/client-imagebuilder");

function resolved(value, known) {
  if (typeof value === "string" && value.startsWith("@")) {
    const [name, ...rest] = value.slice(1).split(":");
    return [known[name], ...rest].join(":");
  }
  if (Array.isArray(value)) return value.map((item) => resolved(item, known));
  if (value !== null && typeof value === "object") {
    const entries = Object.entries(value).map(([key, item]) => {
      const found = resolved(item, known);
      return [key, key === "policy" && typeof found === "object" ? JSON.stringify(found) : found];
    });
    return Object.fromEntries(entries);
  }
  return value;
}

async function ask(client, item, known) {
  const members = resolved(item.members, known);
  if (item.pages) {
    const size = item.operation === "ListImageScanFindingAggregations" ? undefined : item.size;
    const entries = [];
    const pages = sdk[`paginate${item.operation}`]({ client, pageSize: size }, members);
    for await (const page of pages) entries.push(...(page[item.pages] ?? []));
    return { [item.pages]: entries };
  }
  const { $metadata, ...answer } = await client.send(new sdk[`${item.operation}Command`](members));
  for (const [name, path] of Object.entries(item.keep)) {
    known[name] = path.split(".").reduce((found, part) => found[part], answer);
  }
  return answer;
}

async function main() {
  const chunks = [];
  for await (const chunk of process.stdin) chunks.push(chunk);
  const { url, calls, known } = JSON.parse(Buffer.concat(chunks).toString());
  const client = new sdk.ImagebuilderClient({ endpoint: url, maxAttempts: 1 });
  const answers = [];
  for (const item of calls) {
    try {
      answers.push({ answer: await ask(client, item, known) });
    } catch (error) {
      if (!(error instanceof sdk.ImagebuilderServiceException)) throw error;
      answers.push({ code: error.name, message: error.message });
    }
  }
  process.stdout.write(JSON.stringify(answers));
}

main();
