#!/bin/sh
# uvloop 0.23.0 forgets pause_reading() when a protocol calls it in connection_made().
#
# On asyncio's own loop such a protocol receives nothing until it resumes. On uvloop is_reading() answers False just
# after the call, and then the data is delivered all the same: the transport starts to read when connection_made()
# returns. A server that pauses there to upgrade the connection with start_tls() in a task loses the client's first
# bytes now and then, and the client waits for ever.
#
# Needs: python3 with venv.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check uvloop==0.23.0 2>/dev/null
cat > paused.py <<'P'
import asyncio
import socket
import sys

import uvloop


class Paused(asyncio.Protocol):
    received = b""

    def connection_made(self, transport):
        transport.pause_reading()
        print(f"{sys.argv[1]}: is_reading() in connection_made after pause_reading(): {transport.is_reading()}")

    def data_received(self, data):
        Paused.received += data


async def main():
    server = await asyncio.get_running_loop().create_server(Paused, "127.0.0.1", 0)
    with socket.create_connection(server.sockets[0].getsockname()) as client:
        client.sendall(b"hello")
        await asyncio.sleep(1)
    server.close()
    print(f"{sys.argv[1]}: delivered to the paused protocol: {Paused.received!r}")


{"asyncio": asyncio, "uvloop": uvloop}[sys.argv[1]].run(main())
P
python3 --version
venv/bin/pip list --disable-pip-version-check 2>/dev/null | grep uvloop
for loop in asyncio uvloop; do venv/bin/python paused.py "$loop" | tee "$loop"; done
grep -q "paused protocol: b''" asyncio && grep -q "paused protocol: b'hello'" uvloop || { echo "that changed"; exit 1; }
grep -q "pause_reading(): False" uvloop || { echo "that changed"; exit 1; }
echo "uvloop delivers to a protocol that paused in connection_made, as described"
