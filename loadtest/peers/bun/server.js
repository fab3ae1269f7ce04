// A relay on Bun's WebSocket server, which is µWebSockets: each message reaches all on its path, the sender included.
// No limit that would drop anybody. No compression, unless the first argument names Bun's compressor: `shared` or `dedicated`.
const compress = process.argv[2];
const { PORT, TLS_CERTIFICATE, TLS_KEY } = process.env;
const server = Bun.serve({
  hostname: "127.0.0.1",
  port: Number(PORT),
  // Both sides agree on TLS 1.3, the newest version that both know.
  tls: TLS_CERTIFICATE ? { cert: Bun.file(TLS_CERTIFICATE), key: Bun.file(TLS_KEY) } : undefined,
  fetch(request, server) {
    const topic = new URL(request.url).pathname;
    if (server.upgrade(request, { data: { topic } })) return undefined;
    return new Response("WebSocket only", { status: 426 });
  },
  websocket: {
    perMessageDeflate: compress ? { compress, decompress: "shared" } : false,
    maxPayloadLength: 16 << 20,
    backpressureLimit: 1 << 30,
    closeOnBackpressureLimit: false,
    idleTimeout: 0,
    sendPings: false,
    open(socket) {
      socket.subscribe(socket.data.topic);
    },
    // Unlike the socket's publish, the server's includes the sender.
    message(socket, message) {
      server.publish(socket.data.topic, message, compress !== undefined);
    },
  },
});
console.log(`ready 127.0.0.1:${server.port}`);
