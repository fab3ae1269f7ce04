// Arguments: the URL for orders, the number of rooms, and the folder of the package `ws`.
import { pathToFileURL } from "node:url";

const [orders, rooms, ws] = process.argv.slice(2);
const { WebSocket } = await import(pathToFileURL(`${ws}/wrapper.mjs`));
const { Fanwire } = await import("../../../clients/fanwire.js");
const { open } = await import("./harness.mjs");
// Node.js has neither such events nor such a store of its own.
const kept = new Map();
globalThis.sessionStorage = { getItem: (key) => kept.get(key) ?? null, setItem: (key, value) => kept.set(key, value) };
const events = new EventTarget();
globalThis.addEventListener = events.addEventListener.bind(events);
globalThis.dispatchEvent = events.dispatchEvent.bind(events);
for (let n = 0; n < Number(rooms); n += 1) open(orders, Fanwire, WebSocket);
