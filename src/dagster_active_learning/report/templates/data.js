// What the page shows, and its pictures, which are parsed as they come into view.
const data = JSON.parse(document.getElementById("data").textContent);
const chunks = new Map();

const byId = (id) => document.getElementById(id);

function make(name, className, text) {
  const node = document.createElement(name);
  if (className) node.className = className;
  // As text, always: ids, classes and reasons are somebody else's.
  if (text !== undefined && text !== null) node.textContent = text;
  return node;
}

function makeSvg(name, attributes) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
}

// The small picture of an image; undefined as long as the browser has not read so far.
function smallPicture(image) {
  const number = Math.floor(image / data.chunk);
  if (!chunks.has(number)) {
    const element = byId(`small-${number}`);
    // The last one may be there in part.
    if (!element || (!element.nextElementSibling && document.readyState === "loading")) return undefined;
    chunks.set(number, JSON.parse(element.textContent));
  }
  return chunks.get(number)[image % data.chunk];
}

function largePicture(image) {
  const element = byId(`large-${image}`);
  return element ? JSON.parse(element.textContent) : null;
}

const source = (content) => `data:image/webp;base64,${content}`;
const className = (place) => (place < 0 ? "no class" : data.classes[place].name);
const classColor = (place) => (place < 0 ? "#7a808a" : data.classes[place].color);
const whole = (number) => number.toLocaleString("en");
const scoreText = (score) => (score === null ? "no score" : String(Number(score.toPrecision(4))));

// An image fitted into a room, with its objects over it.
function framed(image, content, objects, room, withTags) {
  const [width, height] = data.sizes[image];
  let scale = Math.min(room[0] / width, room[1] / height);
  const frame = make("div", "frame");
  frame.style.width = `${width * scale}px`;
  frame.style.height = `${height * scale}px`;
  const picture = make("img");
  picture.alt = "";
  if (width < 64 && height < 64) picture.className = "pixels";
  picture.src = source(content);
  frame.append(picture);
  if (objects.length) {
    const svg = makeSvg("svg", { viewBox: "0 0 1 1", preserveAspectRatio: "none", "aria-hidden": "true" });
    const tags = [];
    for (const [place, score, corners, path] of objects) {
      const color = classColor(place ?? -1);
      if (path) svg.append(makeSvg("path", { d: path, fill: color }));
      if (!corners) continue;
      const [left, top, right, bottom] = corners;
      svg.append(makeSvg("rect", { x: left, y: top, width: right - left, height: bottom - top, stroke: color }));
      if (!withTags) continue;
      const tag = make("span", "tag", objectText(place, score));
      tag.style.left = `${left * 100}%`;
      tag.style.top = `${top * 100}%`;
      tag.style.background = color;
      tags.push(tag);
    }
    frame.append(svg, ...tags);
  }
  return frame;
}

function objectText(place, score) {
  return [place === null ? null : className(place), score === null ? null : score.toFixed(2)]
    .filter((part) => part !== null).join(" ");
}

// The objects of an item of a list, and in a tile how many there are beside those drawn.
const objectsOf = (list, item) => data.found[list.objects[item]] ?? [];
