// The network in the page: a trained network of chapter 09, run by the reader's browser.
// Three parts: the weights, the forward pass, and the picture around it. No library, no server.
(() => {

// 1. The weights. They come as text: one byte for each weight (-127 to 127), and for each output
//    channel a scale and a bias as 32-bit numbers. Batch norm is folded into them.

const bytes = text => Uint8Array.from(atob(text), letter => letter.charCodeAt(0)).buffer;

function unpack(layer) {
  const whole = new Int8Array(bytes(layer.weight));
  const scale = new Float32Array(bytes(layer.scale)), bias = new Float32Array(bytes(layer.bias));
  const each = whole.length / scale.length;
  const weight = Float32Array.from(whole, (number, i) => number * scale[Math.floor(i / each)]);
  return { inputs: layer.inputs, outputs: layer.outputs, stride: layer.stride, weight, bias };
}

function unpackNetwork(net) {
  const blocks = net.blocks.map(([first, second]) => ({ conv1: unpack(first), conv2: unpack(second) }));
  return { ...net, stem: unpack(net.stem), blocks, fc: unpack(net.fc) };
}

// 2. The forward pass. Feature maps are one list of numbers: channel after channel, row after row.
//    Measured on 2026-11-26 in Chromium 156, one core of an AMD EPYC among busy programs: a pass takes
//    4 ms at its quickest and 14 ms in the median of 200, for either network.

function convolve(x, layer) { // 3 x 3, with zeros around the map
  const { inputs, outputs, stride, weight, bias } = layer;
  const size = x.size / stride, data = new Float32Array(outputs * size * size);
  for (let o = 0; o < outputs; o++)
    for (let row = 0; row < size; row++)
      for (let column = 0; column < size; column++) {
        let sum = bias[o];
        for (let r = 0; r < 3; r++) {
          const y = stride * row + r - 1;
          if (y < 0 || y >= x.size) continue;
          for (let c = 0; c < 3; c++) {
            const z = stride * column + c - 1;
            if (z < 0 || z >= x.size) continue;
            for (let i = 0; i < inputs; i++)
              sum += weight[((o * inputs + i) * 3 + r) * 3 + c] * x.data[(i * x.size + y) * x.size + z];
          }
        }
        data[(o * size + row) * size + column] = sum;
      }
  return { channels: outputs, size, data };
}

function relu(x) {
  return { ...x, data: x.data.map(value => Math.max(0, value)) };
}

function add(x, y) {
  return { ...x, data: x.data.map((value, i) => value + y.data[i]) };
}

function shortcut(x, { inputs, outputs, stride }) { // the identity, or every second pixel and zeros
  if (stride === 1 && inputs === outputs) return x;
  const size = x.size / stride, data = new Float32Array(outputs * size * size);
  const before = Math.floor((outputs - inputs) / 2);
  for (let i = 0; i < inputs; i++)
    for (let row = 0; row < size; row++)
      for (let column = 0; column < size; column++)
        data[((before + i) * size + row) * size + column] =
          x.data[(i * x.size + stride * row) * x.size + stride * column];
  return { channels: outputs, size, data };
}

function average(x) { // one number for each channel
  const pixels = x.size * x.size;
  return Array.from({ length: x.channels }, (_, i) =>
    x.data.subarray(i * pixels, (i + 1) * pixels).reduce((sum, value) => sum + value, 0) / pixels);
}

function linear(values, { outputs, weight, bias }) {
  return Array.from({ length: outputs }, (_, o) =>
    values.reduce((sum, value, i) => sum + value * weight[o * values.length + i], bias[o]));
}

function forward(net, pixels, off) { // 64 numbers from 0 to 16, blocks that are off -> ten logits
  const image = Float32Array.from(pixels, pixel => (pixel - net.mean) / net.std);
  let x = relu(convolve({ channels: 1, size: 8, data: image }, net.stem));
  const maps = [x];
  net.blocks.forEach((block, i) => {
    const { inputs, stride } = block.conv1, { outputs } = block.conv2;
    const past = shortcut(x, { inputs, outputs, stride });
    if (off.includes(i + 1)) x = past; // nothing but the shortcut is left
    else {
      const f = convolve(relu(convolve(x, block.conv1)), block.conv2);
      x = relu(net.residual ? add(f, past) : f);
    }
    maps.push(x);
  });
  return { logits: linear(average(x), net.fc), maps };
}

function softmax(logits) {
  const most = Math.max(...logits), powers = logits.map(logit => Math.exp(logit - most));
  const sum = powers.reduce((a, b) => a + b);
  return powers.map(power => power / sum);
}

// 3. The picture.

// a square's darkest value; squares a side; a square's points a side; half the pen's width in points
const INK = 16, SIDE = 8, FINE = 4, PEN = 3.5;
const PASS = [convolve, relu, add, shortcut, average, linear, forward, softmax];

function make(parent, tag, attributes = {}, text = "") {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text) element.textContent = text;
  parent.append(element);
  return element;
}

function button(parent, text, action, label = "") {
  const element = make(parent, "button", { type: "button", ...(label && { "aria-label": label }) }, text);
  element.addEventListener("click", action);
  return element;
}

const percent = share => share > 0.9995 ? "100 %" : share < 0.0005 ? "0 %" : (100 * share).toFixed(1) + " %";

// The squares to draw on. As when the digits were collected, the pen writes on 32 x 32 points, and
// a square's value is the number of its 16 points with ink.
function paper(parent, changed) {
  const values = new Array(SIDE * SIDE).fill(0), points = new Set();
  const grid = make(parent, "div", { role: "grid", class: "course-network-paper", "aria-label":
    "Your digit, 8 by 8 squares. Arrow keys move, the space bar changes a square." });
  const squares = [];
  for (let row = 0; row < SIDE; row++) {
    const line = make(grid, "div", { role: "row" });
    for (let column = 0; column < SIDE; column++) {
      const square = make(line, "div", { role: "gridcell", tabindex: squares.length ? "-1" : "0" });
      make(square, "span");
      squares.push(square);
    }
  }
  const show = () => squares.forEach((square, i) => {
    square.firstChild.style.opacity = values[i] / INK;
    square.setAttribute("aria-label",
      `row ${Math.floor(i / SIDE) + 1}, column ${i % SIDE + 1}, ink ${values[i]} of ${INK}`);
  });
  const set = pixels => {
    points.clear();
    pixels.forEach((value, i) => { values[i] = value; });
    show();
    changed();
  };
  const dot = (x, y) => { // one touch of a broad pen, in points
    for (let r = Math.floor(y - PEN); r <= y + PEN; r++)
      for (let c = Math.floor(x - PEN); c <= x + PEN; c++) {
        const inside = r >= 0 && c >= 0 && r < SIDE * FINE && c < SIDE * FINE;
        const key = r * SIDE * FINE + c;
        if (!inside || Math.hypot(r + 0.5 - y, c + 0.5 - x) > PEN || points.has(key)) continue;
        points.add(key);
        const i = Math.floor(r / FINE) * SIDE + Math.floor(c / FINE);
        values[i] = Math.min(INK, values[i] + 1);
      }
  };
  let last = null;
  const at = event => {
    const box = grid.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height]
      .map(share => share * SIDE * FINE);
  };
  const stroke = event => {
    const next = at(event), from = last || next;
    const steps = Math.max(1, Math.ceil(Math.hypot(next[0] - from[0], next[1] - from[1])));
    for (let i = 1; i <= steps; i++)
      dot(...[0, 1].map(k => from[k] + (next[k] - from[k]) * i / steps));
    last = next;
    show();
    changed();
  };
  grid.addEventListener("pointerdown", event => {
    if (event.button) return;
    try { grid.setPointerCapture(event.pointerId); } catch { /* an event made by a script */ }
    stroke(event);
  });
  grid.addEventListener("pointermove", event => { if (last) stroke(event); });
  for (const end of ["pointerup", "pointercancel"]) grid.addEventListener(end, () => { last = null; });
  grid.addEventListener("keydown", event => {
    const i = squares.indexOf(event.target);
    const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    if (i < 0 || (!step && event.key !== " " && event.key !== "Enter")) return;
    event.preventDefault();
    event.stopPropagation(); // in a notebook these keys mean other things
    if (step) {
      const row = Math.floor(i / SIDE) + step[0], column = i % SIDE + step[1];
      if (row < 0 || column < 0 || row >= SIDE || column >= SIDE) return;
      squares[i].tabIndex = -1;
      squares[row * SIDE + column].tabIndex = 0;
      squares[row * SIDE + column].focus();
      return;
    }
    values[i] = values[i] < INK / 2 ? INK / 2 : values[i] < INK ? INK : 0;
    show();
    changed();
  });
  return { values, set };
}

