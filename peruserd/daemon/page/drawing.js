// The ring of ranges, and the curve of the latency. Tables beside them say the same.

const FULL = 2 ** 32;
const COLOURS = 8;

// Each instance has a number and a colour, by its place among the names. Two instances can share a colour, and no number.
function keys(status) {
  const names = new Set();
  for (const range of status.ranges) for (const owner of range.owners) names.add(owner);
  for (const instance of status.instances) names.add(instance.node);
  return new Map([...names].sort().map((each, at) => [each, at]));
}

function keyed(owner, numbers) {
  const number = numbers.get(owner);
  if (number === undefined) return name(owner);
  return make("span", {}, make("span", { class: "key k" + (number % COLOURS), "aria-hidden": "true" }, number + 1), name(owner));
}

function point(place, radius) {
  const angle = (place / FULL) * 2 * Math.PI - Math.PI / 2;
  return [100 + radius * Math.cos(angle), 100 + radius * Math.sin(angle)].map((each) => each.toFixed(2));
}

function arc(begin, end, inner, outer) {
  // A whole circle has no two ends, so it leaves out a hair's breadth.
  const last = Math.min(end + 1, begin + FULL * 0.99999);
  const large = last - begin > FULL / 2 ? 1 : 0;
  return `M${point(begin, outer)} A${outer} ${outer} 0 ${large} 1 ${point(last, outer)} L${point(last, inner)} ` +
    `A${inner} ${inner} 0 ${large} 0 ${point(begin, inner)} Z`;
}

function ring(status, numbers) {
  const parts = [];
  const wide = status.ranges.length <= 32;
  for (const range of status.ranges) {
    const title = draw("title", {}, `${range.range}: ${ownersInWords(range)}`);
    if (!range.owners.length || !range.readable) {
      parts.push(draw("path", { d: arc(range.begin, range.end, 52, 92), class: "none" }, title));
      if (wide) parts.push(label(range, 72, "!", "middle"));
      continue;
    }
    // The owners share the users of a range. So each has a band of it.
    const owners = range.owners.slice(0, 4);
    const band = 40 / owners.length;
    owners.forEach((owner, at) => {
      const inner = 52 + at * band;
      const number = numbers.get(owner);
      parts.push(draw("path", { d: arc(range.begin, range.end, inner, inner + band), class: "arc f" + (number % COLOURS) },
        at === 0 ? title : null));
      if (wide && band >= 10) parts.push(label(range, inner + band / 2, number + 1, "on"));
    });
    if (range.followed_at.length) parts.push(draw("path", { d: edge(range), class: "here" }));
  }
  const said = `${plural(status.ranges.length, "range")}; the table beside it says the same.`;
  const centre = draw("text", { x: 100, y: 96, class: "middle" }, plural(status.ranges.length, "range"));
  const here = status.ranges.filter((range) => range.followed_at.length).length;
  const followed = draw("text", { x: 100, y: 112, class: "middle soft" }, `${count(here)} followed here`);
  return [
    draw("svg", { viewBox: "0 0 200 200", role: "img", "aria-label": "The ring of ranges: " + said }, parts, centre, followed),
    make("figcaption", {}, "Numbers and colours are instances, as in the table. They share the users of a range. " +
      "An outer edge marks the ranges that this instance follows."),
  ];
}

function edge(range) {
  const last = Math.min(range.end + 1, range.begin + FULL * 0.99999);
  const large = last - range.begin > FULL / 2 ? 1 : 0;
  return `M${point(range.begin, 95)} A95 95 0 ${large} 1 ${point(last, 95)}`;
}

function label(range, radius, text, kind) {
  const [x, y] = point((range.begin + range.end) / 2, radius);
  return draw("text", { x, y, class: kind }, text);
}

function ownersInWords(range) {
  if (!range.readable) return "no node that hosts it is connected";
  return range.owners.length ? range.owners.join(", ") : "nobody";
}

const LEFT = 52, TOP = 10, BOTTOM = 170;
const LINES = [0.01, 0.1, 1, 10, 60];

function height(latency) {
  const [low, high] = [Math.log10(0.005), Math.log10(60)];
  const place = (Math.log10(Math.min(60, Math.max(0.005, latency))) - low) / (high - low);
  return BOTTOM - place * (BOTTOM - TOP);
}

// The width is that of the place, in pixels, so that letters keep their size on a telephone.
function curve(latency, now, width) {
  const RIGHT = width - 4;
  const from = now - 1800;
  const across = (at) => LEFT + Math.max(0, (at - from) / 1800) * (RIGHT - LEFT);
  const grid = LINES.flatMap((each) => [
    draw("line", { x1: LEFT, x2: RIGHT, y1: height(each), y2: height(each), class: "grid" }),
    draw("text", { x: LEFT - 6, y: height(each) + 4, class: "end soft" }, seconds(each)),
  ]);
  const times = (width < 420 ? [30] : [30, 20, 10]).map((minutes) =>
    draw("text", { x: across(now - minutes * 60), y: BOTTOM + 18, class: "soft" }, `${minutes} min ago`));
  const lines = ["median", "p95"].flatMap((kind) => {
    const known = latency.course.filter((each) => each[kind] !== null).map((each) => [across(each.at), height(each[kind])]);
    const path = known.map(([x, y], at) => `${at ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
    return [draw("path", { d: path || "M0 0", class: "line " + kind }),
      ...known.map(([x, y]) => draw("circle", { cx: x.toFixed(1), cy: y.toFixed(1), r: 2.5, class: "dot " + kind }))];
  });
  const label = "Latency of sign-ups in the last half hour, median and 95th percentile; the table below has the figures.";
  return [
    draw("svg", { viewBox: `0 0 ${width} 195`, role: "img", "aria-label": label }, grid, times,
      draw("text", { x: RIGHT, y: BOTTOM + 18, class: "end soft" }, "now"), lines),
    make("figcaption", {}, "Solid line: half of the users were served within this time. Dashed line: 95 of 100 were."),
  ];
}
