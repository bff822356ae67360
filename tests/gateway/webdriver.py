"""A headless Chromium, driven over the W3C WebDriver protocol by the standard library alone: https://www.w3.org/TR/webdriver2/"""

import base64
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
TAB, ENTER, SHIFT = "\ue004", "\ue007", "\ue008"


class Missing(Exception):
    """No browser or no driver on this machine."""


class Timeout(AssertionError):
    """A condition did not come true before its deadline."""


def wait_until(condition, what, deadline=10.0, pause=0.05):
    """The first true value of condition(); Timeout after `deadline` seconds."""
    end = time.monotonic() + deadline
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise Timeout(f"not within {deadline:g} s: {what}")
        time.sleep(pause)


def find_programs():
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    driver = shutil.which("chromedriver")
    if not browser:
        raise Missing("no chromium (Debian: apt-get install chromium)")
    if not driver:
        raise Missing("no chromedriver (Debian: apt-get install chromium-driver)")
    return browser, driver


class Browser:
    """One session with one window. A context manager; close() ends the driver and its browser."""

    def __init__(self, width, height):
        browser, driver = find_programs()
        self._scratch = tempfile.TemporaryDirectory(prefix="gateway_page_")
        self._http = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        self._log = open(os.path.join(self._scratch.name, "driver.log"), "w+b")
        self._driver = subprocess.Popen([driver, "--port=0"], stdout=self._log, stderr=subprocess.STDOUT,
                                        stdin=subprocess.DEVNULL)
        self._session = None
        try:
            self._url = f"http://127.0.0.1:{wait_until(self._port, 'the port of chromedriver', 30)}"
            arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                         "--no-proxy-server", "--disable-background-networking", "--disable-component-update",
                         "--hide-scrollbars",
                         f"--user-data-dir={self._scratch.name}/profile", f"--window-size={width},{height}"]
            options = {"binary": browser, "args": arguments}
            wanted = {"browserName": "chrome", "goog:chromeOptions": options,
                      "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"}}
            answer = self._call("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
            self._session = "/session/" + answer["sessionId"]
            self._call("POST", self._session + "/timeouts", {"script": 60_000, "pageLoad": 20_000})
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        try:
            if self._session:
                self._call("DELETE", self._session)
        except (OSError, AssertionError):
            pass
        finally:
            self._driver.terminate()
            try:
                self._driver.wait(10)
            except subprocess.TimeoutExpired:
                self._driver.kill()
                self._driver.wait()
            self._log.close()
            shutil.rmtree(self._scratch.name, ignore_errors=True)

    def open(self, url):
        self._call("POST", self._session + "/url", {"url": url})

    def back(self):
        self._call("POST", self._session + "/back", {})

    def run(self, script, *arguments):
        """What the body of a function returns, or what the promise that it returns resolves to."""
        return self._call("POST", self._session + "/execute/sync", {"script": script, "args": list(arguments)})

    def wait(self, script, *arguments, deadline=10.0):
        """The first true value of a JavaScript expression."""
        return wait_until(lambda: self.run(f"return ({script})", *arguments), f"{script} {list(arguments) or ''}", deadline)

    def click(self, selector):
        found = self._call("POST", self._session + "/element", {"using": "css selector", "value": selector})
        self._call("POST", f"{self._session}/element/{found[ELEMENT]}/click", {})

    def press(self, *keys):
        """Presses the keys together and lets them go."""
        down = [{"type": "keyDown", "value": key} for key in keys]
        up = [{"type": "keyUp", "value": key} for key in reversed(keys)]
        keyboard = {"type": "key", "id": "keyboard", "actions": down + up}
        self._call("POST", self._session + "/actions", {"actions": [keyboard]})

    def devtools(self, command, **parameters):
        return self._call("POST", self._session + "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def log(self, kind):
        """What was logged since the last call: kind is browser or performance."""
        return self._call("POST", self._session + "/se/log", {"type": kind})

    def screenshot(self, path):
        with open(path, "wb") as file:
            file.write(base64.b64decode(self._call("GET", self._session + "/screenshot")))

    def _port(self):
        if self._driver.poll() is not None:
            raise AssertionError("chromedriver ended: " + self._driver_log())
        found = re.search(r"successfully on port (\d+)", self._driver_log())
        return found and int(found[1])

    def _driver_log(self):
        with open(self._log.name, encoding="utf-8", errors="replace") as file:
            return file.read()

    def _call(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with self._http.open(request, timeout=90) as response:
                return json.load(response)["value"]
        except urllib.error.HTTPError as problem:
            value = json.load(problem)["value"]
            raise AssertionError(f"{value['error']}: {value['message'].splitlines()[0]}") from None
