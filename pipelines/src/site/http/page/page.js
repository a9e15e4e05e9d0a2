// The wall of cameras: one WebSocket, which is asked for every message, so that a slow device gets fewer frames, never late ones.

import * as events from "./events.js";
import { draw, parse } from "./picture.js";
import * as tables from "./tables.js";
import { h, seconds, some, state, time } from "./words.js";

const $ = (id) => document.getElementById(id);
const tiles = new Map();
// Small pictures do not need every frame; the large one gets what the device can draw.
const WALL_INTERVAL_MS = 100;
let socket = null;
let status = null;
let failures = 0;

// --- the connection ---

function connect() {
  socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/api/v1/live`);
  socket.binaryType = "arraybuffer";
  const mine = socket;
  socket.onopen = () => {
    failures = 0;
    $("lost").hidden = true;
    for (const tile of tiles.values()) tile.asked = false;
    watch();
    say("status");
  };
  socket.onmessage = ({ data }) => (typeof data === "string" ? told(JSON.parse(data)) : shown(parse(data)));
  socket.onclose = () => mine === socket && lost();
}

async function lost() {
  socket = null;
  failures += 1;
  let left = Math.min(2 ** (failures - 1), 10);
  for (const tile of tiles.values()) paint(tile);
  $("health").replaceChildren(h("span", { class: "bad" }, "✖ No connection"));
  for (; left > 0; left -= 1) {
    $("lost").textContent = `No connection to the server. What you see is old. Trying again in ${left} s.`;
    $("lost").hidden = false;
    await new Promise((done) => setTimeout(done, 1000));
  }
  $("lost").textContent = "No connection to the server. What you see is old. Trying again …";
  // A browser does not say why a WebSocket was refused: the session may be over.
  const answer = await fetch("/api/v1/session").catch(() => null);
  if (answer?.status === 401) location.assign("/login");
  else connect();
}

function say(wish) {
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(wish));
}

// --- what is looked at ---

function chosen() {
  const name = new URLSearchParams(location.hash.slice(1)).get("camera");
  return tiles.has(name) ? name : null;
}

const address = (name) => `#${new URLSearchParams({ camera: name })}`;

function watch() {
  const one = chosen();
  const names = one === null ? [...tiles.keys()] : [one];
  for (const [name, tile] of tiles) if (!names.includes(name)) tile.asked = false;
  say({ watch: names });
  names.forEach(ask);
}

function ask(name) {
  const tile = tiles.get(name);
  if (!tile || tile.asked || document.hidden || (chosen() ?? name) !== name || socket?.readyState !== WebSocket.OPEN) return;
  tile.asked = true;
  say({ next: name });
}

async function shown(frame) {
  const tile = tiles.get(frame.camera);
  if (!tile) return;
  try {
    await draw(tile.canvas, frame);
    tile.frame = frame;
    tile.canvas.dataset.seq = frame.seq;
    tile.root.style.setProperty("--ratio", frame.size[0] / frame.size[1]);
    paint(tile);
  } catch (error) {
    tile.figures.textContent = `This frame cannot be shown: ${error.message}`;
  }
  tile.asked = false;
  if (chosen() === frame.camera) requestAnimationFrame(() => ask(frame.camera));
  else setTimeout(ask, WALL_INTERVAL_MS, frame.camera);
}

// --- what is told ---

function told(news) {
  status = news;
  $("site").textContent = status.site;
  const ready = status.not_ready.length === 0;
  const cameras = status.cameras.filter((camera) => camera.state === "streaming").length;
  const words = ready ? `✔ Ready: ${cameras} of ${status.cameras.length} cameras streaming` : `⚠ Not ready: ${some(status.not_ready)}`;
  if ($("health").textContent !== words) $("health").replaceChildren(h("span", { class: ready ? "good" : "warn" }, words));
  const { reload_error: why, last_reload: when } = status.config;
  const refused = why ? `✖ The configuration was changed at ${time(when)} and refused; the one before it stays in force.\n${why}` : "";
  if ($("refused").textContent !== refused) $("refused").textContent = refused;
  $("refused").hidden = !why;
  document.title = `${ready ? "" : "⚠ "}${status.site}`;
  const names = status.cameras.map((camera) => camera.name);
  if (names.join("\n") !== [...tiles.keys()].join("\n")) hang(names);
  for (const camera of status.cameras) {
    const tile = tiles.get(camera.name);
    tile.camera = camera;
    paint(tile);
  }
  tell();
  setTimeout(say, 1000, "status");
}

function tell() {
  if (status === null) return;
  const one = chosen();
  const camera = status.cameras.find((camera) => camera.name === one);
  $("camera").replaceChildren(...(camera ? tables.camera(camera) : []));
  update($("details"), tables.site(status));
}

// Only what changed, so that a reader's selection and place stay.
function update(section, elements) {
  const old = [...section.querySelectorAll(":scope > :not(.row)")];
  if (old.length !== elements.length) section.replaceChildren(...elements, reload);
  else elements.forEach((element, at) => element.isEqualNode(old[at]) || old[at].replaceWith(element));
}

function hang(names) {
  for (const [name, tile] of tiles) {
    if (!names.includes(name)) {
      tile.root.remove();
      tiles.delete(name);
    }
  }
  const hung = new Map(tiles);
  tiles.clear();
  for (const name of names) tiles.set(name, hung.get(name) ?? newTile(name));
  const none = h("p", {}, "No cameras are configured.");
  $("wall").replaceChildren(...(names.length ? [...tiles.values()].map((tile) => tile.root) : [none]));
  choose();
}

function newTile(name) {
  const canvas = h("canvas", { width: 1, height: 1, role: "img", "aria-label": `Live picture of ${name}` });
  const over = h("p", { class: "over" });
  const link = h("a", { class: "picture", href: address(name) }, canvas, over);
  const word = h("span");
  const figures = h("span", { class: "figures" });
  const root = h("article", { class: "tile", "data-camera": name }, link,
    h("div", { class: "caption" }, h("h2", {}, name), word, figures));
  return { name, root, link, canvas, over, word, figures, asked: false, frame: null, camera: null };
}

// State, why and age, over and under the picture.
function paint(tile) {
  const camera = tile.camera;
  if (camera === null) return;
  const { sign, word, colour } = state(camera);
  const live = socket !== null && camera.state === "streaming";
  tile.root.dataset.state = camera.state;
  tile.root.classList.toggle("old", !live);
  tile.word.className = socket === null ? "quiet" : colour;
  tile.word.textContent = socket === null ? "? Unknown" : `${sign} ${word}`;
  const lines = [];
  if (socket === null) lines.push(h("b", {}, "No connection"));
  else if (!live) {
    lines.push(h("b", {}, `${sign} ${word}`));
    if (camera.why) lines.push(h("span", {}, camera.why));
    // Not how long ago: that would move every second.
    lines.push(h("span", {}, `since ${time(camera.since)}`));
    if (camera.retry_in_s !== null) lines.push(h("span", {}, `next try in ${seconds(camera.retry_in_s)}`));
  } else if (tile.frame === null) lines.push(h("span", {}, "waiting for a frame"));
  if (!live && tile.frame?.captured) lines.push(h("span", {}, `picture of ${new Date(tile.frame.captured).toLocaleTimeString()}`));
  const over = h("p", { class: "over" }, lines);
  if (!over.isEqualNode(tile.over)) tile.over.replaceChildren(...over.childNodes);
  const age = tile.frame?.age_s;
  tile.figures.textContent = live
    ? `${camera.fps[1].toFixed(1)} frames/s${age === null || age === undefined ? "" : ` · result ${seconds(age)} old`}`
    : camera.last_frame_age_s === null ? "no frame yet" : `last frame ${seconds(camera.last_frame_age_s)} ago`;
  tile.link.setAttribute("aria-label", chosen() === tile.name ? `${tile.name}: back to all cameras` : `${tile.name}, ${word}: enlarge`);
}

// One camera large, or all; the address says which, so that "back" does what it says.
function choose() {
  const one = chosen();
  $("wall").classList.toggle("one", one !== null);
  $("back").hidden = one === null;
  $("camera").hidden = one === null;
  events.show(one);
  for (const [name, tile] of tiles) {
    tile.root.hidden = one !== null && name !== one;
    tile.link.href = name === one ? "#" : address(name);
    paint(tile);
  }
  tell();
  watch();
}

const reloadTold = h("span", { role: "status" });
const reloadButton = h("button", { type: "button" }, "Reload configuration");
const reload = h("div", { class: "row" }, reloadButton, reloadTold);
reloadButton.onclick = async () => {
  reloadTold.textContent = "Checking …";
  const answer = await fetch("/api/v1/reload", { method: "POST" }).catch(() => null);
  const body = await answer?.json().catch(() => null);
  if (answer?.ok) reloadTold.textContent = "✔ Checked and taken on; it comes into force once it is built.";
  // What is wrong with it stands at the top as soon as the status has come; what it says here would be the same.
  else if (body?.status === 422) reloadTold.textContent = "✖ Refused: see the top of the page.";
  else reloadTold.textContent = `✖ Refused: ${body?.detail ?? "no connection"}`;
};

window.addEventListener("hashchange", () => {
  choose();
  scrollTo(0, 0);
});
window.addEventListener("keydown", (event) => {
  const names = [...tiles.keys()];
  const at = names.indexOf(chosen());
  if ($("clip").open || at < 0 || event.ctrlKey || event.altKey || event.metaKey) return;
  const step = { ArrowRight: 1, ArrowLeft: names.length - 1 }[event.key];
  if (event.key === "Escape") location.hash = "";
  else if (step) location.replace(address(names[(at + step) % names.length]));
});
document.addEventListener("visibilitychange", () => document.hidden || [...tiles.keys()].forEach(ask));
fetch("/api/v1/session").then((answer) => answer.json()).then((session) => ($("logout").hidden = !session.signed_in)).catch(() => {});
connect();
