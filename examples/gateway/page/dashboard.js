// What a tenant sees after the login: one session, from its first request to its last.

import { Actions } from './actions.js';
import { AlarmList, Announcer, StreamState } from './alarms.js';
import { Api } from './api.js';
import { Chart } from './chart.js';
import { Kpi } from './kpi.js';
import { MemoryBound } from './memory.js';
import { Poller } from './poller.js';
import { ReconnectingStream } from './reconnecting_stream.js';
import { Samples } from './samples.js';

const statsInterval = 5000;

/// The instances that answered so far, with how often, the last one marked.
class Instances {
  #page;
  #counts = new Map();

  constructor(page) {
    this.#page = page;
  }

  answered(name) {
    if (name === '') return;
    this.#counts.set(name, (this.#counts.get(name) ?? 0) + 1);
    this.#page('instance').textContent = name;
    const items = [...this.#counts].sort(([a], [b]) => a.localeCompare(b)).map(([instance, count]) => {
      const item = document.createElement('li');
      item.className = 'badge';
      item.dataset.instance = instance;
      item.dataset.latest = String(instance === name);
      item.textContent = `${instance}: ${count}${instance === name ? ' (latest)' : ''}`;
      return item;
    });
    this.#page('instances').replaceChildren(...items);
  }

  clear() {
    this.#counts.clear();
    this.#page('instance').textContent = '–';
    this.#page('instances').replaceChildren();
  }
}

/// The alarms of the last page of this tab, so that a reload goes on where it was.
function savedAlarms(key) {
  try {
    const { entries, lastEventId } = JSON.parse(sessionStorage.getItem(key));
    return { entries, lastEventId };
  } catch {
    return { entries: [], lastEventId: '' };
  }
}

export class Dashboard {
  #api;
  #alarms;
  #announcer;
  #chart;
  #instances;
  #kpi;
  #memory;
  #actions;
  #samples = new Samples();
  #state;
  #stats;
  #storageKey;
  #stream;
  #onOnline = () => {
    this.#stream.hurry();
    this.#kpi.refresh();
  };

  /// page(id) is the element with this id.
  constructor({ page, tenant, token, onUnauthorized }) {
    this.#storageKey = `gateway.alarms.${tenant}`;
    this.#instances = new Instances(page);
    this.#api = new Api({ token, onAnswer: (answer) => this.#answered(answer), onUnauthorized });
    this.#chart = new Chart(page('chart'), page('chart-table'));
    this.#kpi = new Kpi(this.#api, page);
    this.#memory = new MemoryBound(page('kpi-memory'));
    this.#actions = new Actions(this.#api, page, this.#kpi);
    this.#stats = new Poller(() => this.#pollStats());
    this.#stats.now();

    const saved = savedAlarms(this.#storageKey);
    this.#state = new StreamState(page('alarms-state'));
    this.#announcer = new Announcer(page('announcement'));
    this.#alarms = new AlarmList({ list: page('alarms'), empty: page('alarms-empty'), announcer: this.#announcer });
    this.#alarms.restore(saved.entries);
    this.#stream = new ReconnectingStream({
      open: (id, signal) => this.#api.openAlarms(id, signal),
      onEvent: (event) => this.#alarms.take(event),
      onState: (state) => this.#state.show(state),
      lastEventId: saved.lastEventId,
    });
    this.#stream.run();
    addEventListener('online', this.#onOnline);
  }

  /// Nothing of the tenant stays, neither on the page nor in the storage of the tab.
  logOut() {
    this.#end();
    sessionStorage.removeItem(this.#storageKey);
  }

  /// The page is left, maybe to come back. A page that the browser keeps must not keep its connection: there are only six.
  leave() {
    const saved = { entries: this.#alarms.saved(), lastEventId: this.#stream.lastEventId };
    sessionStorage.setItem(this.#storageKey, JSON.stringify(saved));
    this.#end();
  }

  #end() {
    removeEventListener('online', this.#onOnline);
    this.#stream.stop();
    this.#api.close();
    this.#stats.stop();
    for (const part of [this.#kpi, this.#actions, this.#chart]) part.stop();
    for (const part of [this.#alarms, this.#announcer, this.#state, this.#instances, this.#memory]) part.clear();
  }

  #answered({ instance, path, status, ms, body }) {
    this.#instances.answered(instance);
    if (path !== '/api/kpi' || status !== 200) return;
    this.#memory.answered(instance);
    this.#samples.answered(performance.now(), body.source, this.#actions.bursting ? undefined : ms);
  }

  async #pollStats() {
    try {
      const stats = await this.#api.request('/api/stats');
      this.#samples.stated(performance.now(), stats);
      this.#memory.stated(stats);
    } catch (problem) {
      return Math.max(statsInterval, problem.retryAfter ?? 0);  // the chart has a hole then; the tiles tell the reason
    } finally {
      const now = performance.now();
      this.#chart.draw(this.#samples.points(now), now);
    }
    return statsInterval;
  }
}
