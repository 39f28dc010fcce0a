// What was measured in the last minutes, and its graphs. In: answers of /status. Out: four figures,
// each with its number, its graph and its highest value; the same in words for whoever sees none.

import {
  DASH, byId, bytes, count, element, isNumber, moment, rate, say, seconds,
} from './format.js';

// A page that was just opened shows a minute, and grows with what it knows.
const [SPAN_MIN, SPAN_MAX] = [60_000, 300_000];
const SVG = 'http://www.w3.org/2000/svg';
const [WIDTH, HEIGHT] = [300, 40];
// A pause this long between two samples is shown as one: nobody knows what happened in it.
const HOLE = 45_000;
const SMOOTH = 4_500;

// The floor keeps a graph of next to nothing flat: its top is never less than this.
const FIGURES = [
  { id: 'rate', name: 'Events per second', show: rate, floor: 5 },
  { id: 'lag_seconds', name: 'Oldest event waits', show: seconds, floor: 1 },
  { id: 'lag_events', name: 'Events not settled', show: count, floor: 10 },
  { id: 'lag_bytes', name: 'WAL not confirmed', show: bytes, floor: 65_536 },
];

let samples = [];
const drawn = new Map();

function sample(at, published, lag) {
  return {
    at,
    published,
    lag_events: lag?.events,
    lag_seconds: lag?.seconds,
    lag_bytes: lag?.bytes,
  };
}

// One answer more. The relay's own history stands in for what it covers, so that everybody sees the
// same curve; what was before it (the relay was started again) and after it is the page's own.
export function remember(status, now) {
  const told = (Array.isArray(status.history) ? status.history : [])
    .map((point) => ({ ...point, at: moment(point.at) }))
    .filter((point) => point.at !== null && point.at < now)
    .sort((one, other) => one.at - other.at);
  const [from, to] = [told[0]?.at ?? now, told.at(-1)?.at ?? now];
  const before = samples.filter((point) => point.at < from);
  const after = samples.filter((point) => point.at > to && point.at < now);
  samples = [...before, ...told, ...after];
  samples.push(sample(now, status.events?.published, status.lag));
  samples = samples.filter((point) => point.at > now - SPAN_MAX - 10_000);
}

// At each sample, over some seconds before it: from one second to the next a rate jumps. A relay
// that was started again counts from 0, and then nothing is known.
function rates() {
  return samples.slice(1).map((point, before) => {
    const old = samples.slice(0, before + 1).findLast(({ at }) => at <= point.at - SMOOTH);
    const from = old ?? samples[0];
    const written = point.published - from.published;
    const apart = point.at - from.at;
    const known = isNumber(written) && written >= 0 && apart > 500 && apart < HOLE;
    return { at: point.at, rate: known ? (written * 1000) / apart : null };
  });
}

// Over the last seconds, from the page's own samples: for a relay that does not tell.
export function ownRate(over) {
  const last = samples.at(-1);
  const first = samples.find((point) => point.at >= last.at - over);
  if (!last || !first || first === last) return null;
  const written = last.published - first.published;
  return isNumber(written) && written >= 0 ? (written * 1000) / (last.at - first.at) : null;
}

function svg(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function figure(of) {
  const frame = element('figure', undefined, { id: `figure-${of.id}` });
  const number = element('p', DASH, { class: 'number', id: `number-${of.id}` });
  const picture = svg('svg', {
    viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
    preserveAspectRatio: 'none',
    role: 'img',
  });
  const area = svg('path', { class: 'area' });
  const line = svg('path', { class: 'stroke' });
  const base = svg('path', { class: 'base', d: `M0 ${HEIGHT - 0.5}H${WIDTH}` });
  picture.append(base, area, line);
  const most = element('p', '', { class: 'most' });
  frame.append(element('figcaption', of.name), number, picture, most);
  byId('figures').append(frame);
  return { number, picture, area, line, most };
}

function paths(points, id, top, { now, span }) {
  let [line, area, open] = ['', '', null];
  const close = (x) => {
    if (open !== null) area += `L${x} ${HEIGHT}Z`;
    open = null;
  };
  let last = 0;
  for (const point of points) {
    const x = Number((WIDTH * (1 - (now - point.at) / span)).toFixed(1));
    const value = point[id];
    if (x < 0) continue;
    if (!isNumber(value) || (open !== null && point.at - open > HOLE)) close(last);
    if (!isNumber(value)) continue;
    const y = Number((HEIGHT - 1 - (HEIGHT - 3) * Math.min(1, value / top)).toFixed(1));
    line += `${open === null ? 'M' : 'L'}${x} ${y}`;
    area += open === null ? `M${x} ${HEIGHT}L${x} ${y}` : `L${x} ${y}`;
    [open, last] = [point.at, x];
  }
  close(last);
  return { line, area };
}

// `numbers` are those of now, in the order of the figures.
export function draw(numbers, now) {
  const measured = { rate: rates() };
  const span = Math.min(SPAN_MAX, Math.max(SPAN_MIN, now - samples[0].at));
  const minutes = Math.round(span / 60_000);
  say(byId('figures-head'), minutes > 1 ? `The last ${minutes} minutes` : 'The last minute');
  for (const of of FIGURES) {
    if (!drawn.has(of.id)) drawn.set(of.id, figure(of));
    const { number, picture, area, line, most } = drawn.get(of.id);
    const points = measured[of.id] ?? samples;
    const known = points.map((point) => point[of.id]).filter(isNumber);
    const top = known.length ? Math.max(...known) : null;
    const path = paths(points, of.id, Math.max(of.floor, top ?? 0), { now, span });
    line.setAttribute('d', path.line);
    area.setAttribute('d', path.area);
    const text = of.show(numbers[of.id]);
    number.textContent = text;
    most.textContent = top === null ? '' : `peak ${of.show(top)}`;
    picture.setAttribute('aria-label', `${of.name}: ${text}, peak ${of.show(top)}`);
  }
}
