#!/usr/bin/env python3
"""The page of the gateway in a real browser. Each claim begins with a fresh login; exit status 77 without a browser.

page_test.py --artifacts DIR PROGRAM
"""

import argparse
import json
import os
import sys
import time
import traceback
import urllib.parse

sys.dont_write_bytecode = True  # the folder of the sources stays as it is

from demo import Demo, need, skip
from visitor import RUN, Page, check_equal
from webdriver import ENTER, SHIFT, TAB, Browser, Missing, find_programs, wait_until

WIDTH, HEIGHT = 1280, 800
HERE = os.path.dirname(os.path.abspath(__file__))
claims = []


def claim(sentence):
    def add(check):
        claims.append((sentence, check))
        return check
    return add


def script(name):
    with open(os.path.join(HERE, name), encoding="utf-8") as file:
        return "return (async () => {" + file.read() + "})()"


@claim("the modules of the page do what they promise")
def modules(page):
    page.begin()
    check_equal(page.browser.run(script("page_modules.js")), [], "broken claims")


@claim("after the login the tenant's KPI appears")
def kpi(page):
    page.begin()
    visible = "return document.getElementById('dashboard').checkVisibility()"
    check_equal(page.browser.run(visible), False, "whether the dashboard is seen before the login")
    page.browser.click("#login [data-tenant=acme]")
    page.wait("/^[0-9,]+$/.test(document.getElementById('kpi-properties').textContent)")
    page.wait("['computed', 'redis', 'near', 'stale'].includes(document.getElementById('kpi-source').textContent)")
    page.wait("/^[0-9]+ /.test(document.getElementById('kpi-age').textContent)")
    page.wait("/^[^–]+$/.test(document.getElementById('instance').textContent)")
    check_equal(page.text("tenant"), "acme", "the tenant")
    page.wait("document.querySelector('#chart svg title') && document.querySelector('#chart svg desc').textContent")


@claim("the page shows where a value came from and how far it may be behind")
def memory(page):
    page.log_in("initech")
    for _ in range(20):  # readings expire the figures again and again: asks more often than the page does by itself
        answered = page.answers()
        page.browser.run("dispatchEvent(new Event('online'))")
        wait_until(lambda: page.answers() > answered, "the figures are asked for", 10)
        shown = page.browser.run("const {textContent, title} = document.getElementById('kpi-source'); return [textContent, title]")
        if shown[0] == "near":
            break
    check_equal(shown, ["near", "from the memory of the instance"], "the source and its explanation")
    page.wait("/^Answers from memory: at most 10 s behind/.test(document.getElementById('kpi-memory').textContent)")
    page.wait("/hit rate [0-9.]+ % of this page, [0-9.]+ % of all requests/.test(document.querySelector('#chart desc')?.textContent)", deadline=20)


@claim("an alarm appears when it is published, and the critical ones are announced")
def alarm(page):
    page.log_in("acme")
    page.browser.run("""
        window.arrivals = {};
        new MutationObserver((changes) => {
          const now = performance.timeOrigin + performance.now();
          for (const {addedNodes} of changes) for (const {dataset} of addedNodes) window.arrivals[dataset.id] = now;
        }).observe(document.getElementById('alarms'), {childList: true});""")
    for n in range(1, 6):
        name = f"timed-{RUN}-{n}"
        begin = page.gateway.publish_alarms("acme", "gw-1", [name], severity="critical", text=f"Alarm {n} with Ümläuts, <b>tags</b> & 🔥")
        arrived = page.wait("window.arrivals[arguments[0]]", name)
        print(f"     an alarm was on the page {arrived - begin:.0f} ms after its publication began", flush=True)
    check_equal(page.browser.run("return document.querySelector(arguments[0]).textContent", f"[data-id='{name}'] .text"),
                "Alarm 5 with Ümläuts, <b>tags</b> & 🔥", "the text")
    page.wait("document.getElementById('announcement').textContent.includes('Critical alarm of gw-1')")


@claim("an alarm of one tenant is not shown to another")
def isolation(page):
    page.log_in("initech")
    page.publish("acme", 1, 1, "foreign")
    own = page.publish("initech", 1, 1, "own")
    page.wait_for_each_once(own, 10)
    check_equal(page.browser.run("return document.querySelectorAll(`#alarms [data-id^='foreign-']`).length"), 0, "alarms of acme")


