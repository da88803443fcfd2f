"use strict";
// Everything that is shown goes through here: texts become text nodes, and never markup.

const SVG = "http://www.w3.org/2000/svg";

// Characters that steer a terminal, change the direction of writing, or cannot be seen. The same are escaped in the log.
const UNSHOWN = /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Cn}\p{Zl}\p{Zp}]/gu;

function escaped(character) {
  const place = character.codePointAt(0);
  if (place < 0x100) return "\\x" + place.toString(16).padStart(2, "0");
  return place < 0x10000 ? "\\u" + place.toString(16).padStart(4, "0") : "\\U" + place.toString(16).padStart(8, "0");
}

// Words that may hold names which are escaped already.
function words(text) {
  return String(text).replace(UNSHOWN, escaped);
}

// A name, which can imitate nothing: a backslash is doubled, and it is kept apart from the words around it. A line may
// be broken after a part of it.
function name(text) {
  const shown = String(text).replaceAll("\\", "\\\\").replace(UNSHOWN, escaped) || "\u201c\u201d";
  const parts = shown.split(/(?<=[@.:])(?=\w)/u);
  return make("bdi", {}, parts.flatMap((part, at) => (at ? [make("wbr", {}), part] : [part])));
}

function make(tag, attributes, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

function draw(tag, attributes, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) element.setAttribute(key, String(value));
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined)
    .map((child) => (child instanceof Node ? child : words(child))));
  return element;
}

// What each place shows now, so that nothing is replaced that stays the same. A screen reader keeps its place so.
const shown = new Map();

function put(id, key, ...children) {
  const now = JSON.stringify(key);
  if (shown.get(id) === now) return;
  shown.set(id, now);
  document.getElementById(id).replaceChildren(...children.flat().map((child) => (child instanceof Node ? child : words(child))));
}

const MARKS = { good: "✓", warn: "!", bad: "✕" };

// A state is said by a word and a sign, and its colour only repeats it.
function mark(level, text) {
  return make("span", { class: "mark " + level }, MARKS[level] + " " + text);
}

// A table with a row header in its first column. On a narrow screen each row becomes a card, and keeps its roles.
function table(caption, columns, rows, limit = 300) {
  const labels = columns.map((column) => column.label);
  const head = make("tr", { role: "row" }, columns.map((column) =>
    make("th", { scope: "col", role: "columnheader", class: column.number ? "number" : null }, column.label)));
  const body = rows.slice(0, limit).map((row) => make("tr", { role: "row" }, row.map((cell, at) => {
    const children = Array.isArray(cell) ? cell : [cell];
    if (at === 0) return make("th", { scope: "row", role: "rowheader" }, make("span", {}, children));
    return make("td", { role: "cell", "data-label": labels[at], class: columns[at].number ? "number" : null },
      make("span", {}, children));
  })));
  const whole = make("table", { class: "cards", role: "table" }, make("caption", {}, caption),
    make("thead", { role: "rowgroup" }, head), make("tbody", { role: "rowgroup" }, body));
  const more = rows.length - limit;
  const held = make("div", { class: "wide" }, whole);
  return more > 0 ? [held, make("p", {}, `and ${count(more)} more in /status.json`)] : [held];
}

// Words for numbers and times

const NUMBERS = new Intl.NumberFormat("en");

function count(number) {
  return number === null || number === undefined ? "–" : NUMBERS.format(number);
}

function plural(number, noun, nouns = noun + "s") {
  return `${count(number)} ${number === 1 ? noun : nouns}`;
}

function seconds(duration) {
  if (duration === null || duration === undefined) return "–";
  if (duration < 1) return `${Math.max(1, Math.round(duration * 1000))} ms`;
  return duration < 10 ? `${duration.toFixed(1)} s` : span(duration);
}

function span(duration) {
  for (const [size, unit] of [[86400, "d"], [3600, "h"], [60, "min"]]) {
    if (duration >= 2 * size) return `${Math.round(duration / size)} ${unit}`;
  }
  return `${Math.max(0, Math.round(duration))} s`;
}

function ago(age) {
  if (age === null) return "–";
  return age < 10 ? "just now" : `${span(Math.floor(age / 10) * 10)} ago`;
}

function moment(at) {
  const date = new Date(at * 1000);
  if (Number.isNaN(date.getTime())) return make("span", {}, "at no time");
  const today = date.toDateString() === new Date().toDateString();
  const text = today ? date.toLocaleTimeString() : date.toLocaleString();
  return make("time", { datetime: date.toISOString() }, text);
}
