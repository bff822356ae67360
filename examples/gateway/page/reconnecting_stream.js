// A stream of events that outlives its connections: it comes back after the last event that it has.

import { retryAfter } from './api.js';
import { EventStreamParser } from './event_stream.js';

const longestPause = 30_000;

/// States: {name: 'connecting'}, {name: 'live', instance}, {name: 'waiting', until, reason}, {name: 'ended', reason}.
export class ReconnectingStream {
  #open;
  #onEvent;
  #onState;
  #silence;
  #random;
  #retry = 3000;
  #stop = new AbortController();
  #wake = () => {};

  /// Handed to the server when it connects again.
  lastEventId;

  /// open(lastEventId, signal) resolves to a Response. The times are milliseconds; `until` is a performance.now().
  /// A connection without a byte, not even a comment, for `silence` is given up.
  constructor({ open, onEvent, onState, lastEventId = '', silence = 40_000, random = Math.random }) {
    this.#open = open;
    this.#onEvent = onEvent;
    this.#onState = onState;
    this.lastEventId = lastEventId;
    this.#silence = silence;
    this.#random = random;
  }

  /// Runs until stop(), or until the server says that there will be no more (204) or that this token reads nothing (401, 403).
  async run() {
    for (let failures = 0; !this.#stop.signal.aborted;) {
      this.#onState({ name: 'connecting' });
      const end = await this.#connection();
      if (this.#stop.signal.aborted) return;
      if (end.final) {
        this.#onState({ name: 'ended', reason: end.reason });
        return;
      }
      failures = end.received ? 0 : failures + 1;
      await this.#pause(end, failures);
    }
  }

  stop() {
    this.#stop.abort();
    this.#wake();
  }

  /// Ends a pause: the device is online again.
  hurry() {
    this.#wake();
  }

  /// One connection, to its end: {reason, received, final, wait}.
  async #connection() {
    const connection = new AbortController();
    const signal = AbortSignal.any([this.#stop.signal, connection.signal]);
    const end = { reason: 'the connection was closed', received: false, final: false, wait: 0 };
    let watchdog;
    const heard = () => {
      clearTimeout(watchdog);
      watchdog = setTimeout(() => connection.abort(), this.#silence);
    };
    heard();
    try {
      const response = await this.#open(this.lastEventId, signal);
      const refusal = refusalOf(response);
      if (refusal) return { ...end, ...refusal };
      heard();
      this.#onState({ name: 'live', instance: response.headers.get('X-Instance') ?? '' });
      await this.#read(response.body.getReader(), signal, () => {
        end.received = true;
        heard();
      });
    } catch {
      end.reason = connection.signal.aborted ? `nothing was heard for ${this.#silence / 1000} s` : 'the connection was lost';
    } finally {
      clearTimeout(watchdog);
      connection.abort();
    }
    return end;
  }

  async #read(reader, signal, heard) {
    const aborted = new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason), { once: true }));
    aborted.catch(() => {});
    const parser = new EventStreamParser(this.lastEventId);
    for (;;) {
      const { done, value } = await Promise.race([reader.read(), aborted]);
      if (done) return;
      heard();
      const events = parser.feed(value);
      // What is shown and where to resume change together.
      for (const event of events) this.#onEvent(event);
      this.lastEventId = parser.lastEventId;
      if (parser.retry !== undefined) this.#retry = parser.retry;
    }
  }

  /// At least as long as the server asks for, longer after each failure, and never the same for all the clients of a server.
  async #pause({ reason, wait }, failures) {
    const doubled = Math.min(this.#retry * 2 ** Math.max(0, failures - 1), Math.max(this.#retry, longestPause));
    const pause = Math.max(doubled, wait) * (1 + this.#random() / 2);
    this.#onState({ name: 'waiting', until: performance.now() + pause, reason });
    await new Promise((resolve) => {
      const timer = setTimeout(resolve, pause);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    this.#wake = () => {};
  }
}

function refusalOf(response) {
  if (response.status === 204) return { final: true, reason: 'the server has ended the stream' };
  if (response.status === 401 || response.status === 403) return { final: true, reason: 'the token is not accepted' };
  if (!response.ok) return { wait: retryAfter(response), reason: `the server answered ${response.status}` };
  if (!(response.headers.get('Content-Type') ?? '').startsWith('text/event-stream')) return { reason: 'the answer is no stream' };
  return undefined;
}