@claim("adding a property invalidates: the next KPI is computed and has it")
def invalidate(page):
    page.log_in("acme")
    before = page.number("kpi-properties")
    page.browser.click("#invalidate")
    page.wait_for_more("kpi-properties", before)
    check_equal(page.text("kpi-source"), "computed", "the source")
    page.wait("/is property [0-9]+, added by/.test(document.getElementById('invalidate-result').textContent)")


@claim("a burst shows how many were refused, and counts the wait down")
def burst(page):
    page.log_in("globex")
    page.browser.click("#burst")
    page.wait("document.getElementById('burst-result').dataset.ok", deadline=30)
    shown = page.browser.run("return {...document.getElementById('burst-result').dataset}")
    ok, limited = int(shown["ok"]), int(shown["limited"])
    print(f"     of 130 requests {ok} were answered and {limited} refused: {page.text('burst-wait')}", flush=True)
    check_equal(ok + limited, 130, "the answers")
    if ok > 100:
        raise AssertionError(f"{ok} requests of one tenant were answered")
    first = page.browser.run("return Number(document.getElementById('burst-wait').dataset.retryAfter)")
    if not 1 <= first <= 60:
        raise AssertionError(f"the wait is {first} s")
    page.wait("Number(document.getElementById('burst-wait').dataset.left) < arguments[0]", first)


@claim("a reload of the page goes on where it was")
def reload(page):
    page.log_in("acme")
    names = page.publish("acme", 1, 3, "reload")
    page.wait_for_each_once(names, 10)
    page.browser.open("about:blank")
    names += page.publish("acme", 4, 6, "reload")
    page.browser.open(page.gateway.url + "/")
    page.wait_live()
    page.wait_for_each_once(names, 10)


@claim("the way back to the page goes on where it was")
def back(page):
    page.log_in("acme")
    names = page.publish("acme", 1, 3, "back")
    page.wait_for_each_once(names, 10)
    page.browser.run("window.isKept = true")
    page.browser.open("about:blank")
    names += page.publish("acme", 4, 6, "back")
    page.browser.back()
    page.wait("document.getElementById('tenant')?.textContent === 'acme'")
    is_kept = page.browser.run("return window.isKept === true")
    print(f"     the browser had {'kept the page' if is_kept else 'to load the page again'}", flush=True)
    page.wait_live()
    page.wait_for_each_once(names, 10)


@claim("pages that were left, and that the browser keeps, hold no connection")
def connections(page):
    for _ in range(8):  # the browser opens six to a host
        page.log_in("acme")
        page.browser.open("about:blank")


@claim("a device that goes offline is told so, and goes on when it is online again")
def offline(page):
    page.log_in("acme")
    conditions = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    page.browser.devtools("Network.emulateNetworkConditions", offline=True, **conditions)
    try:
        page.wait("document.getElementById('notice').textContent.includes('offline')")
        page.wait("document.getElementById('kpi-error').textContent.includes('offline')", deadline=20)
        properties = page.number("kpi-properties")
    finally:
        page.browser.devtools("Network.emulateNetworkConditions", offline=False, **conditions)
    page.wait("document.getElementById('notice').textContent === '' && document.getElementById('kpi-error').hidden")
    check_equal(page.number("kpi-properties") >= properties > 0, True, "the last answer stayed on the page")
    page.wait_live(30)


@claim("a token that is not accepted leads back to the login, with a reason")
def refused(page):
    page.begin()
    page.browser.run("document.getElementById('token').value = 'no-such-token'")
    page.browser.click("#token-form button")
    page.wait("document.getElementById('login').checkVisibility() "
              "&& document.getElementById('login-state').textContent.includes('does not accept this token')")
    check_equal(page.browser.run("return sessionStorage.length"), 0, "what is stored")


