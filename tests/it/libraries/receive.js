// Joins a topic, checks what comes, and leaves, again and again. A message says its number, and all of it follows from that.
// The same for every client in JavaScript: `connect` opens one, `leave` ends it.

const message = (number) => {
  if (number % 10 === 9) return String(number);
  const text = `{"event":"trade","number":${number},"price":"${number * 7919 % 100003}","é":"€😀"}`;
  return text.repeat(number % 97 === 5 ? 1200 : 1 + number % 40);
};

const receive = async ({ connect, leave, joins, seed, mayMiss }) => {
  let state = seed;
  const below = (range) => {
    state = (state * 1103515245 + 12345) % 2147483648;
    return Math.floor(state / 65536) % range;
  };
  let checked = 0;
  for (let join = 0; join < joins; join += 1) {
    const compressed = below(3) > 0;
    const wanted = 1 + below(120);
    const politely = below(2) === 0;
    await new Promise((resolve, reject) => {
      const socket = connect(compressed);
      socket.binaryType = 'arraybuffer';
      let next = -1;
      let left = wanted;
      socket.onmessage = ({ data }) => {
        if (left === 0) return;
        const isBinary = typeof data !== 'string';
        const text = isBinary ? new TextDecoder('utf-8', { fatal: true }).decode(data) : data;
        const number = Number(/\d+/.exec(text)[0]);
        const isNext = next < 0 || number === next || (mayMiss && number > next);
        if (!isNext || text !== message(number) || isBinary !== (number % 3 === 0)) {
          reject(new Error(`join ${join}, compressed: ${compressed}: ${number} instead of ${next}: ${text.slice(0, 200)}`));
        }
        next = number + 1;
        checked += 1;
        left -= 1;
        if (left === 0) leave(socket, politely);
      };
      socket.onclose = ({ code, reason }) =>
        left === 0 ? resolve() : reject(new Error(`join ${join}: closed with ${code} ${reason}`));
      socket.onerror = () => {};
    });
  }
  return `checked ${checked}`;
};
