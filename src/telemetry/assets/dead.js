// What could not be delivered: the rows of /dead, and what a person does about them. In: the counts
// of /status, which say when it is worth asking. Out: a table, and POSTs with the token. It must
// stay true that PostgreSQL is asked seldom (an answer of /status costs nothing, one of /dead a
// connection), and that whatever a row says is shown as text.

import {
  DASH, byId, clock, count, element, isNumber, moment, of, relative, say,
} from './format.js';

const TOKEN = 'walrelay-token';
const AGAIN = 15_000;
const PATIENCE = 15_000;

let asked = { at: 0, counts: null, busy: false };
let actions = false;
// The last answer as it came: nothing is drawn anew when nothing changed.
let seen = '';
// What to do once there is a token.
let waiting = null;
const rows = new Map();

function token() {
  try {
    return sessionStorage.getItem(TOKEN) ?? '';
  } catch {
    return '';
  }
}

function keep(value) {
  try {
    if (value) sessionStorage.setItem(TOKEN, value);
    else sessionStorage.removeItem(TOKEN);
  } catch {
    // Without storage it must be typed each time; that is all.
  }
}

// One request; `problem` is what to tell when it came to nothing.
async function ask(path, ids) {
  const headers = token() ? { Authorization: `Bearer ${token()}` } : {};
  const options = { headers, cache: 'no-store', signal: AbortSignal.timeout(PATIENCE) };
  if (ids) {
    options.method = 'POST';
    options.body = JSON.stringify({ ids });
    headers['Content-Type'] = 'application/json';
  }
  try {
    const answer = await fetch(path, options);
    const told = await answer.json().catch(() => ({}));
    const hint = told.hint ? ` (${told.hint})` : '';
    const problem = answer.ok ? '' : `${told.error ?? `answered ${answer.status}`}${hint}`;
    return { status: answer.status, told, problem };
  } catch (error) {
    const late = error.name === 'TimeoutError';
    return { status: 0, told: {}, problem: late ? 'no answer in time' : 'no answer' };
  }
}

function wantToken(text) {
  byId('token-form').hidden = false;
  tell(text, 'look');
}

// Called with every answer of /status.
export function watch(retry, now) {
  const { parked, due, dead } = retry ?? {};
  const known = [dead, parked].some(isNumber);
  const none = dead === 0 && parked === 0;
  const parts = [`${count(dead)} dead`, `${count(parked)} parked`];
  if (isNumber(due) && due > 0) parts.push(`${count(due)} of these due`);
  let text = 'Not counted yet.';
  if (none) text = 'Nothing is parked and nothing is dead.';
  else if (known) text = `${parts.join(', ')}.`;
  if (known && !isNumber(dead)) text += ' The dead are counted only where an index serves.';
  say(byId('undelivered-says'), text);
  for (const row of rows.values()) row.tick(now);
  const counts = `${parked} ${dead}`;
  const changed = counts !== asked.counts;
  const worth = !none && known && (changed || now - asked.at > AGAIN);
  // The last row has gone: what the table shows is over.
  const over = none && rows.size > 0 && changed;
  if ((worth || over) && !document.hidden) look(counts);
}

async function look(counts = asked.counts) {
  if (asked.busy) return;
  asked = { at: clock(), counts, busy: true };
  const { status, told, problem } = await ask(of('dead'));
  asked.busy = false;
  if (status === 200) {
    actions = told.actions === true;
    byId('token-form').hidden = true;
    if (byId('answer').dataset.of === 'look') tell('', '');
    show(told.rows ?? []);
  } else if (status === 401) {
    const wrong = token() !== '';
    keep('');
    show([]);
    wantToken(wrong ? 'That is not the token of this relay.' : 'It asks for its token.');
  } else {
    tell(`What is dead cannot be read: ${problem}.`, 'look');
  }
}

function tell(text, of) {
  byId('answer').dataset.of = of;
  say(byId('answer'), text);
}

function show(listed) {
  const text = JSON.stringify([listed, actions]);
  if (text === seen) return;
  seen = text;
  const body = byId('event-rows');
  const now = clock();
  const ids = new Set(listed.map((event) => `${event.state} ${event.id}`));
  for (const [id, row] of rows) {
    if (!ids.has(id)) {
      row.node.remove();
      rows.delete(id);
    }
  }
  listed.forEach((event, place) => {
    const id = `${event.state} ${event.id}`;
    if (!rows.has(id)) rows.set(id, draw(event));
    const row = rows.get(id);
    row.fill(event);
    row.tick(now);
    const there = body.children[place] ?? null;
    if (there !== row.node) body.insertBefore(row.node, there);
  });
  byId('events').hidden = listed.length === 0;
  byId('off').hidden = actions;
  for (const id of ['retry', 'discard', 'all']) byId(id).hidden = !actions;
  byId('forget').hidden = token() === '';
  chosenChanged();
}

