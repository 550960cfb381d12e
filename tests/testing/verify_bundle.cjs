// Verifies a Sigstore bundle with a public key: node verify_bundle.cjs BUNDLE KEY. Prints "verified", or throws.
// No authority is trusted: only the key counts, and nothing is fetched.
"use strict";
const crypto = require("crypto");
const fs = require("fs");
const { bundleFromJSON } = require("@sigstore/bundle");
const { Verifier, toSignedEntity, toTrustMaterial } = require("@sigstore/verify");

const [bundlePath, keyPath] = process.argv.slice(2);
const publicKey = crypto.createPublicKey(fs.readFileSync(keyPath));
const known = crypto.createHash("sha256").update(publicKey.export({ type: "spki", format: "der" })).digest("base64");
const nobody = { tlogs: [], certificateAuthorities: [], ctlogs: [], timestampAuthorities: [] };
const trust = toTrustMaterial(nobody, (hint) => {
  if (hint !== known) throw new Error(`the bundle names another key: ${hint}`);
  return { publicKey, validFor: () => true };
});
const bundle = bundleFromJSON(JSON.parse(fs.readFileSync(bundlePath)));
new Verifier(trust, { tlogThreshold: 0, ctlogThreshold: 0, tsaThreshold: 0 }).verify(toSignedEntity(bundle));
console.log("verified");
