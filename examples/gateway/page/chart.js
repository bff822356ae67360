// The chart: two panels over one time axis, drawn as SVG in the pixels of its place, so that its text keeps its size.

import { shown } from './samples.js';

const panelHeight = 90;
const gapHeight = 28;
const left = 44;
const right = 12;
const top = 20;
const bottom = 22;

const rates = { title: 'Hit rate in the last minute', unit: '%', own: 'ownRate', server: 'serverRate', factor: 100 };
const latencies = { title: 'Latency', unit: 'ms', own: 'ownMs', server: 'p99', factor: 1 };

const digits = new Intl.NumberFormat('en-GB', { maximumSignificantDigits: 3 });

function svg(name, attributes = {}, text) {
  const element = document.createElementNS('http://www.w3.org/2000/svg', name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

/// The next of 1, 2, 5, 10, 20, ... that is not smaller.
function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 1)));
  return [1, 2, 5, 10].find((step) => step * power >= value) * power;
}

function shownNumber(value, { factor }) {
  return value === undefined ? '–' : digits.format(value * factor);
}

function shownValue(value, panel) {
  return value === undefined ? 'unknown' : `${shownNumber(value, panel)} ${panel.unit}`;
}

export class Chart {
  #place;
  #table;
  #points = [];
  #now = 0;
  #watch;

  constructor(place, table) {
    this.#place = place;
    this.#table = table;
    this.#watch = new ResizeObserver(() => this.#paint());
    this.#watch.observe(place);
  }

  /// `now` is of the same clock as the points.
  draw(points, now) {
    this.#points = points;
    this.#now = now;
    this.#paint();
    this.#tabulate();
  }

  stop() {
    this.#watch.disconnect();
    this.#place.replaceChildren();
    this.#table.replaceChildren();
  }

  #paint() {
    const width = this.#place.clientWidth;
    if (width === 0) return;
    const height = top + panelHeight + gapHeight + panelHeight + bottom;
    const viewBox = `0 0 ${width} ${height}`;
    const picture = svg('svg', { width, height, viewBox, role: 'img', 'aria-labelledby': 'chart-name chart-text' });
    picture.append(svg('title', { id: 'chart-name' }, 'Hit rate and latency of the last five minutes'));
    picture.append(svg('desc', { id: 'chart-text' }, this.#summary()));
    const slowest = Math.max(1, ...this.#points.flatMap(({ ownMs, p99 }) => [ownMs ?? 0, p99 ?? 0]));
    this.#panel(picture, rates, top, width, 100);
    this.#panel(picture, latencies, top + panelHeight + gapHeight, width, roundUp(slowest));
    for (const minutes of width < 420 ? [4, 2, 0] : [5, 4, 3, 2, 1, 0]) {
      const x = this.#x(this.#now - minutes * 60_000, width);
      const anchor = minutes === 0 ? 'end' : 'middle';
      picture.append(svg('text', { x, y: height - 5, 'text-anchor': anchor }, minutes === 0 ? 'now' : `−${minutes} min`));
    }
    this.#place.replaceChildren(picture);
  }

  #x(at, width) {
    return left + (1 - (this.#now - at) / shown) * (width - left - right);
  }

  #panel(picture, panel, y, width, most) {
    picture.append(svg('text', { x: left, y: y - 7, class: 'panel-title' }, `${panel.title} (${panel.unit})`));
    for (const share of [0, 0.5, 1]) {
      const at = y + (1 - share) * panelHeight;
      picture.append(svg('path', { d: `M${left} ${at}H${width - right}`, class: share === 0 ? 'axis' : 'grid' }));
      picture.append(svg('text', { x: left - 6, y: at + 4, 'text-anchor': 'end' }, digits.format(most * share)));
    }
    for (const [field, kind] of [[panel.server, 'server-line'], [panel.own, 'page-line']]) {
      const height = (point) => y + (1 - (point[field] * panel.factor) / most) * panelHeight;
      const place = (point) => `${this.#x(point.at, width).toFixed(1)} ${height(point).toFixed(1)}`;
      const known = this.#points.filter((point) => point[field] !== undefined);
      picture.append(svg('path', { d: lineThrough(known, place), class: kind }));
      if (known.length > 0) {
        const [cx, cy] = place(known.at(-1)).split(' ');
        picture.append(svg('circle', { cx, cy, r: 3, class: `${kind} end` }));
      }
    }
  }

  #summary() {
    const last = this.#points.at(-1);
    if (!last) return 'Nothing was measured yet.';
    const [ownRate, serverRate] = [last.ownRate, last.serverRate].map((rate) => shownValue(rate, rates));
    const [ownMs, p99] = [last.ownMs, last.p99].map((time) => shownValue(time, latencies));
    return `Now: hit rate ${ownRate} of this page, ${serverRate} of all requests; `
      + `latency ${ownMs} of this page, ${p99} at the 99th percentile of all requests.`;
  }

  /// One row for each half minute, the last point of it.
  #tabulate() {
    const rows = new Map();
    for (const point of this.#points) rows.set(Math.floor((this.#now - point.at) / 30_000), point);
    const head = row('th', ['Before', 'Hits, page (%)', 'Hits, all (%)', 'Latency, page (ms)', 'p99, all (ms)']);
    const body = [...rows].sort(([a], [b]) => a - b).map(([age, point]) => row('td', [
      age === 0 ? 'now' : `${age / 2} min`, shownNumber(point.ownRate, rates), shownNumber(point.serverRate, rates),
      shownNumber(point.ownMs, latencies), shownNumber(point.p99, latencies),
    ]));
    const caption = document.createElement('caption');
    caption.textContent = 'Hit rate in the minute before, and latency';
    const [thead, tbody] = ['thead', 'tbody'].map((name) => document.createElement(name));
    thead.append(head);
    tbody.append(...body);
    this.#table.replaceChildren(caption, thead, tbody);
  }
}

/// A line breaks where nothing was measured for 20 s.
function lineThrough(points, place) {
  return points.map((point, n) => (n > 0 && point.at - points[n - 1].at < 20_000 ? 'L' : 'M') + place(point)).join('');
}

function row(kind, cells) {
  const line = document.createElement('tr');
  for (const text of cells) {
    const cell = document.createElement(kind);
    if (kind === 'th') cell.scope = 'col';
    cell.textContent = text;
    line.append(cell);
  }
  return line;
}
