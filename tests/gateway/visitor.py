"""What a visitor does with the page of the gateway, and sees of it."""

import json
import os
import time

from webdriver import TAB, wait_until

RUN = f"{int(time.time()):x}"  # so that the ids of alarms are new in each run


def check_equal(actual, expected, what):
    if actual != expected:
        raise AssertionError(f"{what}: {actual!r} is not {expected!r}")


class Page:
    """What a visitor does with the page, and what the browser has recorded of it since the beginning."""

    def __init__(self, browser, gateway, artifacts):
        self.browser = browser
        self.gateway = gateway
        self.artifacts = artifacts
        self.console = []
        self.requested = []

    def begin(self):
        """The page as a new visitor sees it."""
        # The page that is left stores something, so the storage is cleared when the next one begins.
        clearing = self.browser.devtools("Page.addScriptToEvaluateOnNewDocument", source="sessionStorage.clear()")
        self.browser.open(self.gateway.url + "/")
        self.browser.devtools("Page.removeScriptToEvaluateOnNewDocument", **clearing)
        self.wait("document.querySelector('#login [data-tenant=acme]')")

    def log_in(self, tenant):
        self.begin()
        self.browser.click(f"#login [data-tenant='{tenant}']")
        self.wait("document.getElementById('kpi-source').dataset.source")
        self.wait_live()
        # The page says so when the stream is open. What is published before its gateway follows the log is not shown.
        wait_until(lambda: self.streams("streams") == self.streams("followers") > 0, "the stream is followed", 10)

    def streams(self, which):
        return self.gateway.metric("gateway_" + which, len(self.gateway.instances()))

    def wait(self, expression, *arguments, deadline=10.0):
        return self.browser.wait(expression, *arguments, deadline=deadline)

    def wait_live(self, deadline=10.0):
        self.wait("document.getElementById('alarms-state').dataset.state === 'live'", deadline=deadline)

    def text(self, name):
        return self.browser.run("return document.getElementById(arguments[0]).textContent", name)

    def number(self, name):
        return int(self.text(name).replace(",", ""))

    def wait_for_more(self, name, than, deadline=10.0):
        """Until the number in the element is greater."""
        self.wait("Number(document.getElementById(arguments[0]).textContent.replaceAll(',', '')) > arguments[1]", name, than,
                  deadline=deadline)

    def answers(self):
        """How many requests were answered since the login."""
        return self.browser.run("""return [...document.querySelectorAll('#instances li')]
            .reduce((sum, {textContent}) => sum + parseInt(textContent.split(': ')[1]), 0)""")

    def publish(self, tenant, first, last, name):
        names = [f"{name}-{RUN}-{n}" for n in range(first, last + 1)]
        for one in names:
            self.gateway.publish_alarms(tenant, "gw-1", [one], severity="info", text=f"Numbered alarm {one}")
        return names

    def wait_for_each_once(self, names, deadline):
        shown = "return arguments[0].map((id) => document.querySelectorAll(`#alarms li[data-id='${id}']`).length)"
        counts = None

        def all_there():
            nonlocal counts
            counts = self.browser.run(shown, names)
            return 0 not in counts
        try:
            wait_until(all_there, "all alarms on the page", deadline)
        except AssertionError as problem:
            missing = [name for name, count in zip(names, counts) if count == 0]
            raise AssertionError(f"{problem}; missing: {missing}; the stream: {self.text('alarms-state')}") from None
        check_equal([name for name, count in zip(names, counts) if count != 1], [], "alarms that are shown more than once")

    def focused(self):
        return self.browser.run("""
            const at = document.activeElement, style = getComputedStyle(at);
            return {id: at.id, tenant: at.dataset.tenant ?? '', name: at.localName + '.' + at.className,
                    outlined: style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2};""")

    def tab_to(self, is_wanted, what, *keys, most=40):
        for _ in range(most):
            self.browser.press(*(keys or (TAB,)))
            at = self.focused()
            if at["name"].startswith("body"):
                continue
            if not at["outlined"]:
                raise AssertionError(f"the focus on {at['name']} {at['id']} cannot be seen")
            if is_wanted(at):
                return
        raise AssertionError(f"{what} is not reached by {most} presses of Tab")

    def screenshot(self, name):
        self.browser.screenshot(os.path.join(self.artifacts, name))

    def colours(self, scheme):
        features = [{"name": "prefers-color-scheme", "value": scheme}, {"name": "prefers-reduced-motion", "value": "reduce"}]
        self.browser.devtools("Emulation.setEmulatedMedia", features=features)

    def collect(self):
        self.console += [entry for entry in self.browser.log("browser") if entry["level"] in ("SEVERE", "WARNING")]
        for entry in self.browser.log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                self.requested.append(message)
