// Requests to the gateway, with the tenant's token. Every answer is reported once, good or bad.

/// What a request came to that has no 2xx answer. `status` is 0 where there was no answer at all.
export class ApiError extends Error {
  constructor(status, sentence, retryAfter = 0) {
    super(sentence);
    this.status = status;
    this.retryAfter = retryAfter;  // milliseconds until a request may succeed; 0 where the server named none
  }
}

/// How long the server asks to wait, in milliseconds.
export function retryAfter(response) {
  const seconds = Number(response.headers.get('Retry-After'));
  return seconds > 0 ? seconds * 1000 : 0;
}

/// The sentence of the server's error, or one of ours where its body is no such error.
async function sentenceOf(response) {
  try {
    const { error, detail } = await response.json();
    return detail || error || `The server answered ${response.status}.`;
  } catch {
    return `The server answered ${response.status}.`;
  }
}

export class Api {
  #token;
  #onAnswer;
  #onUnauthorized;
  #session = new AbortController();

  /// onAnswer({instance, path, status, ms, body}) is called for each answer, onUnauthorized() for each 401.
  constructor({ token, onAnswer, onUnauthorized }) {
    this.#token = token;
    this.#onAnswer = onAnswer;
    this.#onUnauthorized = onUnauthorized;
  }

  /// The JSON of a 2xx answer; throws ApiError. Does neither after close(): who waited for it has gone with the session.
  async request(path, options = {}) {
    const outcome = await this.#exchange(path, options).then((answer) => ({ answer }), (problem) => ({ problem }));
    if (this.#session.signal.aborted) return new Promise(() => {});
    if (outcome.problem) throw outcome.problem;
    return outcome.answer;
  }

  async #exchange(path, { method = 'GET', body, timeout = 10_000 }) {
    const signal = AbortSignal.any([this.#session.signal, AbortSignal.timeout(timeout)]);
    const headers = { Authorization: `Bearer ${this.#token}`, Accept: 'application/json' };
    if (body !== undefined) headers['Content-Type'] = 'application/json';
    const begin = performance.now();
    try {
      const response = await fetch(path, { method, headers, body: JSON.stringify(body), signal, cache: 'no-store' });
      if (!response.ok) {
        this.#report(response, path, begin);
        throw new ApiError(response.status, await sentenceOf(response), retryAfter(response));
      }
      const answer = await response.json();
      this.#report(response, path, begin, answer);
      return answer;
    } catch (problem) {
      if (problem instanceof ApiError) throw problem;
      throw new ApiError(0, noAnswer(problem, timeout));
    }
  }

  /// The open stream of alarms that come after `lastEventId`; throws what fetch throws.
  async openAlarms(lastEventId, signal) {
    const headers = { Authorization: `Bearer ${this.#token}`, Accept: 'text/event-stream' };
    // A header holds bytes: those of the id in UTF-8.
    if (lastEventId) headers['Last-Event-ID'] = String.fromCharCode(...new TextEncoder().encode(lastEventId));
    const begin = performance.now();
    const path = '/alarms/stream';
    const response = await fetch(path, { headers, cache: 'no-store', signal: AbortSignal.any([this.#session.signal, signal]) });
    this.#report(response, path, begin);
    return response;
  }

  /// Ends what is on its way; nothing is reported any more.
  close() {
    this.#session.abort();
  }

  #report(response, path, begin, body) {
    if (this.#session.signal.aborted) return;
    this.#onAnswer({
      instance: response.headers.get('X-Instance') ?? '', path, status: response.status, ms: performance.now() - begin, body,
    });
    if (response.status === 401) this.#onUnauthorized();
  }
}

function noAnswer(problem, timeout) {
  if (!navigator.onLine) return 'This device is offline.';
  if (problem.name === 'TimeoutError') return `No answer within ${timeout / 1000} s.`;
  if (problem instanceof SyntaxError) return 'The answer is not JSON.';
  return 'The server cannot be reached.';
}

/// The tenants that the demo offers, or an empty list where it offers none.
export async function demoLogins() {
  let response;
  try {
    response = await fetch('/demo/logins', { cache: 'no-store', signal: AbortSignal.timeout(10_000) });
  } catch (problem) {
    throw new ApiError(0, noAnswer(problem, 10_000));
  }
  if (response.status === 404) return [];
  if (!response.ok) throw new ApiError(response.status, await sentenceOf(response), retryAfter(response));
  return response.json();
}
