// Flame graphs: a frame is as wide as its share of the samples. A click makes a frame the whole width.

const FLAME_ROW = 18;

function flameGraph(root) {
  const box = element("div", { class: "flame" });
  const show = (top) => {
    box.replaceChildren();
    let depth = 0;
    const place = (frame, left, row, width) => {
      depth = Math.max(depth, row + 1);
      const hue = frame.name.startsWith("[") ? 0 : 20 + (hash(frame.name) % 35);
      const share = percent(frame.samples / root.samples);
      const bar = element("div", {
        title: `${frame.name}: ${share} (${frame.samples} samples)`,
        style: `left:${100 * left}%;width:${100 * width}%;top:${row * FLAME_ROW}px;background:hsl(${hue} 80% 72%)`,
      }, width > 0.02 ? frame.name : "");
      bar.addEventListener("click", () => show(frame === top ? root : frame));
      box.append(bar);
      for (const child of frame.children || []) {
        const part = (width * child.samples) / frame.samples;
        if (part > 0.001) place(child, left, row + 1, part);
        left += part;
      }
    };
    place(top, 0, 0, 1);
    box.style.height = `${depth * FLAME_ROW}px`;
  };
  show(root);
  return box;
}

function hash(text) {
  let value = 7;
  for (const character of text) value = (value * 31 + character.codePointAt(0)) >>> 0;
  return value;
}
