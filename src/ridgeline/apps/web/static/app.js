// The page: a form per view, its values in the address, and the answer beside it.
import { draw, element } from "/static/draw.js";

const form = document.getElementById("form");
const answer = document.getElementById("answer");
const state = { views: {}, view: null, source: null, job: null, asked: 0, asking: false, again: false, last: null };

async function start() {
  theme(localStorage.getItem("theme"));
  document.getElementById("theme").addEventListener("click", () => {
    const dark = document.documentElement.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
    theme(dark === "dark" ? "light" : "dark");
  });
  const told = await (await fetch("/api/views")).json();
  const nav = document.querySelector("nav");
  for (const view of told.views) {
    state.views[view.name] = view;
    nav.append(element("a", { href: `/${view.name}`, onclick: (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      history.pushState(null, "", `/${view.name}`);
      open();
    } }, view.title));
  }
  addEventListener("popstate", open);
  addEventListener("pagehide", leave);
  open();
}

function theme(name) {
  if (!name) return;
  document.documentElement.dataset.theme = name;
  localStorage.setItem("theme", name);
}

function open() {
  const name = location.pathname.slice(1) || Object.keys(state.views)[0];
  const view = (state.view = state.views[name]);
  if (!view) return fail(`no view ${name}`);
  leave();
  document.title = `${view.title} - ridgeline`;
  document.querySelector("h1").textContent = view.title;
  document.getElementById("about").textContent = view.about;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.getAttribute("href") === `/${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const given = new URLSearchParams(location.search);
  given.delete("token");
  fill(view, given);
  answer.replaceChildren();
  answer.setAttribute("aria-busy", "false");
  state.last = null;
  if (!view.job || view.opens || given.size) ask();
  else answer.append(element("p", { class: "empty" }, "Nothing has run yet. Change what is asked, then press Run; it takes some seconds, tells how far it is, and can be stopped."));
}

function fill(view, given) {
  form.replaceChildren();
  form.hidden = !view.fields.length;
  const more = element("details", { open: view.fields.some((field) => field.more && given.has(field.name)) }, element("summary", {}, "More"));
  const fresh = given.size === 0;
  for (const field of view.fields) {
    const value = given.get(field.name) ?? (fresh ? field.default : "");
    (field.more ? more : form).append(input(field, value));
  }
  if (more.childElementCount > 1) form.append(more);
  if (view.job) {
    form.append(element("div", { class: "run" }, element("button", { type: "submit" }, "Run"),
      element("button", { type: "button", id: "stop", hidden: true, onclick: () => fetch(`/api/jobs/${state.job}`, { method: "DELETE" }) }, "Stop")));
  }
}

function input(field, value) {
  const id = `field-${field.name}`;
  const label = element("label", { for: id }, field.label, " ", element("code", {}, field.name));
  const hint = element("small", { id: `${id}-hint`, class: "hint" }, field.doc);
  const given = { id, name: field.name, title: field.doc, "aria-describedby": hint.id };
  let control;
  if (field.choices.length) {
    const nothing = field.default ? [] : [element("option", { value: "" }, field.empty ? `${field.empty} (as usual)` : "")];
    control = element("select", given, ...nothing, ...field.choices.map((choice) => element("option", { value: choice, selected: choice === value }, choice)));
  } else if (field.lines) {
    control = element("textarea", { ...given, rows: field.lines, spellcheck: "false" }, value);
  } else {
    control = element("input", { ...given, value, placeholder: field.empty, autocomplete: "off", spellcheck: "false",
      inputmode: field.kind === "number" && field.high ? "decimal" : null, list: field.suggestions ? list(field.suggestions) : null });
  }
  control.addEventListener("input", () => soon(300));
  const parts = [label, control];
  if (field.high) parts.push(slider(field, control));
  return element("div", { class: "field" }, ...parts, hint);
}

// On a logarithmic scale: one side's half is as far as the other's double.
function slider(field, control) {
  const scale = 1000, low = Math.log(field.low), high = Math.log(field.high);
  const place = (v) => Math.round((Math.log(Math.min(Math.max(Number(v) || field.low, field.low), field.high)) - low) / (high - low) * scale);
  const made = element("input", { type: "range", min: 0, max: scale, value: place(control.value), step: field.high <= 64 ? Math.round(scale / Math.log2(field.high / field.low)) : 10,
    "aria-label": `${field.label}, slider`, "aria-valuetext": control.value });
  made.addEventListener("input", () => {
    const raw = Math.exp(low + made.value / scale * (high - low));
    if (Number(made.value) === scale) control.value = String(field.high);
    else control.value = field.high <= 64 ? String(2 ** Math.round(Math.log2(raw))) : String(Math.round(Number(raw.toPrecision(2))));
    made.setAttribute("aria-valuetext", control.value);
    soon(30);
  });
  control.addEventListener("input", () => { made.value = place(control.value); });
  return made;
}

function list(kind) {
  const id = `suggestions-${kind}`;
  if (!document.getElementById(id)) {
    const made = element("datalist", { id });
    document.body.append(made);
    fetch(`/api/suggestions/${kind}`).then((r) => r.json()).then((names) => made.append(...names.map((name) => element("option", { value: name }))));
  }
  return id;
}

function values() {
  const found = {};
  for (const [name, value] of new FormData(form)) if (String(value).trim()) found[name] = String(value).trim();
  return found;
}

let timer = 0;
function soon(after) {
  if (state.view.job) return;
  clearTimeout(timer);
  timer = setTimeout(ask, after);
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  ask();
  if (answer.getBoundingClientRect().top > innerHeight * 0.7) answer.scrollIntoView();
});

// Links in tables: the same view with another value of a field.
const follow = {
  href: (more) => `/${state.view.name}?${new URLSearchParams({ ...values(), ...more })}`,
  go(more) {
    history.pushState(null, "", follow.href(more));
    open();
    scrollTo(0, 0);
  },
};

function address() {
  return `/${state.view.name}?${new URLSearchParams(values())}`;
}

async function post(path, body) {
  const reply = await fetch(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
  const told = await reply.json().catch(() => ({ error: `error ${reply.status}` }));
  if (!reply.ok) throw new Error(told.error ?? `error ${reply.status}`);
  return told;
}

// One question at a time: while a slider moves, the newest is asked when the last is answered.
async function ask() {
  const view = state.view;
  if (state.asking && !view.job) { state.again = true; return; }
  const number = ++state.asked;
  if (view.fields.length) history.replaceState(null, "", address());
  answer.setAttribute("aria-busy", "true");
  if (!answer.childElementCount) answer.append(element("p", { class: "empty" }, "Working it out …"));
  state.asking = true;
  try {
    if (view.job) return await run(view, number);
    const told = await post(`/api/views/${view.name}`, values());
    if (view === state.view && number === state.asked) show(told);
  } catch (error) {
    if (view === state.view && number === state.asked) fail(error.message);
  } finally {
    state.asking = false;
    if (state.again || view !== state.view && !state.view.job) { state.again = false; ask(); }
  }
}

async function run(view, number) {
  leave();
  const { job } = await post(`/api/views/${view.name}/jobs`, values());
  if (number !== state.asked || view !== state.view) return drop(job);
  state.job = job;
  const words = element("p", { role: "status" }, "starting"), bar = element("progress", { max: 1, value: 0, "aria-label": "Progress" });
  answer.replaceChildren(bar, words);
  document.getElementById("stop").hidden = false;
  state.source = new EventSource(`/api/jobs/${job}/events`);
  state.source.addEventListener("message", (message) => {
    const told = JSON.parse(message.data);
    if (told.event === "progress") { bar.value = told.share; words.textContent = `${Math.round(told.share * 100)} % ${told.words}`; return; }
    stop();
    if (told.event === "error") fail(told.error);
    else show(told.answer, told.files.map((name) => [name, `/api/jobs/${job}/files/${name}`]));
  });
  state.source.addEventListener("error", () => { stop(); fail("the server has gone"); });
}

function drop(job) {
  if (job) fetch(`/api/jobs/${job}?drop=1`, { method: "DELETE", keepalive: true });
}

function stop() {
  state.source?.close();
  state.source = state.job = null;
  const button = document.getElementById("stop");
  if (button) button.hidden = true;
}

// What nobody will look at need not run on.
function leave() {
  drop(state.job);
  stop();
}

function show(told, files = []) {
  answer.setAttribute("aria-busy", "false");
  state.last = told;
  const tools = element("div", { class: "tools", role: "group", "aria-label": "Take away" });
  if (told.command) tools.append(copies("Copy as command", told.command));
  if (told.python) tools.append(copies("Copy as Python", told.python));
  tools.append(copies("Copy link", () => location.href));
  if (told.rows.length) for (const kind of ["csv", "json", "parquet"]) tools.append(element("button", { type: "button", onclick: () => take(kind) }, kind.toUpperCase()));
  for (const [name, path] of files) tools.append(element("a", { href: path, download: "", class: "button" }, name));
  const opened = new Set([...answer.querySelectorAll("details[open] > summary")].map((s) => s.textContent));
  answer.replaceChildren(...[element("h2", {}, told.title), changed(), tools, ...together(told.blocks)].filter(Boolean));
  for (const summary of answer.querySelectorAll("details > summary")) if (opened.has(summary.textContent)) summary.parentElement.open = true;
}

// What was asked beyond what stands in the form at the start.
function changed() {
  const given = values();
  const items = state.view.fields.filter((field) => (given[field.name] ?? "") !== field.default).map((field) =>
    element("div", { title: field.default ? `at the start: ${field.default}` : field.doc }, element("dt", {}, field.label), element("dd", {}, given[field.name] ?? "-")));
  return items.length ? element("dl", { class: "changed", "aria-label": "Changed from the start" }, ...items) : null;
}

// Drawings that follow each other stand beside each other where there is room.
function together(blocks) {
  const drawn = [];
  let row = null;
  for (const block of blocks) {
    if (block.type !== "picture") { row = null; drawn.push(draw(block, { follow, save, copies })); continue; }
    if (!row) drawn.push((row = element("div", { class: "pictures" })));
    row.append(draw(block, { follow, save, copies }));
  }
  return drawn;
}

function copies(label, text) {
  return element("button", { type: "button", onclick: async (event) => {
    const button = event.currentTarget, words = typeof text === "function" ? text() : text;
    try {
      await navigator.clipboard.writeText(words);
      button.textContent = "Copied";
    } catch {
      answer.querySelector(".tools").after(element("pre", { class: "copy", tabindex: "0" }, words));
    }
    setTimeout(() => { button.textContent = label; }, 1200);
  } }, label);
}

function save(name, content, type = "text/plain") {
  const link = element("a", { href: URL.createObjectURL(new Blob([content], { type })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

async function take(kind) {
  const reply = await fetch(`/api/exports/${kind}`, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ rows: state.last.rows }) });
  if (!reply.ok) return fail((await reply.json()).error);
  save(`ridgeline-${state.view.name}.${kind}`, await reply.blob(), reply.headers.get("content-type"));
}

function fail(words) {
  answer.setAttribute("aria-busy", "false");
  answer.replaceChildren(element("pre", { class: "error", role: "alert" }, words));
}

start();
