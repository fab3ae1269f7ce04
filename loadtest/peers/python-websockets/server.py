"""A relay on Python's websockets: each message reaches all on its path, the sender included.

No compression, no pings, no limit that would drop anybody. It runs on uvloop, the faster event loop, if that is installed.
"""

import asyncio
import collections
import os
import ssl

from websockets.asyncio.server import broadcast, serve

try:
    from uvloop import run
except ImportError:
    from asyncio import run

members_by_path = collections.defaultdict(set)


async def relay(connection):
    members = members_by_path[connection.request.path]
    members.add(connection)
    try:
        async for message in connection:
            broadcast(members, message)
    finally:
        members.discard(connection)


def configuration():
    """The configuration of TLS, or None without a certificate."""
    if "TLS_CERTIFICATE" not in os.environ:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(os.environ["TLS_CERTIFICATE"], os.environ["TLS_KEY"])
    return context


async def main():
    port = int(os.environ["PORT"])
    limits = {"max_size": 16 << 20, "max_queue": 1024, "write_limit": 1 << 30}
    quick = {"compression": None, "ping_interval": None, "backlog": 4096, "server_header": None, "ssl": configuration()}
    async with serve(relay, "127.0.0.1", port, **limits, **quick) as server:
        port = server.sockets[0].getsockname()[1]
        print(f"ready 127.0.0.1:{port}", flush=True)
        await asyncio.get_running_loop().create_future()


run(main())
