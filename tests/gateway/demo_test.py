"""The demo program itself: what it refuses, and that nothing of it stays behind."""

import contextlib
import glob
import json
import os
import signal
import subprocess
import sys
import tempfile

from demo import Demo, eventually, need

PROGRAM = sys.argv[1] if len(sys.argv) > 1 else ""


@contextlib.contextmanager
def started(folder, *arguments):
    process = subprocess.Popen([PROGRAM, "--no-simulator", *arguments], env={**os.environ, "TMPDIR": folder},
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def of_folder(folder):
    """Processes whose command names it."""
    found = []
    for name in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            with open(name, "rb") as command:
                if folder.encode() in command.read():
                    found.append(name)
        except OSError:
            pass
    return found


def left(folder):
    return of_folder(folder) + os.listdir(folder)


def refused(folder, *arguments):
    with started(folder, *arguments) as process:
        _, said = process.communicate(timeout=30)
    assert process.returncode == 1 and said.startswith("demo: ") and said.count("\n") == 1, (arguments, process.returncode, said)
    assert left(folder) == [], (arguments, left(folder))
    return said


def what_cannot_be_is_refused(folder):
    for name in ("--instances", "--tenants"):
        assert "1 to" in refused(folder, name, "0")
    assert "--instances is 1 to 26" in refused(folder, "--instances", "27")
    assert "--port is 0 to 65535" in refused(folder, "--port", "70000")
    assert "needs a number" in refused(folder, "--tenants", "many")


def a_port_of_another_demo_is_refused(folder):
    with Demo(PROGRAM, "--no-simulator") as other:
        port = other.url.rsplit(":", 1)[1]
        assert "port %s is taken" % port in refused(folder, "--port", port)
        assert other.get("/healthz")[0] == 200


def a_gateway_that_does_not_start_is_told(folder):
    assert "gateway a ended: gateway: --keep-alive" in refused(folder, "--keep-alive", "0", "--port", "0")


def nothing_stays_behind(folder):
    for how in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL):
        with started(folder, "--port", "0", "--control", "--instances", "2") as process:
            about = json.loads(process.stdout.readline())
            assert len(about["instances"]) == 2 and len(of_folder(folder)) >= 4
            process.send_signal(how)
            process.wait(20)
        eventually(lambda: left(folder) == [], "%s leaves nothing: %r" % (how.name, left(folder)))


def a_load_can_be_interrupted(folder):
    log = os.path.join(folder, "gateway.log")
    with started(folder, "--port", "0", "--load", "--seconds", "300", "--log", log) as process:
        eventually(lambda: os.path.exists(log) and "sse_subscribed" in open(log).read(), "it is under load", 30)
        process.send_signal(signal.SIGINT)
        process.wait(30)
    os.remove(log)
    eventually(lambda: left(folder) == [], "it leaves nothing")


CHECKS = [what_cannot_be_is_refused, a_port_of_another_demo_is_refused, a_gateway_that_does_not_start_is_told, nothing_stays_behind,
          a_load_can_be_interrupted]

if __name__ == "__main__":
    need("redis-server", "redis-cli", "mosquitto")
    for check in CHECKS:
        if sys.argv[2:] and check.__name__ not in sys.argv[2:]:
            continue
        with tempfile.TemporaryDirectory() as folder:
            check(folder)
        print("ok:", check.__name__.replace("_", " "), flush=True)
