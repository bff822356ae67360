// Claims about the modules of the page, run inside the browser by page_test.py. Returns what does not hold: ["claim: detail"].

const [{ EventStreamParser }, { ReconnectingStream }, { AlarmList, gapSentence }, { MemoryBound, memorySentence }] = await Promise.all(
  ['/event_stream.js', '/reconnecting_stream.js', '/alarms.js', '/memory.js'].map((path) => import(path)));

const broken = [];
const same = (claim, actual, expected) => {
  const [a, b] = [JSON.stringify(actual), JSON.stringify(expected)];
  if (a !== b) broken.push(`${claim}: ${a} is not ${b}`);
};
const bytes = (text) => new TextEncoder().encode(text);

// The parser
const parsed = (text, size = Infinity) => {
  const parser = new EventStreamParser();
  const all = bytes(text);
  const events = [];
  for (let at = 0; at < all.length; at += size) events.push(...parser.feed(all.subarray(at, at + size)));
  return { events: events.map(({ type, data, id }) => [type, data, id]), last: parser.lastEventId, retry: parser.retry };
};
const sample = ': hello\nretry: 2500\n\nid: 1-x\nevent: alarm\ndata: {"text":"Wärme 🔥"}\n\n'
  + 'data: a\ndata:\ndata:  b\n\nid: 2-x\ndata: cut';
const expected = {
  events: [['alarm', '{"text":"Wärme 🔥"}', '1-x'], ['message', 'a\n\n b', '1-x']], last: '1-x', retry: 2500,
};
for (const end of ['\n', '\r', '\r\n']) {
  for (const size of [1, 2, 3, 5, 7, 1000]) {
    const name = `lines that end with ${JSON.stringify(end)} in pieces of ${size} bytes give the same events`;
    same(name, parsed(sample.replaceAll('\n', end), size), expected);
  }
}
same('a byte order mark is dropped', parsed('\ufeffdata: 1\n\n').events, [['message', '1', '']]);
same('a field without a colon has no value', parsed('data\n\n').events, [['message', '', '']]);
same('a block without data is no event, but its id counts',
  parsed('id: 7\nevent: alarm\n\ndata: 1\n\n').events, [['message', '1', '7']]);
same('an id with a zero byte is ignored', parsed('id: 7\0\ndata: 1\n\n').events, [['message', '1', '']]);
same('an empty id resets it', parsed('id: 7\n\nid\ndata: 1\n\n').last, '');
same('a retry that is no number is ignored', parsed('retry: 3s\n\n').retry, undefined);
same('an unknown field is ignored', parsed('Data: 1\ndata : 2\n\n').events, []);

// The stream
function answer(text, { after = 'close', status = 200, headers = {} } = {}) {
  const body = new ReadableStream({
    start(controller) {
      if (text) controller.enqueue(bytes(text));
      if (after === 'close') controller.close();
      if (after === 'break') setTimeout(() => controller.error(new TypeError('broken')));
    },
  });
  return new Response(status === 204 ? null : body, { status, headers: { 'Content-Type': 'text/event-stream', ...headers } });
}

/// Plays the answers one by one, then 204: what was asked with, which events came, which states were shown.
async function play(answers, options = {}) {
  const [asked, events, states] = [[], [], []];
  let begin;
  const pauses = [];
  const stream = new ReconnectingStream({
    open: async (id) => {
      if (begin) pauses.push(performance.now() - begin);
      asked.push(id);
      const next = answers.shift();
      if (next instanceof Error) throw next;
      return next ?? answer('', { status: 204 });
    },
    onEvent: ({ data }) => events.push(data),
    onState: (state) => {
      if (state.name === 'waiting') begin = performance.now();
      states.push(state.reason ? `${state.name}: ${state.reason}` : state.name);
    },
    random: () => 0,
    ...options,
  });
  const late = new Promise((_, reject) => setTimeout(() => reject(new Error(`after 20 s it goes on: ${states}`)), 20_000));
  await Promise.race([stream.run(), late]);
  return { asked, events, states, pauses };
}

