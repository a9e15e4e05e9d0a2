// A message with one frame, and how it is drawn: picture and findings of the very same frame.

// Okabe and Ito's colours, which colour-blind people can tell apart, without the blue that is too dark for letters on dark plates.
const COLOURS = ["#56b4e9", "#f0e442", "#d55e00", "#009e73", "#cc79a7", "#e69f00"];
const known = new Map();

export function colour(label) {
  if (!known.has(label)) known.set(label, COLOURS[known.size % COLOURS.length]);
  return known.get(label);
}

// Four bytes with the header's length, the header, the parts that it lists.
export function parse(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  let at = 4 + length;
  for (const part of header.parts) {
    part.data = new Uint8Array(buffer, at, part.bytes);
    at += part.bytes;
  }
  return header;
}

function decode(part, type) {
  return createImageBitmap(new Blob([part.data], { type }), { colorSpaceConversion: "none", premultiplyAlpha: "none" });
}

// Everything is decoded before anything is drawn, so that no half frame is ever seen.
export async function draw(canvas, frame) {
  const parts = await Promise.all(frame.parts.map(async (part) => ({
    ...part, image: await decode(part, part.kind === "jpeg" ? "image/jpeg" : "image/png"),
  })));
  const picture = parts.find((part) => part.kind === "jpeg").image;
  const [width, height] = frame.size;
  // A small picture shown large gets more pixels, so that lines and letters stay sharp.
  const fine = Math.min(3, Math.max(1, Math.ceil((canvas.clientWidth * devicePixelRatio) / width)));
  if (canvas.width !== width * fine || canvas.height !== height * fine) {
    canvas.width = width * fine;
    canvas.height = height * fine;
  }
  const context = canvas.getContext("2d");
  // From here on, coordinates are the frame's.
  context.setTransform(fine, 0, 0, fine, 0, 0);
  context.imageSmoothingEnabled = true;
  context.drawImage(picture, 0, 0, width, height);
  // Pixels of the frame per pixel of the page: lines and letters are as large as the eye needs them.
  const scale = Math.max(width / (canvas.clientWidth || width), 0.25);
  const plates = [];
  for (const part of parts.filter((part) => part.kind === "mask")) plates.push(...mask(context, part, width, height));
  const found = Object.entries(frame.result?.findings ?? {});
  for (const [, finding] of found) for (const box of finding.boxes ?? []) drawBox(context, box, finding.age_s, scale, width);
  for (const [stage, finding] of found) {
    if (finding.class) plates.push([colour(finding.class), `${stage}: ${finding.class} ${percent(finding.prob)}`]);
    for (const [name, value] of Object.entries(finding.measure ?? {})) {
      if (value !== null) plates.push(["#fff", `${stage}: ${name} ${Number(value.toPrecision(4))}`]);
    }
  }
  if (frame.result?.error) plates.push(["#ff9a94", `✖ ${frame.result.error.stage}: ${frame.result.error.message}`]);
  let y = 4 * scale;
  for (const [ink, text] of plates) y += plate(context, text, ink, 4 * scale, y, scale) + 2 * scale;
  for (const part of parts) part.image.close();
}

function percent(share) {
  return share === null || share === undefined ? "" : `${Math.round(share * 100)} %`;
}

// The classes' pixels in their colours; returns a plate for each class that is there.
function mask(context, part, width, height) {
  const sheet = new OffscreenCanvas(width, height);
  const ink = sheet.getContext("2d", { willReadFrequently: true });
  ink.drawImage(part.image, 0, 0, width, height);
  const pixels = ink.getImageData(0, 0, width, height);
  const names = (c) => part.labels[part.labels.length === 1 ? c - 1 : c] ?? `#${c}`;
  const seen = new Map();
  for (let at = 0; at < pixels.data.length; at += 4) {
    const c = pixels.data[at];
    if (c === 0) {
      pixels.data[at + 3] = 0;
      continue;
    }
    if (!seen.has(c)) seen.set(c, parseInt(colour(names(c)).slice(1), 16));
    const rgb = seen.get(c);
    pixels.data[at] = rgb >> 16;
    pixels.data[at + 1] = (rgb >> 8) & 255;
    pixels.data[at + 2] = rgb & 255;
    pixels.data[at + 3] = 140;
  }
  ink.putImageData(pixels, 0, 0);
  context.imageSmoothingEnabled = false;
  context.drawImage(sheet, 0, 0);
  return [...seen.keys()].sort((a, b) => a - b).map((c) => [colour(names(c)), `■ ${part.stage}: ${names(c)}`]);
}

// Dashed: found on an earlier frame.
function drawBox(context, box, age, scale, width) {
  if (box.xyxy.includes(null)) return;
  const [x1, y1, x2, y2] = box.xyxy;
  const ink = colour(box.label);
  context.lineJoin = "round";
  context.strokeStyle = "rgb(0 0 0 / 60%)";
  context.lineWidth = 4 * scale;
  context.strokeRect(x1, y1, x2 - x1, y2 - y1);
  context.setLineDash(age === undefined ? [] : [6 * scale, 4 * scale]);
  context.strokeStyle = ink;
  context.lineWidth = 2 * scale;
  context.strokeRect(x1, y1, x2 - x1, y2 - y1);
  context.setLineDash([]);
  const text = [box.label, percent(box.score), box.identity, box.track === undefined ? "" : `#${box.track}`,
    age === undefined ? "" : `${age.toFixed(1)} s old`].filter(Boolean).join(" ");
  const tall = 20 * scale;
  const wide = measure(context, text, scale);
  const y = y1 - tall - scale >= 0 ? y1 - tall - scale : y1 + 2 * scale;
  plate(context, text, ink, Math.max(0, Math.min(x1 - scale, width - wide)), y, scale);
}

function measure(context, text, scale) {
  context.font = `600 ${13 * scale}px system-ui, sans-serif`;
  return context.measureText(text).width + 10 * scale;
}

// Text on a dark plate; returns its height.
function plate(context, text, ink, x, y, scale) {
  const wide = measure(context, text, scale);
  context.fillStyle = "rgb(0 0 0 / 75%)";
  context.fillRect(x, y, wide, 20 * scale);
  context.fillStyle = ink;
  context.textBaseline = "middle";
  context.fillText(text, x + 5 * scale, y + 10.5 * scale);
  return 20 * scale;
}
