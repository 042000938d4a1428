// Draws what Python sends as data: text with marked stretches, a score on its scale, a stacked bar,
// a ranking of passages.
// Text only ever becomes textContent, so nothing in it can fetch, run or be a link.

const KINDS = new Set(
  ["support", "word", "weak", "loose", "before", "after", "copied", "note", "cite",
    "heat1", "heat2", "heat3", "heat4",
    ...Array.from({ length: 10 }, (_, n) => `tone${n}`), "tone"]);
const LOOKS = new Set(["small", "quiet", "strong", "title", "airy"]);

function make(name, className, text) {
  const node = document.createElement(name);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function goTo(key) {
  const target = document.querySelector(`.st-key-${CSS.escape(key)}`);
  if (!target) return;
  target.scrollIntoView({ behavior: "smooth", block: "start" });
  target.setAttribute("tabindex", "-1");
  target.focus({ preventScroll: true });
  target.animate([{ opacity: 0.35 }, { opacity: 1 }], { duration: 900 });
}

function text(data) {
  const box = make("div", data.clipped ? "text clipped" : "text");
  if (data.clipped) box.tabIndex = 0; // so that the keyboard can scroll it
  for (const run of data.runs) {
    const kinds = (run.kinds || []).filter((kind) => KINDS.has(kind)).join(" ");
    const node = make(run.to ? "button" : "span", kinds, run.text);
    if (run.tip) node.title = run.tip;
    if (run.to) {
      node.type = "button";
      if (run.tip) node.setAttribute("aria-label", run.tip);
      node.onclick = () => goTo(run.to);
    }
    box.append(node);
  }
  return box;
}

const percent = (value) => `${Math.max(0, Math.min(1, value)) * 100}%`;

function axis(data) {
  const box = make("div", "axis");
  box.setAttribute("role", "img");
  box.setAttribute("aria-label", data.label);
  box.title = data.label;
  const fill = make("div", "fill");
  fill.style.width = percent(data.value);
  box.append(fill);
  if (data.floor !== null) {
    const noise = make("div", "noise");
    noise.style.width = percent(Math.min(data.floor, data.value));
    const mark = make("div", "mark");
    mark.style.left = percent(data.floor);
    box.append(noise, mark);
  }
  for (const { at, text } of data.ticks) {
    const place = at <= 0.05 ? " first" : at >= 0.95 ? " last" : "";
    const tick = make("span", `tick${place}`, text);
    tick.style.left = percent(at);
    box.append(tick);
  }
  return box;
}

function stack(data) {
  const box = make("div");
  const bar = make("div", "stack");
  const legend = make("div", "legend");
  bar.setAttribute("role", "img");
  bar.setAttribute("aria-label", data.label);
  for (const { text, value, colour } of data.parts) {
    const part = make("div", `c${colour | 0}`);
    part.style.width = percent(value / data.total);
    part.title = text;
    bar.append(part);
    const entry = make("span");
    entry.append(make("i", `c${colour | 0}`), text);
    legend.append(entry);
  }
  box.append(bar, legend);
  return box;
}

function fill(box, runs) {
  box.replaceChildren(...runs.map((run) => {
    const kinds = (run.kinds || []).filter((kind) => KINDS.has(kind)).join(" ");
    return make("span", kinds, run.text);
  }));
}

function bar(share, floor) {
  const box = make("div", "bar");
  const value = make("div", "fill");
  value.style.width = percent(share);
  box.append(value);
  if (floor !== null) {
    const mark = make("div", "mark");
    mark.style.left = percent(floor);
    box.append(mark);
  }
  return box;
}

function card(data, floor) {
  const box = make("div", data.answers ? "card holds" : "card");
  const head = make("div", "head");
  head.append(make("span", "rank", String(data.rank)),
    make("span", `tone tone${data.tone}`, data.tag), make("span", "title", data.title));
  box.append(head, make("div", "about", data.about));
  const line = make("div", "score");
  line.append(make("span", "", data.score), bar(data.share, floor));
  box.append(line);
  const body = make("button", "body");
  body.type = "button";
  body.setAttribute("aria-expanded", "false");
  body.title = "Read all of it";
  fill(body, data.excerpt);
  body.onclick = () => {
    const open = body.getAttribute("aria-expanded") === "false";
    body.setAttribute("aria-expanded", String(open));
    body.title = open ? "Show less" : "Read all of it";
    fill(body, open ? data.whole : data.excerpt);
  };
  box.append(body);
  if (data.answers) box.append(make("div", "gold", data.answers));
  if (data.note) box.append(make("div", "about", data.note));
  return box;
}

function ranking(data) {
  const box = make("div", "ranking");
  box.append(...data.cards.map((one) => card(one, data.floor)));
  return box;
}

const DRAW = { text, axis, stack, ranking };

export default function ({ data, parentElement }) {
  const looks = (data.look || "").split(" ").filter((look) => LOOKS.has(look));
  const root = parentElement.querySelector(".root");
  root.className = ["root", ...looks].join(" ");
  root.replaceChildren(DRAW[data.draw](data));
}