const resumed = await play([
  answer('retry: 20\nid: 1\ndata: a\n\nid: 2\ndata: b', { after: 'break' }), answer('id: 2\ndata: b\n\n'),
]);
same('it resumes after the last whole event', resumed.asked, ['', '1', '2']);
same('nothing is lost or doubled by a broken connection', resumed.events, ['a', 'b']);
same('it tells what happens', resumed.states.slice(0, 3), ['connecting', 'live', 'waiting: the connection was lost']);
same('204 ends it', resumed.states.at(-1), 'ended: the server has ended the stream');

const silent = await play([answer('retry: 10\nid: 1\ndata: a\n\n', { after: 'silence' })], { silence: 150 });
same('a connection on which nothing is heard is given up',
  silent.states.slice(1, 3), ['live', 'waiting: nothing was heard for 0.15 s']);
same('and resumed', silent.asked, ['', '1']);

const quick = { headers: { 'Retry-After': '0.2' } };
const failing = await play([
  answer('retry: 20\n\n'), new TypeError('refused'), answer('', { status: 503, ...quick }),
  answer('', { headers: { 'Content-Type': 'text/html' } }),
]);
same('what is no stream is tried again', failing.states.filter((state) => state.startsWith('waiting')), [
  'waiting: the connection was closed', 'waiting: the connection was lost', 'waiting: the server answered 503',
  'waiting: the answer is no stream',
]);
const least = [20, 20, 200, 80];
same('no pause is shorter than the server asks for, and failures double it',
  failing.pauses.map((pause, n) => pause >= least[n] - 1), [true, true, true, true]);
same('a refused token ends it', (await play([answer('', { status: 401 })])).states.at(-1), 'ended: the token is not accepted');

// The list
const said = [];
const list = document.createElement('ol');
const empty = document.createElement('p');
const alarms = new AlarmList({ list, empty, announcer: { say: (sentence) => said.push(sentence) } });
same('an empty list says so', empty.hidden, false);
const take = (type, value) => alarms.take({ type, data: JSON.stringify(value) });
const alarm = (id, severity = 'info') => take('alarm', { id, gateway: 'gw-1', severity, text: '<b>text</b>', at: 1 });
for (let n = 0; n < 600; n += 1) alarm(`n-${n}`);
alarm('n-599');
alarm('n-0');
same('the list is bounded, and an alarm that was there before is not shown again',
  [list.children.length, list.firstChild.dataset.id], [500, 'n-599']);
same('text is text', list.querySelector('b'), null);
take('gap', { cause: 'trimmed', lost: 12 });
same('a gap stands in the list',
  list.firstChild.querySelector('.text').textContent, '12 alarms may be missing: they are older than what the server keeps.');
same('a gap of unknown size', gapSentence({ cause: 'moved_away', lost: null }), 'Alarms may be missing: moved away.');
alarms.take({ type: 'alarm', data: '{' });
same('an alarm that cannot be read is a gap', list.firstChild.dataset.gap, 'unreadable');
alarm('c-1', 'critical');
alarm('w-1', 'warning');
same('only the critical are announced', said, ['Critical alarm of gw-1: <b>text</b>']);
const [word, picture] = ['.severity', 'use'].map((part) => list.firstChild.querySelector(part));
same('severity is a word and a shape', [word.textContent, picture.getAttribute('href')], ['Warning', '#shape-warning']);

// The bound of what comes from memory
const memory = (p99, tracking = true) => ({ tracking, max_age_ms: 10_000, push_delay_ms: { p50: p99, p99 } });
same('the bound is told', memorySentence(memory(2.3)), 'Answers from memory: at most 10 s behind, changes usually arrive within 3 ms.');
same('no delay is claimed that was not measured', memorySentence(memory(null)), 'Answers from memory: at most 10 s behind.');
same('memory that is off says so', memorySentence(memory(2.3, false)), 'Memory is off: the server announces nothing now.');
const line = document.createElement('p');
const bound = new MemoryBound(line);
bound.stated({ instance: 'a', near: memory(1) });
bound.answered('b');
same('of an instance that said nothing another one is told', line.textContent, memorySentence(memory(1)));
bound.stated({ instance: 'b', near: memory(1, false) });
bound.stated({ instance: 'a', near: memory(5) });
same('it is the bound of the instance that gave the figures', line.textContent, memorySentence(memory(1, false)));
bound.clear();
same('after a logout nothing is left', line.textContent, '');

return broken;
