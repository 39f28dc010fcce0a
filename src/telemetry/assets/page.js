// The page: asks /status again and again and shows the answer. In: /status. Out: the state in a
// word and a sentence, the line with its positions, numbers, tables. It must stay true that a relay
// that does not answer is told at once and plainly, and that its last numbers are shown as old.

import { begin as beginDead, watch } from './dead.js';
import {
  DASH, byId, bytes, clock, count, duration, element, isNumber, moment, of, rate, relative, say,
  seconds, setClock, table,
} from './format.js';
import { draw, ownRate, remember } from './graph.js';

const EVERY = 1_000;
const HIDDEN = 15_000;
const PATIENCE = 4_000;
const FAILING_MAX = 5_000;
// One answer that failed is no outage; without one for this long the page says so.
const GONE = 2_500;
const STREAMS_MAX = 30;

const STATES = {
  connecting: ['Connecting', 'warn',
    'It is on its way to the servers and tries again by itself. PostgreSQL keeps what waits.'],
  standby: ['Standing by', 'calm',
    'Another relay leads. This one takes over about a second after that one is gone.'],
  snapshot: ['Publishing what was there before', 'warn',
    'Rows from before the slot go out first; what is committed now follows them.'],
  streaming: ['Streaming', 'good', 'What is committed is in its stream.'],
  polling: ['Polling', 'good', 'Rows are claimed by SQL, without a replication slot.'],
  silent: ['PostgreSQL does not answer', 'bad',
    'The connection is there and nothing comes. It goes on, or connects again, by itself.'],
  holding: ['Redis takes no writes', 'bad',
    'Reading has stopped until it does. Nothing is lost: PostgreSQL keeps the WAL meanwhile.'],
  draining: ['Ending', 'warn', 'It was told to stop, and finishes what is under way.'],
  stopped: ['Stopped', 'bad',
    'Somebody must mend what the last error says; it is tried again. The other tables go on.'],
};
// Which half of the line works in which state.
const LINKS = {
  connecting: ['down', 'down'],
  stopped: ['down', 'down'],
  standby: ['idle', 'idle'],
  silent: ['down', 'up'],
  holding: ['up', 'down'],
};
const COLOURS = { good: '#2a8a55', calm: '#6b7280', warn: '#b26b00', bad: '#c0332b' };

let last = null;
let failure = '';
let failures = 0;
let counted = [];
let timer = 0;

function icon(tone) {
  const drawn = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16">`
    + `<circle cx="8" cy="8" r="7" fill="${COLOURS[tone]}"/></svg>`;
  const link = document.querySelector('link[rel=icon]');
  const address = `data:image/svg+xml,${encodeURIComponent(drawn)}`;
  if (link.getAttribute('href') !== address) link.setAttribute('href', address);
}

function headline(word, tone, sentence) {
  document.body.dataset.tone = tone;
  say(byId('state'), word);
  say(byId('says'), sentence);
  document.title = [word, table, 'walrelay'].filter(Boolean).join(' · ');
  icon(tone);
}

function showState(status) {
  const { state, lag } = status;
  const [word, tone, sentence] = STATES[state] ?? [String(state), 'warn', ''];
  const late = ['streaming', 'polling'].includes(state) && lag?.seconds > 5;
  headline(
    late ? `${word}, behind` : word,
    late ? 'warn' : tone,
    late ? 'It works, and what was committed last is not in its stream yet.' : sentence,
  );
  const beat = status.heartbeat?.round_trip_seconds;
  const facts = [
    table && `table ${table}`,
    `for ${duration(status.state_seconds)}`,
    status.mode && `mode ${status.mode}`,
    status.endpoints?.durability && `durability ${status.endpoints.durability}`,
    status.endpoints?.max_rate && `at most ${status.endpoints.max_rate}/s`,
    isNumber(beat) && `round trip ${seconds(beat)}`,
    `up ${duration(status.uptime_seconds)}`,
  ];
  say(byId('facts'), facts.filter(Boolean).join(' · '));
  say(byId('version'), status.version ?? '');
}

