"""HTTP itself, byte by byte: targets, methods, bodies, connections, and how all of it ends."""

import json
import os
import signal
import socket
import sqlite3
import sys
import threading
import urllib.parse

from demo import Demo, Stream, eventually, need, run

TOKEN = b"Host: x\r\nAuthorization: Bearer demo-token-of-acme\r\n"


def connected(demo, receive_buffer=None):
    where = urllib.parse.urlparse(demo.url)
    made = socket.socket()
    made.settimeout(10)
    if receive_buffer:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    made.connect((where.hostname, where.port))
    return made


def rest_of(connection):
    """What comes until the end of the connection."""
    got = b""
    while chunk := connection.recv(65536):
        got += chunk
    return got


def sent(demo, request):
    with connected(demo) as connection:
        connection.sendall(request)
        return rest_of(connection)


def status(demo, line, more=b""):
    answer = sent(demo, line + b" HTTP/1.1\r\nConnection: close\r\n" + TOKEN + more + b"\r\n")
    return int(answer.split(b" ", 2)[1]), answer


def events(demo):
    with open(demo.about["log"]) as log:
        return [json.loads(line) for line in log if line.endswith("\n")]


def targets(demo):
    assert status(demo, b"GET http://anybody/api/kpi")[0] == 200
    assert status(demo, b"GET http://anybody")[0] == 200
    for target in (b"?x", b"*", b"xapi/kpi", b"xstyle.css", b"http://anybody?x"):
        assert status(demo, b"GET " + target)[0] == 400, target
    assert status(demo, b"OPTIONS *")[0] == 405
    for target in (b"//api/kpi", b"/api//kpi", b"/api/kpi/", b"/api%2fkpi", b"/%00", b"/..%2fetc%2fpasswd",
                   b"/api/gateways/%ff/health", b"/api/gateways/\xff/health", b"/api/settlements/%0d%0aX-Injected:%20x.pdf"):
        code, answer = status(demo, b"GET " + target)
        assert code == 404 and b"X-Injected" not in answer, (target, answer)
    assert status(demo, b"GET /api/readings/u-1/9999/12")[0] == 200
    for target in (b"/api/readings/u-1/10000/1", b"/api/readings/u-1/1999/1", b"/api/readings//2025/12"):
        assert status(demo, b"GET " + target)[0] == 400, target


def a_segment_is_decoded(demo):
    with sqlite3.connect(demo.about["store"]) as database:
        one = database.execute("SELECT * FROM units WHERE tenant = 'acme' LIMIT 1")
        names = [each[0] for each in one.description]
        values = dict(zip(names, one.fetchone()))
        values["id"] = "u 1/\u00fc:{+}"
        database.execute("INSERT INTO units (%s) VALUES (%s)" % (", ".join(names), ", ".join("?" * len(names))),
                         [values[each] for each in names])
    database.close()
    path = "/api/readings/%s/2025/12" % urllib.parse.quote(values["id"], safe="+")
    assert demo.json(path, "acme")["value"]["unit"] == values["id"]
    assert demo.json(path, "acme")["source"] == "redis"
    assert demo.get(path, "globex")[0] == 404
    assert demo.json("/api/%6bpi", "acme")["value"]["units"] > 0


def methods(demo):
    for method in (b"HEAD", b"POST", b"DELETE"):
        code, answer = status(demo, method + b" /alarms/stream")
        assert code == 405 and b"\r\nAllow: GET\r\n" in answer, answer
    for path in (b"/", b"/api/stats", b"/nothing", b"/healthz"):
        # The body of a response to HEAD would be taken for the next response.
        answer = sent(demo, b"HEAD " + path + b" HTTP/1.1\r\n" + TOKEN + b"\r\nGET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n")
        head, _, second = answer.partition(b"\r\n\r\n")
        assert b"Content-Length: " in head and second.startswith(b"HTTP/1.1 200"), answer
    many = sent(demo, (b"GET /nothing HTTP/1.1\r\n\r\n" * 200) + b"GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n")
    assert many.count(b"HTTP/1.1 404") == 200 and many.count(b"HTTP/1.1 200") == 1


def scheme_in_any_case(demo):
    for scheme in ("bearer", "BEARER"):
        assert demo.get("/api/kpi", headers={"Authorization": scheme + " demo-token-of-acme"})[0] == 200


