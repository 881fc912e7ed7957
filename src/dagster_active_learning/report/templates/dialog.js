// One image as large as the page has it.
const opened = { grid: null, place: 0 };

function openImage(grid, place) {
  Object.assign(opened, { grid, place });
  const dialog = byId("image");
  if (!dialog.open) dialog.showModal();
  showImage();
}

function showImage() {
  const { grid, place } = opened;
  const { list } = grid;
  const item = grid.items[place];
  const image = list.images[item];
  byId("image-id").textContent = data.ids[image];
  // Not disabled: a button that has the focus would lose it, and the keys with it.
  byId("previous").setAttribute("aria-disabled", place === 0);
  byId("next").setAttribute("aria-disabled", place === grid.items.length - 1);
  byId("pick").setAttribute("aria-pressed", picked.has(image));
  const objects = objectsOf(list, item);
  const stage = byId("image-stage");
  stage.replaceChildren();
  const large = largePicture(image);
  const small = data.sizes[image] ? smallPicture(image) : null;
  const content = large ?? small;
  if (content) stage.append(framed(image, content, objects, [stage.clientWidth, stage.clientHeight], true));
  else stage.append(make("p", "missing", small === null ? data.notes[data.missing[image]] : "not read yet"));
  byId("image-note").textContent = content ? largeNote(image, large) : "";
  const facts = [
    ["rank", whole(list.ranks[item])],
    ["class", className(list.classes[item])],
    ["score", scoreText(list.scores[item])],
    ["reason", list.reasons[item]],
    ...(list.chosen ? [["chosen by", list.chosen[item]]] : []),
    ...data.lists.filter((other) => other !== list).flatMap((other) => {
      const there = placesIn(other).get(image);
      return there === undefined ? [] : [[other.name, `rank ${whole(other.ranks[there])}, ${scoreText(other.scores[there])}`]];
    }),
  ];
  byId("image-facts").replaceChildren(...facts.map(([what, value]) => {
    const line = make("div");
    line.append(make("dt", "", what), make("dd", "", value));
    return line;
  }));
  byId("image-objects").replaceChildren(...objects.map(([place, score]) => {
    const line = make("li", "", objectText(place, score) || "object");
    const dot = make("i", "dot");
    dot.style.background = classColor(place ?? -1);
    line.prepend(dot);
    return line;
  }));
}

function largeNote(image, large) {
  const [width, height] = data.stored[image];
  const file = `The file has ${whole(width)} x ${whole(height)} pixels.`;
  if (large) return `${file} Shown with at most ${data.largeSide} per side.`;
  const [smallWidth, smallHeight] = data.sizes[image];
  const isWhole = smallWidth * smallHeight >= width * height;
  return isWhole ? `${file} All of them are shown.` : `${file} The page has room for its small picture only.`;
}

function prepareDialog() {
  const dialog = byId("image");
  const step = (by) => {
    const place = opened.place + by;
    if (place < 0 || place >= opened.grid.items.length) return;
    opened.place = place;
    opened.grid.move(place, false);
    showImage();
  };
  byId("previous").addEventListener("click", () => step(-1));
  byId("next").addEventListener("click", () => step(1));
  byId("close").addEventListener("click", () => dialog.close());
  byId("pick").addEventListener("click", () => {
    opened.grid.toggle(opened.place);
    showImage();
  });
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowRight") step(1);
    else if (event.key === "ArrowLeft") step(-1);
    else return;
    event.preventDefault();
  });
  dialog.addEventListener("close", () => opened.grid.box.focus());
  new ResizeObserver(() => dialog.open && showImage()).observe(byId("image-stage"));
}
