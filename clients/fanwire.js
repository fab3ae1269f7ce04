// A client of fanwire that comes back by itself and goes on where it was, or says how much is lost. See docs/clients.md.
const PROTOCOLS = ["fanwire.v1", "fanwire"]; // for a topic with a history, and for one without
const FINAL = [1002, 1007, 1008, 1009]; // the relay would say the same again
const TROUBLED = [1011, 1013]; // the relay is short of something, so the pauses go on growing
const [CONNECT_MS, ANSWER_MS] = [10_000, 5_000]; // the relay's time for its first words, and for an answer
const QUIET_MS = 30_000; // after so long without a message, it is asked whether it is there
const [FIRST_PAUSE_MS, LONGEST_PAUSE_MS] = [500, 20_000];
const bytesOf = (data) => 8 + (data.byteLength ?? data.size ?? 3 * data.length); // at most, and something for an empty one
const placeOf = (at) => at && { epoch: at.split("-")[0], number: Number(at.split("-")[1]) };

export class Fanwire extends EventTarget {
  #url; #options; #token; #timer; #state = "connecting"; #attempts = 0; #queue = []; #queued = 0; #life = new AbortController();
  #line = null; // the one connection that counts
  #place = null; // where the stream goes on: null before the first stream, undefined if nobody counts

  constructor(url, options = {}) {
    super();
    this.#options = { WebSocket: globalThis.WebSocket, queueBytes: 1 << 20, ...options };
    if (!this.#options.WebSocket) throw new TypeError("there is no WebSocket here: hand one in, as { WebSocket }");
    this.#url = new URL(url, globalThis.location?.href);
    this.#url.protocol = this.#url.protocol.replace("http", "ws");
    if (options.key) this.#options.storage ??= globalThis.sessionStorage;
    this.#place = placeOf(this.#options.storage?.getItem(options.key) ?? this.#url.searchParams.get("since"));
    const { signal } = this.#life;
    globalThis.addEventListener?.("online", () => this.#wake(), { signal });
    globalThis.document?.addEventListener("visibilitychange", () => document.hidden || this.#wake(), { signal });
    this.#connect();
  }

  get state() { return this.#state; }
  get at() { return this.#place ? `${this.#place.epoch}-${this.#place.number}` : null; }

  send(data) {
    const socket = this.#state === "open" && this.#line.socket.readyState === 1 ? this.#line.socket : null;
    const waiting = (socket ? socket.bufferedAmount : this.#queued) + bytesOf(data);
    if (this.#state === "closed" || waiting > this.#options.queueBytes) return false;
    if (socket) socket.send(data);
    else [this.#queued] = [waiting, this.#queue.push(data)];
    return true;
  }

  close(code = 1000, reason = "") {
    if (this.#state === "closed") return;
    this.#line?.socket?.close(code, reason);
    [this.#line, this.#state] = [null, "closed"];
    clearTimeout(this.#timer);
    this.#life.abort();
    this.#tell("close", { code, reason, unsent: this.#queue.length });
  }

  async #connect() {
    const line = { socket: null, speaks: false };
    const ifCurrent = (act) => (event) => line === this.#line && act(event);
    [this.#line, this.#state] = [line, "connecting"];
    this.#after(CONNECT_MS, () => this.#state === "open" || this.#lose({ reason: "no answer in time" }));
    try {
      this.#token ??= await this.#options.token?.();
      if (line !== this.#line) return;
      if (this.at) this.#url.searchParams.set("since", this.at);
      const offer = this.#token ? [...PROTOCOLS, `bearer.${this.#token}`] : PROTOCOLS;
      const socket = (line.socket = new this.#options.WebSocket(this.#url.href, offer));
      socket.binaryType = "arraybuffer";
      socket.onopen = ifCurrent(() => (line.speaks = socket.protocol === PROTOCOLS[0]) || this.#begin({ lost: null }));
      socket.onmessage = ifCurrent(({ data }) => this.#hear(data));
      socket.onclose = ifCurrent((event) => this.#lose(event));
      socket.onerror = () => {}; // its close follows
    } catch (error) {
      ifCurrent(() => this.#lose({ reason: String(error) }))();
    }
  }

  #hear(data) {
    if (this.#line.speaks) this.#after(QUIET_MS, () => this.#ask());
    if (this.#line.speaks && typeof data === "string" && data[0] === "\0") return this.#begin(JSON.parse(data.slice(1)));
    if (this.#place) this.#place.number += 1;
    this.#tell("message", { data, at: this.at });
  }

  #begin({ at, lost = 0 }) { // the stream goes on there, and so many messages before it are gone
    const before = this.#place;
    this.#place = placeOf(at);
    if (this.#state !== "open") {
      for (const data of this.#queue.splice(0)) this.#line.socket.send(data);
      [this.#state, this.#queued] = ["open", 0];
      this.#tell("open", { at: this.at });
    }
    if (before !== null && (lost !== 0 || !before)) this.#tell("lost", { lost: before ? lost : null, at: this.at });
  }

  #ask() {
    this.#line.socket.send("\0");
    this.#after(ANSWER_MS, () => this.#lose({ reason: "the connection is dead" }));
  }

  #wake() {
    if (this.#state === "open" && this.#line.speaks) this.#ask();
    if (this.#state === "waiting" && this.#attempts > 0) this.#connect(); // not if the relay has named the pause
  }

  #lose({ code = 1006, reason }) {
    const [wasOpen, socket] = [this.#state === "open", this.#line.socket];
    this.#line = null; // a dead network may keep the socket for long, but nobody listens to it any more
    socket?.close();
    if (FINAL.includes(code)) return this.close(code, reason);
    if (code === 3000 || !wasOpen) this.#token = undefined; // it has expired, or perhaps it was not taken
    if (wasOpen && !TROUBLED.includes(code)) this.#attempts = 0;
    const asked = /; retry (\d{1,9})$/.exec(reason)?.[1]; // or a time at random, so that a crowd does not come back at once
    const pause = Number(asked ?? Math.random() * Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** this.#attempts++));
    this.#state = "waiting";
    this.#after(pause, () => this.#connect());
    this.#tell("down", { code, reason, pause });
  }

  #after(ms, act) { clearTimeout(this.#timer); this.#timer = setTimeout(act, ms); }

  #tell(type, facts) {
    this.dispatchEvent(Object.assign(new Event(type), facts));
    if (this.at) this.#options.storage?.setItem(this.#options.key, this.at); // once it has been dealt with
  }
}
