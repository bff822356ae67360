"""The demo program as tests use it: started, told to break things, and asked as a client."""

import http.client
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.parse

import mqtt_publish

SKIPPED = 77


def skip(why):
    print("skipped: " + why)
    sys.exit(SKIPPED)


def need(*programs):
    for each in programs:
        if not (shutil.which(each) or os.path.exists("/usr/sbin/" + each)):
            skip("the program " + each + " is not installed")


def eventually(condition, what, seconds=20.0, pause=0.02):
    """The first true value of the condition; fails where there is none in time."""
    limit = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < limit, "did not happen within %g s: %s" % (seconds, what)
        time.sleep(pause)


class Demo:
    def __init__(self, program, *arguments):
        self.process = subprocess.Popen([program, "--control", "--port", "0", *arguments], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        if not line:
            sys.exit(self.process.wait(20) or 1)  # it has said why; 77 where it lacks a part
        self.about = json.loads(line)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise

    def tell(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        assert "error" not in answer, answer["error"]
        self.about = answer
        return answer

    @property
    def url(self):
        return self.about["url"]

    def connection(self, timeout=10):
        return http.client.HTTPConnection(urllib.parse.urlparse(self.url).netloc, timeout=timeout)

    def redis(self, *words):
        port = self.about["redis"].rsplit(":", 1)[1].split("/")[0]
        return subprocess.run(["redis-cli", "-p", port, *words], capture_output=True, text=True, check=True).stdout

    def get(self, path, tenant=None, method="GET", body=None, headers=None):
        """Status, headers and body, of one request on a connection of its own."""
        connection = self.connection()
        try:
            connection.request(method, path, body, {**(bearer(tenant) if tenant else {}), **(headers or {})})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def json(self, path, tenant=None, **how):
        status, _, body = self.get(path, tenant, **how)
        assert status == 200, "%s: %d %r" % (path, status, body)
        return json.loads(body)

    def metric(self, name, instances):
        """The sum of a metric over so many instances; of one of its lines, where the name has labels."""
        pages = {}

        def all_pages():
            _, headers, body = self.get("/metrics")
            pages[headers["X-Instance"]] = body.decode()
            return len(pages) == instances

        eventually(all_pages, "every instance shows its metrics")
        return sum(float(line.rsplit(" ", 1)[1]) for page in pages.values() for line in page.splitlines()
                   if line.startswith(name + " ") or line.startswith(name + "{"))

    def instances(self):
        return [each["name"] for each in self.about["instances"]]

    def publish(self, topic, *payloads):
        """Text as it is, anything else as JSON; all of them on one connection, in this order."""
        mqtt_publish.publish(self.about["mqtt_port"], topic,
                             *(each if isinstance(each, str) else json.dumps(each, ensure_ascii=False) for each in payloads))

    def publish_alarms(self, tenant, gateway, ids, text="door open", severity="warning"):
        """Returns the Unix time, in milliseconds, from before they were sent."""
        at = time.time() * 1000
        self.publish("mbus/%s/%s/alarm" % (tenant, gateway),
                     *({"id": each, "severity": severity, "text": text, "at": int(at)} for each in ids))
        return at

    def ask(self, path, tenant):
        """Asks for the same as often as it is called."""
        return lambda: self.json(path, tenant)


WITHIN_LIMITS = {"seconds": 15.0, "pause": 0.2}  # of `eventually`: fewer requests than a tenant has for a route


def from_memory(ask, what):
    """The first answer that comes from the memory of an instance. Asked for twice it is there, once Redis tells of changes."""
    return eventually(lambda: next((each for each in [ask()] if each["source"] == "near"), None), what + " comes from memory",
                      **WITHIN_LIMITS)


def bearer(tenant):
    return {"Authorization": "Bearer demo-token-of-" + tenant}


class Stream:
    """The alarm stream of a tenant, block by block."""

    def __init__(self, demo, tenant, last_id=None, timeout=10, path="/alarms/stream"):
        self.connection = demo.connection(timeout)
        self.connection.request("GET", path, None,
                                {**bearer(tenant), **({"Last-Event-ID": last_id} if last_id else {})})
        self.answer = self.connection.getresponse()
        self.last_id = last_id

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.answer.close()
        self.connection.close()

    def block(self):
        """The fields of the next block; None at the end."""
        fields = {}
        while True:
            line = self.answer.readline()
            if not line:
                return None
            line = line.decode().rstrip("\n")
            if not line:
                return fields
            name, _, value = line.partition(":")
            fields.setdefault(name, []).append(value[1:] if value.startswith(" ") else value)

    def event(self):
        """Name and data of the next event; None at the end."""
        while True:
            block = self.block()
            if block is None:
                return None
            if "id" in block:
                self.last_id = block["id"][-1]
            if "data" in block:
                return block.get("event", ["message"])[-1], json.loads("\n".join(block["data"]))

    def alarms(self, count):
        """The ids of the next alarms; fails at a gap."""
        ids = []
        while len(ids) < count:
            event = self.event()
            assert event is not None, "the stream ended after %d of %d alarms" % (len(ids), count)
            assert event[0] == "alarm", event
            ids.append(event[1]["id"])
        return ids


def run(checks, started, program, *only):
    """Each check with a demo of its own; or only those that are named."""
    for check in checks:
        if only and check.__name__ not in only:
            continue
        with started(program, check) as demo:
            check(demo)
        print("ok:", check.__name__.replace("_", " "), flush=True)
