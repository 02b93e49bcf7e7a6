// Blocks of an answer as elements. Text stays text: nothing from the server is read as markup but drawings, which are
// parsed as SVG and stripped of all that could act.

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

// `page`: what blocks that people act on may do (follow a link, save a file, copy).
export function draw(block, page) {
  const drawn = { numbers, table, picture, bar, text, file, scatter }[block.type];
  return drawn ? drawn(block, page) : element("p", {}, `unknown block ${block.type}`);
}

function numbers(block) {
  const list = element("dl", { class: "numbers" });
  for (const item of block.items) {
    list.append(element("div", { title: item.name }, element("dt", {}, item.label || item.name), element("dd", {}, item.value),
      item.words ? element("dd", { class: "words" }, item.words) : null));
  }
  return list;
}

function file(block, page) {
  return element("figure", { class: "file" }, element("figcaption", {}, block.title,
    element("button", { type: "button", onclick: () => page.save(block.name, block.text) }, `Download ${block.name}`)),
  element("pre", { tabindex: "0", role: "region", "aria-label": block.name }, block.text));
}

function text(block) {
  if (block.kind === "heading") return element("h2", {}, block.text);
  return element("p", { class: block.kind || "plain" }, block.text);
}

function bar(block) {
  const whole = element("div", { class: "bar", role: "img", "aria-label": block.parts.map((p) => `${p.name} ${p.words}`).join(", ") });
  const legend = element("ul", { class: "legend" });
  block.parts.forEach((part) => {
    const piece = element("span", { class: `part p${part.tone % 10}`, title: `${part.name}: ${part.words}` });
    piece.style.flexGrow = String(Math.max(part.share, 0));
    whole.append(piece);
    legend.append(element("li", {}, element("span", { class: `key p${part.tone % 10}` }), `${part.name} ${part.words}`));
  });
  return element("figure", {}, element("figcaption", {}, block.title), whole, legend);
}

const DRAWN = new Set(["svg", "g", "line", "rect", "circle", "ellipse", "path", "polyline", "polygon", "text", "tspan", "title", "desc"]);

function picture(block) {
  const parsed = new DOMParser().parseFromString(block.svg, "image/svg+xml").documentElement;
  if (parsed.nodeName !== "svg") return element("p", { class: "note" }, "This drawing cannot be shown.");
  for (const node of [...parsed.querySelectorAll("*")]) if (!DRAWN.has(node.localName)) node.remove();
  for (const node of [parsed, ...parsed.querySelectorAll("*")]) {
    for (const attribute of [...node.attributes]) {
      if (/^on|href$|^style$|^src/i.test(attribute.name) || /url\(|script:/i.test(attribute.value)) node.removeAttribute(attribute.name);
    }
  }
  parsed.setAttribute("role", "img");
  if (!parsed.getAttribute("aria-label")) parsed.setAttribute("aria-label", block.title || parsed.querySelector("text")?.textContent || "chart");
  const caption = block.title ? element("figcaption", {}, block.title) : null;
  const name = parsed.getAttribute("aria-label");
  return element("figure", { class: "picture" }, caption, element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `${name}, drawing` }, document.importNode(parsed, true)));
}

function table(block, page) {
  const body = element("tbody");
  const numeric = block.head.map((_, i) => block.rows.some((cells) => cells[i]) && block.rows.every((cells) => isNumber(String(cells[i] ?? "-"))));
  const rows = block.rows.map((cells) => {
    const row = element("tr");
    cells.forEach((cell, i) => {
      const shown = cell === null ? "-" : String(cell);
      if (i === 0 && block.links) {
        row.append(element("th", { scope: "row" }, element("a", { href: page.follow.href({ [block.links]: shown }), onclick: (event) => {
          if (event.ctrlKey || event.metaKey || event.shiftKey) return;
          event.preventDefault();
          page.follow.go({ [block.links]: shown });
        } }, shown)));
      } else row.append(element(i === 0 ? "th" : "td", i === 0 ? { scope: "row" } : { class: numeric[i] ? "number" : null }, shown));
    });
    return { cells, row };
  });
  body.append(...rows.map((each) => each.row));
  let order = { column: -1, up: true };
  const head = element("tr", {}, ...block.head.map((name, i) =>
    element("th", { scope: "col", "aria-sort": "none", class: numeric[i] && i ? "number" : null }, element("button", { type: "button", title: "sort", "aria-label": name ? null : "what", onclick: (event) => {
      order = { column: i, up: order.column === i ? !order.up : true };
      rows.sort((a, b) => compare(a.cells[i], b.cells[i]) * (order.up ? 1 : -1));
      body.append(...rows.map((each) => each.row));
      for (const other of head.children) other.setAttribute("aria-sort", "none");
      event.currentTarget.parentElement.setAttribute("aria-sort", order.up ? "ascending" : "descending");
    } }, name || "\u00a0"))));
  const filter = rows.length > 20 ? element("input", { type: "search", placeholder: "filter", "aria-label": `Filter ${block.title}`, oninput: (event) => {
    const words = event.currentTarget.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const { cells, row } of rows) {
      const line = cells.join(" ").toLowerCase();
      row.hidden = !words.every((word) => line.includes(word));
    }
  } }) : null;
  const long = rows.length > 30;
  return element("figure", { class: long ? "table long" : "table", "data-rows": rows.length }, block.quiet && !filter ? null : element("figcaption", {}, block.quiet ? null : block.title, filter),
    element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": block.title || "table" }, element("table", {}, element("thead", {}, head), body)));
}

