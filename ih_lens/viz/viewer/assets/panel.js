// One panel: the maps and the twice coloured text of one head, or of an average.

const MAP_PIXELS = 256, N_STRONGEST = 5, N_SCORES = 4;
const QUIET = /([·↵→∅◌\u2400-\u2421])/;

const make = (tag, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};

const number = (value, kind) => {
  if (Number.isNaN(value)) return "–";
  const text = value === 0 ? "0" : String(Number(value.toPrecision(4)));
  return kind === "attribution" && value > 0 ? `+${text}` : text;
};

const brief = (value, kind) => (kind === "attribution" && value > 0 ? "+" : "") + Number(value.toPrecision(3));

const short = (place) => `${record.tokens[place].replaceAll("\n", "")}`;

function goTo(place, element) {
  element.dataset.goto = place;
  return element;
}

function tokenSpan(shown, place) {
  const span = make("span");
  span.dataset.place = place;
  for (const part of shown.split(QUIET)) if (part) span.append(QUIET.test(part) ? make("i", { textContent: part }) : part);
  return span;
}

function coloursNow() {
  const style = getComputedStyle(document.documentElement);
  return Object.fromEntries(["red", "blue", "brown"].map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}

class Column {
  constructor(kind) {
    this.kind = kind;
    this.lines = [make("i"), make("i")];
    this.canvas = make("canvas", { width: 1, height: 1 });
    this.map = make("div", { className: "map" }, this.canvas, ...this.lines);
    this.says = make("p", { className: "says" });
    this.low = make("span");
    this.high = make("span");
    this.scale = make("div", { className: "scale" }, this.low, make("i"), this.high);
    this.pair = make("p", { className: "pair" });
    this.strongest = make("dl", { className: "strongest" });
    this.text = make("div", { className: `text ${record.only_ids ? "ids" : ""}`, tabIndex: 0 });
    this.text.setAttribute("role", "group");
    this.text.setAttribute("aria-label", kind === "pattern" ? "Text coloured by attention" : "Text coloured by logit attribution");
    this.spans = record.tokens.map(tokenSpan);
    for (const [place, span] of this.spans.entries()) {
      if (record.only_ids || /^[·↵→]/.test(record.tokens[place])) this.text.append(make("wbr"));
      this.text.append(span);
    }
    this.marked = { selected: null, pointed: null };
    this.painted = new Array(this.spans.length).fill("");
    const title = make("h3", { textContent: kind === "pattern" ? "Attention" : "Logit attribution" });
    this.root = make("div", { className: `column ${kind}` });
    if (kind === "attribution" && record.not_attributed) {
      this.root.append(title, make("p", { className: "missing", textContent: record.not_attributed }));
      return;
    }
    const numbers = make("div", { className: "numbers" }, title, this.says, this.scale, this.pair, this.strongest);
    numbers.setAttribute("aria-live", "polite");
    this.root.append(make("div", { className: "overview" }, this.map, make("div", { className: "readout" }, numbers)), this.text);
  }

  set(matrix) {
    this.matrix = matrix;
    this.largest = matrix.largest;
    this.summary = null;
  }

  paint(state) {
    if (!this.matrix) return;
    const { selected, direction } = state, n = this.spans.length;
    if (selected === null) this.summary ??= weights(this.kind, this.matrix, null, direction, n);
    this.values = selected === null ? this.summary : weights(this.kind, this.matrix, selected, direction, n);
    this.top = this.full(state);
    const colour = state.colours[this.kind === "pattern" ? "red" : "blue"];
    for (let place = 0; place < n; place++) {
      const background = this.background(this.values[place] / this.top, colour, state);
      if (background === this.painted[place]) continue;
      const { style } = this.spans[place];
      if (background.startsWith("rgba") && !this.painted[place].startsWith("rep")) style.backgroundColor = background;
      else style.background = background;
      this.painted[place] = background;
    }
    this.mark(state);
    this.describe(state);
  }

  // What the strongest colour stands for.
  full({ scale }) {
    if (scale === "head") return this.kind === "pattern" ? 1 : this.largest || 1;
    let most = 0;
    for (const value of this.values) if (Math.abs(value) > most) most = Math.abs(value);
    return most || 1;
  }

  background(strength, colour, { lowered, colours }) {
    const alpha = Math.min(1, Math.abs(strength)).toFixed(3);
    if (!(alpha > 0) || (strength < 0 && !lowered)) return "";
    if (strength > 0) return `rgba(${colour}, ${alpha})`;
    const weak = (alpha * 0.55).toFixed(3);
    return `repeating-linear-gradient(-45deg, rgba(${colours.brown}, ${alpha}) 0 3px, rgba(${colours.brown}, ${weak}) 3px 6px)`;
  }

  mark({ selected, pointed, direction }) {
    for (const [name, place] of Object.entries({ selected, pointed })) {
      if (this.marked[name] === place) continue;
      if (this.marked[name] !== null) this.spans[this.marked[name]].classList.remove(name);
      if (place !== null) this.spans[place].classList.add(name);
      this.marked[name] = place;
    }
    const n = this.spans.length, [across, down] = this.lines;
    for (const [line, place, along] of [[across, direction === "destination" ? selected : pointed, "top"], [down, direction === "source" ? selected : pointed, "left"]]) {
      line.hidden = place === null;
      if (place === null) continue;
      const size = `max(1px, ${100 / n}%)`, start = `${(100 * place) / n}%`;
      line.style.cssText = along === "top" ? `top:${start};left:0;width:100%;height:${size}` : `left:${start};top:0;height:100%;width:${size}`;
    }
  }

  describe(state) {
    const { selected, direction, pointed, locked, lowered } = state;
    this.says.textContent = saying(this.kind, selected, direction);
    const both = this.kind === "attribution" && lowered, unit = this.kind === "pattern" ? "" : " logits";
    this.scale.classList.toggle("both", both);
    this.low.textContent = both ? number(-this.top, this.kind) : "0";
    this.high.textContent = number(this.top, this.kind) + unit;
    const value = pointed === null ? NaN : this.values[pointed];
    const name = this.kind === "pattern" ? "attention" : "attribution";
    if (!locked || pointed === null) this.pair.textContent = "Strongest:";
    else this.pair.replaceChildren(`${name} `, make("b", { textContent: number(value, this.kind) }), ` “${short(pointed)}” at ${pointed}`);
    const order = [...this.values.keys()].filter((place) => this.values[place] > 0 || (lowered && this.values[place] < 0));
    order.sort((one, other) => Math.abs(this.values[other]) - Math.abs(this.values[one]));
    this.strongest.replaceChildren(
      ...order.slice(0, N_STRONGEST).flatMap((place) => [
        make("dt", { textContent: brief(this.values[place], this.kind) }),
        goTo(place, make("dd", { title: "Show it in the text" }, `${short(place)} `, make("small", { textContent: `at ${place}` }))),
      ]),
    );
  }

  // The strongest entry of each square of positions; attribution is moved down by one, to the token that was predicted.
  draw(colours) {
    if (!this.matrix) return;
    const n = this.spans.length, square = Math.ceil(n / MAP_PIXELS), side = Math.ceil(n / square);
    const shift = this.kind === "attribution" ? 1 : 0, found = new Float32Array(side * side);
    for (let dest = 0; dest < this.matrix.size; dest++) {
      const row = Math.floor((dest + shift) / square) * side;
      for (let src = 0; src <= dest; src++) {
        const place = row + Math.floor(src / square), value = this.matrix.at(dest, src);
        if (value > found[place]) found[place] = value;
      }
    }
    const image = new ImageData(side, side), rgb = colours[shift ? "blue" : "red"].split(",").map(Number);
    const top = shift ? this.largest || 1 : 1;
    found.forEach((value, place) => image.data.set([...rgb, 255 * Math.sqrt(value / top)], 4 * place));
    this.canvas.width = this.canvas.height = side;
    this.canvas.getContext("2d").putImageData(image, 0, 0);
  }
}

function saying(kind, selected, direction) {
  const red = kind === "pattern";
  if (selected === null) {
    return red ? "Nothing selected. Each token: the most attention that a later token pays to it."
      : "Nothing selected. Each token: the most that it raised the logit of a later token.";
  }
  const token = `“${short(selected)}” at ${selected}`, n = record.tokens.length;
  if (red) {
    return direction === "destination" ? `From ${token}: where the head looks, to predict the next token.`
      : `To ${token}: which tokens look at it.`;
  }
  if (direction === "destination") {
    return selected ? `Predicting ${token} itself, from position ${selected - 1}: which tokens raised its logit.`
      : `${token} comes first, so nothing predicts it.`;
  }
  return selected < n - 1 ? `From ${token}: which later tokens’ logits it raised.` : `${token} comes last, so nothing is predicted after it.`;
}

class Panel {
  constructor() {
    this.title = make("h2");
    this.columns = ["pattern", "attribution"].map((kind) => new Column(kind));
    this.root = make("section", { className: "panel" }, this.title, make("div", { className: "columns" }, ...this.columns.map((column) => column.root)));
  }

  name(heads) {
    const names = heads.map((head) => record.heads[head]);
    const title = heads.length === 1 ? names[0] : `average of ${heads.length} heads`;
    const about = heads.length > 1 ? names.slice(0, 12).join(" ") + (names.length > 12 ? " …" : "")
      : Object.entries(record.scores).filter(([, values]) => values[heads[0]] !== null).slice(0, N_SCORES)
        .map(([score, values]) => `${score} ${values[heads[0]].toFixed(2)}`).join(" · ");
    this.title.replaceChildren(title, make("span", { textContent: about }));
    this.root.dataset.heads = names.join(" ");
  }

  paint(state) {
    this.columns.forEach((column) => column.paint(state));
  }

  draw(colours) {
    this.columns.forEach((column) => column.draw(colours));
  }
}
