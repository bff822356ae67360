"""The gateway as clients see it: status codes, headers, streams, limits, and whose data it is."""

import json
import socket
import subprocess
import sys
import threading
import time
import urllib.parse

from demo import WITHIN_LIMITS, Demo, Stream, bearer, eventually, from_memory, need, run


def curl(demo, *words):
    """What curl prints, headers included."""
    done = subprocess.run(["curl", "-sS", "-i", "--max-time", "10", *words], capture_output=True)
    return done.stdout.decode(errors="replace")


def status_codes(demo):
    for token in (None, "", "Bearer ", "Bearer wrong-wrong-wrong-wrong", "Basic demo-token-of-acme", "demo-token-of-acme"):
        for path in ("/api/kpi", "/alarms/stream", "/api/nothing"):
            status, headers, body = demo.get(path, headers={"Authorization": token} if token is not None else {})
            assert status == 401 and headers["WWW-Authenticate"] == "Bearer", (token, path, status)
            assert json.loads(body)["error"] == "unauthorized"
    for path in ("/nothing", "/api", "/alarms", "/page/index.html", "/../etc/passwd", "/%2e%2e/x"):
        assert demo.get(path)[0] == 404, path
    for path in ("/api/nothing", "/api/kpi/more", "/api/readings/u-1", "/alarms/other", "/api/settlements/none.pdf"):
        assert demo.get(path, "acme")[0] == 404, path
    for path in ("/api/readings/u-1/2026/13", "/api/readings/u-1/2026/0", "/api/readings/u-1/x/1", "/api/readings/u-1/2026/1x"):
        assert demo.get(path, "acme")[0] == 400, path
    status, headers, _ = demo.get("/api/kpi", "acme", method="DELETE")
    assert status == 405 and "GET" in headers["Allow"]
    status, headers, _ = demo.get("/api/properties", "acme")
    assert status == 405 and headers["Allow"] == "POST"
    for body in ("", "{", "[]", '{"name":"x"}', '{"name":"","units":1}', '{"name":"x","units":-1}', '{"name":"x","units":1001}',
                 '{"name":7,"units":1}', json.dumps({"name": "x" * 101, "units": 1})):
        assert demo.get("/api/properties", "acme", method="POST", body=body)[0] == 400, body