function showBacklog(backlog) {
  byId('backlog').hidden = !backlog;
  if (!backlog) return;
  const bar = byId('backlog-bar');
  bar.max = Math.max(1, backlog.rows);
  bar.value = backlog.done;
  const left = isNumber(backlog.seconds_left) ? `, ${duration(backlog.seconds_left)} left` : '';
  const speed = `${count(backlog.rows_per_second)} rows/s${left}`;
  say(byId('backlog-says'), `${count(backlog.done)} of ${count(backlog.rows)} rows, ${speed}`);
}

// Notes are made anew only when one of them changed; ages are left to the ticker.
function showNotes(status, now) {
  const notes = [];
  const { retry, last_error: error } = status;
  const note = (head, text, hint, tone, at) => notes.push({ head, text, hint, tone, at });
  if (retry?.circuit === 'open') {
    note('Redis takes nothing of what is due', retry.error, '', 'bad', moment(retry.since));
  }
  if (retry?.dead_letter_error) {
    note('Dead letters cannot be written', retry.dead_letter_error, '', 'bad', null);
  }
  const slot = status.slot ?? {};
  if (['extended', 'unreserved', 'lost'].includes(slot.wal_status)) {
    const text = `the WAL it needs is ${slot.wal_status}, ${bytes(slot.safe_wal_size)} are left`;
    note('The slot is in danger', text, 'raise max_slot_wal_keep_size', 'bad', null);
  }
  if (status.mode_reason) {
    note(`Mode ${status.mode}, because`, status.mode_reason, '', 'calm', null);
  }
  if (error) {
    const at = moment(error.unix_seconds);
    const works = ['streaming', 'polling', 'standby'].includes(status.state);
    // What led to the present state came shortly before it.
    const over = at < now - status.state_seconds * 1000 + (works ? 1_500 : -60_000);
    const [head, tone] = over ? ['Last error, over', 'calm'] : ['Last error', 'bad'];
    note(head, error.error, error.hint, tone, at);
  }
  byId('trouble').hidden = notes.length === 0;
  const text = JSON.stringify(notes);
  const list = byId('notes');
  if (list.dataset.seen !== text) {
    list.dataset.seen = text;
    list.replaceChildren(...notes.map((one) => {
      const item = element('li', undefined, { class: one.tone });
      item.append(element('b', one.head), ' ');
      if (one.at !== null) {
        const stamp = { class: 'age', datetime: new Date(one.at).toISOString() };
        item.append(element('time', '', stamp), ' ');
      }
      item.append(element('bdi', one.text ?? ''));
      if (one.hint) item.append(element('span', `→ ${one.hint}`, { class: 'hint' }));
      return item;
    }));
  }
  for (const age of list.querySelectorAll('.age')) {
    say(age, `${relative(Date.parse(age.getAttribute('datetime')), now)}:`);
  }
}

function roleOf(status) {
  if (status.role) return status.role;
  if (status.state === 'standby') return 'standby';
  return status.mode === 'poll' ? 'one of the pollers' : 'leader';
}

function showLine(status, speed) {
  const { positions, endpoints, state, lag } = status;
  const polls = status.mode === 'poll' || state === 'polling';
  const words = polls
    ? ['claims rows', 'settles rows', 'publishes', 'answers']
    : ['received', 'confirmed', 'published', 'settled'];
  ['go-left', 'back-left', 'go-right', 'back-right'].forEach((id, at) => say(byId(id), words[at]));
  for (const name of ['received', 'confirmed', 'published', 'settled']) {
    const known = !polls && positions?.[name] && positions[name] !== '0/0';
    say(byId(name), known ? positions[name] : '');
  }
  // "PostgreSQL 15.18 at HOST": the station has its name already.
  const place = (text) => (text || 'not connected yet').replace(/^(PostgreSQL|Redis) /, '');
  say(byId('postgres'), place(endpoints?.postgres));
  say(byId('redis'), place(endpoints?.redis));
  const slot = endpoints?.slot;
  const safe = isNumber(status.slot?.safe_wal_size)
    ? `, ${bytes(status.slot.safe_wal_size)} of WAL to spare` : '';
  say(byId('slot'), slot && !polls ? `slot ${slot}${safe}` : `table ${endpoints?.table || DASH}`);
  say(byId('role'), roleOf(status));
  say(byId('flight'), state === 'standby' ? 'ready to lead' : `${count(lag?.events)} not settled`);
  say(byId('written'), `${count(status.events?.published)} published`);
  const [left, right] = LINKS[state] ?? ['up', 'up'];
  const flows = speed > 0;
  byId('left').dataset.is = left === 'up' && flows ? 'flow' : left;
  byId('right').dataset.is = right === 'up' && flows ? 'flow' : right;
}

