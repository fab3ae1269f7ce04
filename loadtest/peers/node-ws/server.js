"use strict";
// A relay on Node's ws: each message reaches all on its path, the sender included. No limit that would drop anybody. No
// compression, unless the first argument is `deflate`. All frames of a turn of the event loop leave a socket in one writev, by Node's own cork. With ws alone,
// each message would be a system call of its own.
const { readFileSync } = require("node:fs");
const { createServer } = require("node:https");
const { WebSocketServer } = require("ws");

const { PORT, TLS_CERTIFICATE, TLS_KEY } = process.env;

const topics = new Map();
const corked = [];

function uncork() {
  for (const member of corked.splice(0)) {
    member.isCorked = false;
    member.tcp.uncork();
  }
}

function send(member, data, isBinary) {
  if (!member.isCorked) {
    if (corked.length === 0) setImmediate(uncork);
    member.isCorked = true;
    member.tcp.cork();
    corked.push(member);
  }
  member.socket.send(data, { binary: isBinary });
}

const place = { host: "127.0.0.1", port: Number(PORT), backlog: 4096 };
const secure = TLS_CERTIFICATE
  ? createServer({ cert: readFileSync(TLS_CERTIFICATE), key: readFileSync(TLS_KEY), minVersion: "TLSv1.3" })
  : undefined;

const server = new WebSocketServer({
  ...(secure ? { server: secure } : place),
  perMessageDeflate: process.argv[2] === "deflate" && { threshold: 0, zlibDeflateOptions: { level: 1 } },
  clientTracking: false,
  maxPayload: 16 << 20,
});

server.on("connection", (socket, request) => {
  const members = topics.get(request.url) ?? new Set();
  topics.set(request.url, members);
  const member = { socket, tcp: request.socket, isCorked: false };
  member.tcp.setNoDelay(true);
  members.add(member);
  socket.on("message", (data, isBinary) => {
    for (const each of members) send(each, data, isBinary);
  });
  socket.on("close", () => members.delete(member));
  socket.on("error", () => {});
});

server.on("listening", () => console.log(`ready 127.0.0.1:${server.address().port}`));
secure?.listen(place);
