// Numbers, sizes and times for people. In: values of /status, any of which may be missing. Out:
// short texts; a dash for what is not known.

export const DASH = '–';
const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
const whole = new Intl.NumberFormat('en');

// Which of several tables the page is about; it stands in its address, so that a link leads to it.
export const table = new URLSearchParams(location.search).get('table') ?? '';
export const of = (page) => (table ? `${page}?table=${encodeURIComponent(table)}` : page);

export const isNumber = (value) => typeof value === 'number' && Number.isFinite(value);

export function count(value) {
  return isNumber(value) ? whole.format(Math.round(value)) : DASH;
}

// Three digits, no more: 0.4, 12.3, 1,204.
export function rate(value) {
  if (!isNumber(value)) return DASH;
  return value > 0 && value < 99.5 ? String(Number(value.toFixed(1))) : count(value);
}

export function bytes(value) {
  if (!isNumber(value)) return DASH;
  let size = value;
  let unit = 0;
  while (size >= 1024 && unit < UNITS.length - 1) {
    size /= 1024;
    unit += 1;
  }
  return `${unit && size < 99.5 ? size.toFixed(1) : Math.round(size)} ${UNITS[unit]}`;
}

// A lag or a round trip: milliseconds matter.
export function seconds(value) {
  if (!isNumber(value)) return DASH;
  if (value === 0) return '0 s';
  if (value < 0.0995) return `${Number((value * 1000).toFixed(1))} ms`;
  return value < 99.5 ? `${value.toFixed(1)} s` : duration(value);
}

// Something that lasts: the two largest units, or so many.
export function duration(value, units = 2) {
  if (!isNumber(value)) return DASH;
  const all = Math.max(0, Math.round(value));
  const parts = [
    [Math.floor(all / 86400), 'd'],
    [Math.floor(all / 3600) % 24, 'h'],
    [Math.floor(all / 60) % 60, 'min'],
    [all % 60, 's'],
  ];
  const first = parts.findIndex(([value]) => value > 0);
  if (first < 0) return '0 s';
  const said = parts.slice(first, first + units).filter(([value]) => value > 0);
  return said.map(([value, unit]) => `${value} ${unit}`).join(' ');
}

// Milliseconds since the epoch, from seconds or from text.
export function moment(value) {
  if (isNumber(value)) return value > 1e11 ? value : value * 1000;
  const read = Date.parse(value);
  return Number.isNaN(read) ? null : read;
}

// The relay's clock: what it dates is compared with it, and a laptop's may be wrong by minutes.
let skew = 0;
export const clock = () => Date.now() + skew;
export function setClock(date) {
  const told = Date.parse(date);
  // Its header knows whole seconds only.
  if (Math.abs(told - clock()) > 2_500) skew = told - Date.now();
}

// Before or after now, as people say it.
export function relative(at, now) {
  if (at === null) return DASH;
  const away = (at - now) / 1000;
  if (Math.abs(away) < 1) return 'now';
  return away > 0 ? `in ${duration(away, 1)}` : `${duration(-away, 1)} ago`;
}

// Sets a text only where it changed: a screen reader must not be told the same again.
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export const byId = (id) => document.getElementById(id);

// An element with text in it. Never markup: what is shown comes from rows that anybody wrote.
export function element(name, text, attributes = {}) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}