function cells(row, values) {
  const made = element('tr', undefined, { role: 'row' });
  for (const [name, text, kind] of values) {
    const attributes = { role: 'cell', 'data-name': name };
    if (kind) attributes.class = kind;
    const cell = element('td', undefined, attributes);
    cell.append(element('bdi', text));
    made.append(cell);
  }
  row.append(made);
}

function showShards(shards) {
  byId('shards').hidden = !Array.isArray(shards) || shards.length === 0;
  const fresh = document.createDocumentFragment();
  for (const shard of shards ?? []) {
    cells(fresh, [
      ['Shard', String(shard.shard ?? DASH)],
      ['State', STATES[shard.state]?.[0] ?? shard.state],
      ['Slot', shard.slot || DASH],
      ['Confirmed', shard.positions?.confirmed ?? DASH, 'lsn'],
      ['Events behind', count(shard.lag?.events), 'number'],
      ['Seconds', seconds(shard.lag?.seconds), 'number'],
      ['WAL', bytes(shard.lag?.bytes), 'number'],
    ]);
  }
  byId('shard-rows').replaceChildren(fresh);
}

// Where there are several tables each is a link: the page is about one of them.
function showTables(tables) {
  byId('tables').hidden = false;
  const fresh = document.createDocumentFragment();
  for (const one of tables) {
    const state = STATES[one.state]?.[0] ?? one.state;
    cells(fresh, [
      ['Table', one.table],
      ['State', state, STATES[one.state]?.[1]],
      ['Events behind', count(one.lag?.events), 'number'],
      ['Seconds', seconds(one.lag?.seconds), 'number'],
      ['Per second', rate(one.rates?.per_second_10s), 'number'],
      ['Parked', count(one.retry?.parked), 'number'],
      ['Dead', count(one.retry?.dead), 'number'],
    ]);
    const link = element('a', one.table, { href: `?table=${encodeURIComponent(one.table)}` });
    if (one.table === table) link.setAttribute('aria-current', 'page');
    fresh.lastElementChild.querySelector('bdi').replaceChildren(link);
  }
  // A link that has the focus keeps it.
  const rows = byId('table-rows');
  const focused = [...rows.querySelectorAll('a')].indexOf(document.activeElement);
  rows.replaceChildren(fresh);
  if (focused >= 0) rows.querySelectorAll('a')[focused]?.focus({ preventScroll: true });
}

// The status of the table that the page is about; none while it is on its way to another address.
async function ofTable(whole) {
  const tables = whole.tables;
  if (!Array.isArray(tables)) {
    if (table) location.replace(location.pathname);
    return table ? null : whole;
  }
  if (!tables.some((one) => one.table === table)) {
    const well = ['streaming', 'polling', 'standby'];
    const first = tables.find((one) => !well.includes(one.state)) ?? tables[0];
    location.replace(`?table=${encodeURIComponent(first.table)}`);
    return null;
  }
  showTables(tables);
  return (await get(of('status'))).json();
}