// The maps of one stage, in a row or several; stronger is more, on the scale of the whole network.
// The blue goes with the text's colour: a dark page needs a lighter one.
function drawMaps(canvas, maps, most) {
  const [red] = getComputedStyle(canvas).color.match(/\d+/g) || [0];
  const blue = red > 127 ? "88, 180, 232" : "0, 114, 178";
  const phone = canvas.clientWidth < 450; // two rows are larger than one
  const columns = phone && maps.size > 2 ? 8 : 16;
  const gap = 1, cell = maps.size + gap;
  canvas.width = columns * cell + gap;
  canvas.height = Math.ceil(maps.channels / columns) * cell + gap;
  const pen = canvas.getContext("2d");
  for (let i = 0; i < maps.channels; i++) {
    const left = (i % columns) * cell + gap, top = Math.floor(i / columns) * cell + gap;
    pen.fillStyle = "rgba(128, 128, 128, 0.15)";
    pen.fillRect(left, top, maps.size, maps.size);
    for (let p = 0; p < maps.size * maps.size; p++) {
      const share = Math.min(1, maps.data[i * maps.size * maps.size + p] / (most || 1));
      pen.fillStyle = `rgba(${blue}, ${share})`;
      pen.fillRect(left + p % maps.size, top + Math.floor(p / maps.size), 1, 1);
    }
  }
}

