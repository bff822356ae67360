"""Several gateways on one port, one Redis and one broker, while parts of it die."""

import asyncio
import http.client
import json
import sys
import threading
import urllib.parse

from demo import Demo, Stream, bearer, eventually, from_memory, need, run


class Browser(threading.Thread):
    """Listens to alarms as a browser does: whatever ends, it comes back with the last id. Stops at the alarm "end"."""

    def __init__(self, demo, tenant):
        super().__init__(daemon=True)
        self.demo, self.tenant = demo, tenant
        self.ids, self.gaps, self.connected, self.last_id = [], [], 0, None
        self.start()

    def run(self):
        while not self.ids or self.ids[-1] != "end":
            try:
                with Stream(self.demo, self.tenant, self.last_id, timeout=30) as stream:
                    if stream.answer.status != 200:
                        continue
                    self.connected += 1
                    while not self.ids or self.ids[-1] != "end":
                        event = stream.event()
                        if event is None:
                            break
                        self.last_id = stream.last_id
                        (self.ids if event[0] == "alarm" else self.gaps).append(event[1].get("id", event[1].get("cause")))
            except OSError:
                pass


def browsers(demo, tenant, count):
    all_of_them = [Browser(demo, tenant) for _ in range(count)]
    eventually(lambda: all(each.connected for each in all_of_them), "all browsers are connected")
    # `connected` is the status line: the subscription follows it.
    eventually(lambda: demo.metric("gateway_followers", len(demo.about["instances"])) >= count, "all streams are open")
    return all_of_them


def all_got(listeners, ids):
    for each in listeners:
        each.join(60)
        assert each.ids == ids, "%d of %d, first difference %r" % (
            len(each.ids), len(ids), next(((a, b) for a, b in zip(each.ids, ids) if a != b), None))
        assert each.gaps == [], each.gaps


def appended_once(demo, tenant, ids):
    entries = demo.redis("XRANGE", "log:{%s}:alarms" % tenant, "-", "+")
    assert all(entries.count('"id":"%s"' % each) == 1 for each in ids), "an alarm is not in the log exactly once"
    assert int(demo.redis("XLEN", "log:{%s}:alarms" % tenant)) == len(ids)


class Dashboards:
    """Some that ask as fast as they can, and what they were answered."""

    def __init__(self, demo, count):
        self.demo, self.over, self.statuses, self.cut = demo, False, [], 0
        self.threads = [threading.Thread(target=self.ask, args=(tenant,), daemon=True)
                        for tenant in ("acme", "globex", "initech") for _ in range(count)]
        for each in self.threads:
            each.start()

    def ask(self, tenant):
        while not self.over:
            try:
                self.statuses.append(self.demo.get("/api/kpi", tenant)[0])
            except (OSError, http.client.HTTPException):
                self.cut += 1  # by the instance that died

    def end(self):
        self.over = True
        for each in self.threads:
            each.join(30)


def an_instance_that_is_killed_loses_no_alarm(demo):
    load = Dashboards(demo, 2)
    listeners = browsers(demo, "acme", 9)
    instances = [each["name"] for each in demo.about["instances"]]
    assert len(instances) == 3
    ids = ["k-%d" % i for i in range(600)]
    demo.publish_alarms("acme", "gw-1", ids[:200])
    # Who was never told an id has none to resume from.
    eventually(lambda: all(each.ids for each in listeners), "everybody has the first one")
    publishing = threading.Thread(target=demo.publish_alarms, args=("acme", "gw-1", ids[200:400]))
    publishing.start()
    demo.tell("kill-gateway b")
    publishing.join()
    demo.publish_alarms("acme", "gw-1", ids[400:] + ["end"])
    all_got(listeners, ids + ["end"])
    appended_once(demo, "acme", ids + ["end"])
    answered = len(load.statuses)
    eventually(lambda: len(load.statuses) > answered + 50, "the others go on")
    load.end()
    assert set(load.statuses) == {200}, set(load.statuses)
    assert load.cut <= 50, load.cut  # those that were under way or in its queue
    demo.tell("start-gateway b")
    eventually(lambda: demo.metric("gateway_mqtt_messages_total", 3), "it is back")


def limits_hold_for_all_instances_together(demo):
    def asked():
        status, headers, _ = demo.get("/api/stats", "globex")
        return status, headers["X-Instance"]

    answers = [asked() for _ in range(60)]
    demo.tell("kill-gateway c")
    answers += [asked() for _ in range(70)]
    assert [status for status, _ in answers].count(200) == 100, answers
    assert [status for status, _ in answers].count(429) == 30
    assert {name for _, name in answers} == {"a", "b", "c"}, "the port is shared"
    assert "c" not in {name for _, name in answers[60:]}


class Instance:
    """One of them, which a connection that is kept leads to."""

    def __init__(self, demo, tenant):
        self.connection, self.tenant = demo.connection(), tenant
        self.name = self.kpi()["instance"]

    def request(self, method, path, body=None):
        self.connection.request(method, path, body, bearer(self.tenant))
        answer = self.connection.getresponse()
        text = answer.read()
        assert answer.status in (200, 201), (path, answer.status, text)
        return json.loads(text)

    def kpi(self):
        return self.request("GET", "/api/kpi")


def each_instance(demo, tenant):
    found = {}

    def all_of_them():
        one = Instance(demo, tenant)
        found.setdefault(one.name, one)
        return len(found) == len(demo.about["instances"])

    eventually(all_of_them, "every instance answers")
    return [found[name] for name in sorted(found)]


