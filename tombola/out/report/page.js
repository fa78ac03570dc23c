"use strict";

// Draws the charts and pictures from the data in the page. Nothing here asks the outside for
// anything; a text from the study is only ever set as text.

const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const hidden = new Set(); // arms switched off in the legend
const charts = new Map(); // element -> function that gives its figure
let repaint = () => {}; // draws the pictures anew, where there are any
const coarse = matchMedia("(pointer: coarse)").matches;

function bytes(base64) {
  const raw = atob(base64);
  const found = new Uint8Array(raw.length);
  for (let k = 0; k < raw.length; k++) found[k] = raw.charCodeAt(k);
  return found;
}

// -- charts -----------------------------------------------------------------------------------

async function loadPlotly() {
  const packed = bytes(byId("plotly").textContent);
  const inflated = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const script = document.createElement("script");
  script.textContent = await new Response(inflated).text();
  document.head.append(script);
}

/** A copy of a figure with the style variables it names replaced by what they stand for now. */
function themed(value, style) {
  if (typeof value === "string") {
    return value.startsWith("var(") ? style.getPropertyValue(value.slice(4, -1)).trim() : value;
  }
  if (Array.isArray(value)) {
    return typeof value.at(-1) === "number" ? value : value.map((one) => themed(one, style));
  }
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([k, one]) => [k, themed(one, style)]));
}

function draw(element) {
  const figure = themed(charts.get(element)(), getComputedStyle(document.documentElement));
  for (const trace of figure.data) trace.visible = !hidden.has(trace.legendgroup);
  figure.layout.width = element.clientWidth;
  figure.layout.height ??= element.clientWidth < 420 ? 290 : 340;
  figure.layout.dragmode = coarse ? false : "zoom";
  if (element.clientWidth < 420) for (const trace of figure.data) delete trace.texttemplate;
  Plotly.react(element, figure.data, figure.layout, {
    displaylogo: false,
    displayModeBar: coarse ? false : "hover",
    modeBarButtons: [["toImage"]],
    toImageButtonOptions: { format: "svg", filename: document.title },
  });
}

function chart(element, figure) {
  charts.set(element, figure);
  draw(element);
}

const redraw = () => charts.forEach((_, element) => draw(element));

/** A slider over rounds; calls `change` with the place of the one chosen. */
function slider(id, rounds, change) {
  const input = byId(id);
  const show = () => {
    const { round, density } = rounds[input.value];
    const judged = round === data.judged ? ", judged" : "";
    byId(`${id}-value`).textContent = `${round}, density ${density}${judged}`;
    change(Number(input.value));
  };
  input.max = rounds.length - 1;
  const judged = rounds.findIndex(({ round }) => round === data.judged);
  input.value = judged < 0 ? rounds.length - 1 : judged;
  input.addEventListener("input", show);
  show();
}

function drawDensity() {
  const metric = byId("metric");
  chart(byId("chart-metric"), () => data.density[metric.value]);
  chart(byId("chart-stop"), () => data.density.stop_step);
  metric.addEventListener("change", () => draw(byId("chart-metric")));
}

function drawCurves() {
  const elements = [...document.querySelectorAll(".chart.curve")];
  if (!elements.length) return;
  const { frames } = data.curves[elements[0].dataset.metric];
  const rounds = data.rounds.filter(({ round }) => round in frames);
  slider("curve-round", rounds, (place) => {
    for (const element of elements) {
      const { layout, frames } = data.curves[element.dataset.metric];
      chart(element, () => ({ layout, data: frames[rounds[place].round] }));
    }
  });
}

function drawLayers() {
  for (const element of document.querySelectorAll(".chart.layers")) {
    chart(element, () => data.layers[element.dataset.arm]);
  }
}

function drawMoves() {
  const elements = [...document.querySelectorAll(".chart.moved")];
  if (!elements.length) return;
  const rounds = data.rounds.filter(({ round }) => round in data.moves.coverage.frames);
  slider("moves-round", rounds, (place) => {
    for (const element of elements) {
      const { layout, frames } = data.moves[element.dataset.moved];
      chart(element, () => ({ layout, data: frames[rounds[place].round] ?? [] }));
    }
  });
}

