// Small things: elements, and how numbers, times and states are said.

// An element with attributes and children; text is only ever text.
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

// Each with a sign, a word and a colour: none of them says it alone.
const STATES = {
  loading: ["◌", "Loading models", "warn"],
  connecting: ["◌", "Connecting", "warn"],
  streaming: ["▶", "Streaming", "good"],
  waiting: ["⚠", "Waiting", "warn"],
  failed: ["✖", "Failed", "bad"],
  stopped: ["■", "Stopped", "quiet"],
};

export function state(camera) {
  const [sign, word, colour] = STATES[camera.state] ?? ["?", camera.state, "bad"];
  return { sign, word, colour };
}

export function verdict(good, word) {
  return h("span", { class: good ? "good" : "bad" }, `${good ? "✔" : "✖"} ${word}`);
}

export function count(n) {
  return n === null || n === undefined ? "–" : n.toLocaleString("en");
}

export function ms(value) {
  if (value === null || value === undefined) return "–";
  return value >= 10000 ? `${(value / 1000).toFixed(1)} s` : `${value.toFixed(value < 10 ? 2 : value < 100 ? 1 : 0)} ms`;
}

export function seconds(s) {
  if (s === null || s === undefined) return "–";
  if (s < 1) return `${Math.round(s * 1000)} ms`;
  if (s < 100) return `${s.toFixed(s < 10 ? 1 : 0)} s`;
  if (s < 6000) return `${Math.round(s / 60)} min`;
  return s < 172800 ? `${(s / 3600).toFixed(1)} h` : `${Math.floor(s / 86400)} days`;
}

export function time(text) {
  return text ? new Date(text).toLocaleString() : "–";
}

// A list that may be long: of many, the first.
export function some(words, most = 3) {
  const more = words.length - most;
  return words.slice(0, most).join("; ") + (more > 0 ? `; and ${more} more` : "");
}

export function reasons(counts) {
  const parts = Object.entries(counts).filter(([, n]) => n > 0).map(([reason, n]) => `${count(n)} ${reason}`);
  return parts.length ? parts.join(", ") : "none";
}
