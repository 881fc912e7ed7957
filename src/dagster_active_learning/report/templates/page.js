// What is shown, in which order, and what is selected.
const places = new Map();
const words = new Map();

// Where each image stands in a list.
function placesIn(list) {
  if (!places.has(list)) places.set(list, new Map(list.images.map((image, item) => [image, item])));
  return places.get(list);
}

function wordsOf(list) {
  if (!words.has(list)) words.set(list, list.images.map((image, item) => `${data.ids[image]}\n${list.reasons[item]}`.toLowerCase()));
  return words.get(list);
}

const grids = [new Grid(0), new Grid(1)];
const compared = () => (byId("beside").value === "" ? null : data.lists[Number(byId("beside").value)]);

const textOrder = new Intl.Collator("en", { numeric: true }).compare;
const scoreOrder = (one, other, sign) => (one === null) - (other === null) || sign * (one - other);
const ORDERS = {
  rank: (list) => (one, other) => list.ranks[one] - list.ranks[other],
  "score-down": (list) => (one, other) => scoreOrder(list.scores[one], list.scores[other], -1),
  "score-up": (list) => (one, other) => scoreOrder(list.scores[one], list.scores[other], 1),
  class: (list) => (one, other) => list.classes[one] - list.classes[other],
  reason: (list) => (one, other) => textOrder(list.reasons[one], list.reasons[other]),
  id: (list) => (one, other) => textOrder(data.ids[list.images[one]], data.ids[list.images[other]]),
  objects: (list) => (one, other) => list.objectCounts[other] - list.objectCounts[one],
};

function itemsOf(list, other) {
  const text = byId("search").value.toLowerCase();
  const wanted = byId("class").value;
  const chosen = byId("chosen").value;
  // The other list may have another kind of score.
  const isFirst = list === data.lists[0];
  const low = isFirst && byId("low").value !== "" ? Number(byId("low").value) : -Infinity;
  const high = isFirst && byId("high").value !== "" ? Number(byId("high").value) : Infinity;
  const hasRange = low !== -Infinity || high !== Infinity;
  const common = other ? byId("common").value : "";
  const items = [];
  for (let item = 0; item < list.images.length; item++) {
    const image = list.images[item];
    const score = list.scores[item];
    if (wanted !== "" && String(list.classes[item]) !== wanted) continue;
    if (chosen !== "" && list.chosen && list.chosen[item] !== chosen) continue;
    if (hasRange && !(score !== null && score >= low && score <= high)) continue;
    if (text && !wordsOf(list)[item].includes(text)) continue;
    if (common && placesIn(other).has(image) !== (common === "both")) continue;
    if (!inArea(image)) continue;
    items.push(item);
  }
  return items.sort(ORDERS[byId("sort").value](list));
}

function update() {
  const [list] = data.lists;
  const beside = compared();
  byId("second").hidden = !beside;
  byId("common-label").hidden = !beside;
  const shown = itemsOf(list, beside);
  showList(0, list, shown);
  if (beside) showList(1, beside, itemsOf(beside, list));
  drawHistogram(list, shown);
  drawBalance(list, shown);
  drawPlane();
  changedSelection();
}

function showList(number, list, items) {
  byId(`name-${number}`).textContent = list.name;
  const common = compared() ? [...placesIn(data.lists[0]).keys()].filter((image) => placesIn(compared()).has(image)).length : 0;
  const more = list.count > list.images.length ? `, of ${whole(list.count)} in all` : "";
  byId(`count-${number}`).textContent =
    `${whole(items.length)} of ${whole(list.images.length)} images${more}` +
    (compared() ? `; ${whole(common)} in both lists` : "");
  grids[number].show(list, items);
}

function changedSelection() {
  for (const grid of grids) grid.mark();
  byId("status").textContent =
    `${whole(shownImages().size)} shown, ${whole(picked.size)} selected`;
  for (const id of ["clear", "copy", "download"]) byId(id).disabled = !picked.size;
}

// The images in the grids that are there, each once.
function shownImages() {
  const there = compared() ? grids : grids.slice(0, 1);
  return new Set(there.flatMap((grid) => grid.items.map((item) => grid.list.images[item])));
}

function pickShown() {
  for (const image of shownImages()) picked.add(image);
  changedSelection();
}

const pickedIds = () => [...picked].sort((one, other) => one - other).map((image) => data.ids[image]);

async function copyIds() {
  const text = pickedIds().join("\n");
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // A page without the right to the clipboard still may copy what is selected in it.
    const area = make("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  byId("done").textContent = `${whole(picked.size)} ids copied, one per line`;
}

function downloadIds() {
  const quoted = (text) => `"${text.replaceAll('"', '""')}"`;
  const content = ["image_id", ...pickedIds().map(quoted)].join("\r\n") + "\r\n";
  const link = make("a");
  link.href = URL.createObjectURL(new Blob([content], { type: "text/csv" }));
  link.download = "image_ids.csv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  byId("done").textContent = `${whole(picked.size)} ids downloaded as image_ids.csv`;
}

function setScores(low, high) {
  byId("low").value = low;
  byId("high").value = high;
  update();
}

function fill(select, options) {
  select.replaceChildren(...options.map(([value, text]) => {
    const option = make("option", "", text);
    option.value = value;
    return option;
  }));
}

function prepare() {
  const [list] = data.lists;
  const used = new Set(data.lists.flatMap((each) => each.classes));
  const named = [...used].sort((one, other) => one - other).map((place) => [place, className(place)]);
  fill(byId("class"), [["", "all"], ...named]);
  if (list.chosen) {
    byId("chosen-label").hidden = false;
    fill(byId("chosen"), [["", "any"], ...[...new Set(list.chosen)].sort().map((name) => [name, name])]);
  } else fill(byId("chosen"), [["", "any"]]);
  byId("beside-label").hidden = data.lists.length < 2;
  fill(byId("beside"), [["", "nothing"], ...data.lists.slice(1).map((each, place) => [place + 1, each.name])]);
  const drawn = data.found.flat();
  byId("boxes-label").hidden = !drawn.some(([, , corners]) => corners);
  byId("masks-label").hidden = !drawn.some(([, , , path]) => path);
  const form = byId("filters");
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", update);
  form.addEventListener("reset", () => {
    scatter.area = null;
    // After the fields have their first values again.
    setTimeout(() => {
      toggleOverlays();
      update();
    });
  });
  for (const id of ["boxes", "masks"]) byId(id).addEventListener("change", toggleOverlays);
  byId("balance").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    const { place } = button.dataset;
    byId("class").value = byId("class").value === place ? "" : place;
    update();
    byId("balance").querySelector(`[data-place="${place}"]`).focus();
  });
  byId("select-shown").addEventListener("click", pickShown);
  byId("clear").addEventListener("click", () => {
    picked.clear();
    changedSelection();
  });
  byId("copy").addEventListener("click", copyIds);
  byId("download").addEventListener("click", downloadIds);
  prepareDialog();
  preparePlane();
  update();
  document.documentElement.dataset.ready = "true";
  // Tiles that came before their pictures.
  document.addEventListener("DOMContentLoaded", () => grids.forEach((grid) => grid.render(true)));
}

function toggleOverlays() {
  for (const id of ["boxes", "masks"]) document.body.classList.toggle(`without-${id}`, !byId(id).checked);
}

prepare();
