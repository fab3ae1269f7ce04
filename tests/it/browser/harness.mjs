// Runs clients/fanwire.js in a page or in Node.js as the test says. A room has one connection to the test: orders come, and all
// events go back.

export function open(orders, Fanwire, WebSocket) {
  const control = new WebSocket(orders);
  const report = (facts) => control.send(JSON.stringify(facts));
  let room;
  const acts = {
    follow({ url, tokens, ...options }) {
      const token = tokens && (() => tokens.shift());
      room = new Fanwire(url, { ...options, token, WebSocket });
      for (const type of ["open", "message", "lost", "down", "close"]) {
        room.addEventListener(type, (event) => {
          const { data, lost, at, code, reason, pause, unsent } = event;
          const bytes = data instanceof ArrayBuffer ? [...new Uint8Array(data)] : undefined;
          report({ type, text: bytes ? undefined : data, bytes, lost, at, code, reason, pause, unsent });
        });
      }
    },
    send({ text }) { report({ type: "sent", taken: room.send(text), state: room.state }); },
    // The network is back, or somebody looks at the page.
    wake() { globalThis.dispatchEvent(new Event("online")); },
    look() { globalThis.document?.dispatchEvent(new Event("visibilitychange")) ?? acts.wake(); },
    // From now on, time that the client waits for so long passes at once.
    hasten({ ms }) {
      const { setTimeout } = globalThis;
      globalThis.setTimeout = (act, wait) => setTimeout(act, wait === ms ? 0 : wait);
    },
    close() { room.close(); },
    source({ url }) { listen(new EventSource(url), report); },
  };
  control.onmessage = ({ data }) => {
    const { act, ...order } = JSON.parse(data);
    acts[act](order);
  };
}

// Server-sent events, which a browser resumes by itself.
function listen(source, report) {
  const tell = (type) => (event) => report({ type, text: event.data, id: event.lastEventId });
  source.onopen = tell("open");
  source.onmessage = tell("message");
  source.onerror = () => report({ type: "down", isOver: source.readyState === EventSource.CLOSED });
  source.addEventListener("fanwire", tell("words"));
}
