// The histogram of scores, the classes, and the plane of embeddings.
const MARGIN = { left: 44, right: 10, top: 8, bottom: 20 };

function drawHistogram(list, shown) {
  const svg = byId("histogram");
  const scores = list.scores.filter((score) => score !== null);
  const edges = list.edges.length ? list.edges : evenEdges(scores);
  const width = svg.clientWidth || 400;
  const height = svg.clientHeight || 160;
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.replaceChildren();
  if (!edges.length) {
    byId("histogram-text").textContent = "No image has a score.";
    return;
  }
  const layers = [
    ["all", list.counts],
    ["of-list", binned(scores, edges)],
    ["of-shown", binned(shown.map((item) => list.scores[item]).filter((score) => score !== null), edges)],
  ];
  const most = Math.max(1, ...layers.flatMap(([, counts]) => counts));
  // Below a hundredth of the highest, a bar is not seen.
  const isLog = most > 100;
  const tall = (count) => (count === 0 ? 0 : isLog ? Math.log10(count * 1.6) / Math.log10(most * 1.6) : count / most);
  const base = height - MARGIN.bottom;
  const x = (score) => MARGIN.left + ((score - edges[0]) / (edges.at(-1) - edges[0])) * (width - MARGIN.left - MARGIN.right);
  for (const [name, counts] of layers) {
    counts.forEach((count, bin) => {
      const size = tall(count) * (base - MARGIN.top);
      if (size) svg.append(makeSvg("rect", { class: name, x: x(edges[bin]), y: base - size, width: Math.max(1, x(edges[bin + 1]) - x(edges[bin]) - 1), height: size }));
    });
  }
  for (let bin = 0; bin + 1 < edges.length; bin++) {
    const bar = makeSvg("rect", { class: "bin", x: x(edges[bin]), y: 0, width: x(edges[bin + 1]) - x(edges[bin]), height: base });
    const title = makeSvg("title", {});
    title.textContent = `${scoreText(edges[bin])} to ${scoreText(edges[bin + 1])}: ${layers.map(([, counts]) => whole(counts[bin] ?? 0)).join(", ")}`;
    bar.append(title);
    bar.addEventListener("click", () => setScores(edges[bin], edges[bin + 1]));
    svg.append(bar);
  }
  const labels = [[edges[0], "start"], [(edges[0] + edges.at(-1)) / 2, "middle"], [edges.at(-1), "end"]];
  for (const [score, anchor] of labels) addText(svg, x(score), height - 5, anchor, scoreText(score));
  addText(svg, MARGIN.left - 4, MARGIN.top + 8, "end", whole(most));
  addText(svg, MARGIN.left - 4, base, "end", "0");
  byId("histogram-text").textContent =
    `${list.scoreLabel}; ${list.labelFirst} first. ${list.counts.length ? "Grey: all images to choose from. " : ""}` +
    `Orange: the list. Strong: shown now.${isLog ? " Heights are logarithmic." : ""} A click on a bar filters.`;
}

function addText(svg, x, y, anchor, words) {
  const text = makeSvg("text", { x, y, "text-anchor": anchor });
  text.textContent = words;
  svg.append(text);
}

function evenEdges(scores) {
  if (!scores.length) return [];
  let low = Infinity;
  let high = -Infinity;
  for (const score of scores) {
    low = Math.min(low, score);
    high = Math.max(high, score);
  }
  if (low === high) [low, high] = [low - 0.5, high + 0.5];
  return Array.from({ length: 41 }, (_, place) => low + ((high - low) * place) / 40);
}

function binned(scores, edges) {
  const counts = new Array(edges.length - 1).fill(0);
  const low = edges[0];
  const step = (edges.at(-1) - low) / counts.length;
  for (const score of scores) {
    const bin = Math.min(counts.length - 1, Math.max(0, Math.floor((score - low) / step)));
    counts[bin]++;
  }
  return counts;
}

// The classes that have a bar; the others can be chosen by name.
const MOST_BARS = 100;

function drawBalance(list, shown) {
  const ofList = counted(list, list.images.keys());
  const ofShown = counted(list, shown);
  const order = [...ofList.keys()].sort((one, other) => ofList.get(other) - ofList.get(one) || one - other);
  const most = Math.max(1, ...ofList.values());
  const chosen = byId("class").value;
  const drawn = order.filter((place, number) => number < MOST_BARS || chosen === String(place));
  const rest = order.length - drawn.length;
  byId("balance-rest").textContent = rest ? `${whole(rest)} more classes have no bar here: choose them under Class.` : "";
  byId("balance").replaceChildren(...drawn.map((place) => {
    const button = make("button");
    button.type = "button";
    button.dataset.place = place;
    button.setAttribute("aria-pressed", chosen === String(place));
    const track = make("span", "track");
    const bar = make("i");
    bar.style.width = `${(100 * ofList.get(place)) / most}%`;
    bar.style.background = classColor(place);
    track.append(bar);
    const numbers = `${whole(ofShown.get(place) ?? 0)} of ${whole(ofList.get(place))}`;
    button.append(make("span", "", className(place)), track, make("span", "number", numbers));
    button.title = className(place);
    const item = make("li");
    item.append(button);
    return item;
  }));
}

