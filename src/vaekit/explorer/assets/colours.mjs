// A colour for each class, and the colours of the theme, for canvases. Not for: all else, which style.css colours.

const TEN = ["#4e8ac8", "#f28e2b", "#e15759", "#3fb8af", "#59a14f", "#d9b116", "#b07aa1", "#ff8fa3", "#a5795a", "#8b93a1"];

export function classColour(label, count) {
  if (label < 0) return "#8b93a1";
  if (count <= 10) return TEN[label % 10];
  return `hsl(${Math.round((360 * label) / count)} 60% ${label % 2 ? 62 : 48}%)`;
}

export function theme() {
  const style = getComputedStyle(document.documentElement);
  const read = (name) => style.getPropertyValue(name).trim();
  return { text: read("--text"), quiet: read("--quiet"), line: read("--line"), panel: read("--panel"), accent: read("--accent") };
}
