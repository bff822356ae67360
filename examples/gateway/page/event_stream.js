// The parser of text/event-stream, as the HTML standard describes it:
// https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
// The browser's own EventSource cannot send an Authorization header, so the page reads the stream itself.

const longestLine = 1 << 20;

/// Bytes in, events out. The bytes may be cut anywhere: inside a character, or between CR and LF.
export class EventStreamParser {
  /// Where to resume: the id of the last complete block that had one. What was cut off does not count.
  lastEventId;
  /// Milliseconds that the server asks to wait before connecting again; undefined while it has named none.
  retry;

  #decoder = new TextDecoder();  // drops a byte order mark; bad bytes become U+FFFD
  #rest = '';
  #afterCr = false;
  #type = '';
  #data = [];
  #id;

  constructor(lastEventId = '') {
    this.lastEventId = lastEventId;
    this.#id = lastEventId;
  }

  /// The events that these bytes complete: [{type, data, id}].
  feed(bytes) {
    const text = this.#decoder.decode(bytes, { stream: true });
    if (text === '') return [];
    const begin = this.#afterCr && text[0] === '\n' ? 1 : 0;
    this.#afterCr = text.endsWith('\r');
    const lines = (this.#rest + text.slice(begin)).split(/\r\n|\r|\n/);
    this.#rest = lines.pop();
    if (this.#rest.length > longestLine) throw new Error('a line without end');

    const events = [];
    for (const line of lines) {
      if (line !== '') this.#field(line);
      else this.#dispatch(events);
    }
    return events;
  }

  #field(line) {
    const colon = line.indexOf(':');
    if (colon === 0) return;  // a comment
    const name = colon < 0 ? line : line.slice(0, colon);
    let value = colon < 0 ? '' : line.slice(colon + 1);
    if (value.startsWith(' ')) value = value.slice(1);

    if (name === 'event') this.#type = value;
    else if (name === 'data') this.#data.push(value);
    else if (name === 'id' && !value.includes('\0')) this.#id = value;
    else if (name === 'retry' && /^[0-9]+$/.test(value)) this.retry = Number(value);
  }

  #dispatch(events) {
    this.lastEventId = this.#id;
    if (this.#data.length > 0) events.push({ type: this.#type || 'message', data: this.#data.join('\n'), id: this.#id });
    this.#type = '';
    this.#data = [];
  }
}
