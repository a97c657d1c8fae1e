// Makes tokens.json: tokens, public keys and a JWKS of another implementation, Node's. `node make.mjs > tokens.json`.
import { createHmac, generateKeyPairSync, sign, constants, randomBytes } from "node:crypto";

const encode = (value) => Buffer.from(typeof value === "string" ? value : JSON.stringify(value)).toString("base64url");
const claims = { sub: "ann", iss: "https://login.example", aud: ["chat", "mail"], iat: 1_700_000_000, exp: 4_000_000_000, roles: ["admin"] };
const tokens = {};
const pems = {};
const keys = [];

function token(alg, kid, signature) {
  const signed = `${encode({ alg, typ: "JWT", kid })}.${encode(claims)}`;
  tokens[alg] = `${signed}.${signature(Buffer.from(signed)).toString("base64url")}`;
}

for (const bits of [256, 384, 512]) {
  const secret = randomBytes(64);
  keys.push({ kty: "oct", k: secret.toString("base64url"), kid: `h${bits}`, alg: `HS${bits}` });
  token(`HS${bits}`, `h${bits}`, (data) => createHmac(`sha${bits}`, secret).update(data).digest());
}
for (const bits of [256, 384, 512]) {
  for (const [letter, padding] of [["R", constants.RSA_PKCS1_PADDING], ["P", constants.RSA_PKCS1_PSS_PADDING]]) {
    const { publicKey, privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
    const alg = `${letter}S${bits}`;
    keys.push({ ...publicKey.export({ format: "jwk" }), kid: alg, alg, use: "sig" });
    pems[alg] = publicKey.export({ format: "pem", type: "spki" });
    token(alg, alg, (data) => sign(`sha${bits}`, data, { key: privateKey, padding, saltLength: bits / 8 }));
  }
}
for (const [alg, namedCurve, hash] of [["ES256", "P-256", "sha256"], ["ES384", "P-384", "sha384"]]) {
  const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve });
  keys.push({ ...publicKey.export({ format: "jwk" }), kid: alg });
  pems[alg] = publicKey.export({ format: "pem", type: "spki" });
  token(alg, alg, (data) => sign(hash, data, { key: privateKey, dsaEncoding: "ieee-p1363" }));
}
const { publicKey, privateKey } = generateKeyPairSync("ed25519");
keys.push({ ...publicKey.export({ format: "jwk" }), kid: "EdDSA" });
pems.EdDSA = publicKey.export({ format: "pem", type: "spki" });
token("EdDSA", "EdDSA", (data) => sign(null, data, privateKey));
console.log(JSON.stringify({ tokens, pems, jwks: { keys } }, null, 1));
