/** What a message's event has. */
export interface FanwireMessageEvent extends Event {
  /** A text, or the bytes of a binary message. */
  readonly data: string | ArrayBuffer;
  /** The position behind this message, such as `k3J9aZpQ-17234`; null if the topic has no history. */
  readonly at: string | null;
}

/** The stream begins, or goes on. */
export interface FanwireOpenEvent extends Event {
  /** The position of the next message; null if the topic has no history. */
  readonly at: string | null;
}

/** Messages are gone for good. Load the state again, or show a gap. */
export interface FanwireLostEvent extends Event {
  /** How many; null if nobody knows. */
  readonly lost: number | null;
  /** The position behind the gap. */
  readonly at: string | null;
}

/** The connection is gone, and the client will come back. */
export interface FanwireDownEvent extends Event {
  /** The code of the Close, or 1006 if there was none. */
  readonly code: number;
  readonly reason: string;
  /** The milliseconds until the next attempt. */
  readonly pause: number;
}

/** The client has ended, and does not come back. */
export interface FanwireCloseEvent extends Event {
  readonly code: number;
  readonly reason: string;
  /** Messages of `send` that were still waiting for a connection. */
  readonly unsent: number;
}

export interface FanwireEventMap {
  open: FanwireOpenEvent;
  message: FanwireMessageEvent;
  lost: FanwireLostEvent;
  down: FanwireDownEvent;
  close: FanwireCloseEvent;
}

export interface FanwireOptions {
  /**
   * Called for a token before the first connection, when the relay says that the token has expired (3000), and after an attempt
   * that failed. The token travels as the subprotocol `bearer.TOKEN`.
   */
  token?: () => string | Promise<string>;
  /** The name under which the position is kept, so that the stream goes on after the page is loaded again. */
  key?: string;
  /** The place where it is kept; by default `sessionStorage`. */
  storage?: Pick<Storage, "getItem" | "setItem">;
  /** The most bytes that may wait to be sent; by default 1 MiB. A text counts as three bytes for each character. */
  queueBytes?: number;
  /** A WebSocket for places that have none, such as `ws` in Node.js 20. */
  WebSocket?: unknown;
}

/** A client of one topic that comes back by itself and goes on where it was, or says how much is lost. */
export class Fanwire extends EventTarget {
  /**
   * Connects. The URL may begin with `ws`, `wss`, `http` or `https`, and in a page it may be only a path. Its query may have
   * `since` or `last`.
   */
  constructor(url: string | URL, options?: FanwireOptions);

  readonly state: "connecting" | "open" | "waiting" | "closed";

  /** The position that the stream has reached; null if it is not known. */
  readonly at: string | null;

  /**
   * Sends a message, or keeps it until there is a connection. Returns false, and does neither, if too much is waiting or the client
   * has ended. A message that was on its way when a connection broke may be lost: if that matters, wait for it to come back.
   */
  send(data: string | ArrayBuffer | ArrayBufferView | Blob): boolean;

  /** Ends for good. */
  close(code?: number, reason?: string): void;

  addEventListener<K extends keyof FanwireEventMap>(
    type: K,
    listener: (event: FanwireEventMap[K]) => void,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
}
