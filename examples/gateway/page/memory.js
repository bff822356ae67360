// How far behind an answer from the memory of an instance may be.

/// The sentence of what an instance says of its memory: {tracking, max_age_ms, push_delay_ms: {p50, p99}}.
export function memorySentence({ tracking, max_age_ms: most, push_delay_ms: { p99 } }) {
  if (!tracking) return 'Memory is off: the server announces nothing now.';
  const bound = `Answers from memory: at most ${most / 1000} s behind`;
  return p99 === null ? `${bound}.` : `${bound}, changes usually arrive within ${Math.max(1, Math.ceil(p99))} ms.`;
}

/// Says it of the instance that gave the figures which are shown; of another one until that has said something.
export class MemoryBound {
  #element;
  #said = new Map();  // instance -> sentence, the latest last
  #instance;

  constructor(element) {
    this.#element = element;
  }

  stated({ instance, near }) {
    this.#said.delete(instance);
    this.#said.set(instance, memorySentence(near));
    this.#show();
  }

  answered(instance) {
    this.#instance = instance;
    this.#show();
  }

  clear() {
    this.#said.clear();
    this.#show();
  }

  #show() {
    const sentence = this.#said.get(this.#instance) ?? [...this.#said.values()].at(-1) ?? '';
    if (this.#element.textContent !== sentence) this.#element.textContent = sentence;
  }
}