const UNITS = { ns: 1e-9, us: 1e-6, "µs": 1e-6, ms: 1e-3, s: 1, min: 60, h: 3600, B: 1, KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3, TiB: 1024 ** 4,
  k: 1e3, M: 1e6, G: 1e9, T: 1e12, P: 1e15, kB: 1e3, MB: 1e6, GB: 1e9, TB: 1e12 };

function value(cell) {
  const found = /^[~$+]?(-?[\d,]*\.?\d+(?:e[+-]?\d+)?)\s*([^\s/]*)/i.exec(String(cell));
  if (!found) return NaN;
  const unit = found[2];
  const scale = UNITS[unit] ?? (unit.length > 1 ? UNITS[unit[0]] : undefined) ?? 1;
  return Number(found[1].replaceAll(",", "")) * scale;
}

// A column of numbers, each with a unit or without; words that begin with a number are words.
const NUMBER = /^[~$+-]?[\d,]*\.?\d+(e[+-]?\d+)?[kMBT]?\s?[%\p{L}$]{0,8}(\/[\p{L}]{1,8}){0,2}$/u;
const isNumber = (cell) => NUMBER.test(cell) || cell === "-" || cell === "";

function compare(a, b) {
  const [x, y] = [value(a), value(b)];
  if (!Number.isNaN(x) && !Number.isNaN(y)) return x - y;
  if (Number.isNaN(x) !== Number.isNaN(y)) return Number.isNaN(x) ? 1 : -1;
  return String(a).localeCompare(String(b));
}

// Round numbers that span the values.
function ticks(values) {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const raw = (high - low || Math.abs(high) || 1) / 5, power = 10 ** Math.floor(Math.log10(raw));
  const step = power * ([1, 2, 5].find((m) => m * power >= raw) ?? 10);
  const first = Math.floor(low / step), last = Math.max(Math.ceil(high / step), first + 1);
  return Array.from({ length: last - first + 1 }, (_, i) => (first + i) * step);
}

const compact = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 4 });
const short = (v) => (v && Math.abs(v) < 1e-3 ? String(Number(v.toPrecision(3))) : compact.format(Number(v.toPrecision(6))));

// Candidates as dots that can be hovered, chosen with the keyboard, and pinned, two at a time, to compare.
function scatter(block) {
  const [width, height, left, bottom, top, right] = [640, 380, 64, 46, 30, 20];
  const svg = (name, attributes, ...children) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, v] of Object.entries(attributes)) made.setAttribute(key, v);
    made.append(...children);
    return made;
  };
  const [xs, ys] = [ticks(block.points.map((p) => p.x)), ticks(block.points.map((p) => p.y))];
  const [x0, x1, y0, y1] = [xs[0], xs.at(-1), ys[0], ys.at(-1)];
  const x = (v) => left + (v - x0) / (x1 - x0) * (width - left - right);
  const y = (v) => height - bottom - (v - y0) / (y1 - y0) * (height - bottom - top);
  const chart = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "group", class: "chart", "aria-label": block.title });
  for (const v of ys) chart.append(svg("line", { x1: left, x2: width - right, y1: y(v), y2: y(v), class: "grid" }), svg("text", { x: left - 6, y: y(v) + 4, "text-anchor": "end" }, short(v)));
  for (const v of xs) chart.append(svg("line", { x1: x(v), x2: x(v), y1: top, y2: height - bottom, class: "grid" }), svg("text", { x: x(v), y: height - bottom + 16, "text-anchor": "middle" }, short(v)));
  chart.append(svg("text", { x: (left + width - right) / 2, y: height - 8, "text-anchor": "middle" }, block.x_label),
    svg("text", { x: 4, y: 14 }, block.y_label));
  const detail = element("div", { class: "pinned" });
  const pinned = [];
  const show = (hovered) => {
    const chosen = [...pinned, ...(hovered && !pinned.includes(hovered) ? [hovered] : [])].slice(0, 2);
    detail.replaceChildren(...chosen.map((p) => element("dl", { class: pinned.includes(p) ? "card pin" : "card" },
      ...p.words.flatMap(([name, v]) => [element("dt", {}, name), element("dd", {}, v)]))));
  };
  for (const point of block.points) {
    const dot = svg("circle", { cx: x(point.x), cy: y(point.y), r: point.front ? 6 : 3.5, class: point.front ? "dot front" : "dot",
      tabindex: point.front ? "0" : "-1", role: "button", "aria-pressed": "false", "aria-label": point.words.map((w) => w.join(" ")).join(", ") });
    const pin = () => {
      const at = pinned.indexOf(point);
      if (at >= 0) pinned.splice(at, 1);
      else { pinned.push(point); if (pinned.length > 2) pinned.shift(); }
      for (const other of chart.querySelectorAll("circle")) other.setAttribute("aria-pressed", String(pinned.some((p) => p.dot === other)));
      show(null);
    };
    point.dot = dot;
    dot.addEventListener("mouseenter", () => show(point));
    dot.addEventListener("focus", () => show(point));
    dot.addEventListener("click", pin);
    dot.addEventListener("keydown", (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); pin(); } });
    chart.append(dot);
  }
  return element("figure", { class: "picture" }, element("figcaption", {}, `${block.title}. Click or press Enter to pin up to two.`), element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `${block.title}, drawing` }, chart), detail);
}