@claim("after the logout nothing of the tenant is left")
def logout(page):
    page.log_in("acme")
    names = page.publish("acme", 1, 1, "logout")
    page.wait_for_each_once(names, 10)
    page.browser.open(page.gateway.url + "/")  # a reload stores the alarms
    page.wait_for_each_once(names, 10)
    page.wait("document.getElementById('kpi-memory').textContent")
    page.browser.run("document.getElementById('burst').click(); document.getElementById('logout').click()")
    page.wait("document.getElementById('login').checkVisibility() && !document.getElementById('dashboard').checkVisibility()")
    page.wait("document.querySelector('#login [data-tenant=acme]')")
    left = page.browser.run("""return [sessionStorage.length, document.querySelectorAll('#alarms li, #chart *, #instances li').length,
        ...['kpi-properties', 'kpi-error', 'burst-result', 'kpi-memory'].map((id) => document.getElementById(id).textContent)]""")
    check_equal(left, [0, 0, "–", "", "", ""], "what is left")
    check_equal(page.focused()["id"], "login-title", "the focus")


@claim("login, buttons and logout are reached by the keyboard alone")
def keyboard(page):
    page.begin()
    page.browser.press(TAB)
    check_equal(page.focused()["name"], "a.skip", "the first stop")
    page.tab_to(lambda at: at["tenant"] == "acme", "the tenant acme")
    page.browser.press(ENTER)
    page.wait("document.getElementById('kpi-source').dataset.source")
    check_equal(page.focused()["id"], "kpi-title", "the focus after the login")
    before = page.number("kpi-properties")
    page.tab_to(lambda at: at["id"] == "invalidate", "the button that invalidates")
    page.browser.press(ENTER)
    page.wait_for_more("kpi-properties", before)
    check_equal(page.focused()["id"], "invalidate", "the focus after a press")
    page.tab_to(lambda at: at["id"] == "burst", "the burst")
    page.tab_to(lambda at: at["name"] == "div.scroll", "the list of alarms")
    page.tab_to(lambda at: at["name"].startswith("summary"), "the table of the chart")
    page.tab_to(lambda at: at["id"] == "logout", "the logout", SHIFT, TAB)
    page.browser.press(ENTER)
    page.wait("document.getElementById('login').checkVisibility()")


@claim("light and dark have enough contrast")
def themes(page):
    for scheme in ("light", "dark"):
        page.colours(scheme)
        page.begin()
        check_equal(page.browser.run(script("page_contrast.js")), [], f"poor contrast of the {scheme} login")
        page.log_in("acme")
        for severity in ("info", "warning", "critical"):
            page.gateway.publish_alarms("acme", "gw-1", [f"{scheme}-{severity}-{RUN}"], severity=severity, text="Flow of m-12 is far above its mean")
            page.wait("document.querySelector(arguments[0])", f"#alarms li[data-id='{scheme}-{severity}-{RUN}']")
        page.browser.click("#invalidate")
        page.wait("document.getElementById('invalidate-result').textContent")
        page.wait("document.querySelectorAll('#chart circle').length >= 3", deadline=20)
        check_equal(page.browser.run(script("page_contrast.js")), [], f"poor contrast of the {scheme} dashboard")
        page.screenshot(f"{scheme}.png")
    page.colours("light")


@claim("on a phone of 360 pixels nothing scrolls sideways")
def phone(page):
    page.browser.devtools("Emulation.setDeviceMetricsOverride", width=360, height=740, deviceScaleFactor=2, mobile=True)
    try:
        wide = "return document.documentElement.scrollWidth"
        page.begin()
        check_equal(page.browser.run(wide), 360, "the width of the login")
        page.log_in("acme")
        page.gateway.publish_alarms("acme", "gw-1", [f"phone-{RUN}"], severity="critical", text="Donaudampfschifffahrtsgesellschaftskapitän" * 3)
        page.wait("document.querySelector(arguments[0])", f"#alarms li[data-id='phone-{RUN}']")
        page.wait("document.querySelector('#chart svg')")
        page.browser.run("document.querySelector('details').open = true")
        check_equal(page.browser.run(wide), 360, "the width of the dashboard")
        page.browser.run("document.querySelector('details').open = false")
        page.screenshot("phone.png")
    finally:
        page.browser.devtools("Emulation.clearDeviceMetricsOverride")