def oversize_and_malformed(demo):
    text = curl(demo, "-H", "Authorization: Bearer demo-token-of-acme", "-H", "Expect:", "--data-binary",
                "x" * (65 * 1024), demo.url + "/api/properties")
    assert text.startswith("HTTP/1.1 413"), text[:100]
    for bytes_sent in (b"GARBAGE\r\n\r\n", b"GET / HTTP/1.1\r\nbroken\r\n\r\n", b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03"):
        with socket.create_connection((urllib.parse.urlparse(demo.url).hostname, urllib.parse.urlparse(demo.url).port), 10) as one:
            one.sendall(bytes_sent)
            one.shutdown(socket.SHUT_WR)
            answer = one.recv(100)
            assert answer == b"" or answer.startswith(b"HTTP/1.1 400"), answer
    assert demo.get("/healthz")[0] == 200  # it lives


def values_and_headers(demo):
    first = demo.json("/api/kpi", "globex")
    assert first["source"] in ("computed", "redis") and first["value"]["units"] > 0, first
    second = demo.json("/api/kpi", "globex")
    assert second["source"] in ("redis", "near") and second["age_ms"] >= 0 and second["instance"]
    units = demo.json("/api/units", "globex")["units"]
    month = demo.json("/api/readings/%s/2025/12" % units[0], "globex")
    assert month["value"]["unit"] == units[0] and len(month["value"]["days"]) > 0
    assert demo.json("/api/readings/%s/2025/12" % units[0], "globex")["source"] in ("redis", "near")
    text = curl(demo, "-H", "Authorization: Bearer demo-token-of-acme", demo.url + "/api/kpi")
    for header in ("X-Instance: ", "RateLimit: ", "RateLimit-Policy: ", "Content-Type: application/json", "Cache-Control: no-store"):
        assert header in text, (header, text)
    page = curl(demo, demo.url + "/")
    assert "default-src 'self'" in page and "text/html" in page and "<html" in page


def what_is_asked_for_again_comes_from_memory(demo):
    """And is no query, and the same."""
    month = "/api/readings/%s/2025/12" % demo.json("/api/units", "globex")["units"][0]
    for path in ("/api/kpi", month):
        computed = demo.json(path, "globex")
        assert computed["source"] == "computed", computed
        queries = demo.metric("gateway_database_queries_total", 1)
        near = from_memory(demo.ask(path, "globex"), path)
        assert near["value"] == computed["value"] and near["age_ms"] >= computed["age_ms"], (computed, near)
        assert demo.metric("gateway_database_queries_total", 1) == queries
    hits = demo.json("/api/stats", "globex")["hits"]
    assert set(hits) == {"computed", "redis", "stale", "near"} and hits["near"] >= 2, hits
    assert demo.metric('gateway_cache_answers_total{source="near"}', 1) >= hits["near"]


def what_is_in_memory_is_told(demo):
    """To pages how far it may be behind, to operators how much there is and what dropped it."""
    from_memory(demo.ask("/api/kpi", "globex"), "the KPI")
    near = demo.json("/api/stats", "globex")["near"]
    assert near["tracking"] is True and near["max_age_ms"] == 10_000 and set(near["push_delay_ms"]) == {"p50", "p99"}, near
    assert demo.metric("gateway_near_tracking", 1) == 1
    assert demo.metric('gateway_near_values{cache="kpi"}', 1) == 1 and demo.metric('gateway_near_bytes{cache="kpi"}', 1) > 0
    assert demo.metric('gateway_near_values{cache="month"}', 1) == demo.metric('gateway_near_values{cache="settlement"}', 1) == 0

    assert demo.get("/api/properties", "globex", method="POST", body='{"name":"Tower","units":1}')[0] == 201
    from_memory(demo.ask("/api/kpi", "globex"), "the new value")
    delay = eventually(lambda: demo.json("/api/stats", "globex")["near"]["push_delay_ms"]["p99"], "a delay is measured",
                       **WITHIN_LIMITS)
    assert demo.metric('gateway_near_push_delay_seconds{quantile="0.99"}', 1) * 1000 >= delay > 0

    told = demo.metric("gateway_near_invalidations_total", 1)
    demo.redis("DEL", "kpi:globex:portfolio")
    eventually(lambda: demo.metric("gateway_near_invalidations_total", 1) == told + 1, "Redis tells of the key")
    eventually(lambda: demo.metric('gateway_near_values{cache="kpi"}', 1) == 0, "it is dropped")
    flushes = demo.metric('gateway_near_flushes_total{cause="by_server"}', 1)
    demo.redis("FLUSHALL")
    eventually(lambda: demo.metric('gateway_near_flushes_total{cause="by_server"}', 1) == flushes + 1, "Redis tells of the flush")
    demo.tell("kill-redis")
    eventually(lambda: demo.metric("gateway_near_tracking", 1) == 0, "it is noticed that nothing is told any more")
    assert demo.json("/api/stats", "globex")["near"]["tracking"] is False
    # Both connections ended; the one that was noticed first is the cause.
    assert sum(demo.metric('gateway_near_flushes_total{cause="%s_lost"}' % what, 1) for what in ("push", "lane")) >= 1


def a_value_grows_old(demo):
    began = time.monotonic()
    assert demo.json("/api/kpi", "acme")["source"] == "computed"

    def old():
        age = demo.json("/api/kpi", "acme")["age_ms"]
        assert age <= (time.monotonic() - began) * 1000 + 1, age  # it is not older than the first request
        return age >= 300

    eventually(old, "the value is old")


def only_the_token_names_the_tenant(demo):
    assert demo.get("/api/properties", "globex", method="POST", body=json.dumps({"name": "Tower", "units": 3}))[0] == 201
    ours, theirs = (demo.json("/api/kpi", each)["value"]["properties"] for each in ("acme", "globex"))
    assert ours != theirs
    for path in ("/api/kpi?tenant=globex", "/api/kpi?tenant_id=globex&token=demo-token-of-globex"):
        headers = {"X-Tenant": "globex", "Tenant": "globex", "Cookie": "tenant=globex; token=demo-token-of-globex"}
        assert demo.json(path, "acme", headers=headers)["value"]["properties"] == ours, path
        assert demo.get(path, headers=headers)[0] == 401, path
    unit = next(each for each in demo.json("/api/units", "globex")["units"])
    month = "/api/readings/%s/2025/12" % unit
    assert demo.json(month, "globex")["value"] != demo.json(month, "acme")["value"]
    pdf = "/api/settlements/%s.pdf" % demo.json("/api/settlements", "globex")["settlements"][0]
    assert b"globex" in demo.get(pdf, "globex")[2] and b"globex" not in demo.get(pdf, "acme")[2]


def a_settlement_is_the_same_bytes_every_time(demo):
    found = demo.json("/api/settlements", "initech")["settlements"][0]
    status, headers, body = demo.get("/api/settlements/%s.pdf" % found, "initech")
    assert status == 200 and headers["X-Source"] == "computed"
    assert headers["Content-Type"] == "application/pdf" and body.startswith(b"%PDF-1.4") and body.rstrip().endswith(b"%%EOF")
    status, headers, again = demo.get("/api/settlements/%s.pdf" % found, "initech")
    assert status == 200 and headers["X-Source"] in ("redis", "near") and again == body

    def from_memory():
        _, headers, bytes_again = demo.get("/api/settlements/%s.pdf" % found, "initech")
        assert bytes_again == body
        return headers["X-Source"] == "near"

    eventually(from_memory, "it comes from memory", **WITHIN_LIMITS)


def a_change_is_seen_at_once(demo):
    """Although the old value was in memory."""
    demo.json("/api/kpi", "globex")
    before = from_memory(demo.ask("/api/kpi", "initech"), "the old value")["value"]
    status, _, body = demo.get("/api/properties", "initech", method="POST", body=json.dumps({"name": "Tower", "units": 12}))
    assert status == 201 and json.loads(body)["id"] > 0
    after = demo.json("/api/kpi", "initech")
    assert after["source"] == "computed", after
    assert after["value"]["properties"] == before["properties"] + 1 and after["value"]["units"] == before["units"] + 12
    assert demo.json("/api/kpi", "globex")["source"] in ("redis", "near")  # of others nothing was invalidated


def streams(demo):
    text = subprocess.Popen(["curl", "-sSN", "-i", "--max-time", "3", "-H", "Authorization: Bearer demo-token-of-acme",
                             demo.url + "/alarms/stream"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    eventually(lambda: demo.redis("PUBSUB", "NUMSUB", "log:{acme}:alarms").split()[1] == "1", "the stream is subscribed")
    demo.publish_alarms("acme", "gw-1", ["framing-1"], "two\nlines and \u00fcml\u00e4uts")
    raw = text.communicate()[0].decode()
    head, _, body = raw.partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 200") and "Content-Type: text/event-stream" in head and "Content-Length" not in head
    assert "X-Accel-Buffering: no" in head and "no-cache" in head
    assert body.startswith("retry: ") and "\n: " in body
    block = next(b for b in body.split("\n\n") if "framing-1" in b)
    lines = block.split("\n")
    assert [line.split(":")[0] for line in lines] == ["id", "event", "data"], lines
    assert json.loads(lines[2][6:])["text"] == "two\nlines and \u00fcml\u00e4uts"

    with Stream(demo, "acme") as live:
        assert "retry" in live.block()
        eventually(lambda: demo.metric("gateway_streams", 1) == demo.metric("gateway_followers", 1) == 1, "it alone is subscribed")
        demo.publish_alarms("acme", "gw-1", ["s-1", "s-2", "s-3"])
        assert live.alarms(2) == ["s-1", "s-2"]
        last = live.last_id
    with Stream(demo, "acme", last) as resumed:
        assert resumed.alarms(1) == ["s-3"]
    with Stream(demo, "acme", path="/alarms/stream?x=1&last_event_id=" + urllib.parse.quote(last)) as resumed:
        assert resumed.alarms(1) == ["s-3"]
    for bad in ("nonsense", "$", "0-0", "ffffffffffffffff-1-00000000"):
        with Stream(demo, "acme", bad) as told:
            assert told.answer.status == 200
            name, data = told.event()
            assert name == "gap" and data["cause"] in ("invalid_id", "reset"), (bad, name, data)
    demo.publish_alarms("globex", "gw-1", ["secret-1"])
    with Stream(demo, "globex", "nonsense") as theirs:
        theirs.event()
        demo.publish_alarms("globex", "gw-1", ["secret-2"])
        theirs.alarms(1)
        foreign = theirs.last_id
    with Stream(demo, "acme", foreign) as ours:
        name, data = ours.event()
        assert name == "gap" and data["cause"] == "reset"
        seen = ours.alarms(3)
        assert not any(each.startswith("secret") for each in seen), seen


def an_idle_client_that_leaves_is_noticed(demo):
    def listeners():
        return int(demo.redis("PUBSUB", "NUMSUB", "log:{initech}:alarms").split()[1])

    for _ in range(20):
        with Stream(demo, "initech") as one:
            one.block()
            eventually(lambda: listeners() == 1, "the stream is subscribed")
        began = time.monotonic()
        eventually(lambda: listeners() == 0, "its subscription is freed", 10)
    print("the last subscription was freed after %.0f ms" % ((time.monotonic() - began) * 1000))


def a_reader_that_is_slow_slows_nobody(demo):
    with socket.create_connection((urllib.parse.urlparse(demo.url).hostname, urllib.parse.urlparse(demo.url).port), 10) as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.sendall(b"GET /alarms/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer demo-token-of-acme\r\n\r\n")
        with Stream(demo, "acme") as fast:
            fast.block()
            eventually(lambda: demo.metric("gateway_followers", 1) >= 2, "both are subscribed")
            ids = ["flood-%d" % i for i in range(3000)]
            # Who reads nothing for 5 s is slow himself, however long it takes to publish all of them.
            publishing = threading.Thread(target=demo.publish_alarms, args=("acme", "gw-1", ids, "x" * 190))
            publishing.start()
            assert fast.alarms(len(ids)) == ids
            publishing.join()
        assert demo.get("/api/units", "acme")[0] == 200


def limits(demo):
    connection = demo.connection()
    codes = []
    for _ in range(130):
        connection.request("GET", "/api/stats", headers=bearer("globex"))
        answer = connection.getresponse()
        body = answer.read()
        codes.append(answer.status)
    assert codes.count(200) == 100 and codes.count(429) == 30, codes
    assert int(answer.headers["Retry-After"]) in range(1, 61) and json.loads(body)["retry_after_ms"] > 0
    connection.request("GET", "/api/units", headers=bearer("globex"))  # another route
    assert connection.getresponse().status == 200
    assert demo.get("/api/stats", "initech")[0] == 200  # another tenant


def a_limit_is_of_a_route_and_not_of_a_path(demo):
    for paths in (["/api/readings/u-%d/2025/%d" % (i // 12 + 1, i % 12 + 1) for i in range(105)],
                  ["/api/nothing-%d/%d" % (i % 7, i) for i in range(105)], ["/alarms/other-%d" % i for i in range(105)]):
        codes = [demo.get(path, "acme")[0] for path in paths]
        assert 429 not in codes[:100] and codes[100:] == [429] * 5, (paths[0], codes)


def refused_messages_are_counted(demo):
    def refused():
        return demo.metric("gateway_mqtt_refused_total", 1)

    before = refused()
    bad = [("mbus/acme/gw-1/alarm", "{"), ("mbus/nobody/gw-1/alarm", {"id": "x", "severity": "info", "text": "x", "at": 1}),
           ("mbus/acme/gw-1/alarm", {"id": "x", "severity": "loud", "text": "x", "at": 1}),
           ("mbus/acme/gw-1/readings", {"gateway": "gw-2", "firmware": "1", "readings": [{"meter": "m-1", "at": 1, "wh": 1}]})]
    for topic, payload in bad:
        demo.publish(topic, payload)
    eventually(lambda: refused() == before + len(bad), "all of them are refused")
    assert [each["event"] for each in events(demo)].count("mqtt_refused") == len(bad)


def events(demo):
    """What the gateways wrote: one JSON object a line."""
    with open(demo.about["log"]) as log:
        return [json.loads(line) for line in log if line.endswith("\n")]


def nothing_is_told_of_tokens_or_payloads(demo):
    demo.get("/api/kpi", "acme")
    demo.get("/api/kpi", headers={"Authorization": "Bearer demo-token-of-nobody"})
    with Stream(demo, "acme") as live:
        live.block()
        eventually(lambda: demo.metric("gateway_followers", 1) == 1, "the stream is subscribed")
        demo.publish_alarms("acme", "gw-1", ["told-1"])
        demo.publish("mbus/acme/gw-1/alarm", '{"text":"door open')
        live.alarms(1)
    wanted = {"sse_subscribed", "sse_unsubscribed", "alarm_published", "mqtt_refused", "connected"}
    seen = eventually(lambda: wanted <= {each["event"] for each in events(demo)} and events(demo), "all of it is told")
    for event in seen:
        assert "at" in event and event["instance"] == "a"
        assert "demo-token" not in str(event) and "door open" not in str(event), event


CHECKS = [status_codes, oversize_and_malformed, values_and_headers, what_is_asked_for_again_comes_from_memory, what_is_in_memory_is_told,
          a_value_grows_old, only_the_token_names_the_tenant,
          a_settlement_is_the_same_bytes_every_time, a_change_is_seen_at_once, streams, an_idle_client_that_leaves_is_noticed,
          a_reader_that_is_slow_slows_nobody, limits, a_limit_is_of_a_route_and_not_of_a_path, refused_messages_are_counted, nothing_is_told_of_tokens_or_payloads]

if __name__ == "__main__":
    need("redis-server", "redis-cli", "mosquitto", "curl")
    # A server of its own, so that no check uses up the limits of another one.
    run(CHECKS, lambda program, check: Demo(program, "--no-simulator"), *sys.argv[1:])