def a_change_is_seen_in_all_instances(demo):
    """At once where it was made, elsewhere as soon as Redis has told of it, long before what is in memory is too old."""
    instances = each_instance(demo, "initech")
    assert len(instances) == 3
    for writer in instances:
        for each in instances:
            before = from_memory(each.kpi, "the value of " + each.name)["value"]["properties"]
        added = writer.request("POST", "/api/properties", json.dumps({"name": "Tower", "units": 1}))
        assert added["instance"] == writer.name
        assert writer.kpi()["value"]["properties"] == before + 1, "a write is seen at once by who made it"
        for each in instances:
            eventually(lambda one=each: one.kpi()["value"]["properties"] == before + 1, "the change is seen by " + each.name, 3)


def alarms_outlive_redis(demo):
    listeners = browsers(demo, "acme", 3)
    ids = ["r-%d" % i for i in range(30)]
    demo.publish_alarms("acme", "gw-1", ids[:10])
    eventually(lambda: all(len(each.ids) == 10 for each in listeners), "the first ones came")
    demo.tell("kill-redis")
    demo.publish_alarms("acme", "gw-1", ids[10:20])  # are held
    eventually(lambda: demo.metric("gateway_alarms_held", 3) >= 20, "they are held")
    assert demo.get("/healthz")[0] == 503
    demo.tell("start-redis")
    demo.publish_alarms("acme", "gw-1", ids[20:] + ["end"])
    all_got(listeners, ids + ["end"])
    appended_once(demo, "acme", ids + ["end"])
    eventually(lambda: demo.get("/healthz")[0] == 200, "it is healthy again")


def alarms_outlive_the_broker(demo):
    listeners = browsers(demo, "acme", 3)
    demo.publish_alarms("acme", "gw-1", ["b-1"])
    eventually(lambda: all(each.ids for each in listeners), "the first one came")
    demo.tell("kill-broker")
    eventually(lambda: demo.get("/healthz")[0] == 503, "the broker is missed")
    demo.tell("start-broker")
    eventually(lambda: demo.get("/healthz")[0] == 200, "the broker is back")
    demo.publish_alarms("acme", "gw-1", ["b-2", "end"])
    all_got(listeners, ["b-1", "b-2", "end"])


async def request(demo, path, tenant):
    where = urllib.parse.urlparse(demo.url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port, limit=1 << 20)
    head = "".join("%s: %s\r\n" % each for each in bearer(tenant).items())
    writer.write(("GET %s HTTP/1.1\r\nHost: localhost\r\n%s\r\n" % (path, head)).encode())
    await writer.drain()
    status = int((await reader.readline()).split()[1])
    while (await reader.readline()).strip():
        pass
    return status, reader, writer


def tenants():
    return ["acme", "globex", "initech"] + ["tenant-%d" % i for i in range(4, 21)]


def a_thousand_dashboards_ask_the_database_once_a_tenant(demo):
    async def dashboard(tenant):
        status, reader, writer = await request(demo, "/api/kpi", tenant)
        await reader.readuntil(b"}")
        writer.close()
        return status

    async def dashboards(all_tenants):
        return await asyncio.gather(*(dashboard(each) for each in all_tenants))

    before = demo.metric("gateway_database_queries_total", 3)
    statuses = asyncio.run(dashboards([tenants()[i % 20] for i in range(1000)]))
    assert statuses == [200] * 1000, {each: statuses.count(each) for each in set(statuses)}
    asked = demo.metric("gateway_database_queries_total", 3) - before
    assert asked == 20, "%g queries for 20 tenants" % asked
    assert demo.get("/api/properties", "acme", method="POST", body='{"name":"x","units":1}')[0] == 201
    assert asyncio.run(dashboards(["acme"] * 50 + ["globex"] * 50)) == [200] * 100
    asked = demo.metric("gateway_database_queries_total", 3) - before
    assert asked == 21, "%g queries for 20 tenants and one invalidation" % asked


def a_thousand_listeners_get_every_alarm(demo):
    each_gets = 5

    async def listener(tenant, ready):
        status, reader, writer = await request(demo, "/alarms/stream", tenant)
        assert status == 200, status
        ids = []
        ready()
        while len(ids) < each_gets:
            line = await asyncio.wait_for(reader.readline(), 60)
            assert line, "the stream ended"
            if line.startswith(b"data: "):
                ids.append(json.loads(line[6:])["id"])
        writer.close()
        return ids

    async def everything():
        count = 0

        def ready():
            nonlocal count
            count += 1

        listening = [asyncio.create_task(listener(tenants()[i % 20], ready)) for i in range(1000)]
        while count < 1000:
            await asyncio.sleep(0.02)
            for each in listening:
                if each.done():
                    each.result()
        await asyncio.to_thread(eventually, lambda: demo.metric("gateway_followers", 3) == 1000, "all of them follow", 60)
        for tenant in tenants():
            await asyncio.to_thread(demo.publish_alarms, tenant, "gw-1", ["%s-%d" % (tenant, i) for i in range(each_gets)])
        return await asyncio.gather(*listening)

    for i, ids in enumerate(asyncio.run(everything())):
        assert ids == ["%s-%d" % (tenants()[i % 20], j) for j in range(each_gets)], (i, ids)


MANY = (a_thousand_dashboards_ask_the_database_once_a_tenant, a_thousand_listeners_get_every_alarm)
CHECKS = [an_instance_that_is_killed_loses_no_alarm, limits_hold_for_all_instances_together, a_change_is_seen_in_all_instances,
          alarms_outlive_redis, alarms_outlive_the_broker, *MANY]


def started(program, check):
    many = ("--tenants", "20") if check in MANY else ()
    limit = () if check is limits_hold_for_all_instances_together else ("--limit", "100000")
    return Demo(program, "--no-simulator", "--instances", "3", *many, *limit)


if __name__ == "__main__":
    need("redis-server", "redis-cli", "mosquitto")
    run(CHECKS, started, *sys.argv[1:])
