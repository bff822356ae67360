// The tiles: the portfolio of the tenant, where it came from, and how old it is.

import { Poller } from './poller.js';

const interval = 5000;  // 12 of the 100 requests a minute
const whole = new Intl.NumberFormat('en-GB', { maximumFractionDigits: 0 });
const tenths = new Intl.NumberFormat('en-GB', { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const timeOfDay = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' });

const explained = {
  computed: 'computed just now from the database',
  redis: 'from the cache in Redis',
  near: 'from the memory of the instance',
  stale: 'an old copy, because a new one cannot be computed',
};

/// "7 s", "2 min 5 s", "1 h 3 min".
export function duration(milliseconds) {
  const seconds = Math.max(0, Math.floor(milliseconds / 1000));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
}

export class Kpi {
  #api;
  #page;
  #poller;
  #clock;
  #bornAt;  // performance.now() when the value that is shown was computed; undefined without one

  constructor(api, page) {
    this.#api = api;
    this.#page = page;
    this.#poller = new Poller(() => this.#poll());
    this.#clock = setInterval(() => this.#showAge(), 1000);
    this.#poller.now();
  }

  /// Asks at once, for instance after an invalidation.
  refresh() {
    return this.#poller.now();
  }

  stop() {
    this.#poller.stop();
    clearInterval(this.#clock);
    this.#bornAt = undefined;
    for (const field of ['properties', 'units', 'meters', 'readings', 'kwh', 'latest']) this.#field(field, '–');
    this.#page('kpi-age').textContent = '–';
    this.#source('', 'loading');
    this.#problem('');
    this.#page('kpi-tiles').ariaBusy = 'true';
  }

  async #poll() {
    try {
      this.#show(await this.#api.request('/api/kpi'));
      return interval;
    } catch (problem) {
      if (problem.status === 429) {
        this.#problem(`The limit of this tenant is reached. The next request follows in ${duration(problem.retryAfter)}.`);
        return Math.max(interval, problem.retryAfter);
      }
      this.#problem(this.#bornAt === undefined ? problem.message : `${problem.message} What you see is the last answer.`);
      if (this.#bornAt === undefined) this.#source('', 'no answer');
      return Math.max(interval, problem.retryAfter ?? 0);
    }
  }

  #show({ value, source, age_ms: age }) {
    this.#bornAt = performance.now() - age;
    this.#field('properties', whole.format(value.properties));
    this.#field('units', whole.format(value.units));
    this.#field('meters', whole.format(value.meters));
    this.#field('readings', whole.format(value.readings_today));
    this.#field('kwh', tenths.format(value.kwh_today));
    const latest = value.latest_at ? ` at ${timeOfDay.format(new Date(value.latest_at * 1000))}` : '';
    this.#field('latest', value.latest_meter ? value.latest_meter + latest : 'none yet');
    this.#source(source, source);
    this.#page('kpi-tiles').ariaBusy = 'false';
    this.#problem('');
    this.#showAge();
  }

  #field(name, text) {
    this.#page(`kpi-${name}`).textContent = text;
  }

  #source(source, text) {
    const badge = this.#page('kpi-source');
    badge.dataset.source = source;
    badge.textContent = text;
    badge.title = explained[source] ?? '';
  }

  #problem(sentence) {
    this.#page('kpi-error').textContent = sentence;
    this.#page('kpi-error').hidden = sentence === '';
  }

  #showAge() {
    if (this.#bornAt !== undefined) this.#page('kpi-age').textContent = duration(performance.now() - this.#bornAt);
  }
}
