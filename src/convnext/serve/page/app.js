"use strict";

// The web page: classify pictures and show heat maps, or segment them. It uses no library, sends requests to this
// server only, and never inserts text as HTML.

const TOP = 5;
const AT_ONCE = 2; // concurrent requests; other pictures wait here rather than on the server
const TRIES = 8; // attempts while the server is busy
const SIDE = 640; // longer side of a heat map, in pixels
const OPACITY = 150; // of the colours of classes, of 255
const FADED = 30; // of other classes while one is looked at
const AREAS = 12; // classes in a legend

const find = (id) => document.getElementById(id);
const cards = new Set();
const waiting = [];
let running = 0;
let token = "";
let models = [];

class Refused extends Error {
  constructor(status, detail, after) {
    super(detail);
    this.status = status;
    this.after = after;
  }
}

// Requests

async function ask(path, options = {}) {
  const headers = { ...options.headers };
  if (token) headers.Authorization = `Bearer ${token}`;
  let response;
  try {
    response = await fetch(path, { ...options, headers, redirect: "error", credentials: "omit" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "The server cannot be reached.");
  }
  if (response.ok) return response;
  const problem = await response.json().catch(() => ({}));
  const after = Number(response.headers.get("Retry-After")) || 1;
  const detail = problem.detail || `The server answered with status ${response.status}.`;
  if (response.status === 401) askForToken();
  throw new Refused(response.status, detail, after);
}

function send(path, card, parameters) {
  const query = new URLSearchParams(parameters);
  const kind = card.file.type.startsWith("image/") ? card.file.type : "application/octet-stream";
  const options = { method: "POST", body: card.file, headers: { "Content-Type": kind } };
  return ask(`${path}?${query}`, { ...options, signal: card.stop.signal });
}

async function loadModels() {
  const select = find("model");
  try {
    const found = (await (await ask("v1/models")).json()).models;
    models = found.filter((model) => model.version && ["classify", "segment"].some((kind) => model.answers.includes(kind)));
  } catch (error) {
    say(error.message);
    select.replaceChildren(new Option("no model"));
    if (error.status === 0) setTimeout(loadModels, 3000);
    return;
  }
  const chosen = select.value;
  select.replaceChildren(...models.map((model) => new Option(model.name, model.name)));
  if (models.some((model) => model.name === chosen)) select.value = chosen;
  if (!models.length) {
    select.replaceChildren(new Option("none yet"));
    setTimeout(loadModels, 1500);
  }
  select.disabled = !models.length;
  showNotice();
  pump();
}

const current = () => models.find((model) => model.name === find("model").value);

function showNotice() {
  const model = current();
  if (!model) return;
  const facts = [model.variant, `${model.size} × ${model.size} pixels`, `${model.engine}, ${model.precision}`];
  find("notice").textContent = [facts.join(" · "), model.notice].filter(Boolean).join(". ");
}

function askForToken() {
  const form = find("token-form");
  if (token) find("token-note").textContent = "Wrong token.";
  token = "";
  form.hidden = false;
  find("token").focus();
}

// Cards of pictures

function take(files) {
  const made = [...files].map(makeCard);
  find("cards").prepend(...made.map((card) => card.element));
  for (const card of made) {
    cards.add(card);
    queue(card);
  }
  count();
}

function makeCard(file) {
  const element = find("card").content.firstElementChild.cloneNode(true);
  const part = (name) => element.querySelector(`.${name}`);
  const card = { element, part, file, heats: new Map(), stop: new AbortController(), pinned: null };
  card.url = URL.createObjectURL(file);
  const name = file.name || "pasted picture";
  part("photo").src = card.url;
  part("photo").addEventListener("error", () => element.classList.add("blank"));
  part("name").textContent = name;
  part("name").title = name;
  part("remove").setAttribute("aria-label", `Remove ${name}`);
  part("remove").addEventListener("click", () => remove(card));
  const picture = part("picture");
  picture.disabled = true;
  picture.addEventListener("click", () => pin(card, card.map ? (card.shown ?? 0) : 0));
  picture.addEventListener("pointermove", (event) => nameAt(card, event));
  picture.addEventListener("pointerenter", (event) => {
    if (card.map) return;
    if (event.pointerType === "mouse" && card.pinned === null) showHeat(card, 0);
  });
  picture.addEventListener("pointerleave", () => {
    if (card.map) showMap(card, card.pinned);
    else if (card.pinned === null) hideHeat(card);
  });
  return card;
}

function remove(card) {
  card.stop.abort();
  forgetHeats(card);
  URL.revokeObjectURL(card.url);
  clearTimeout(card.timer);
  const next = card.element.nextElementSibling || card.element.previousElementSibling;
  card.element.remove();
  cards.delete(card);
  count();
  (next ? next.querySelector(".remove") : find("files")).focus();
}

function count() {
  document.body.classList.toggle("full", cards.size > 0);
  find("bar").hidden = cards.size === 0;
  const all = [...cards];
  const wrong = all.filter((card) => card.element.classList.contains("wrong")).length;
  const open = all.filter((card) => !card.answer).length - wrong;
  const noun = cards.size === 1 ? "picture" : "pictures";
  const done = open ? `${cards.size - open} of ${cards.size} ${noun}` : `${cards.size} ${noun}`;
  find("summary").textContent = wrong ? `${done}, ${wrong} without an answer` : done;
}

// Classification

function queue(card) {
  clearTimeout(card.timer);
  if (!cards.has(card)) return;
  card.answer = null;
  forgetHeats(card);
  forgetMap(card);
  card.part("classes").replaceChildren();
  card.part("time").textContent = "";
  card.part("picture").disabled = true;
  state(card, "waiting", "Waiting");
  if (!waiting.includes(card)) waiting.push(card);
  pump();
}

function pump() {
  while (running < AT_ONCE && waiting.length && current()) {
    const card = waiting.shift();
    if (!cards.has(card)) continue;
    running += 1;
    look(card).finally(() => {
      running -= 1;
      pump();
    });
  }
}

async function look(card) {
  const model = current();
  const segments = model.answers.includes("segment");
  const begun = performance.now();
  state(card, "waiting", "Looking");
  try {
    const response = segments
      ? await send("v1/segment", card, { model: model.name })
      : await send("v1/classify", card, model.multi_label ? { model: model.name } : { top: TOP, model: model.name });
    const answer = await response.json();
    if (model.name !== current()?.name) return queue(card); // another model was chosen
    const [found] = answer.pictures;
    if (segments) await readMap(card, found);
    if (!cards.has(card)) return;
    card.answer = segments ? found.areas : found.classes;
    card.model = model;
    card.tries = 0;
    const times = [Math.round(performance.now() - begun), Math.round(answer.milliseconds)];
    if (segments) showAreas(card, ...times);
    else showClasses(card, ...times);
  } catch (error) {
    if (error.name !== "AbortError") fail(card, error);
  }
  count();
}

function fail(card, error) {
  card.tries = (card.tries || 0) + 1;
  if (error.status === 503 && card.tries < TRIES) {
    state(card, "waiting", "The server is busy. Trying again soon.");
    card.timer = setTimeout(() => queue(card), 1000 * error.after * (0.75 + Math.random() / 2));
    return;
  }
  card.tries = 0;
  card.offline = error.status === 0;
  state(card, "wrong", error.message);
  say(`${card.part("name").textContent}: ${error.message}`);
  if ([0, 401, 408, 500, 503].includes(error.status)) {
    const again = document.createElement("button");
    again.type = "button";
    again.textContent = "Try again";
    again.addEventListener("click", () => queue(card));
    card.part("state").append(again);
  }
}

function state(card, name, text) {
  card.element.classList.remove("waiting", "wrong");
  if (name) card.element.classList.add(name);
  const line = document.createElement("span");
  line.textContent = text;
  card.part("state").replaceChildren(...(text ? [line] : []));
}

function percent(probability) {
  if (probability >= 0.9995) return "> 99.9 %";
  if (probability < 0.001) return "< 0.1 %";
  return `${(100 * probability).toFixed(1)} %`;
}

function showClasses(card, whole, server) {
  state(card, "", "");
  const explains = card.model.answers.includes("explain");
  const rows = card.answer.map((found, rank) => {
    const row = document.createElement("li");
    const line = document.createElement(explains ? "button" : "div");
    line.className = "class";
    const label = span("label", found.label.split(", ")[0]);
    label.title = found.label;
    const track = span("track", "");
    const fill = span("fill", "");
    fill.style.setProperty("--part", found.probability);
    track.append(fill);
    line.append(label, span("percent", percent(found.probability)), track);
    if (explains) {
      line.type = "button";
      line.setAttribute("aria-pressed", "false");
      line.title = `${found.label}: where?`;
      line.addEventListener("click", () => pin(card, rank));
    }
    row.append(line);
    return row;
  });
  card.part("classes").replaceChildren(...rows);
  card.part("time").textContent = `${whole} ms`;
  card.part("time").title = `${server} ms of them on the server`;
  const best = card.answer[0];
  const text = best ? `${best.label.split(", ")[0]}, ${percent(best.probability)}` : "no label";
  const name = card.part("name").textContent;
  if (!best) state(card, "", "No label reaches its threshold.");
  card.part("picture").disabled = !explains || !best;
  if (best) card.part("picture").setAttribute("aria-label", `${name}: show where ${best.label} was seen`);
  card.part("photo").alt = `${name}: ${text}`;
  say(`${name}: ${text}`);
}

function span(name, text) {
  const made = document.createElement("span");
  made.className = name;
  made.textContent = text;
  return made;
}

// Class maps

async function readMap(card, found) {
  const bytes = Uint8Array.from(atob(found.mask), (letter) => letter.charCodeAt(0));
  const blob = new Blob([bytes], { type: "image/png" });
  const picture = await createImageBitmap(blob, { colorSpaceConversion: "none" });
  const scale = Math.min(1, (2 * SIDE) / Math.max(found.width, found.height));
  const canvas = card.part("map");
  canvas.width = Math.max(1, Math.round(scale * found.width));
  canvas.height = Math.max(1, Math.round(scale * found.height));
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingEnabled = false; // a mixed colour is that of no class
  context.drawImage(picture, 0, 0, canvas.width, canvas.height);
  const pixels = context.getImageData(0, 0, canvas.width, canvas.height);
  const ranks = new Map(found.areas.map((area, rank) => [Number(`0x${area.colour.slice(1)}`), rank]));
  const at = new Uint16Array(canvas.width * canvas.height);
  for (let place = 0; place < at.length; place += 1) {
    const [red, green, blue] = pixels.data.subarray(4 * place, 4 * place + 3);
    at[place] = ranks.get(65536 * red + 256 * green + blue);
  }
  card.map = { pixels, at, context };
}

function showMap(card, rank) {
  const { pixels, at, context } = card.map;
  for (let place = 0; place < at.length; place += 1) {
    pixels.data[4 * place + 3] = rank === null || rank === at[place] ? OPACITY : FADED;
  }
  context.putImageData(pixels, 0, 0);
  card.shown = rank;
  mark(card);
}

// Show the class below the mouse; the picture is fitted into its frame.
function nameAt(card, event) {
  if (!card.map || event.pointerType !== "mouse" || card.pinned !== null) return;
  const { width, height } = card.map.pixels;
  const frame = card.part("picture").getBoundingClientRect();
  const scale = Math.min(frame.width / width, frame.height / height);
  const x = Math.floor((event.clientX - frame.left - (frame.width - scale * width) / 2) / scale);
  const y = Math.floor((event.clientY - frame.top - (frame.height - scale * height) / 2) / scale);
  const inside = x >= 0 && y >= 0 && x < width && y < height;
  const rank = inside ? card.map.at[width * y + x] : null;
  if (rank !== card.shown) showMap(card, rank);
}

function showAreas(card, whole, server) {
  state(card, "", "");
  const rows = card.answer.slice(0, AREAS).map((found, rank) => {
    const row = document.createElement("li");
    const line = document.createElement("button");
    line.type = "button";
    line.className = "class";
    line.setAttribute("aria-pressed", "false");
    const label = span("label", "");
    const swatch = span("swatch", "");
    swatch.style.backgroundColor = found.colour;
    label.append(swatch, found.label.split(", ")[0]);
    label.title = found.label;
    line.append(label, span("percent", percent(found.share)));
    line.addEventListener("click", () => pin(card, rank));
    line.addEventListener("pointerenter", () => {
      if (card.map && card.pinned === null) showMap(card, rank);
    });
    line.addEventListener("pointerleave", () => {
      if (card.map) showMap(card, card.pinned);
    });
    row.append(line);
    return row;
  });
  card.part("classes").replaceChildren(...rows);
  card.part("time").textContent = `${whole} ms`;
  card.part("time").title = `${server} ms of them on the server`;
  card.part("map").hidden = false;
  card.part("picture").disabled = false;
  showMap(card, null);
  const name = card.part("name").textContent;
  const text = card.answer.slice(0, 3).map((area) => `${area.label.split(", ")[0]} ${percent(area.share)}`);
  card.part("picture").setAttribute("aria-label", `${name}: show where its classes are`);
  card.part("photo").alt = `${name}: ${text.join(", ")}`;
  say(`${name}: ${text.join(", ")}`);
}

function forgetMap(card) {
  card.map = null;
  card.part("map").hidden = true;
}

// Heat maps

function pin(card, rank) {
  card.pinned = card.pinned === rank ? null : rank;
  if (card.map) return showMap(card, card.pinned);
  if (card.pinned === null) hideHeat(card);
  else showHeat(card, rank);
}

async function showHeat(card, rank) {
  const picture = card.part("picture");
  const target = card.answer?.[rank]?.index;
  if (target === undefined || picture.disabled) return;
  card.shown = rank;
  mark(card);
  if (!card.heats.has(target)) {
    picture.classList.add("busy");
    const asked = send("v1/explain", card, { model: card.model.name, target, side: SIDE })
      .then((response) => response.blob())
      .then((blob) => URL.createObjectURL(blob));
    card.heats.set(target, asked);
    asked.catch(() => card.heats.delete(target));
  }
  try {
    const url = await card.heats.get(target);
    if (card.shown !== rank) return;
    card.part("heat").src = url;
    card.part("heat").hidden = false;
    if (card.pinned !== null) say(`Shown: where ${card.answer[rank].label} was seen`);
  } catch (error) {
    if (error.name !== "AbortError") say(error.message);
    if (card.shown === rank) {
      card.pinned = null;
      hideHeat(card);
      card.part("hint").textContent = error.status === 503 ? "Busy: again" : "Not now: again";
    }
  } finally {
    picture.classList.remove("busy");
  }
}

function hideHeat(card) {
  card.shown = null;
  card.part("heat").hidden = true;
  mark(card);
}

function mark(card) {
  const lines = card.element.querySelectorAll("button.class");
  lines.forEach((line, rank) => line.setAttribute("aria-pressed", String(card.pinned === rank)));
  card.part("picture").setAttribute("aria-pressed", String(card.pinned !== null));
  const shown = card.shown === null || !card.answer ? null : card.answer[card.shown];
  card.part("hint").textContent = shown ? shown.label.split(", ")[0] : card.map ? "" : "Where?";
}

function forgetHeats(card) {
  for (const heat of card.heats.values()) heat.then((url) => URL.revokeObjectURL(url), () => {});
  card.heats.clear();
  card.pinned = null;
  hideHeat(card);
}

// User input

function say(text) {
  find("live").textContent = text;
}

function picturesOf(transfer) {
  return [...transfer.files];
}

for (const id of ["files", "camera"]) {
  find(id).addEventListener("change", (event) => {
    take(event.target.files);
    event.target.value = ""; // so that the same file can be chosen again
  });
}

document.addEventListener("paste", (event) => {
  if (event.target instanceof HTMLInputElement && event.target.type === "password") return;
  const files = picturesOf(event.clipboardData);
  if (files.length) {
    event.preventDefault();
    take(files);
  } else {
    say("The clipboard has no picture.");
  }
});

let depth = 0;
const dragging = (event) => event.dataTransfer?.types.includes("Files");
document.addEventListener("dragenter", (event) => {
  if (!dragging(event)) return;
  depth += 1;
  document.body.classList.add("over");
});
document.addEventListener("dragleave", () => {
  depth = Math.max(0, depth - 1);
  if (!depth) document.body.classList.remove("over");
});
document.addEventListener("dragover", (event) => {
  if (dragging(event)) event.preventDefault();
});
document.addEventListener("drop", (event) => {
  depth = 0;
  document.body.classList.remove("over");
  if (!dragging(event)) return;
  event.preventDefault();
  take(picturesOf(event.dataTransfer));
});

find("model").addEventListener("change", () => {
  showNotice();
  for (const card of cards) queue(card);
  count();
});

find("clear").addEventListener("click", () => {
  for (const card of [...cards]) remove(card);
});

find("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  token = find("token").value.trim();
  find("token").value = "";
  find("token-form").hidden = true;
  loadModels();
  for (const card of cards) if (!card.answer) queue(card);
});

window.addEventListener("online", () => {
  loadModels();
  for (const card of cards) if (card.offline && !card.answer) queue(card);
});

loadModels();
