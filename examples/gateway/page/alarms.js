// The list of alarms: newest first, each once, with every place where some may be missing.

const mostShown = 500;
const mostRemembered = 10_000;  // as many as the server's log keeps

const causes = {
  trimmed: 'they are older than what the server keeps',
  reset: 'the log of the server was replaced',
  too_far: 'too many came while this page was away',
  invalid_id: 'the server does not know where this page left off',
  reconnect: 'the server had lost its connection to Redis',
  lagged: 'they came faster than this page could take them',
  unreadable: 'one could not be read',
};
const severities = { info: 'Info', warning: 'Warning', critical: 'Critical' };
const timeOfDay = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' });

/// The sentence that stands where alarms may be missing.
export function gapSentence({ cause, lost }) {
  const count = Number.isInteger(lost) ? `${lost} alarm${lost === 1 ? '' : 's'}` : 'Alarms';
  return `${count} may be missing: ${causes[cause] ?? String(cause).replaceAll('_', ' ')}.`;
}

export class AlarmList {
  #list;
  #empty;
  #announcer;
  #entries = [];  // what is shown, oldest first
  #seen = new Set();

  constructor({ list, empty, announcer }) {
    this.#list = list;
    this.#empty = empty;
    this.#announcer = announcer;
    this.#show();
  }

  /// One event of the stream. An alarm that was shown before changes nothing.
  take({ type, data }) {
    if (type !== 'alarm' && type !== 'gap') return;
    let value;
    try {
      value = JSON.parse(data);
    } catch {
      value = null;
    }
    if (type === 'gap') this.#add({ gap: { cause: value?.cause ?? 'unknown', lost: value?.lost ?? null, at: Date.now() } });
    else if (typeof value?.id !== 'string') this.#add({ gap: { cause: 'unreadable', lost: 1, at: Date.now() } });
    else if (this.#remember(value.id)) {
      this.#add({ alarm: value });
      if (value.severity === 'critical') this.#announcer.say(`Critical alarm of ${value.gateway}: ${value.text}`);
    }
  }

  /// What restore() of the next load of the page takes.
  saved() {
    return this.#entries;
  }

  restore(entries) {
    for (const entry of entries) {
      if (entry.alarm) this.#remember(entry.alarm.id);
      this.#add(entry);
    }
  }

  clear() {
    this.#entries = [];
    this.#seen.clear();
    this.#list.replaceChildren();
    this.#show();
  }

  #remember(id) {
    if (this.#seen.has(id)) return false;
    this.#seen.add(id);
    if (this.#seen.size > mostRemembered) this.#seen.delete(this.#seen.values().next().value);
    return true;
  }

  #add(entry) {
    this.#entries.push(entry);
    this.#list.prepend(entry.gap ? gapItem(entry.gap) : alarmItem(entry.alarm));
    if (this.#entries.length > mostShown) {
      this.#entries.shift();
      this.#list.lastElementChild.remove();
    }
    this.#show();
  }

  #show() {
    this.#empty.hidden = this.#entries.length > 0;
  }
}

function alarmItem({ id, gateway, severity, text, at }) {
  const known = Object.hasOwn(severities, severity) ? severity : 'info';
  const item = document.createElement('li');
  item.dataset.id = id;
  item.dataset.severity = known;
  item.append(shape(known), part('severity', severities[known]), timeOf(at), part('gateway', gateway), part('text', text));
  return item;
}

function gapItem(gap) {
  const item = document.createElement('li');
  item.dataset.gap = gap.cause;
  item.append(shape('gap'), part('severity', 'Gap'), timeOf(gap.at), part('text', gapSentence(gap)));
  return item;
}

function shape(name) {
  const picture = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  picture.setAttribute('aria-hidden', 'true');
  picture.classList.add('shape');
  const use = document.createElementNS('http://www.w3.org/2000/svg', 'use');
  use.setAttribute('href', `#shape-${name}`);
  picture.append(use);
  return picture;
}

function part(name, text) {
  const element = document.createElement('span');
  element.className = name;
  element.textContent = text;
  return element;
}

function timeOf(at) {
  const moment = new Date(at);
  const element = document.createElement('time');
  if (Number.isNaN(moment.getTime())) return element;
  element.dateTime = moment.toISOString();
  element.title = moment.toLocaleString('en-GB');
  element.textContent = timeOfDay.format(moment);
  return element;
}

/// Reads critical alarms out to those who do not see the page: what comes within a second, in one sentence.
export class Announcer {
  #element;
  #waiting = [];
  #timer;

  constructor(element) {
    this.#element = element;
  }

  say(sentence) {
    this.#waiting.push(sentence);
    this.#timer ??= setTimeout(() => this.#speak(), 1000);
  }

  clear() {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#waiting = [];
    this.#element.textContent = '';
  }

  #speak() {
    const others = this.#waiting.length - 1;
    this.#element.textContent = this.#waiting.at(-1) + (others > 0 ? `. And ${others} more critical.` : '');
    this.#waiting = [];
    this.#timer = undefined;
  }
}

/// The badge of the connection, with the seconds until the next attempt.
export class StreamState {
  #element;
  #timer;

  constructor(element) {
    this.#element = element;
  }

  show(state) {
    clearInterval(this.#timer);
    this.#element.dataset.state = state.name;
    this.#element.dataset.instance = state.instance ?? '';
    this.#element.title = state.reason ?? '';
    if (state.name === 'connecting') this.#element.textContent = 'connecting …';
    if (state.name === 'live') this.#element.textContent = state.instance ? `live from ${state.instance}` : 'live';
    if (state.name === 'ended') this.#element.textContent = `ended: ${state.reason}`;
    if (state.name !== 'waiting') return;
    const count = () => {
      const seconds = Math.max(0, Math.ceil((state.until - performance.now()) / 1000));
      this.#element.textContent = `${state.reason}; reconnecting in ${seconds} s`;
    };
    count();
    this.#timer = setInterval(count, 500);
  }

  clear() {
    clearInterval(this.#timer);
  }
}
