// Every block, with each text of the corpus in every place that holds text; what came of it.
async (texts) => {
  window.fired = () => { window.hit = true; };
  const { draw } = await import("/static/draw.js");
  const page = { follow: { href: (more) => `/catalogue?${new URLSearchParams(more)}`, go() {} }, save() {} };
  const svg = (inner) => `<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">${inner}</svg>`;
  const answer = document.getElementById("answer");
  for (const t of texts) {
    const blocks = [
      { type: t },
      { type: "numbers", items: [{ name: t, label: t, value: t, words: t }] },
      { type: "text", text: t, kind: t },
      { type: "table", title: t, head: [t, t], rows: [[t, t]], links: "name" },
      { type: "bar", title: t, parts: [{ name: t, share: 1, words: t, tone: 0 }] },
      { type: "file", title: t, name: t, text: t },
      { type: "scatter", title: t, x_label: t, y_label: t, points: [{ x: 1, y: 2, front: true, words: [[t, t]] }] },
      { type: "picture", title: t, svg: t },
      { type: "picture", title: t, svg: svg(t) },
      { type: "picture", title: t, svg: svg(`<g><text>${t.replaceAll("&", "&amp;").replaceAll("<", "&lt;")}</text></g>`) },
    ];
    answer.append(...blocks.map((block) => draw(block, page)));
  }
  for (const node of answer.querySelectorAll("button, circle")) node.dispatchEvent(new MouseEvent("mouseenter"));
  await new Promise((done) => setTimeout(done, 300));
  const alive = "script, iframe, object, img, style, foreignObject, animate, set, [onload], [onerror], [ontoggle]";
  return [
    Boolean(window.hit),
    answer.querySelectorAll(alive).length,
    [...answer.querySelectorAll("a")].filter((a) => !a.href.startsWith(location.origin)).length,
  ];
}
