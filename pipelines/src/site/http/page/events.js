// What happened: pictures of the latest events, and their recordings.

import { h, seconds, time } from "./words.js";

const $ = (id) => document.getElementById(id);
const PAGE = 12;
const AGAIN_MS = 5000;
const cards = new Map();
let camera = null;
let wanted = PAGE;
let turn = 0;

// Of one camera, or of all.
export function show(name) {
  if (name === camera && turn) return;
  camera = name;
  wanted = PAGE;
  cards.clear();
  $("event-list").replaceChildren();
  look();
}

async function look() {
  const mine = (turn += 1);
  const query = new URLSearchParams({ limit: wanted, ...(camera === null ? {} : { camera }) });
  const answer = document.hidden ? null : await fetch(`/api/v1/events?${query}`).catch(() => null);
  const told = answer?.ok ? await answer.json().catch(() => null) : null;
  if (mine !== turn) return;
  if (told) paint(told);
  // A site without a store of events has none to show.
  if (answer?.status === 404) $("events").hidden = true;
  else setTimeout(() => mine === turn && look(), AGAIN_MS);
}

function paint({ events, next }) {
  $("events").hidden = false;
  $("more").hidden = next === null;
  const shown = events.map((event) => {
    const known = cards.get(event.id);
    const text = JSON.stringify(event);
    if (known?.text === text) return known.card;
    const made = { text, card: card(event) };
    cards.set(event.id, made);
    return made.card;
  });
  for (const id of cards.keys()) if (!events.some((event) => event.id === id)) cards.delete(id);
  const none = h("p", { class: "quiet" }, "Nothing has happened yet.");
  const list = shown.length ? shown : [none];
  const old = [...$("event-list").children];
  if (old.length !== list.length || list.some((one, at) => one !== old[at])) $("event-list").replaceChildren(...list);
}

function card(event) {
  const what = `${event.label} on ${event.camera}`;
  const picture = event.snapshot_url
    // Written anew when there is a better picture: then the address is another, too.
    ? h("img", { src: `${event.snapshot_url}?seq=${event.seq}`, alt: "", loading: "lazy" })
    : h("span", { class: "quiet" }, "no picture");
  const open = h("button", { type: "button", class: "still", "aria-label": `${event.clip_url ? "Play" : "Enlarge"}: ${what}, ${time(event.start)}` }, picture);
  open.disabled = !event.clip_url && !event.snapshot_url;
  open.onclick = () => enlarge(event, what);
  const goes = event.phase !== "end";
  const took = goes ? "goes on" : `${seconds((new Date(event.end) - new Date(event.start)) / 1000)} long`;
  const kept = event.clip_url ? "▶ recorded" : event.recording ? (goes ? "● being recorded" : "recording not there yet, or no more") : null;
  return h("article", { class: "event", "data-event": event.id }, open,
    h("div", { class: "words" },
      h("p", {}, h("b", {}, event.label), ` ${(100 * event.score).toFixed(0)} % · ${event.camera}`),
      h("p", { class: "quiet" }, `${time(event.start)} · ${took}`),
      kept ? h("p", { class: "quiet" }, kept) : null));
}

function enlarge(event, what) {
  $("clip-title").textContent = `${what}, ${time(event.start)}`;
  const picture = () => (event.snapshot_url ? h("img", { src: `${event.snapshot_url}?seq=${event.seq}`, alt: `Best picture of ${what}` }) : null);
  if (event.clip_url) {
    const video = h("video", { src: event.clip_url, controls: true, autoplay: true, playsinline: true });
    video.muted = true;
    const load = h("p", {}, h("a", { href: event.clip_url, download: `${event.camera}-${event.id}.mp4` }, "Download the recording"));
    // JPEG pictures in MP4 are played by video players, not by browsers.
    video.onerror = () => video.replaceWith(...[h("p", {}, "This browser cannot play the recording; video players can."), picture()].filter(Boolean));
    $("clip-body").replaceChildren(video, load);
  } else $("clip-body").replaceChildren(...[picture()].filter(Boolean));
  $("clip").showModal();
}

$("clip").querySelector("button").onclick = () => $("clip").close();
$("clip").addEventListener("close", () => $("clip-body").replaceChildren());
$("more").querySelector("button").onclick = () => {
  wanted = Math.min(wanted + PAGE, 1000);
  look();
};
document.addEventListener("visibilitychange", () => document.hidden || look());
