#!/usr/bin/env python3
"""Draws what a subscription and a follower of an event log deliver around an outage: outage.svg, beside this file.

`--check` compares instead of writing, and fails where the picture is another one.
"""

import pathlib
import sys

WIDTH, HEIGHT = 880, 330
PUBLISHED = [(1, 130), (2, 200), (3, 270), (4, 390), (5, 460), (6, 690), (7, 760)]
LOST, BACK = 330, 590
STYLE = """
  .ground { fill: #ffffff; } .text { fill: #1f2430; } .faint { fill: #59616f; } .line { stroke: #8a93a3; }
  .event { fill: #2563a8; } .missed { fill: #ffffff; stroke: #2563a8; } .gap { fill: #b3541e; } .out { fill: #f4e3d7; }
  .number { fill: #ffffff; }
  @media (prefers-color-scheme: dark) {
    .ground { fill: #14171d; } .text { fill: #e8eaee; } .faint { fill: #a3abb8; } .line { stroke: #6b7482; }
    .event { fill: #6aa9ea; } .missed { fill: #14171d; stroke: #6aa9ea; } .gap { fill: #e8935f; } .out { fill: #3a2a20; }
    .number { fill: #14171d; }
  }
  text { font: 14px system-ui, sans-serif; } .small { font-size: 12px; } .middle { text-anchor: middle; }
"""


def event(x, y, number, kind="event"):
    label = "text" if kind == "missed" else "number"
    return (
        f'<circle class="{kind}" cx="{x}" cy="{y}" r="13" stroke-width="2"/>'
        f'<text class="{label} middle" x="{x}" y="{y + 5}">{number}</text>'
    )


def lane(y, name, note):
    return (
        f'<text class="text" x="16" y="{y - 18}">{name}</text>'
        f'<text class="faint small" x="16" y="{y + 34}">{note}</text>'
        f'<line class="line" x1="100" y1="{y}" x2="{WIDTH - 20}" y2="{y}"/>'
    )


def picture():
    parts = [
        f'<rect class="ground" width="{WIDTH}" height="{HEIGHT}"/>',
        f'<rect class="out" x="{LOST}" y="40" width="{BACK - LOST}" height="{HEIGHT - 80}"/>',
        f'<text class="gap middle" x="{(LOST + BACK) // 2}" y="32">no connection</text>',
        lane(90, "published", "by anybody, in Redis"),
        lane(180, "subscription", "one gap, before the first new message"),
        lane(270, "follower of an event log", "reads the log from the last event that it knows: no gap"),
    ]
    for number, x in PUBLISHED:
        away = LOST < x < BACK
        parts.append(event(x, 90, number, "missed" if away else "event"))
        if not away:
            parts.append(event(x, 180, number))
    parts.append(f'<rect class="gap" x="{BACK + 12}" y="167" width="50" height="26" rx="5"/>')
    parts.append(f'<text class="number middle" x="{BACK + 37}" y="185">gap</text>')
    for number, x in PUBLISHED:
        late = {4: BACK + 22, 5: BACK + 56}
        parts.append(event(late.get(number, x), 270, number))
    title = "<title>What is delivered around an outage</title>"
    described = (
        "<desc>Messages 1 to 3 are delivered, then the connection is lost. 4 and 5 are published meanwhile. When it is back, a "
        "subscription delivers a gap and then 6 and 7; a follower of an event log delivers 4, 5, 6 and 7.</desc>"
    )
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img">\n'
        f"{title}\n{described}\n<style>{STYLE}</style>\n{body}\n</svg>\n"
    )


def main(arguments):
    path = pathlib.Path(__file__).with_name("outage.svg")
    if arguments == ["--check"]:
        if path.exists() and path.read_text() == picture():
            return 0
        print("docs/figures/outage.svg is not what outage.py draws: run it")
        return 1
    if arguments:
        print("usage: outage.py [--check]")
        return 2
    path.write_text(picture())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