function showStreams(streams, now) {
  const listed = (Array.isArray(streams) ? streams : []).filter((stream) => stream?.name);
  byId('streams').hidden = listed.length === 0;
  listed.sort((one, other) => other.published - one.published);
  // Rates over five to ten seconds: those of one would jump.
  const [before] = counted;
  const fresh = document.createDocumentFragment();
  for (const { name, published } of listed.slice(0, STREAMS_MAX)) {
    const written = published - (before?.streams.get(name) ?? NaN);
    const speed = written >= 0 && now > before.at ? (written * 1000) / (now - before.at) : null;
    cells(fresh, [
      ['Stream', name],
      ['Published', count(published), 'number'],
      ['Per second', rate(speed), 'number'],
    ]);
  }
  byId('stream-rows').replaceChildren(fresh);
  const more = listed.length - STREAMS_MAX;
  say(byId('streams-more'), more > 0 ? `and ${count(more)} more` : '');
  if (now - (counted.at(-1)?.at ?? 0) >= 5_000) {
    const streams = new Map(listed.map((stream) => [stream.name, stream.published]));
    counted = [...counted.slice(-1), { at: now, streams }];
  }
}

function showCounters(status) {
  const fresh = document.createDocumentFragment();
  for (const group of ['events', 'retry', 'reconnects', 'retention']) {
    for (const [name, value] of Object.entries(status[group] ?? {})) {
      if (!isNumber(value) || name === 'since') continue;
      const pair = element('div');
      const words = `${group} ${name.replaceAll('_', ' ')}`;
      pair.append(element('dt', words), element('dd', count(value)));
      fresh.append(pair);
    }
  }
  byId('counters').replaceChildren(fresh);
}

function show(status, now) {
  remember(status, now);
  const speed = status.rates?.per_second_10s ?? ownRate(10_000);
  showState(status);
  showBacklog(status.backlog);
  showNotes(status, now);
  showLine(status, speed);
  draw({
    rate: speed,
    lag_seconds: status.lag?.seconds,
    lag_events: status.lag?.events,
    lag_bytes: status.lag?.bytes,
  }, now);
  showShards(status.shards);
  showStreams(status.streams, now);
  showCounters(status);
  watch(status.retry, now);
}

// Every second, whether something came or not.
function tick() {
  const now = Date.now();
  const age = last === null ? null : now - last;
  const gone = failures > 0 && (age === null || age > GONE);
  document.body.classList.toggle('gone', gone);
  if (!gone) {
    say(byId('fresh'), age === null ? '' : 'live');
    return;
  }
  const since = age === null ? '' : ` for ${duration(age / 1000)}`;
  const stands = age === null ? '' : ' What stands below is the last it said.';
  headline('No answer', 'bad', `The relay, or the way to it, is gone: ${failure}.${stands}`);
  for (const id of ['left', 'right']) byId(id).dataset.is = 'idle';
  say(byId('fresh'), `no answer${since}`);
}

async function get(page) {
  const options = { cache: 'no-store', signal: AbortSignal.timeout(PATIENCE) };
  const answer = await fetch(page, options);
  if (!answer.ok) throw new Error(`/status answered ${answer.status}`);
  return answer;
}

async function ask() {
  clearTimeout(timer);
  let pause = EVERY;
  try {
    const answer = await get('status');
    setClock(answer.headers.get('date'));
    const status = await ofTable(await answer.json());
    if (!status) return;
    last = Date.now();
    failures = 0;
    show(status, clock());
  } catch (error) {
    failures += 1;
    failure = reason(error);
    pause = Math.min(EVERY * 2 ** (failures - 1), FAILING_MAX);
  }
  tick();
  clearTimeout(timer);
  timer = setTimeout(ask, document.hidden ? HIDDEN : pause);
}

function reason(error) {
  if (error.name === 'TimeoutError') return `/status takes longer than ${PATIENCE / 1000} s`;
  if (error.name === 'TypeError') return 'it cannot be reached';
  return error instanceof SyntaxError ? '/status is no JSON' : error.message;
}

beginDead();
document.addEventListener('visibilitychange', () => {
  if (!document.hidden) ask();
});
setInterval(tick, 1_000);
ask();