function drawForests() {
  for (const element of document.querySelectorAll(".chart.forest")) {
    chart(element, () => data.forests[element.dataset.forest]);
  }
}

function drawProbes() {
  for (const element of document.querySelectorAll(".chart.of-probe")) {
    const { probe, place } = element.dataset;
    chart(element, () => data.probes[probe][place]);
  }
}

function legend() {
  for (const button of document.querySelectorAll(".legend button")) {
    const { arm } = button.dataset;
    button.addEventListener("click", () => {
      if (!hidden.delete(arm)) hidden.add(arm);
      button.setAttribute("aria-pressed", String(!hidden.has(arm)));
      redraw();
    });
  }
}

// -- pictures of the first layer --------------------------------------------------------------

function colour(name) {
  const hex = getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
}

const between = (from, to, share) => from.map((one, k) => one + (to[k] - one) * share);

/** Tiles in rows on a canvas of one dot a weight, which the page then shows enlarged: as much as
 * its column and `most` (pixels of a tile's width, of the whole height) allow. */
class Tiles {
  constructor(canvas, count, width, height, gap, most) {
    Object.assign(this, { canvas, count, width, height, gap, most });
  }

  /** Set the scale and the tiles in a row. */
  fit() {
    const room = this.canvas.parentElement.clientWidth;
    const [wide, high] = [this.width + this.gap, this.height + this.gap];
    const across = (scale) => Math.min(this.count, Math.floor((room / scale + this.gap) / wide));
    const fits = (scale) =>
      scale * this.width <= this.most.width &&
      across(scale) > 0 &&
      scale * high * Math.ceil(this.count / across(scale)) <= this.most.height;
    this.scale = 1;
    while (fits(this.scale + 1)) this.scale++;
    this.across = Math.max(1, across(this.scale));
  }

  /** Paint `shade(tile, row, column)`, an [r, g, b] or null for nothing. */
  paint(shade) {
    this.fit();
    const pitch = this.width + this.gap;
    const down = Math.ceil(this.count / this.across);
    this.canvas.width = this.across * pitch - this.gap;
    this.canvas.height = down * (this.height + this.gap) - this.gap;
    this.canvas.style.width = `${this.canvas.width * this.scale}px`;
    this.canvas.style.maxWidth = "100%";
    const context = this.canvas.getContext("2d");
    const image = context.createImageData(this.canvas.width, this.canvas.height);
    for (let tile = 0; tile < this.count; tile++) {
      const left = (tile % this.across) * pitch;
      const top = Math.floor(tile / this.across) * (this.height + this.gap);
      for (let row = 0; row < this.height; row++) {
        for (let column = 0; column < this.width; column++) {
          const rgb = shade(tile, row, column);
          if (rgb) image.data.set([...rgb, 255], 4 * ((top + row) * this.canvas.width + left + column));
        }
      }
    }
    context.putImageData(image, 0, 0);
  }

  /** The tile, row and column under a pointer, or null between tiles. */
  at(event) {
    const box = this.canvas.getBoundingClientRect();
    const x = Math.floor(((event.clientX - box.left) / box.width) * this.canvas.width);
    const y = Math.floor(((event.clientY - box.top) / box.height) * this.canvas.height);
    const [column, row] = [x % (this.width + this.gap), y % (this.height + this.gap)];
    const place = Math.floor(x / (this.width + this.gap));
    const tile = Math.floor(y / (this.height + this.gap)) * this.across + place;
    const inside = column < this.width && row < this.height && tile >= 0 && tile < this.count;
    return inside ? { tile, row, column } : null;
  }
}

