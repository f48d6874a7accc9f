// An API in Node. With ws it has a WebSocket beside it: every request with an Upgrade line then goes to that.

import { createHash } from "node:crypto";
import http from "node:http";

const large = Buffer.alloc(1024 * 1024, "x");

const server = http.createServer((request, response) => {
  const digest = createHash("sha256");
  let length = 0;
  request.on("data", (piece) => {
    length += piece.length;
    digest.update(piece);
  });
  request.on("end", () => {
    if (request.url.endsWith("/large")) {
      response.end(large);
      return;
    }
    const { authorization } = request.headers;
    const told = { method: request.method, url: request.url, authorization, length, sha256: digest.digest("hex") };
    response.setHeader("Content-Type", "application/json");
    response.end(JSON.stringify(told));
  });
});

if (process.argv[2] === "with-ws") {
  const { WebSocketServer } = await import("ws");
  new WebSocketServer({ server }).on("connection", (socket, request) => {
    socket.send(JSON.stringify({ url: request.url, authorization: request.headers.authorization }));
    socket.on("message", (data) => socket.send(data.toString()));
  });
}

server.listen(0, "127.0.0.1", () => console.log(server.address().port));
process.stdin.resume().on("end", () => process.exit());
