"""The gateway that a test runs against: the demo program, started by the test, or any server with commands that act on it."""

import json
import os
import queue
import shlex
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request

import mqtt_publish

_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class NotStarted(Exception):
    """The demo told no address. `status` is what the test should end with: 77 where the demo said so, because it lacks a part."""

    def __init__(self, reason, status=1):
        super().__init__(reason)
        self.status = status


class Gateway:
    """What both kinds have: an address, and what its health says."""

    url = ""

    def redis_health(self):
        """up, down, or "" where nothing answers."""
        try:
            with _direct.open(self.url + "/healthz", timeout=10) as response:
                return json.load(response)["redis"]
        except urllib.error.HTTPError as problem:
            return json.load(problem).get("redis", "")
        except OSError:
            return ""

    def publish_alarm(self, tenant, name, severity="info", text="A test alarm"):
        """Returns the Unix time, in milliseconds, from before it was sent."""
        at = time.time() * 1000
        payload = json.dumps({"id": name, "severity": severity, "text": text, "at": int(at)}, ensure_ascii=False)
        self.publish(f"mbus/{tenant}/gw-1/alarm", payload)
        return at


class Demo(Gateway):
    """The demo program. Its standard output has one line of JSON as soon as all parts answer:

    {"url": "http://127.0.0.1:8080", "mqtt_port": 1883, "redis_pid": 12, "redis_restart": "redis-server ...",
     "instances": [{"name": "a", "pid": 13}, ...]}

    redis_restart is a shell command that runs Redis again with the same port and files, in the foreground; null where the
    demo itself starts it again.
    """

    def __init__(self, command):
        self._redis = None
        self._demo = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True,
                                      start_new_session=True)
        self._lines = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        try:
            self._told = self._first_json(time.monotonic() + 120)
        except BaseException:
            self.close()
            raise
        self.url = self._told["url"].rstrip("/")

    def publish(self, topic, payload):
        mqtt_publish.publish(self._told["mqtt_port"], topic, payload)

    def kill_redis(self):
        os.kill(self._told["redis_pid"], signal.SIGKILL)

    def start_redis(self):
        command = self._told.get("redis_restart")
        if command:
            self._redis = subprocess.Popen("exec " + command, shell=True, stdout=subprocess.DEVNULL, start_new_session=True)

    def can_kill_instances(self):
        return len(self._told["instances"]) > 1

    def kill_instance(self, name):
        os.kill(next(one["pid"] for one in self._told["instances"] if one["name"] == name), signal.SIGKILL)

    def close(self):
        """Ends the demo as Ctrl-C does, and the Redis that this test started."""
        for process, ending in ((self._demo, signal.SIGINT), (self._redis, signal.SIGTERM)):
            if process is None:
                continue
            try:
                process.send_signal(ending)
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def _read(self):
        for line in self._demo.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def _first_json(self, end):
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                raise NotStarted("the demo told no address within 120 s") from None
            if line is None:
                status = self._demo.wait(10)
                raise NotStarted(f"the demo ended with {status} before it told its address", 77 if status == 77 else 1)
            if line.startswith("{"):
                return json.loads(line)


class Commands(Gateway):
    """A server that runs already. publish_alarm gets the topic and the payload as two more arguments (as
    `mosquitto_pub -q 1 -t TOPIC -m PAYLOAD` would), kill_instance the name of the instance."""

    def __init__(self, url, publish_alarm, kill_redis, start_redis, kill_instance):
        self.url = url.rstrip("/")
        self._publish_alarm = publish_alarm
        self._kill_redis = kill_redis
        self._start_redis = start_redis
        self._kill_instance = kill_instance

    def publish(self, topic, payload):
        self._run(self._publish_alarm, topic, payload)

    def kill_redis(self):
        self._run(self._kill_redis)

    def start_redis(self):
        self._run(self._start_redis)

    def can_kill_instances(self):
        return self._kill_instance is not None

    def kill_instance(self, name):
        self._run(self._kill_instance, name)

    def close(self):
        pass

    @staticmethod
    def _run(command, *arguments):
        subprocess.run(shlex.split(command) + list(arguments), check=True, stdin=subprocess.DEVNULL, timeout=60)
