/* A figure as a picture that stands by itself: SVG whose styles are written into it, in a frame of words, and PNG of that. */
"use strict";
((W) => {
  const { h, s } = W;
  const SCALE = 2; // pixels of a PNG for each of the page

  // What a style may say of a drawn element, with what is so if nothing is said.
  const STYLES = {
    fill: "#000000", "fill-opacity": "1", stroke: "none", "stroke-width": "1px", "stroke-opacity": "1", "stroke-dasharray": "none",
    "stroke-linecap": "butt", "stroke-linejoin": "miter", opacity: "1", "clip-path": "none", "vector-effect": "none",
  };
  const FONTS = { "font-family": "", "font-size": "", "font-weight": "400", "font-style": "normal", "text-anchor": "start" };
  const WORDLESS = /^(class|style|tabindex|role|aria-.*|data-.*)$/; // attributes that a picture needs none of

  /** A colour that every program reads, and how much of it is seen: ["#0072b2", 1]. */
  const colour = (given) => {
    const found = /^rgba?\((\d+), (\d+), (\d+)(?:, ([\d.]+))?\)$/.exec(given);
    if (!found) return [given, 1];
    return [`#${found.slice(1, 4).map((part) => Number(part).toString(16).padStart(2, "0")).join("")}`, Number(found[4] ?? 1)];
  };
  const dress = (copy, style, styles) => {
    for (const [name, usual] of Object.entries(styles)) {
      let value = style.getPropertyValue(name);
      if (name === "fill" || name === "stroke") {
        const [solid, seen] = colour(value);
        if (seen < 1) copy.setAttribute(`${name}-opacity`, seen);
        value = solid;
      }
      if (name === "clip-path") value = value.replaceAll('"', "");
      if (value !== usual) copy.setAttribute(name, value);
      else if (copy.getAttribute(name) !== usual) copy.removeAttribute(name);
    }
  };
  /** An element of a drawing with its style written into it, and so its children. -> elements, none where it is unseen. */
  const copyOf = (element) => {
    const style = getComputedStyle(element);
    const clips = element.closest("clipPath");
    if (!clips && (style.display === "none" || style.visibility === "hidden")) return [];
    const copy = element.cloneNode(false);
    for (const { name } of [...copy.attributes]) if (WORDLESS.test(name) || (name === "id" && !clips)) copy.removeAttribute(name);
    for (const child of element.childNodes) copy.append(...(child.nodeType === Node.TEXT_NODE ? [child.cloneNode()] : child.nodeType === Node.ELEMENT_NODE ? copyOf(child) : []));
    if (element.tagName === "title" || clips === element) return [copy];
    const isText = element.tagName === "text";
    dress(copy, style, isText ? { ...STYLES, ...FONTS } : STYLES);
    if (!isText || !style.getPropertyValue("paint-order").startsWith("stroke") || style.stroke === "none") return [copy];
    const halo = copy.cloneNode(true); // not every program knows which of the two is painted first
    halo.setAttribute("fill", "none");
    for (const name of [...copy.getAttributeNames()].filter((name) => name.startsWith("stroke"))) copy.removeAttribute(name);
    return [halo, copy];
  };
  /** A drawing at a place and size of the picture. */
  const placed = (svg, x, y, width, height) => {
    const [copy] = copyOf(svg);
    for (const [name, value] of Object.entries({ x, y, width, height })) copy.setAttribute(name, value);
    if (getComputedStyle(svg).overflow === "visible") copy.setAttribute("overflow", "visible");
    return copy;
  };
  const imageOf = (canvas, x, y, width, height) => s("image", { href: canvas.toDataURL(), x, y, width, height, style: "image-rendering: pixelated" });

  const paper = document.createElement("canvas").getContext("2d");
  const widthOf = (text, font) => {
    paper.font = font;
    return paper.measureText(text).width;
  };
  const fontOf = (style) => `${style.fontStyle} ${style.fontWeight} ${style.fontSize} ${style.fontFamily}`;
  /** As much of a text as there is room for. */
  const fitting = (text, most, font) => {
    if (widthOf(text, font) <= most) return text;
    const letters = [...text];
    while (letters.length && widthOf(`${letters.join("")}…`, font) > most) letters.pop();
    return `${letters.join("")}…`;
  };
  /** The lines of a text in the page, each where it stands. */
  const linesOf = (node, left, top, edge) => {
    const style = getComputedStyle(node.parentElement);
    const font = fontOf(style);
    const lines = [];
    for (const { 0: word, index } of node.data.matchAll(/\S+/g)) {
      const range = document.createRange();
      range.setStart(node, index);
      range.setEnd(node, index + word.length);
      const box = range.getClientRects()[0];
      if (!box) continue;
      const last = lines[lines.length - 1];
      if (last && Math.abs(last.box.top - box.top) < 2) [last.text, last.right] = [`${last.text} ${word}`, box.right];
      else lines.push({ box, text: word, right: box.right });
    }
    paper.font = font;
    const { fontBoundingBoxAscent: up, fontBoundingBoxDescent: down } = paper.measureText("x");
    const atEnd = ["right", "end"].includes(style.textAlign);
    return lines.map(({ box, text, right }) => {
      const line = s("text", { x: (atEnd ? right : box.left) - left, y: box.top - top + (box.height - up - down) / 2 + up }, fitting(text, edge - box.left + 1, font));
      dress(line, style, FONTS);
      line.setAttribute("fill", colour(style.color)[0]);
      line.setAttribute("text-anchor", atEnd ? "end" : "start");
      return line;
    });
  };
  /** What stands in a piece of the page: its boxes that have a colour, texts, drawings. */
  const layoutOf = (element, left, top, edge) => {
    const style = getComputedStyle(element);
    if (style.display === "none" || style.visibility === "hidden" || element.matches(".wl-hidden, .wl-take")) return [];
    const box = element.getBoundingClientRect();
    const at = [box.left - left, box.top - top, box.width, box.height];
    if (element.tagName.toLowerCase() === "svg") return [placed(element, ...at)];
    if (element.tagName === "CANVAS") return [imageOf(element, ...at)];
    const [fill, seen] = colour(style.backgroundColor);
    const drawn = seen && box.width && box.height ? [s("rect", { x: at[0], y: at[1], width: at[2], height: at[3], rx: parseFloat(style.borderTopLeftRadius) || null, fill, "fill-opacity": seen < 1 ? seen : null })] : [];
    const inside = style.overflowX === "visible" ? edge : Math.min(edge, box.right);
    for (const child of element.childNodes)
      drawn.push(...(child.nodeType === Node.TEXT_NODE ? linesOf(child, left, top, inside) : child.nodeType === Node.ELEMENT_NODE ? layoutOf(child, left, top, inside) : []));
    return drawn;
  };
  /** What a figure shows, as elements of a picture. -> {width, height, elements} */
  W.drawingOf = (node) => {
    const only = node.matches("svg, canvas") ? node : node.childNodes.length === 1 ? node.firstElementChild : null;
    if (only?.matches("svg")) {
      const { width, height } = only.viewBox.baseVal;
      return { width, height, elements: [placed(only, 0, 0, width, height)] };
    }
    const box = node.getBoundingClientRect();
    return { width: box.width, height: box.height, elements: layoutOf(node, box.left, box.top, box.right) };
  };

  /** Break a text into lines that fit. */
  const wrapped = (text, most, font) => {
    const lines = [];
    for (const word of String(text).split(/\s+/).filter(Boolean)) {
      const longer = lines.length ? `${lines[lines.length - 1]} ${word}` : word;
      if (lines.length && widthOf(longer, font) <= most) lines[lines.length - 1] = longer;
      else lines.push(fitting(word, most, font));
    }
    return lines;
  };
  const [EDGE, LEAST] = [24, 420]; // pixels around the figure, and that it has for its words at least
  /** A figure in a frame: its title, how to read it, its colours, and below what it is of, on the page's ground. */
  W.framed = ({ width, height, elements }, { title, caption, legend = [], foot, font }) => {
    const theme = getComputedStyle(document.body);
    const of = (name) => theme.getPropertyValue(`--wl-${name}`).trim();
    const room = Math.max(LEAST, width);
    let y = EDGE;
    const said = [];
    const write = (text, size, weight, line, fill) => {
      for (const words of wrapped(text, room, `${weight} ${size}px ${font}`)) {
        y += line;
        said.push(s("text", { x: EDGE, y: y - line / 4, "font-family": font, "font-size": size, "font-weight": weight, fill }, words));
      }
    };
    write(title, 17, 650, 23, of("ink"));
    if (caption) write(caption, 13, 400, 19, of("dim"));
    if (legend.length) {
      let x = EDGE;
      y += 24;
      for (const [name, words] of legend) {
        const wide = 17 + widthOf(words, `400 12.5px ${font}`);
        if (x > EDGE && x + wide > EDGE + room) [x, y] = [EDGE, y + 20];
        said.push(s("rect", { x, y: y - 10, width: 11, height: 11, rx: 3, fill: of(name) }));
        said.push(s("text", { x: x + 17, y, "font-family": font, "font-size": 12.5, fill: of("dim") }, words));
        x += wide + 16;
      }
    }
    y += 12;
    const drawn = s("g", { transform: `translate(${EDGE} ${y})` }, elements);
    y += height + 6;
    if (foot) write(foot, 11.5, 400, 17, of("dim"));
    const [wide, tall] = [Math.ceil(room + 2 * EDGE), Math.ceil(y + EDGE / 1.5)];
    return s("svg", { width: wide, height: tall, viewBox: `0 0 ${wide} ${tall}` },
      s("title", {}, title), s("desc", {}, [caption, foot].filter(Boolean).join(" ")), s("rect", { width: wide, height: tall, fill: of("page") }), said, drawn);
  };
  /** A picture as text that is well-formed whatever its words hold: XML takes no control characters. */
  W.svgText = (svg) => `<?xml version="1.0" encoding="UTF-8"?>\n${new XMLSerializer().serializeToString(svg).replace(/[\0-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]/g, "\ufffd")}\n`;
  /** A picture in pixels. -> Blob */
  W.png = async (svg) => {
    const address = URL.createObjectURL(new Blob([W.svgText(svg)], { type: "image/svg+xml" }));
    try {
      const image = new Image();
      image.src = address;
      await image.decode();
      const [width, height] = ["width", "height"].map((name) => SCALE * Number(svg.getAttribute(name)));
      const canvas = h("canvas", { width, height });
      canvas.getContext("2d").drawImage(image, 0, 0, width, height);
      return await new Promise((done, fail) => { canvas.toBlob((blob) => (blob ? done(blob) : fail(new Error("no picture"))), "image/png"); });
    } finally {
      URL.revokeObjectURL(address);
    }
  };
})(window.WandaLab);
