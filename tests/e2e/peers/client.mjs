// The requests of test_real_peers.py, sent by what Node's users use: fetch, axios, node:http with kept connections, ws.

import { Readable } from "node:stream";
import http from "node:http";

const [kind, base] = process.argv.slice(2);
const body = Buffer.alloc(100_000, "b");

function report(step, status, received) {
  const shown = step === "large" ? String(received.length) : received.length ? JSON.parse(received) : null;
  console.log(JSON.stringify({ step, status, body: shown }));
}

const senders = {
  async fetch(method, path, content, isChunked) {
    const sent = isChunked ? { body: Readable.toWeb(Readable.from([content])), duplex: "half" } : { body: content };
    const response = await fetch(base + path, { method, ...sent });
    return [response.status, Buffer.from(await response.arrayBuffer())];
  },

  async axios(method, path, content, isChunked) {
    const { default: axios } = await import("axios");
    const response = await axios.request({
      method,
      url: base + path,
      data: isChunked ? Readable.from([content]) : content,
      responseType: "arraybuffer",
      validateStatus: () => true,
    });
    return [response.status, Buffer.from(response.data)];
  },

  http(method, path, content, isChunked) {
    return new Promise((resolve, reject) => {
      const headers = content && !isChunked ? { "Content-Length": content.length } : {};
      const request = http.request(base + path, { method, headers, agent }, (response) => {
        const pieces = [];
        response.on("data", (piece) => pieces.push(piece));
        response.on("end", () => resolve([response.statusCode, Buffer.concat(pieces)]));
        response.on("error", reject);
      });
      request.on("error", reject);
      request.end(content);
    });
  },
};

const agent = new http.Agent({ keepAlive: true, maxSockets: 4 });

async function requests(send) {
  for (let number = 0; number < 5; number++) {
    report("get", ...(await send("GET", `/echo?n=${number}`)));
  }
  report("post", ...(await send("POST", "/echo", body)));
  report("chunked", ...(await send("POST", "/echo", body, true)));
  report("put", ...(await send("PUT", "/echo", Buffer.from("small"))));
  report("delete", ...(await send("DELETE", "/echo")));
  report("head", ...(await send("HEAD", "/echo")));
  report("large", ...(await send("GET", "/large")));
  const together = Array.from({ length: 20 }, (_, number) => send("GET", `/echo?n=${number}`));
  for (const [status, received] of await Promise.all(together)) {
    report("together", status, received);
  }
}

async function webSocket() {
  const { WebSocket } = await import("ws");
  const socket = new WebSocket(`${base}/socket`);
  let messages = 0;
  socket.on("message", (data) => {
    report("message", 101, data);
    messages += 1;
    if (messages === 3) {
      socket.close(1000, "done");
    } else {
      socket.send(`"${messages}"`);
    }
  });
  await new Promise((resolve, reject) => {
    socket.on("error", reject);
    socket.on("close", (code) => {
      report("closed", code, "");
      resolve();
    });
  });
}

await (kind === "websocket" ? webSocket() : requests(senders[kind]));
agent.destroy();
