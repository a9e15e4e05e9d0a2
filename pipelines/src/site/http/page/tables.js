// What is told in words and figures: one camera in full, and the site.

import { count, h, ms, reasons, seconds, state, time, verdict } from "./words.js";

function table(title, heads, rows) {
  // Each cell knows its head: on a phone a row becomes a card.
  const cell = (content, [kind, head]) => h("td", { class: kind, "data-head": head }, h("div", {}, content));
  return h("div", { class: "scroll" }, h("table", {}, h("caption", {}, title),
    h("thead", {}, h("tr", {}, heads.map(([kind, head]) => h("th", { class: kind, scope: "col" }, head)))),
    h("tbody", {}, rows.map((row) => h("tr", {}, row.map((content, at) => cell(content, heads[at])))))));
}

function list(pairs) {
  return h("dl", {}, pairs.filter(Boolean).flatMap(([term, text]) => [h("dt", {}, term), h("dd", {}, text)]));
}

const TIMES = [["n", "p50"], ["n", "p90"], ["n", "p99"], ["n", "max"]];
const times = (took) => [ms(took.p50_ms), ms(took.p90_ms), ms(took.p99_ms), ms(took.max_ms)];

export function camera(one) {
  const { sign, word, colour } = state(one);
  const frames = one.frames;
  const engine = (stage) => [stage.engine ?? "–",
    ...stage.passed_over.map(([name, why]) => h("div", { class: "quiet" }, `not ${name}: ${why}`)),
    stage.decision ? h("div", { class: "quiet" }, stage.decision.why) : null,
    stage.engine_faults ? h("div", { class: "warn" }, `⚠ ${count(stage.engine_faults)} faults; last: ${stage.last_engine_fault ?? "–"}`) : null];
  return [
    list([
      ["State", h("span", { class: colour }, `${sign} ${word} since ${time(one.since)}`)],
      one.why && ["Why", one.why],
      one.retry_in_s !== null && ["Next try", `in ${seconds(one.retry_in_s)}`],
      ["Source", one.source],
      one.remarks.length > 0 && ["Opened as", one.remarks.join("; ")],
      one.size && ["Picture", `${one.size[0]} × ${one.size[1]}`],
      ["Frames/s", `${one.fps[0].toFixed(1)} captured, ${one.fps[1].toFixed(1)} delivered`],
      ["Result age", `p50 ${ms(one.age.p50_ms)}, p90 ${ms(one.age.p90_ms)}, p99 ${ms(one.age.p99_ms)}, max ${ms(one.age.max_ms)}`],
      one.late > 0 && ["Late", h("span", { class: "warn" }, `⚠ ${count(one.late)} results were older than max_age_ms`)],
      ["Frames", `${count(frames.captured)} captured, ${count(frames.delivered)} delivered, ${count(frames.in_flight)} in flight`],
      ["Dropped", reasons(frames.dropped)],
      ["Failed", reasons(frames.failed)],
      ["Gaps", gaps(one.gaps)],
      ["Lost and found", `reconnects: ${count(one.reconnects)}, stalls: ${count(one.stalls)}, without frames: ${seconds(one.downtime_s)}`],
      ["Events", `${count(one.events[0])} now, ${count(one.events[1])} since the start`],
      ["Digest", one.digest.slice(0, 16)],
    ]),
    table("Stages", [["words", "Stage"], ["words", "Engine"], ...TIMES],
      one.stages.map((stage) => [`${stage.name} (${stage.kind})`, engine(stage), ...times(stage.took)])),
  ];
}

// What is missing of a camera's frames, by kind.
const gaps = (all) => reasons(Object.fromEntries(Object.entries(all)
  .filter(([, n]) => n > 0).map(([kind, n]) => [kind.replaceAll("_", " "), n])));

function board(one) {
  if (!one) return [];
  const heat = one.temperatures.map(([zone, t]) =>
    `${one.too_hot.includes(zone) ? "⚠ too hot: " : ""}${zone} ${t.toFixed(0)} °C`);
  const cooling = one.cooling.map(([kind, state, most]) => `${kind} at ${state} of ${most}`);
  const slowed = one.max_fps === null ? "" : `; ${one.max_fps} frames/s of each camera are looked at`;
  return [
    ["Board", `${one.name} (${one.description})${one.power_mode ? `, power mode ${one.power_mode}` : ""}`],
    ["Temperatures", heat.join(", ") || "no sensors"],
    cooling.length > 0 && ["Cooling", cooling.join(", ")],
    one.throttled && ["Heat", h("span", { class: "warn" }, `⚠ the machine slows itself down${slowed}`)],
  ];
}

export function site(status) {
  const outputs = status.outputs.map((output) => [output.name,
    [verdict(output.up, output.up ? "up" : "down"), output.why ? h("div", {}, output.why) : null],
    count(output.queued), count(output.spooled), count(output.delivered), reasons(output.dropped)]);
  const models = status.models.map((model) => [model.network, model.engine, count(model.cameras), count(model.queue),
    model.runs ? (model.regions / model.runs).toFixed(2) : "–", ...times(model.took)]);
  const config = status.config;
  const media = status.media;
  const mib = (bytes) => `${count(Math.round(bytes / 1048576))} MiB`;
  const kept = media === null ? null : list([
    ["Folder", media.dir],
    ["State", [verdict(media.up, media.up ? "written" : "not written"), media.why ? h("div", {}, media.why) : null]],
    ["Kept", `${count(media.recordings)} recordings, ${count(media.snapshots)} pictures: ${mib(media.bytes)} of at most ${mib(media.most_bytes)}`],
    ["Now", `${count(media.recording)} being recorded, ${mib(media.waiting_bytes)} wait for the disk`],
    ["Not written", reasons(media.dropped)],
    ["Removed", reasons(media.removed)],
  ]);
  return [
    outputs.length ? table("Outputs", [["words", "Output"], ["words", "State"], ["n", "In memory"], ["n", "On disk"], ["n", "Delivered"], ["words", "Dropped"]], outputs) : null,
    models.length ? table("Shared models", [["words", "Model"], ["words", "Engine"], ["n", "Cameras"], ["n", "Queue"], ["n", "Batch"], ...TIMES], models) : null,
    kept ? h("h3", {}, "Recordings") : null,
    kept,
    h("h3", {}, "Daemon"),
    list([
      ["Tapetum", `${status.version}, up ${seconds(status.uptime_s)}`],
      ["Memory", status.rss_bytes === null ? "–" : `${(status.rss_bytes / 1048576).toFixed(0)} MiB`],
      ["CPU", `${((100 * status.cpu_s) / Math.max(status.uptime_s, 1)).toFixed(0)} % of a core`],
      ...board(status.board),
      ["Configuration", `${config.path}, in force since ${time(config.loaded)}`],
      config.reloading && ["Reload", h("span", { class: "warn" }, `◌ a new configuration is being taken in since ${time(config.last_reload)}`)],
      !config.reload_error && config.reload_did.length && ["Last reload", `${time(config.last_reload)}: ${config.reload_did.join(", ")}`],
      config.reload_error && ["Last reload", h("span", { class: "bad" }, `✖ refused ${time(config.last_reload)}: ${config.reload_error}`)],
    ]),
  ].filter(Boolean);
}
