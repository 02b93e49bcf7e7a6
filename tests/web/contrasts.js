// Contrast of each text with what lies behind it, as WCAG counts it.
(() => {
  const parts = (color) => color.match(/[\d.]+/g).map(Number);
  const part = (v) => (v / 255 <= 0.03928 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
  const light = ([r, g, b]) => 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  const ground = (node) => {
    for (; node; node = node.parentElement) {
      const color = parts(getComputedStyle(node).backgroundColor);
      if (color.length < 4 || color[3] > 0) return color;
    }
    return [255, 255, 255];
  };
  const texts = "a, p, dt, dd, label, code, input:not([type=range]), button, td, th, h1, h2, summary, li, figcaption";
  return [...document.querySelectorAll(texts)]
    .filter((node) => node.offsetParent && (node.textContent.trim() || node.value))
    .map((node) => {
      const [a, b] = [light(parts(getComputedStyle(node).color)), light(ground(node))];
      return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    });
})()
