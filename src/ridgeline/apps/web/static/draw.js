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

export function draw(block, follow) {
  const drawn = { numbers, table, picture, bar, text, pareto }[block.type];
  return drawn ? drawn(block, follow) : element("p", {}, `unknown block ${block.type}`);
}

function numbers(block) {
  const list = element("dl", { class: "numbers" });
  for (const item of block.items) {
    list.append(element("div", { title: item.words }, element("dt", {}, item.name), element("dd", {}, item.value)));
  }
  return list;
}

function text(block) {
  if (block.kind === "heading") return element("h2", {}, block.text);
  return element("p", { class: block.kind || "plain" }, block.text);
}

function bar(block) {
  const whole = element("div", { class: "bar", role: "img", "aria-label": block.parts.map((p) => `${p.name} ${p.words}`).join(", ") });
  const legend = element("ul", { class: "legend" });
  block.parts.forEach((part, i) => {
    const piece = element("span", { class: `part p${i}`, title: `${part.name}: ${part.words}` });
    piece.style.flexGrow = String(Math.max(part.share, 0));
    whole.append(piece);
    legend.append(element("li", {}, element("span", { class: `key p${i}` }), `${part.name} ${part.words}`));
  });
  return element("figure", {}, element("figcaption", {}, block.title), whole, legend);
}

function picture(block) {
  const parsed = new DOMParser().parseFromString(block.svg, "image/svg+xml").documentElement;
  if (parsed.nodeName !== "svg") return element("p", { class: "note" }, "This drawing cannot be shown.");
  for (const node of parsed.querySelectorAll("script, foreignObject, style, a, image, use")) node.remove();
  for (const node of [parsed, ...parsed.querySelectorAll("*")]) {
    for (const attribute of [...node.attributes]) {
      if (/^on|href$|^style$/i.test(attribute.name)) node.removeAttribute(attribute.name);
    }
  }
  parsed.setAttribute("role", "img");
  if (!parsed.getAttribute("aria-label")) parsed.setAttribute("aria-label", block.title || "chart");
  const caption = block.title ? element("figcaption", {}, block.title) : null;
  return element("figure", { class: "picture" }, caption, document.importNode(parsed, true));
}

function table(block, follow) {
  const body = element("tbody");
  const rows = block.rows.map((cells) => {
    const row = element("tr");
    cells.forEach((cell, i) => {
      const shown = cell === null ? "-" : String(cell);
      if (i === 0 && block.links) {
        row.append(element("th", { scope: "row" }, element("a", { href: "#", onclick: (event) => {
          event.preventDefault();
          follow({ [block.links]: shown });
        } }, shown)));
      } else row.append(element(i === 0 ? "th" : "td", i === 0 ? { scope: "row" } : { class: isNumber(shown) ? "number" : "" }, shown));
    });
    return { cells, row };
  });
  body.append(...rows.map((each) => each.row));
  let order = { column: -1, up: true };
  const head = element("tr", {}, ...block.head.map((name, i) =>
    element("th", { scope: "col", "aria-sort": "none" }, element("button", { type: "button", onclick: (event) => {
      order = { column: i, up: order.column === i ? !order.up : true };
      rows.sort((a, b) => compare(a.cells[i], b.cells[i]) * (order.up ? 1 : -1));
      body.append(...rows.map((each) => each.row));
      for (const other of head.children) other.setAttribute("aria-sort", "none");
      event.currentTarget.parentElement.setAttribute("aria-sort", order.up ? "ascending" : "descending");
    } }, name || "\u00a0"))));
  const filter = rows.length > 12 ? element("input", { type: "search", placeholder: "filter", "aria-label": `Filter ${block.title}`, oninput: (event) => {
    const words = event.currentTarget.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const { cells, row } of rows) {
      const line = cells.join(" ").toLowerCase();
      row.hidden = !words.every((word) => line.includes(word));
    }
  } }) : null;
  return element("figure", { class: "table" }, element("figcaption", {}, block.title, filter),
    element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": block.title || "table" }, element("table", {}, element("thead", {}, head), body)));
}

const UNITS = { ns: 1e-9, us: 1e-6, "µs": 1e-6, ms: 1e-3, s: 1, min: 60, h: 3600, B: 1, KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3, TiB: 1024 ** 4,
  k: 1e3, M: 1e6, G: 1e9, T: 1e12, P: 1e15, kB: 1e3, MB: 1e6, GB: 1e9, TB: 1e12 };

function value(cell) {
  const found = /^[~$]?(-?[\d,]*\.?\d+(?:e[+-]?\d+)?)\s*([^\s/]*)/i.exec(String(cell));
  if (!found) return NaN;
  const unit = found[2];
  const scale = UNITS[unit] ?? (unit.length > 1 ? UNITS[unit[0]] : undefined) ?? 1;
  return Number(found[1].replaceAll(",", "")) * scale;
}

const isNumber = (cell) => !Number.isNaN(value(cell)) || cell === "-";

function compare(a, b) {
  const [x, y] = [value(a), value(b)];
  if (!Number.isNaN(x) && !Number.isNaN(y)) return x - y;
  if (Number.isNaN(x) !== Number.isNaN(y)) return Number.isNaN(x) ? 1 : -1;
  return String(a).localeCompare(String(b));
}

// Candidates as dots that can be hovered, chosen with the keyboard, and pinned, two at a time, to compare.
function pareto(block) {
  const [width, height, left, bottom, top, right] = [640, 380, 64, 46, 16, 16];
  const svg = (name, attributes, ...children) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, v] of Object.entries(attributes)) made.setAttribute(key, v);
    made.append(...children);
    return made;
  };
  const xs = block.points.map((p) => p.x), ys = block.points.map((p) => p.y);
  const span = (values) => {
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const pad = (high - low || Math.abs(high) || 1) * 0.06;
    return [low - pad, high + pad];
  };
  const [x0, x1] = span(xs), [y0, y1] = span(ys);
  const x = (v) => left + (v - x0) / (x1 - x0) * (width - left - right);
  const y = (v) => height - bottom - (v - y0) / (y1 - y0) * (height - bottom - top);
  const chart = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": block.title });
  for (let i = 0; i <= 4; i++) {
    const [vx, vy] = [x0 + (x1 - x0) * i / 4, y0 + (y1 - y0) * i / 4];
    chart.append(svg("line", { x1: left, x2: width - right, y1: y(vy), y2: y(vy), class: "grid" }),
      svg("text", { x: left - 6, y: y(vy) + 4, "text-anchor": "end" }, vy.toPrecision(3)),
      svg("text", { x: x(vx), y: height - bottom + 16, "text-anchor": "middle" }, vx.toPrecision(3)));
  }
  chart.append(svg("text", { x: (left + width - right) / 2, y: height - 8, "text-anchor": "middle" }, block.x_label),
    svg("text", { x: 12, y: top + 6 }, block.y_label));
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
  return element("figure", { class: "picture" }, element("figcaption", {}, `${block.title}. Click or press Enter to pin up to two.`), chart, detail);
}