function start(root) {
  const holder = root.querySelector("script[type='application/json']");
  if (!holder) return;
  const content = JSON.parse(holder.textContent), compact = content.compact;
  const networks = Object.fromEntries(content.networks.map(net => [net.name, unpackNetwork(net)]));
  const names = Object.keys(networks), off = new Set();
  const number = document.querySelectorAll(".course-network[data-started]").length;
  let chosen = names.includes("residual-20") ? "residual-20" : names[0];
  root.dataset.started = "true";

  // For tests and curious readers, as in `document.querySelector(".course-network").run(pixels, [5])`
  root.run = (pixels, off = [], name = chosen) => {
    const good = pixels && pixels.length === SIDE * SIDE && Array.from(pixels).every(p => p >= 0 && p <= INK);
    if (!good) throw new Error("pixels must be 64 numbers from 0 to 16, row after row");
    const net = known(name), last = net.blocks.length;
    const bad = Array.from(off).find(block => !Number.isInteger(block) || block < 1 || block > last);
    if (bad !== undefined) throw new Error(`block ${bad} is unknown: off lists numbers from 1 to ${last}`);
    return forward(net, pixels, Array.from(off)).logits;
  };
  const known = name => {
    if (!names.includes(name)) throw new Error(`network ${name} is unknown: choose one of ${names.join(", ")}`);
    return networks[name];
  };
  Object.defineProperty(root, "network", { get: () => chosen, set: name => { known(name); choose(name); } });
  root.networks = names;

  root.querySelector(".course-network-still").remove();
  const row = make(root, "div", { class: "course-network-row" });

  // Paper and test digits
  const drawing = make(row, "div", { class: "course-network-part" });
  make(drawing, "p", {}, "Draw a digit, as tall as the paper, or take a test digit:");
  const sheet = paper(drawing, () => update());
  const tests = make(drawing, "div", { role: "group", "aria-label": "Test digits", class: "course-network-keys" });
  const taken = {};
  const take = digit => {
    const found = content.tests.filter(([label]) => label === digit);
    const [, pixels] = found[(taken[digit] = ((taken[digit] ?? -1) + 1) % found.length)];
    sheet.set(Array.from(pixels, value => parseInt(value, 17)));
  };
  for (const digit of [...new Set(content.tests.map(([label]) => label))].sort())
    button(tests, String(digit), () => take(digit), `another test digit ${digit}`);
  button(tests, "clear", () => sheet.set(new Array(SIDE * SIDE).fill(0)), "clear the paper");

  // Networks and blocks
  const settings = make(row, "div", { class: "course-network-part" });
  const which = make(settings, "fieldset");
  make(which, "legend", {}, "Network");
  const radios = names.map(name => {
    const label = make(which, "label");
    const radio = make(label, "input", { type: "radio", name: `course-network-${number}`, value: name });
    radio.addEventListener("change", () => choose(name));
    label.append(" " + name);
    return radio;
  });
  const switches = make(settings, "fieldset");
  make(switches, "legend", {}, "Blocks that are on");
  const boxes = networks[names[0]].blocks.map((block, i) => {
    if (!i || block.conv1.stride > 1) make(switches, "div", { class: "course-network-keys" });
    const label = make(switches.lastChild, "label");
    const box = make(label, "input", { type: "checkbox", autocomplete: "off", "aria-label": `block ${i + 1}` });
    const shape = `${block.conv2.outputs} channels` + (block.conv1.stride > 1 ? ", changes the shape" : "");
    label.title = shape;
    box.addEventListener("change", () => { off[box.checked ? "delete" : "add"](i + 1); update(); });
    label.append(` ${i + 1}` + (block.conv1.stride > 1 ? "*" : ""));
    return box;
  });
  make(switches, "p", {}, "* changes the shape");
  button(switches, "all on", () => { off.clear(); update(); }, "switch all blocks on");

  // Answers
  const answers = make(row, "div", { class: "course-network-part" });
  const sentence = make(answers, "p", { role: "status" });
  const table = make(answers, "table");
  make(table, "caption", {}, "Probability of each digit");
  const bars = Array.from({ length: 10 }, (_, digit) => {
    const line = make(table, "tr");
    make(line, "th", { scope: "row" }, String(digit));
    const bar = make(make(make(line, "td", { "aria-hidden": "true" }), "div"), "div");
    return { bar, text: make(line, "td") };
  });

  // Feature maps, and the code that made them
  const ends = networks[names[0]].blocks.flatMap((block, i, all) =>
    i + 1 === all.length || all[i + 1].conv1.stride > 1 ? [i + 1] : []);
  const stages = compact ? [] : [0, ...ends].map((end, i) => {
    const box = make(root, "div", { class: "course-network-maps" });
    const words = make(box, "p");
    return { end, words, name: i ? `stage ${i}` : "the first convolution",
      canvas: make(box, "canvas", { role: "img" }) };
  });
  if (!compact) {
    const code = make(root, "details");
    make(code, "summary", {}, "The code that computes this, as it runs here");
    make(code, "pre", {}, PASS.map(String).join("\n\n"));
  }

  function choose(name) {
    chosen = name;
    update();
  }

  function update() {
    radios.forEach(radio => { radio.checked = radio.value === chosen; });
    boxes.forEach((box, i) => { box.checked = !off.has(i + 1); });
    const whole = forward(networks[chosen], sheet.values, []);
    const now = off.size ? forward(networks[chosen], sheet.values, [...off]) : whole;
    const shares = softmax(now.logits), before = softmax(whole.logits);
    const best = list => list.indexOf(Math.max(...list));
    const reads = list => `${best(list)} (${percent(Math.max(...list))})`;
    const gone = [...off].sort((a, b) => a - b).join(", ");
    sentence.textContent = !sheet.values.some(Boolean) ? "The paper is empty." : off.size
      ? `${chosen} without block ${gone} reads ${reads(shares)}. Whole, it reads ${reads(before)}.`
      : `${chosen}, whole, reads ${reads(shares)}.`;
    bars.forEach(({ bar, text }, i) => {
      bar.style.width = `${100 * shares[i]}%`;
      bar.style.background = i === best(shares) ? "#009E73" : "#808080";
      text.textContent = percent(shares[i]);
    });
    for (const { end, words, name, canvas } of stages) {
      const maps = now.maps[end], most = Math.max(...whole.maps[end].data);
      const norm = data => Math.sqrt(data.reduce((sum, value) => sum + value * value, 0));
      const moved = norm(maps.data.map((value, i) => value - whole.maps[end].data[i]));
      const change = moved ? `, changed by ${Math.round(100 * moved / norm(whole.maps[end].data))} %` : "";
      words.textContent = `After ${name}: ${maps.channels} maps of ${maps.size} × ${maps.size}${change}`;
      canvas.setAttribute("aria-label", words.textContent);
      drawMaps(canvas, maps, most);
    }
  }
  if (stages.length) // another theme, chosen by a button of the page
    new MutationObserver(update).observe(document.documentElement, { attributeFilter: ["data-theme"] });
  take(content.tests.some(([label]) => label === 3) ? 3 : content.tests[0][0]);
}

document.querySelectorAll(".course-network:not([data-started])").forEach(start);
})();
