// The two buttons: one invalidates, one runs into the limit.

import { duration } from './kpi.js';

const burstSize = 130;

/// A button that does one thing at a time. It keeps the focus while it works, which a disabled one would lose.
function onPress(button, work) {
  let busy = false;
  button.onclick = async () => {
    if (busy) return;
    busy = true;
    button.ariaDisabled = 'true';
    try {
      await work();
    } finally {
      busy = false;
      button.ariaDisabled = 'false';
    }
  };
}

export class Actions {
  #api;
  #page;
  #kpi;
  #countdown;

  /// Requests of a burst wait for each other in the browser: their latency says nothing of the server.
  bursting = false;

  constructor(api, page, kpi) {
    this.#api = api;
    this.#page = page;
    this.#kpi = kpi;
    onPress(page('invalidate'), () => this.#addProperty());
    onPress(page('burst'), () => this.#burst());
  }

  stop() {
    clearInterval(this.#countdown);
    for (const name of ['invalidate', 'burst']) {
      this.#page(name).onclick = null;
      this.#page(name).ariaDisabled = 'false';
    }
    for (const name of ['invalidate-result', 'burst-result', 'burst-wait']) this.#page(name).textContent = '';
  }

  async #addProperty() {
    const result = this.#page('invalidate-result');
    try {
      const name = `Harbour Street ${1 + Math.floor(Math.random() * 200)}`;
      const { id, instance } = await this.#api.request('/api/properties', { method: 'POST', body: { name, units: 4 } });
      result.textContent = `${name} is property ${id}, added by ${instance}.`;
      await this.#kpi.refresh();
    } catch (problem) {
      result.textContent = waitingSentence(problem);
    }
  }

  async #burst() {
    const result = this.#page('burst-result');
    const wait = this.#page('burst-wait');
    clearInterval(this.#countdown);
    wait.textContent = '';
    result.textContent = `${burstSize} requests are on their way …`;

    this.bursting = true;
    const answers = await Promise.all(Array.from({ length: burstSize }, () => this.#answer()));
    this.bursting = false;
    const ok = answers.filter(({ status }) => status === 200).length;
    const limited = answers.filter(({ status }) => status === 429);
    const others = burstSize - ok - limited.length;
    result.dataset.ok = ok;
    result.dataset.limited = limited.length;
    result.textContent = `${ok} answered (200), ${limited.length} refused (429)${others > 0 ? `, ${others} failed` : ''}.`;
    if (limited.length > 0) this.#count(limited.at(-1).retryAfter);
  }

  async #answer() {
    try {
      await this.#api.request('/api/kpi', { timeout: 30_000 });
      return { status: 200, retryAfter: 0 };
    } catch (problem) {
      return problem;
    }
  }

  #count(retryAfter) {
    const until = performance.now() + retryAfter;
    const wait = this.#page('burst-wait');
    wait.dataset.retryAfter = retryAfter / 1000;
    const show = () => {
      const left = until - performance.now();
      wait.dataset.left = Math.max(0, Math.ceil(left / 1000));
      wait.textContent = left > 0 ? `The next is allowed in ${wait.dataset.left} s.` : 'The next is allowed now.';
      if (left <= 0) clearInterval(this.#countdown);
    };
    this.#countdown = setInterval(show, 250);
    show();
  }
}

function waitingSentence(problem) {
  if (problem.status === 429) return `The limit of this tenant is reached. Wait ${duration(problem.retryAfter)}.`;
  return problem.message;
}
