// The canvas of lesson 11: strokes are drawn here, in the page, whatever the kernel is doing; it gets the picture when one ends.

const COLOURS = {
  black: "#111111", grey: "#8a8a8a", white: "#ffffff", red: "#d62728", orange: "#ff8c1a", yellow: "#ffd92f", green: "#2a9d3f",
  blue: "#1f6fd6", purple: "#8e44ad", pink: "#f48fb1", brown: "#8b5a2b",
};
const WIDTHS = { thin: 5, medium: 11, thick: 24 }; // in pixels of the canvas
const KEPT = 30; // pictures to go back to

function element(parent, tag, properties = {}, style = {}) {
  const made = Object.assign(document.createElement(tag), properties);
  Object.assign(made.style, style);
  parent.append(made);
  return made;
}

function render({ model, el }) {
  const side = model.get("side");
  const canvas = element(el, "canvas", { width: side, height: side }, {
    border: "1px solid #888888", touchAction: "none", cursor: "crosshair", background: "white", maxWidth: "100%", display: "block",
  });
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", "A square to draw in with the pointer");
  const brush = canvas.getContext("2d", { willReadFrequently: true });
  const earlier = [];
  let sent = "", colour = "black", width = "medium", last = null;

  const wipe = () => { brush.fillStyle = "white"; brush.fillRect(0, 0, side, side); };
  const remember = () => { earlier.push(brush.getImageData(0, 0, side, side)); if (earlier.length > KEPT) earlier.shift(); };
  const send = () => { sent = canvas.toDataURL("image/png"); model.set("picture", sent); model.save_changes(); };
  const fit = (image) => { // the whole picture, as large as it fits
    wipe();
    const scale = side / Math.max(image.width, image.height, 1);
    const [w, h] = [image.width * scale, image.height * scale];
    brush.imageSmoothingQuality = "high";
    brush.drawImage(image, (side - w) / 2, (side - h) / 2, w, h);
  };
  const receive = () => {
    const picture = model.get("picture");
    if (picture === sent) return;
    sent = picture;
    if (!picture) { wipe(); return; }
    const image = new Image();
    image.onload = () => fit(image);
    image.src = picture;
  };

  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return [((event.clientX - box.left) * side) / box.width, ((event.clientY - box.top) * side) / box.height];
  };
  const stroke = (from, to) => {
    Object.assign(brush, { strokeStyle: COLOURS[colour], lineWidth: WIDTHS[width], lineCap: "round", lineJoin: "round" });
    brush.beginPath();
    brush.moveTo(...from);
    brush.lineTo(...to);
    brush.stroke();
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    event.preventDefault();
    canvas.setPointerCapture(event.pointerId);
    remember();
    last = place(event);
    stroke(last, last);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!last) return;
    const now = place(event);
    stroke(last, now);
    last = now;
  });
  const end = () => { if (last) { last = null; send(); } };
  canvas.addEventListener("pointerup", end);
  canvas.addEventListener("pointercancel", end);

  const row = () => element(el, "div", {}, { display: "flex", flexWrap: "wrap", gap: "4px", margin: "4px 0", maxWidth: "330px" });
  const choice = (parent, names, chosen, choose, look) => {
    const buttons = names.map((name) => {
      const button = element(parent, "button", { title: name, type: "button" }, {
        width: "26px", height: "26px", padding: "0", border: "1px solid #888888", borderRadius: "4px", cursor: "pointer", background: "white",
      });
      button.setAttribute("aria-label", name);
      button.dataset.lmSuppressShortcuts = "true"; // JupyterLab would take its keys
      look(button, name);
      button.onclick = () => { choose(name); mark(name); };
      return button;
    });
    const mark = (name) => buttons.forEach((button) => {
      button.style.outline = button.title === name ? "3px solid #0072B2" : "none";
      button.setAttribute("aria-pressed", String(button.title === name));
    });
    mark(chosen);
  };
  choice(row(), Object.keys(COLOURS), colour, (name) => { colour = name; }, (button, name) => { button.style.background = COLOURS[name]; });
  const tools = row();
  choice(tools, Object.keys(WIDTHS), width, (name) => { width = name; }, (button, name) => {
    const dot = `${WIDTHS[name] * 0.8}px`;
    element(button, "span", {}, { display: "inline-block", width: dot, height: dot, borderRadius: "50%", background: "#111111", verticalAlign: "middle" });
  });
  const button = (text, act) => {
    const made = element(tools, "button", { type: "button", textContent: text, onclick: act }, { height: "26px", cursor: "pointer" });
    made.dataset.lmSuppressShortcuts = "true";
  };
  button("Undo", () => { if (earlier.length) { brush.putImageData(earlier.pop(), 0, 0); send(); } });
  button("Clear", () => { remember(); wipe(); send(); });
  const file = element(tools, "input", { type: "file", accept: "image/*" }, { display: "none" });
  button("Own picture …", () => file.click());
  file.onchange = async () => {
    if (!file.files.length) return;
    try {
      const image = await createImageBitmap(file.files[0]);
      remember();
      fit(image);
      send();
      told.textContent = "";
    } catch {
      told.textContent = `${file.files[0].name} is no picture that this browser can read.`;
    }
    file.value = "";
  };
  const told = element(el, "div", {}, { color: "#B34700" });
  told.setAttribute("role", "alert");

  wipe();
  receive();
  model.on("change:picture", receive);
  return () => model.off("change:picture", receive);
}

export default { render };