function counted(list, items) {
  const counts = new Map();
  for (const item of items) {
    const place = list.classes[item];
    counts.set(place, (counts.get(place) ?? 0) + 1);
  }
  return counts;
}

// A rectangle on the plane, in shares of it, that filters the images; null without one.
const scatter = { canvas: byId("scatter"), area: null, start: null, ends: null };

function preparePlane() {
  const known = data.points.filter(Boolean);
  if (!known.length) return;
  const axis = (number) => known.map((point) => point[number]);
  const ends = [0, 1].map((number) => evenEdges(axis(number)));
  scatter.ends = ends.map((edges) => [edges[0], edges.at(-1)]);
  byId("scatter-section").hidden = false;
  const { canvas } = scatter;
  const at = (event) => [0, 1].map((number) => {
    const box = canvas.getBoundingClientRect();
    const share = number ? (event.clientY - box.top) / box.height : (event.clientX - box.left) / box.width;
    return Math.min(1, Math.max(0, share));
  });
  canvas.addEventListener("pointerdown", (event) => {
    scatter.start = at(event);
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!scatter.start) return;
    const [x, y] = at(event);
    const [left, top] = scatter.start;
    scatter.area = [Math.min(x, left), Math.min(y, top), Math.max(x, left), Math.max(y, top)];
    drawPlane();
  });
  canvas.addEventListener("pointerup", (event) => {
    const [x, y] = at(event);
    const [left, top] = scatter.start ?? [x, y];
    scatter.start = null;
    if (Math.abs(x - left) < 0.01 && Math.abs(y - top) < 0.01) scatter.area = null;
    update();
  });
  canvas.addEventListener("keydown", pressPlane);
  new ResizeObserver(drawPlane).observe(canvas);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawPlane);
}

function pressPlane(event) {
  const moves = { ArrowLeft: [-0.05, 0], ArrowRight: [0.05, 0], ArrowUp: [0, -0.05], ArrowDown: [0, 0.05] };
  const sizes = { "+": 0.05, "=": 0.05, "-": -0.05, "−": -0.05 };
  if (event.key === "Escape") scatter.area = null;
  else if (event.key in moves || event.key in sizes) {
    let [left, top, right, bottom] = scatter.area ?? [0.4, 0.4, 0.6, 0.6];
    const [x, y] = moves[event.key] ?? [0, 0];
    const more = sizes[event.key] ?? 0;
    if (scatter.area) [left, top, right, bottom] = [left + x - more, top + y - more, right + x + more, bottom + y + more];
    if (right > left && bottom > top) scatter.area = [left, top, right, bottom];
  } else return;
  event.preventDefault();
  update();
}

function onPlane(point) {
  const share = (number) => (point[number] - scatter.ends[number][0]) / (scatter.ends[number][1] - scatter.ends[number][0]);
  // 2% of room on all sides: points at the edges are whole, and can be in a rectangle.
  return [0.02 + share(0) * 0.96, 0.98 - share(1) * 0.96];
}

function inArea(image) {
  if (!scatter.area) return true;
  const point = data.points[image];
  if (!point) return false;
  const [x, y] = onPlane(point);
  const [left, top, right, bottom] = scatter.area;
  return x >= left && x <= right && y >= top && y <= bottom;
}

function drawPlane() {
  if (!scatter.ends) return;
  const { canvas } = scatter;
  const ratio = window.devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  canvas.width = width * ratio;
  canvas.height = height * ratio;
  const draw = canvas.getContext("2d");
  draw.scale(ratio, ratio);
  const style = getComputedStyle(document.body);
  const shown = new Set(grids[0].items.map((item) => data.lists[0].images[item]));
  const dot = (image, color, size) => {
    if (!data.points[image]) return;
    const [x, y] = onPlane(data.points[image]);
    draw.fillStyle = color;
    draw.fillRect(x * width - size / 2, y * height - size / 2, size, size);
  };
  data.points.forEach((_, image) => shown.has(image) || dot(image, style.getPropertyValue("--all"), 3));
  data.lists[0].images.forEach((image, item) => shown.has(image) && dot(image, classColor(data.lists[0].classes[item]), 5));
  if (scatter.area) {
    const [left, top, right, bottom] = scatter.area;
    draw.strokeStyle = style.getPropertyValue("--text");
    draw.strokeRect(left * width, top * height, (right - left) * width, (bottom - top) * height);
  }
}
