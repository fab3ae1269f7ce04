"""The same as receive.js, with the library `websockets`."""

import asyncio, random, re, sys
from websockets.asyncio.client import connect


def message(number):
    if number % 10 == 9:
        return str(number)
    text = f'{{"event":"trade","number":{number},"price":"{number * 7919 % 100003}","é":"€😀"}}'
    return text * (1200 if number % 97 == 5 else 1 + number % 40)


async def receive(url, joins, seed, may_miss):
    draw = random.Random(seed)
    checked = 0
    for join in range(joins):
        compressed = draw.randrange(3) > 0
        # Without a limit on what waits, the end of the connection is not waited for behind it.
        socket = await connect(url, compression="deflate" if compressed else None, max_size=None, max_queue=None)
        names = [extension.name for extension in socket.protocol.extensions]
        assert names == (["permessage-deflate"] if compressed else []), names
        next = None
        for _ in range(1 + draw.randrange(120)):
            data = await socket.recv()
            text = data.decode() if isinstance(data, bytes) else data
            number = int(re.search(r"\d+", text)[0])
            is_next = next is None or number == next or (may_miss and number > next)
            assert is_next and text == message(number), f"join {join}, compressed: {compressed}: {number} instead of {next}: {text[:200]}"
            assert isinstance(data, bytes) == (number % 3 == 0), number
            next = number + 1
            checked += 1
        if draw.randrange(2):
            await socket.close()
        else:
            socket.transport.abort()
    print(f"checked {checked}")


asyncio.run(receive(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "may-miss"))
