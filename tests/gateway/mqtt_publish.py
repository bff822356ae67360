"""Publishes messages over MQTT 3.1.1 with QoS 1, one after another: returns when the broker has acknowledged them."""

import os
import socket
import struct


def _text(value):
    data = value.encode()
    return struct.pack("!H", len(data)) + data


def _packet(kind, body):
    length, rest = b"", len(body)
    while True:
        rest, digit = divmod(rest, 128) if rest >= 128 else (0, rest)
        length += bytes([digit | (0x80 if rest else 0)])
        if not rest:
            return bytes([kind]) + length + body


def _expect(stream, kind, size):
    data = stream.read(2 + size)
    if len(data) < 2 + size or data[0] != kind:
        raise ConnectionError(f"the broker answered {data!r}")
    return data[2:]


def publish(port, topic, *payloads, host="127.0.0.1"):
    """Errors: OSError where the broker is not there or refuses."""
    with socket.create_connection((host, port), timeout=10) as broker, broker.makefile("rb") as answers:
        name = f"test-{os.getpid()}-{os.urandom(4).hex()}"
        broker.sendall(_packet(0x10, _text("MQTT") + bytes([4, 2]) + struct.pack("!H", 30) + _text(name)))
        accepted = _expect(answers, 0x20, 2)
        if accepted[1] != 0:
            raise ConnectionError(f"the broker refused the connection: {accepted[1]}")
        for payload in payloads:
            broker.sendall(_packet(0x32, _text(topic) + struct.pack("!H", 1) + payload.encode()))
            _expect(answers, 0x40, 2)
        broker.sendall(bytes([0xE0, 0]))
