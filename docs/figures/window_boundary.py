#!/usr/bin/env python3
"""Draws window_boundary.svg: what each kind of limiter admits around a window boundary.

  window_boundary.py           simulates and writes the picture next to this file
  window_boundary.py --check   writes nothing; exits with 1 if the picture there is another one

The rules are those of src/limiting/lua/*.lua for one limit and a cost of 1. Times are whole milliseconds, so that
every machine draws the same.
"""
import sys
from pathlib import Path

PICTURE = Path(__file__).with_suffix(".svg")
LIMIT, WINDOW, END = 100, 60_000, 180_000
REQUESTS = [59_000 + 10 * i for i in range(100)] + list(range(60_000, END, 100))


# Each kind is a function that returns, for one key, the decision: may the request of this time pass?
def fixed_window():
    used = {}

    def admits(now):
        window = now // WINDOW
        if used.get(window, 0) >= LIMIT:
            return False
        used[window] = used.get(window, 0) + 1
        return True
    return admits


def sliding_log():
    stamps = []

    def admits(now):
        stamps[:] = [stamp for stamp in stamps if stamp > now - WINDOW]
        if len(stamps) >= LIMIT:
            return False
        stamps.append(now)
        return True
    return admits


def segmented_log(parts=60):
    length, used = WINDOW // parts, {}

    def admits(now):
        for segment in [s for s in used if s < (now - WINDOW) // length]:
            del used[segment]
        if sum(used.values()) >= LIMIT:
            return False
        used[now // length] = used.get(now // length, 0) + 1
        return True
    return admits


def gcra(burst=LIMIT):
    unit, free_at = WINDOW // LIMIT, 0

    def admits(now):
        nonlocal free_at
        free_at = max(free_at, now)
        if free_at + unit > now + burst * unit:
            return False
        free_at += unit
        return True
    return admits


def trailing(admitted, now):
    return sum(now - WINDOW < time <= now for time in admitted)


# With a ground of its own, because a page may be dark while the system is light.
STYLE = """
  svg { --ground: #ffffff; --text: #1f2328; --quiet: #57606a; --grid: #d8dee4; --in: #0969da; --over: #bc3a00 }
  @media (prefers-color-scheme: dark) {
    svg { --ground: #12171e; --text: #e6edf3; --quiet: #a3adb8; --grid: #2f3742; --in: #58a6ff; --over: #ff9a5c }
  }
  text { font: 12px system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; fill: var(--quiet) }
  .head { font-size: 17px; font-weight: 600; fill: var(--text) }
  .name { font-size: 14px; font-weight: 600; fill: var(--text) }
  .strong { font-weight: 600; fill: var(--text) }
  .over { font-weight: 600; fill: var(--over) }
  .right { text-anchor: end } .middle { text-anchor: middle }
  path, line { fill: none; stroke-width: 1 }
  .ground { fill: var(--ground); stroke: var(--grid) }
  .grid { stroke: var(--grid) } .boundary { stroke: var(--quiet); stroke-dasharray: 2 3 }
  .limit { stroke: var(--text); stroke-width: 1.5; stroke-dasharray: 7 4 }
  .area { fill: var(--in); fill-opacity: .2 } .line { stroke: var(--in); stroke-width: 2 }
  .area-over { fill: url(#hatch) } .line-over { stroke: var(--over); stroke-width: 2 }
  .tint { fill: var(--over); fill-opacity: .22 } .stripe { stroke: var(--over); stroke-width: 1.5; stroke-opacity: .6 }
"""
START, TOP = 30_000, 220                      # of the axes: milliseconds, units
WIDTH, HEIGHT = 360, 128                      # of what a panel plots
COLUMNS, ROWS = (58, 492), (124, 340)         # where the panels' plots begin


def panel(number, title, admits):
    """One panel as SVG, and its figures in words."""
    left, top = COLUMNS[number % 2], ROWS[number // 2]
    admitted = [time for time in REQUESTS if admits(time)]
    most = max(trailing(admitted, time) for time in admitted)

    def x(time):
        return left + WIDTH * (time - START) / (END - START)

    def y(units):
        return top + HEIGHT - HEIGHT * units / TOP

    # Every 0.2 s, which is half a pixel; what changes nothing is left out.
    times = range(START, END + 1, 200)
    counts = [trailing(admitted, time) for time in times]
    points = [(time, count) for i, (time, count) in enumerate(zip(times, counts))
              if i in (0, len(counts) - 1) or not counts[i - 1] == count == counts[i + 1]]
    line = "M" + " ".join(f"{x(time):.1f},{y(count):.1f}" for time, count in points)
    area = f"{line} V{y(0):.1f} H{x(START):.1f}Z"

    out = [f'<g><text class="name" x="{left}" y="{top - 30}">{title}</text>',
           f'<text class="right" x="{left - 8}" y="{top}">units</text>']
    for units in (0, 50, 100, 150, 200):
        out.append(f'<line class="grid" x1="{left}" y1="{y(units):.1f}" x2="{left + WIDTH}" y2="{y(units):.1f}"/>'
                   f'<text class="right" x="{left - 8}" y="{y(units) + 4:.1f}">{units}</text>')
    for seconds in range(START // 1000, END // 1000 + 1, 30):
        out.append(f'<text class="middle" x="{x(seconds * 1000):.1f}" y="{top + HEIGHT + 17}">{seconds} s</text>')
    for time in range(WINDOW, END, WINDOW):
        out.append(f'<line class="boundary" x1="{x(time):.1f}" y1="{top}" x2="{x(time):.1f}" y2="{top + HEIGHT}"/>')
    # The same line twice: what is above the limit is cut out and drawn in another colour, with stripes.
    for part, from_, to in (("", y(LIMIT) - 1, y(0) + 2), ("-over", top - 2, y(LIMIT) - 1)):
        clip = f"p{number}{part}"
        out.append(f'<clipPath id="{clip}"><path d="M{left},{from_:.1f}h{WIDTH}V{to:.1f}h-{WIDTH}Z"/></clipPath>')
        if part == "" or most > LIMIT:
            out.append(f'<g clip-path="url(#{clip})"><path class="area{part}" d="{area}"/>'
                       f'<path class="line{part}" d="{line}"/></g>')
    out.append(f'<line class="limit" x1="{left}" y1="{y(LIMIT):.1f}" x2="{left + WIDTH}" y2="{y(LIMIT):.1f}"/>'
               f'<text class="strong" x="{left + 6}" y="{y(LIMIT) - 6:.1f}">limit {LIMIT}</text>')
    if most > LIMIT:
        out.append(f'<text class="over" x="{x(124_000):.1f}" y="{y(160):.1f}">over the limit</text>')
    out.append(f'<text x="{left}" y="{top - 11}">most in any 60 s: '
               f'<tspan class="{"over" if most > LIMIT else "strong"}">{most}</tspan> · admitted in all: '
               f'<tspan class="strong">{len(admitted)}</tspan></text></g>')
    return "\n".join(out), f"{title}: at most {most} in any 60 s, {len(admitted)} in all"


def draw():
    panels, words = zip(*(panel(i, title, admits) for i, (title, admits) in enumerate((
        ("fixed window, for contrast", fixed_window()), ("gcra, burst 100", gcra()),
        ("sliding_log", sliding_log()), ("segmented_log, 60 segments", segmented_log())))))
    words = ";\n".join(words)
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 880 520" width="880" height="520" role="img"
     aria-labelledby="title desc">
<title id="title">What each kind of limiter admits around a window boundary</title>
<desc id="desc">Units admitted in the trailing 60 s over time, at a limit of {LIMIT} in 60 s. 100 requests come in
the last second before the boundary at 60 s, then 10 a second until 180 s, {len(REQUESTS)} in all.
{words}.</desc>
<style>{STYLE}</style>
<defs><pattern id="hatch" width="7" height="7" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">
<path class="tint" d="M0,0h7v7h-7Z"/><path class="stripe" d="M0,0v7"/></pattern></defs>
<rect class="ground" x=".5" y=".5" width="879" height="519" rx="8"/>
<text class="head" x="20" y="34">Admitted in the trailing 60 s, at a limit of {LIMIT} in 60 s</text>
<text x="20" y="56">The same traffic for all: 100 requests in the last second before the window boundary at 60 s, then
10 a second until 180 s ({len(REQUESTS)} in all).</text>
{chr(10).join(panels)}
<text x="20" y="507">Dotted: the fixed window's boundaries.
Dips: the burst has left the 60 s, and 10 requests a second fill them again.</text>
</svg>
"""


def main():
    picture = draw().encode()
    if sys.argv[1:] == ["--check"]:
        if not PICTURE.exists() or PICTURE.read_bytes() != picture:
            sys.exit(f"{PICTURE.name} is not what {Path(__file__).name} draws: run the script and commit the picture.")
    elif sys.argv[1:]:
        sys.exit(__doc__)
    else:
        PICTURE.write_bytes(picture)


if __name__ == "__main__":
    main()