/** One round of one seed, unpacked: what is kept, and each kept weight's value where known. */
function unpacked(pictures, round, which) {
  const size = pictures.units * pictures.channels * pictures.height * pictures.width;
  if (round.mask === null) return null;
  const packed = bytes(round.mask);
  const kept = Uint8Array.from({ length: size }, (_, k) => (packed[k >> 3] >> (k & 7)) & 1);
  const of = round[which] === null ? null : pictures.values[round[which]];
  if (!of) return { kept, values: null };
  const stored = new Int8Array(bytes(of.at).buffer);
  const values = new Float32Array(size);
  let next = 0; // trained values are of the kept weights alone, those at the start of all
  for (let k = 0; k < size; k++) {
    if (kept[k]) values[k] = (stored[which === "trained" ? next++ : k] * of.scale) / 127;
  }
  return { kept, values };
}

function drawPictures() {
  const { pictures } = data;
  if (!pictures) return;
  const { channels, height, width, units } = pictures;
  const filters = pictures.kind === "filters";
  const [area, unitSize] = [height * width, channels * height * width];
  const seam = channels > 1 ? 1 : 0; // a blank column between the panels of two channels
  const wide = channels * (width + seam) - seam;
  const tiles = new Tiles(byId("units"), units, wide, height, wide > 16 ? 2 : 1, { width: 72, height: 700 });
  const one = { width: 256, height: 256 };
  const maps = filters
    ? new Tiles(byId("positions"), units, width, height, 1, { width: 32, height: 700 })
    : new Tiles(byId("positions"), 1, width, height, 0, one);
  const said = filters ? "filter" : "unit";
  const closer = new Tiles(byId("closer"), 1, wide, height, 0, one);
  let [now, round, chosen] = [null, 0, 0];

  /** Which weight of a unit a dot of its tile is; null on a seam. */
  const weight = (tile, row, column) => {
    const channel = Math.floor(column / (width + seam));
    const x = column % (width + seam);
    return x < width ? tile * unitSize + channel * area + row * width + x : null;
  };

  function show() {
    const network = pictures.networks[byId("picture-seed").value];
    const which = byId("picture-values").value;
    const at = network.rounds.find((one) => one.round === round);
    now = at ? unpacked(pictures, at, which) : null;
    const says = byId("picture-says");
    if (!now) {
      const lost = at ? "its mask is no longer in the store" : "it was not reached";
      says.textContent = `Seed ${network.seed}, round ${round}: ${lost}.`;
      for (const one of [tiles, maps, closer]) one.paint(() => null);
      byId("positions-most").textContent = "none";
      return;
    }
    count(now);
    const total = now.kept.reduce((sum, one) => sum + one, 0);
    const dead = now.ofUnit.filter((n) => n === 0).length;
    const blind = now.ofPosition.filter((n) => n === 0).length;
    says.textContent =
      `Seed ${network.seed}, round ${round}: ${total.toLocaleString("en")} of ` +
      `${(units * unitSize).toLocaleString("en")} weights kept; nothing is left of ${dead} of ` +
      `${units} ${said}s` + (filters ? "." : ` and of ${blind} of ${area} pixels.`);
    if (!now.values) says.textContent += " The values are no longer in the store; kept weights are grey.";
    now.shade = shade(network, which);
    tiles.paint(now.shade);
    paintMap();
    enlarge(chosen);
  }

  function count(found) {
    found.ofUnit = new Array(units).fill(0);
    found.ofPosition = new Array(filters ? units * area : area).fill(0);
    for (let k = 0; k < found.kept.length; k++) {
      if (!found.kept[k]) continue;
      const unit = Math.floor(k / unitSize);
      found.ofUnit[unit]++;
      found.ofPosition[(filters ? unit * area : 0) + (k % area)]++;
    }
    found.outOf = filters ? channels : channels * units;
    found.most = found.ofPosition.reduce((most, n) => Math.max(most, n), 0) / found.outOf;
  }

  /** The colour of each dot of each tile. */
  function shade(network, which) {
    const [cut, grey] = [colour("--cut"), colour("--muted")];
    const shades = [colour("--minus-0"), colour("--minus-1"), colour("--plus-0"), colour("--plus-1")];
    const scales = network.rounds.map((one) => pictures.values[one[which]]?.scale ?? 0);
    const full = Math.max(...scales) || 1; // of all rounds, so that they can be compared
    const { kept, values } = now;
    return (tile, row, column) => {
      const k = weight(tile, row, column);
      if (k === null) return null;
      if (!kept[k]) return cut;
      if (!values) return grey;
      const from = values[k] < 0 ? 0 : 2;
      return between(shades[from], shades[from + 1], Math.sqrt(Math.abs(values[k]) / full));
    };
  }

  function enlarge(tile) {
    chosen = tile;
    byId("chosen").textContent = `${filters ? "Filter" : "Unit"} ${tile}`;
    closer.paint((_, row, column) => now.shade(tile, row, column));
  }

  function paintMap() {
    const heat = [colour("--cut"), colour("--heat-4")];
    maps.paint((tile, row, column) => {
      const n = now.ofPosition[tile * area + row * width + column];
      return between(...heat, n / now.outOf / (now.most || 1));
    });
    byId("positions-most").textContent = now.most.toFixed(2);
  }

  function read(tile, { row, column }) {
    const k = weight(tile, row, column);
    if (k === null) return;
    const panel = Math.floor(column / (width + seam));
    const where = `row ${row}, column ${column % (width + seam)}` + (channels > 1 ? `, channel ${panel}` : "");
    const value = now.values ? `kept, about ${now.values[k].toPrecision(2)}` : "kept";
    byId("picture-hover").textContent =
      `Keeps ${now.ofUnit[tile]} of ${unitSize} weights; ${where}: ${now.kept[k] ? value : "cut"}.`;
  }

  function readMap(spot) {
    const n = now.ofPosition[spot.tile * area + spot.row * width + spot.column];
    const what = filters ? `Filter ${spot.tile}, kernel` : "Pixel";
    const share = `${n} of ${now.outOf} ${filters ? "input channels" : "weights"} (${(n / now.outOf).toFixed(2)})`;
    byId("picture-hover").textContent = `${what} row ${spot.row}, column ${spot.column} keeps ${share}.`;
  }

  slider("picture-round", data.rounds, (place) => {
    round = data.rounds[place].round;
    show();
  });
  for (const id of ["picture-seed", "picture-values"]) byId(id).addEventListener("change", show);
  const pointed = (of, tell) => {
    const listen = (event) => {
      const spot = now && of.at(event);
      if (spot) tell(spot);
    };
    for (const kind of ["pointermove", "pointerdown"]) of.canvas.addEventListener(kind, listen);
  };
  pointed(closer, (spot) => read(chosen, spot));
  pointed(maps, readMap);
  pointed(tiles, (spot) => {
    if (spot.tile !== chosen) enlarge(spot.tile);
    read(spot.tile, spot);
  });
  repaint = show;
}

