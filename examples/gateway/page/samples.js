// What the page has measured: its own requests, and what the instances say of theirs.

const minute = 60_000;
export const shown = 5 * minute;

function median(numbers) {
  const sorted = numbers.toSorted((a, b) => a - b);
  return sorted.length > 0 ? sorted[Math.floor((sorted.length - 1) / 2)] : undefined;
}

/// The share of answers that needed no database, of {computed, redis, near, stale}; undefined without an answer.
function hitRate(hits) {
  const all = hits.computed + hits.redis + hits.near + hits.stale;
  return all > 0 ? (all - hits.computed) / all : undefined;
}

const none = { computed: 0, redis: 0, near: 0, stale: 0 };

/// Times are milliseconds of one clock, the caller's.
export class Samples {
  #own = [];  // {at, source, ms}
  #stats = new Map();  // instance -> [{at, hits, p99}], oldest first
  #points = [];  // {at, ownRate, serverRate, ownMs, p99}, oldest first

  /// An answer to a request for the KPI. `ms` is undefined where it says nothing: in a burst requests wait for each other.
  answered(at, source, ms) {
    this.#own.push({ at, source, ms });
    this.#own = this.#own.filter((sample) => sample.at > at - minute);
  }

  /// What an instance says of itself since its start, and with it one more point of the chart.
  stated(at, { instance, hits, latency_ms: latency }) {
    const of = this.#stats.get(instance) ?? [];
    if (of.length > 0 && of.at(-1).hits.computed > hits.computed) of.length = 0;  // it was started again
    of.push({ at, hits, p99: latency.p99 });
    // The newest that is older than a minute is where the minute begins.
    while (of.length > 2 && of[1].at <= at - minute) of.shift();
    this.#stats.set(instance, of);
    this.#point(at);
  }

  points(now) {
    return this.#points.filter((point) => point.at > now - shown);
  }

  #point(at) {
    const own = { ...none };
    for (const { source } of this.#own) if (Object.hasOwn(own, source)) own[source] += 1;
    const server = { ...none };
    let p99;
    for (const of of this.#stats.values()) {
      if (of.at(-1).at < at - minute) continue;
      for (const source of Object.keys(none)) server[source] += of.at(-1).hits[source] - of[0].hits[source];
      p99 = Math.max(p99 ?? 0, of.at(-1).p99);
    }
    const times = this.#own.filter((sample) => sample.at > at - 15_000 && sample.ms !== undefined).map((sample) => sample.ms);
    this.#points.push({ at, ownRate: hitRate(own), serverRate: hitRate(server), ownMs: median(times), p99 });
    this.#points = this.points(at);
  }
}
