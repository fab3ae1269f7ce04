// The page to try a topic. It uses the client above, and shows what a message says as text, never as markup.

const MOST_ROWS = 500;
const MOST_CHARACTERS = 2000;
const MEMBERS_EVERY_MS = 2000;

const element = (id) => document.getElementById(id);
const show = (id, text) => { element(id).textContent = text; };
const shown = { received: 0, lost: 0, unknown: false, reconnects: 0 };
let room;
let askedFor = 0;
let rows = []; // that wait for the next frame of the screen

function connect(since) {
  const url = new URL(location.pathname + location.search, location.href);
  if (since) url.searchParams.set("since", since);
  room = new Fanwire(url);
  let hasBeenOpen = false;
  room.addEventListener("open", ({ at }) => {
    if (hasBeenOpen) shown.reconnects += 1;
    hasBeenOpen = true;
    setState("open", "connected");
    addRow("turn", "connected");
    note(at ? "" : "The relay keeps no messages here (history.max_age is 0s): what is sent while you are away is lost.");
    askForMembers();
  });
  room.addEventListener("message", ({ data }) => {
    shown.received += 1;
    if (typeof data === "string") addRow("text", shortened(data));
    else addRow("binary", hexadecimal(new Uint8Array(data)));
  });
  room.addEventListener("lost", ({ lost }) => {
    if (lost === null) shown.unknown = true;
    else shown.lost += lost;
    addRow("gap", lost === null ? "messages may be lost: nobody knows how many" : `lost: ${lost}`);
  });
  room.addEventListener("down", ({ code, reason, pause }) => {
    const why = reason ? `${code}: ${reason}` : code;
    setState("waiting", `comes back in ${(pause / 1000).toFixed(1)} s (${why})`);
    addRow("turn", `disconnected (${why})`);
  });
  room.addEventListener("close", ({ code, reason }) => {
    const why = code === 1000 ? "" : ` (${code}: ${reason})`;
    setState("closed", `disconnected${why}`);
    addRow("turn", `disconnected${why}`);
  });
}

function setState(state, text) {
  element("state").dataset.state = state;
  show("state", text);
  show("toggle", state === "closed" ? "Connect" : "Disconnect");
  draw();
}

function note(text) {
  show("note", text);
  element("note").hidden = !text;
}

function shortened(text) {
  return text.length > MOST_CHARACTERS ? `${text.slice(0, MOST_CHARACTERS)}… (${text.length} characters)` : text;
}

function hexadecimal(bytes) {
  const digits = [...bytes.subarray(0, 32)].map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
  return bytes.length > 32 ? `${digits} … (${bytes.length} bytes)` : digits;
}

// Rows are drawn once a frame, so a busy topic does not keep the page from anything else.
function addRow(kind, text) {
  if (rows.length === 0) requestAnimationFrame(draw);
  rows.push({ kind, text, time: new Date().toLocaleTimeString() });
  // The screen of a page in the background has no frames.
  if (rows.length > 2 * MOST_ROWS) rows = rows.slice(-MOST_ROWS);
}

function draw() {
  const log = element("log");
  const followsEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
  for (const { kind, text, time } of rows.splice(0).slice(-MOST_ROWS)) {
    const [row, when, what] = ["li", "time", "span"].map((name) => document.createElement(name));
    row.className = kind;
    when.textContent = time;
    what.textContent = text;
    row.append(when, what);
    log.append(row);
  }
  while (log.childElementCount > MOST_ROWS) log.firstElementChild.remove();
  if (followsEnd) log.scrollTop = log.scrollHeight;
  show("received", shown.received);
  show("position", room.at ?? "–");
  show("lost", shown.unknown ? `${shown.lost} and more` : shown.lost);
  show("reconnects", shown.reconnects);
}

// A relay that does not describe its topics is not asked again.
async function askForMembers() {
  const turn = (askedFor += 1);
  while (turn === askedFor && room.state === "open") {
    const answer = await fetch(location.href, { headers: { Accept: "application/json" } }).catch(() => null);
    if (!answer?.ok) return;
    const { members } = await answer.json();
    show("members", members);
    element("crowd").hidden = false;
    await new Promise((resolve) => { setTimeout(resolve, MEMBERS_EVERY_MS); });
  }
}

element("toggle").addEventListener("click", () => {
  if (room.state === "closed") connect(room.at);
  else room.close();
});

element("form").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = element("text");
  if (!text.value) return;
  if (room.send(text.value)) text.value = "";
  else note(room.state === "closed" ? "You are disconnected." : "Too much is waiting to be sent. Try again later.");
});

let topic = location.pathname;
try {
  topic = decodeURIComponent(topic);
} catch {
  // It stays as it was sent.
}
show("topic", topic);
document.title = `${topic} · fanwire`;
connect();