// -- the page ---------------------------------------------------------------------------------

function copy() {
  const [button, command] = [byId("copy"), byId("command")];
  if (!button) return;
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(command.textContent);
    } catch {
      getSelection().selectAllChildren(command); // not allowed here: mark it for the reader's own keys
      button.textContent = "Marked";
      return;
    }
    button.textContent = "Copied";
  });
}

function everything() {
  redraw();
  repaint();
}

/** Light colours and a page's width while printing. */
function printing(begins) {
  document.documentElement.toggleAttribute("data-print", begins);
  everything();
}

async function main() {
  copy();
  drawPictures();
  await loadPlotly();
  drawForests();
  drawDensity();
  drawCurves();
  drawLayers();
  drawMoves();
  drawProbes();
  legend();
  let width = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth === width) return; // a phone's address bar comes and goes
    width = innerWidth;
    everything();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", everything);
  addEventListener("beforeprint", () => printing(true));
  addEventListener("afterprint", () => printing(false));
  document.documentElement.dataset.ready = "";
  performance.mark("ready");
}

main().catch((error) => {
  byId("failed").textContent =
    `The charts could not be drawn (${error.message}). They need a browser of 2023 or newer; ` +
    "every number of theirs by arm and round is in the table below.";
  byId("failed").hidden = false;
});