def too_large(demo):
    """The client that is refused reads why, whatever it still sends."""
    head = b"POST /api/properties HTTP/1.1\r\n" + TOKEN
    size = 4_000_000
    answer = sent(demo, head + b"Content-Length: %d\r\n\r\n" % size + b"x" * size)
    assert answer.startswith(b"HTTP/1.1 413"), answer
    chunk = b"8000\r\n" + b"x" * 0x8000 + b"\r\n"
    answer = sent(demo, head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 100 + b"0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413"), answer
    answer = sent(demo, b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: %s\r\n" % (i, b"y" * 100) for i in range(4000)) + b"\r\n")
    assert answer.startswith(b"HTTP/1.1 431"), answer
    most = json.dumps({"name": "x", "units": 1}).encode().ljust(64 * 1024)
    assert demo.get("/api/properties", "acme", method="POST", body=most)[0] == 201
    assert demo.get("/api/properties", "acme", method="POST", body=most + b" ")[0] == 413


def leave_to_send_the_body(demo):
    body = b'{"name":"x","units":1}'
    head = b"POST /api/properties HTTP/1.1\r\nConnection: close\r\nExpect: 100-continue\r\n" + TOKEN
    with connected(demo) as connection:
        connection.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body))
        assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        assert rest_of(connection).startswith(b"HTTP/1.1 201")
    answer = sent(demo, head + b"Content-Length: 70000\r\n\r\n")  # not asked for what is refused
    assert answer.startswith(b"HTTP/1.1 413"), answer


def a_silent_stream_is_kept_alive(demo):
    with Stream(demo, "acme") as quiet:
        assert "retry" in quiet.block()
        quiet.block()  # the comment that greets
        for _ in range(2):
            assert list(quiet.block()) == [""]  # a comment


def connections_have_a_bound(demo):
    open_ones = []
    while len(open_ones) < 8:
        one = connected(demo)
        one.sendall(b"GET /healthz HTTP/1.1\r\n\r\n")
        if one.recv(4000):
            open_ones.append(one)  # else one of the demo's own had not ended yet
        else:
            one.close()
    with connected(demo) as refused:
        assert refused.recv(1000) == b""
    open_ones.pop().close()

    def answered():
        try:
            return demo.get("/healthz")[0] == 200
        except OSError:
            return False

    eventually(answered, "there is room again")
    for each in open_ones:
        each.close()


def stalled(demo):
    """A stream whose client reads nothing, and that has more to send than the kernel takes."""
    slow = connected(demo, 4096)
    slow.sendall(b"GET /alarms/stream HTTP/1.1\r\n" + TOKEN + b"\r\n")
    eventually(lambda: demo.metric("gateway_followers", 1) == 1, "it follows")
    demo.publish_alarms("acme", "gw-1", ["flood-%d" % i for i in range(6000)], "x" * 190)
    seen = []

    def waits():
        seen.append(demo.metric("gateway_alarms_delivered_total", 1))
        return len(seen) > 10 and seen[-1] == seen[-10] and seen[-1] > 0

    eventually(waits, "it is stuck")
    assert seen[-1] < 6000 and demo.metric("gateway_streams", 1) >= 1, seen[-1]
    return slow


def who_reads_nothing_is_dropped(demo):
    with stalled(demo):
        eventually(lambda: demo.metric("gateway_streams", 1) == 0, "its stream ended")


def everything_ends_before_the_gateway_does(demo):
    pid = demo.about["instances"][0]["pid"]
    with stalled(demo), Stream(demo, "globex") as quiet, connected(demo) as idle:
        quiet.block()
        idle.sendall(b"GET /healthz HTTP/1.1\r\n\r\n")
        assert idle.recv(1000).startswith(b"HTTP/1.1 200")
        os.kill(pid, signal.SIGTERM)
        assert quiet.event() is None
        eventually(lambda: demo.tell("describe")["instances"] == [], "its process is gone")
    told = [each["event"] for each in events(demo)]
    assert "sse_unsubscribed" not in told[told.index("stopped"):], told[-5:]
    assert told.count("sse_subscribed") == told.count("sse_unsubscribed") == 2


def who_waits_for_the_database_stops_nobody_else(demo):
    assert demo.json("/api/kpi", "globex")["source"] == "computed"
    database = sqlite3.connect(demo.about["store"], isolation_level=None)
    database.execute("BEGIN IMMEDIATE")
    codes = []

    def post():
        codes.append(demo.get("/api/properties", "acme", method="POST", body='{"name":"x","units":1}')[0])

    waiting = [threading.Thread(target=post) for _ in range(6)]  # more than the gateway has threads of a kind
    for each in waiting:
        each.start()
    for _ in range(60):
        assert demo.json("/api/kpi", "globex")["source"] in ("redis", "near")
    assert not codes, codes
    database.execute("ROLLBACK")
    database.close()
    for each in waiting:
        each.join(20)
    assert codes == [201] * 6, codes


CHECKS = [targets, a_segment_is_decoded, methods, scheme_in_any_case, too_large, leave_to_send_the_body, a_silent_stream_is_kept_alive,
          connections_have_a_bound, who_reads_nothing_is_dropped, everything_ends_before_the_gateway_does,
          who_waits_for_the_database_stops_nobody_else]
OPTIONS = {a_silent_stream_is_kept_alive: ["--keep-alive", "1"], connections_have_a_bound: ["--max-connections", "8"]}

if __name__ == "__main__":
    need("redis-server", "redis-cli", "mosquitto")
    run(CHECKS, lambda program, check: Demo(program, "--no-simulator", *OPTIONS.get(check, [])), *sys.argv[1:])
