// Calls again and again, while somebody looks.

/// work() resolves to the milliseconds until the next call; at most one call is on its way.
export class Poller {
  #work;
  #timer;
  #running = null;
  #stopped = false;
  #onVisible = () => {
    if (!document.hidden) this.now();
  };

  constructor(work) {
    this.#work = work;
    document.addEventListener('visibilitychange', this.#onVisible);
  }

  /// Calls at once, and again after the call that is on its way, which may have begun too early to know of a change.
  async now() {
    while (this.#running) await this.#running;
    if (this.#stopped) return;
    clearTimeout(this.#timer);
    this.#running = this.#work();
    const pause = await this.#running;
    this.#running = null;
    if (!this.#stopped && !document.hidden) this.#timer = setTimeout(() => this.now(), pause);
  }

  stop() {
    this.#stopped = true;
    clearTimeout(this.#timer);
    document.removeEventListener('visibilitychange', this.#onVisible);
  }
}