function cell(name, ...nodes) {
  const made = element('td', undefined, { role: 'cell', 'data-name': name });
  made.append(...nodes);
  return made;
}

// One event; only its texts change afterwards, so that a chosen one stays chosen.
function draw(event) {
  const dead = event.state === 'dead';
  const box = element('input', undefined, { type: 'checkbox', value: event.id });
  box.addEventListener('change', chosenChanged);
  const parts = {};
  for (const name of ['type', 'ids', 'stream', 'aggregate', 'what', 'attempts', 'error']) {
    const small = ['ids', 'aggregate', 'attempts'].includes(name);
    parts[name] = element(small ? 'small' : 'bdi');
  }
  const node = element('tr', undefined, { role: 'row', class: event.state });
  node.append(
    cell('', ...(dead ? [box] : [])),
    cell('Event', parts.type, parts.ids),
    cell('Stream, aggregate', parts.stream, parts.aggregate),
    cell('State', parts.what, parts.attempts),
    cell('Error', parts.error),
  );
  node.firstChild.classList.add('pick');
  node.lastChild.classList.add('error');
  let at = null;
  return {
    node,
    box: dead ? box : null,
    fill(now) {
      at = moment(dead ? now.dead_lettered_at : now.next_attempt_at);
      box.hidden = !actions;
      box.setAttribute('aria-label', `Choose event ${now.id}, ${now.event_type ?? ''}`);
      say(parts.type, now.event_type ?? DASH);
      say(parts.ids, `row ${now.id} · ${now.event_id ?? DASH}`);
      say(parts.stream, now.stream ?? DASH);
      say(parts.aggregate, now.aggregate_id ?? DASH);
      say(parts.attempts, now.attempts === 1 ? '1 attempt' : `${count(now.attempts)} attempts`);
      say(parts.error, now.error ?? DASH);
      parts.what.title = at === null ? '' : new Date(at).toISOString();
    },
    tick(now) {
      const due = at !== null && at <= now ? 'due' : `next try ${relative(at, now)}`;
      say(parts.what, dead ? `dead, ${relative(at, now)}` : `parked, ${due}`);
    },
  };
}

const boxes = () => [...rows.values()].flatMap((row) => (row.box ? [row.box] : []));
const chosen = () => boxes().filter((box) => box.checked).map((box) => box.value);

function chosenChanged() {
  const [all, some] = [boxes().length, chosen().length];
  byId('all').checked = all > 0 && some === all;
  byId('all').indeterminate = some > 0 && some < all;
  byId('all').disabled = all === 0;
  say(byId('retry'), some ? `Retry ${some}` : 'Retry');
  say(byId('discard'), some ? `Discard ${some}…` : 'Discard…');
  for (const id of ['retry', 'discard']) byId(id).disabled = some === 0;
}

const events = (number) => (number === 1 ? '1 event' : `${number} events`);

async function change(what, ids) {
  tell('Asking PostgreSQL…', what);
  const { status, told, problem } = await ask(of(`dead/${what}`), ids);
  if (status === 200) {
    const done = what === 'retry' ? 'due now, under the same event id' : 'discarded';
    tell(`${events(told.changed)}: ${done}.`, what);
    for (const box of boxes()) box.checked = false;
    byId('undelivered').focus({ preventScroll: true });
  } else if (status === 401) {
    keep('');
    waiting = () => change(what, ids);
    wantToken('That is not the token of this relay. Nothing was changed.');
    byId('token').focus();
    return;
  } else {
    tell(`Not done: ${problem}.`, what);
  }
  chosenChanged();
  await look();
}

function sure(number) {
  const dialog = byId('sure');
  say(byId('sure-head'), `Give up ${events(number)}?`);
  dialog.returnValue = 'no';
  dialog.showModal();
  return new Promise((done) => {
    dialog.addEventListener('close', () => done(dialog.returnValue === 'yes'), { once: true });
  });
}

export function begin() {
  byId('retry').addEventListener('click', () => change('retry', chosen()));
  byId('discard').addEventListener('click', async () => {
    const ids = chosen();
    if (await sure(ids.length)) change('discard', ids);
  });
  byId('look').addEventListener('click', () => look());
  byId('all').addEventListener('change', () => {
    for (const box of boxes()) box.checked = byId('all').checked;
    chosenChanged();
  });
  byId('forget').addEventListener('click', () => {
    keep('');
    look();
  });
  byId('events').addEventListener('submit', (event) => event.preventDefault());
  byId('token-form').addEventListener('submit', (event) => {
    event.preventDefault();
    keep(byId('token').value.trim());
    byId('token').value = '';
    byId('token-form').hidden = true;
    const next = waiting ?? look;
    waiting = null;
    next();
  });
}
