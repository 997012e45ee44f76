"use strict";

// The web page: classify pictures, and show heat maps. It uses no library, sends requests to this
// server only, and never inserts text as HTML.

const TOP = 5;
const AT_ONCE = 2; // concurrent requests; other pictures wait here rather than on the server
const TRIES = 8; // attempts while the server is busy
const SIDE = 640; // longer side of a heat map, in pixels

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
    models = found.filter((model) => model.version && model.answers.includes("classify"));
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
  picture.addEventListener("click", () => pin(card, 0));
  picture.addEventListener("pointerenter", (event) => {
    if (event.pointerType === "mouse" && card.pinned === null) showHeat(card, 0);
  });
  picture.addEventListener("pointerleave", () => {
    if (card.pinned === null) hideHeat(card);
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
    classify(card).finally(() => {
      running -= 1;
      pump();
    });
  }
}

async function classify(card) {
  const model = current();
  const begun = performance.now();
  state(card, "waiting", "Looking");
  try {
    const response = await send("v1/classify", card, { top: TOP, model: model.name });
    const answer = await response.json();
    if (model.name !== current()?.name) return queue(card); // another model was chosen
    card.answer = answer.pictures[0].classes;
    card.model = model;
    card.tries = 0;
    showClasses(card, Math.round(performance.now() - begun), Math.round(answer.milliseconds));
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
  const text = `${best.label.split(", ")[0]}, ${percent(best.probability)}`;
  const name = card.part("name").textContent;
  card.part("picture").disabled = !explains;
  card.part("picture").setAttribute("aria-label", `${name}: show where ${best.label} was seen`);
  card.part("photo").alt = `${name}: ${text}`;
  say(`${name}: ${text}`);
}

function span(name, text) {
  const made = document.createElement("span");
  made.className = name;
  made.textContent = text;
  return made;
}

// Heat maps

function pin(card, rank) {
  card.pinned = card.pinned === rank ? null : rank;
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
  card.part("hint").textContent = shown ? shown.label.split(", ")[0] : "Where?";
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
