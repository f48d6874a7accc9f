// npm's oidc-provider as an authorization server, with an API beside it that takes its tokens.
//
// Commands on standard input, a line each: `secret TEXT` gives all clients another secret, `revoke` ends all tokens.

import { once } from "node:events";
import fs from "node:fs";
import http from "node:http";
import https from "node:https";
import readline from "node:readline";

import { Provider } from "oidc-provider";

const settings = JSON.parse(process.argv[2]);
const clients = new Map();
const stored = new Map();
let issued = 0;

// The clients live here, so that their secrets can change while it runs.
class Adapter {
  constructor(name) {
    this.name = name;
  }

  async find(id) {
    return this.name === "Client" ? clients.get(id) : stored.get(`${this.name}:${id}`);
  }

  async upsert(id, payload) {
    issued += this.name === "ClientCredentials" ? 1 : 0;
    stored.set(`${this.name}:${id}`, payload);
  }

  async destroy(id) {
    stored.delete(`${this.name}:${id}`);
  }

  async consume() {}

  async revokeByGrantId() {}
}

for (const client of settings.clients) {
  clients.set(client.client_id, { grant_types: ["client_credentials"], redirect_uris: [], response_types: [], ...client });
}

const tls = settings.certificate
  ? {
      cert: fs.readFileSync(settings.certificate),
      key: fs.readFileSync(settings.certificate),
      ca: fs.readFileSync(settings.authority),
      requestCert: true,
      rejectUnauthorized: false,
    }
  : null;
const server = tls ? https.createServer(tls) : http.createServer();
server.listen(0, "127.0.0.1");
await once(server, "listening");
const issuer = `${tls ? "https" : "http"}://127.0.0.1:${server.address().port}`;

const provider = new Provider(issuer, {
  adapter: Adapter,
  scopes: ["read"],
  clientAuthMethods: [
    "client_secret_basic",
    "client_secret_post",
    "client_secret_jwt",
    "private_key_jwt",
    "tls_client_auth",
    "self_signed_tls_client_auth",
  ],
  enabledJWA: { clientAuthSigningAlgValues: ["HS256", "RS256", "PS256", "ES256", "EdDSA"] },
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    introspection: { enabled: true },
    revocation: { enabled: true },
    mTLS: {
      enabled: true,
      tlsClientAuth: true,
      selfSignedTlsClientAuth: true,
      getCertificate: (context) => context.req.socket.getPeerX509Certificate?.(),
      certificateAuthorized: (context) => context.req.socket.authorized,
      certificateSubjectMatches: (context, property, expected) =>
        property === "tls_client_auth_subject_dn" && context.req.socket.getPeerX509Certificate().subject === expected,
    },
  },
  ttl: { ClientCredentials: settings.lifetime },
});
provider.on("server_error", (_, error) => console.error(error));
server.on("request", provider.callback());

const api = http.createServer(async (request, response) => {
  const [scheme, token] = (request.headers.authorization ?? "").split(" ");
  const found = scheme === "Bearer" && token ? await provider.ClientCredentials.find(token) : undefined;
  if (found && !found.isExpired) {
    response.end(JSON.stringify({ client: found.clientId, scope: found.scope, token }));
  } else {
    response.writeHead(401, { "WWW-Authenticate": 'Bearer error="invalid_token"' });
    response.end();
  }
});
api.listen(0, "127.0.0.1");
await once(api, "listening");
console.log(JSON.stringify({ issuer, api: `http://127.0.0.1:${api.address().port}` }));

for await (const line of readline.createInterface({ input: process.stdin })) {
  const [command, argument] = line.split(" ");
  if (command === "secret") {
    for (const client of clients.values()) {
      client.client_secret = argument;
    }
  } else if (command === "revoke") {
    stored.clear();
  }
  console.log(JSON.stringify({ issued }));
}
process.exit();
