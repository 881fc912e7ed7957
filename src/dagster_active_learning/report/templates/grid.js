// A list of tiles of which only those in view are in the document.
const TILE = { width: 172, height: 214, gap: 10, room: [170, 126] };
const picked = new Set();

class Grid {
  constructor(number) {
    this.box = byId(`grid-${number}`);
    this.number = number;
    this.sizer = make("div", "sizer");
    this.sizer.setAttribute("role", "presentation");
    this.box.append(this.sizer);
    this.items = [];
    this.active = 0;
    this.anchor = 0;
    this.tiles = new Map();
    this.box.addEventListener("scroll", () => this.render());
    this.box.addEventListener("keydown", (event) => this.press(event));
    this.box.addEventListener("click", (event) => this.click(event));
    new ResizeObserver(() => this.render(true)).observe(this.box);
  }

  show(list, items) {
    this.list = list;
    this.items = items;
    this.active = 0;
    this.anchor = 0;
    this.box.scrollTop = 0;
    this.render(true);
  }

  get columns() {
    return Math.max(1, Math.floor((this.box.clientWidth - TILE.gap) / (TILE.width + TILE.gap)));
  }

  render(anew = false) {
    if (!this.list) return;
    if (anew) {
      this.tiles.clear();
      this.sizer.replaceChildren();
    }
    const columns = this.columns;
    const step = TILE.height + TILE.gap;
    this.sizer.style.height = `${Math.ceil(this.items.length / columns) * step + TILE.gap}px`;
    const first = Math.max(0, Math.floor(this.box.scrollTop / step) - 1) * columns;
    const last = (Math.ceil((this.box.scrollTop + this.box.clientHeight) / step) + 1) * columns;
    for (const [place, tile] of this.tiles) {
      if (place < first || place >= last) {
        tile.remove();
        this.tiles.delete(place);
      }
    }
    const count = this.tiles.size;
    for (let place = first; place < Math.min(last, this.items.length); place++) {
      if (this.tiles.has(place)) continue;
      const tile = this.tile(place);
      tile.style.left = `${TILE.gap + (place % columns) * (TILE.width + TILE.gap)}px`;
      tile.style.top = `${TILE.gap + Math.floor(place / columns) * step}px`;
      this.tiles.set(place, tile);
    }
    if (this.tiles.size > count) {
      // In their order, which is the one in which they are read aloud.
      const ordered = [...this.tiles].sort(([one], [other]) => one - other);
      this.sizer.append(...ordered.map(([, tile]) => tile));
    }
    this.mark();
  }

  tile(place) {
    const item = this.items[place];
    const { list } = this;
    const image = list.images[item];
    const tile = make("div", "tile");
    tile.id = `tile-${this.number}-${place}`;
    tile.dataset.place = place;
    tile.setAttribute("role", "option");
    tile.setAttribute("aria-setsize", this.items.length);
    tile.setAttribute("aria-posinset", place + 1);
    const stage = make("div", "stage");
    const content = data.sizes[image] ? smallPicture(image) : null;
    if (content) stage.append(framed(image, content, objectsOf(list, item), TILE.room, false));
    else if (content === null) stage.append(make("p", "missing", data.notes[data.missing[image]]));
    else tile.dataset.waits = "true";
    const caption = make("div", "caption");
    const first = make("div", "first");
    const name = make("span", "", className(list.classes[item]));
    const dot = make("i", "dot");
    dot.style.background = classColor(list.classes[item]);
    name.prepend(dot);
    first.append(make("span", "rank", whole(list.ranks[item])), name, make("span", "", scoreText(list.scores[item])));
    const id = make("div", "id", data.ids[image]);
    id.title = data.ids[image];
    const reason = make("div", "reason", list.reasons[item]);
    reason.title = list.reasons[item];
    caption.append(first, id, reason, make("div", "other", this.others(item)));
    tile.append(stage, make("span", "mark"), caption);
    return tile;
  }

  // How the image was chosen, and where it stands in the list beside this one.
  others(item) {
    const { list } = this;
    const parts = list.chosen ? [list.chosen[item]] : [];
    if (list.objectCounts[item] > objectsOf(list, item).length && objectsOf(list, item).length) {
      parts.push(`${objectsOf(list, item).length} of ${whole(list.objectCounts[item])} objects`);
    }
    const beside = compared();
    if (beside) {
      const other = this.number ? data.lists[0] : beside;
      const place = placesIn(other).get(list.images[item]);
      parts.push(place === undefined ? `not in ${other.name}` : `${other.name}: ${whole(other.ranks[place])}`);
    }
    return parts.join(" · ");
  }

  mark() {
    for (const [place, tile] of this.tiles) {
      tile.setAttribute("aria-selected", picked.has(this.image(place)));
      tile.classList.toggle("active", place === this.active);
    }
    if (this.tiles.has(this.active)) this.box.setAttribute("aria-activedescendant", `tile-${this.number}-${this.active}`);
    else this.box.removeAttribute("aria-activedescendant");
  }

  image(place) {
    return this.list.images[this.items[place]];
  }

  move(place, extend) {
    if (!this.items.length) return;
    this.active = Math.min(Math.max(place, 0), this.items.length - 1);
    const step = TILE.height + TILE.gap;
    const top = Math.floor(this.active / this.columns) * step;
    if (top < this.box.scrollTop) this.box.scrollTop = top;
    else if (top + step + TILE.gap > this.box.scrollTop + this.box.clientHeight) this.box.scrollTop = top + step + TILE.gap - this.box.clientHeight;
    if (extend) this.pickRange();
    else this.anchor = this.active;
    this.render();
  }

  pickRange() {
    const [start, end] = [this.anchor, this.active].sort((one, other) => one - other);
    for (let place = start; place <= end; place++) picked.add(this.image(place));
    changedSelection();
  }

  toggle(place) {
    const image = this.image(place);
    if (!picked.delete(image)) picked.add(image);
    this.anchor = place;
    changedSelection();
  }

  press(event) {
    const rows = Math.max(1, Math.floor(this.box.clientHeight / (TILE.height + TILE.gap)));
    const steps = {
      ArrowRight: 1, ArrowLeft: -1, ArrowDown: this.columns, ArrowUp: -this.columns,
      PageDown: rows * this.columns, PageUp: -rows * this.columns,
      Home: -this.items.length, End: this.items.length,
    };
    const isPlain = !event.ctrlKey && !event.metaKey && !event.altKey;
    if (isPlain && event.key in steps) this.move(this.active + steps[event.key], event.shiftKey);
    else if (isPlain && event.key === " " && this.items.length) this.toggle(this.active);
    else if (isPlain && event.key === "Enter" && this.items.length) openImage(this, this.active);
    else if ((event.ctrlKey || event.metaKey) && event.key === "a") pickShown();
    else return;
    event.preventDefault();
  }

  click(event) {
    const tile = event.target.closest(".tile");
    if (!tile) return;
    const place = Number(tile.dataset.place);
    if (event.shiftKey) {
      this.move(place, true);
      return;
    }
    this.active = place;
    if (event.ctrlKey || event.metaKey || event.target.closest(".mark")) this.toggle(place);
    else openImage(this, place);
    this.mark();
  }
}