@claim("Redis is killed and started again: the page recovers, and no alarm is missing")
def redis(page):
    page.log_in("initech")
    names = page.publish("initech", 1, 5, "redis")
    page.wait_for_each_once(names, 10)
    page.gateway.tell("kill-redis")
    try:
        wait_until(lambda: json.loads(page.gateway.get("/healthz")[2])["redis"] == "down", "the server sees that Redis is down", 30)
        names += page.publish("initech", 6, 15, "redis")
        page.wait("document.getElementById('kpi-memory').textContent === 'Memory is off: the server announces nothing now.'", deadline=30)
    finally:
        begin = time.monotonic()
        page.gateway.tell("start-redis")
    names += page.publish("initech", 16, 20, "redis")
    page.wait_for_each_once(names, 90)
    print(f"     all {len(names)} alarms were on the page {time.monotonic() - begin:.1f} s after the start of Redis", flush=True)
    page.wait_live(60)
    page.wait("document.getElementById('kpi-error').hidden", deadline=60)
    page.wait("document.getElementById('kpi-memory').textContent.startsWith('Answers from memory')", deadline=30)
    before = page.number("kpi-properties")
    page.browser.click("#invalidate")
    page.wait_for_more("kpi-properties", before, deadline=30)


@claim("the instance that serves the alarms is killed: another goes on, and no alarm is missing")
def instance(page):
    page.log_in("acme")
    names = page.publish("acme", 1, 5, "killed")
    page.wait_for_each_once(names, 10)
    dead = page.browser.run("return document.getElementById('alarms-state').dataset.instance")
    page.gateway.tell("kill-gateway " + dead)
    names += page.publish("acme", 6, 15, "killed")
    page.wait("document.getElementById('alarms-state').dataset.state === 'live' "
              "&& document.getElementById('alarms-state').dataset.instance !== arguments[0]", dead, deadline=60)
    names += page.publish("acme", 16, 20, "killed")
    page.wait_for_each_once(names, 60)
    page.wait("document.getElementById('kpi-error').hidden "
              "&& document.getElementById('instance').textContent !== arguments[0]", dead, deadline=30)


@claim("no error on the console, and no request to another host")
def nothing_else(page):
    page.collect()
    # The browser itself notes refused requests (401, 429), an outage (503), and connections that were cut.
    expected = ("status of 401", "status of 429", "status of 503", "net::ERR_")
    errors = [entry["message"] for entry in page.console
              if entry["source"] != "network" or not any(part in entry["message"] for part in expected)]
    check_equal(errors, [], "what the console has")
    own = urllib.parse.urlsplit(page.gateway.url).netloc
    urls = [urllib.parse.urlsplit(message["params"]["request"]["url"]) for message in page.requested]
    hosts = {url.netloc for url in urls if url.scheme in ("http", "https", "ws", "wss")}  # not the browser's own chrome:// tab
    check_equal(hosts, {own}, "the hosts of all requests")


def run(page, only):
    failures = 0
    for sentence, check in claims:
        if only and only not in sentence:
            continue
        begin = time.monotonic()
        try:
            check(page)
            page.collect()
            print(f"ok   {sentence} ({time.monotonic() - begin:.1f} s)", flush=True)
        except Exception as problem:  # the next claim begins anew
            failures += 1
            print(f"FAIL {sentence}: {problem}", flush=True)
            if not isinstance(problem, AssertionError):
                traceback.print_exc()
            try:
                page.screenshot(f"failed_{check.__name__}.png")
                page.collect()
            except (AssertionError, OSError) as unseen:
                print(f"     no screenshot: {unseen}", flush=True)
    return failures


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--artifacts", required=True, help="directory for screenshots; made where it is missing")
    parser.add_argument("--only", help="run the claims that contain this text")
    parser.add_argument("demo", help="the demo program")
    options = parser.parse_args()
    try:
        find_programs()
    except Missing as reason:
        skip(str(reason))
    need("redis-server", "mosquitto")
    os.makedirs(options.artifacts, exist_ok=True)
    with Demo(options.demo, "--instances", "3") as gateway, Browser(WIDTH, HEIGHT) as browser:
        browser.devtools("Emulation.setDeviceMetricsOverride", width=WIDTH, height=HEIGHT, deviceScaleFactor=1, mobile=False)
        page = Page(browser, gateway, options.artifacts)
        page.colours("light")
        return 1 if run(page, options.only) else 0


if __name__ == "__main__":
    sys.exit(main())
