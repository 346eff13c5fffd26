// The page: what is selected, and what answers to pointer and keyboard.

const record = JSON.parse(document.getElementById("record").textContent);
const MOST_BESIDE = 4;
const $ = (selector) => document.querySelector(selector);
const all = (selector) => [...document.querySelectorAll(selector)];
const state = {
  mode: "one", chosen: [], sort: Object.keys(record.scores)[0] ?? "name", direction: "destination", scale: "head", lowered: false,
  selected: null, pointed: null, locked: false, colours: coloursNow(),
};
const panels = [];
let asked = 0, lastPointer = "";

function paint() {
  document.body.classList.toggle("locked", state.locked);
  panels.forEach((panel) => panel.paint(state));
}

function select(place, locked = state.locked) {
  if (place === state.selected && locked === state.locked) return;
  Object.assign(state, { selected: place, locked, pointed: null });
  paint();
}

function point(place) {
  if (place === state.pointed) return;
  state.pointed = place;
  panels.forEach((panel) => panel.columns.filter((column) => column.matrix).forEach((column) => {
    column.mark(state);
    column.describe(state);
  }));
}

// ---- heads

function groups() {
  if (state.mode === "average") return state.chosen.length ? [state.chosen] : [];
  return (state.mode === "one" ? state.chosen.slice(0, 1) : state.chosen.slice(0, MOST_BESIDE)).map((head) => [head]);
}

async function show() {
  const turn = ++asked, wanted = () => turn === asked, wantedGroups = groups();
  for (const button of all(".head")) {
    const head = Number(button.dataset.head);
    button.setAttribute("aria-selected", state.chosen.includes(head));
    button.tabIndex = head === (state.chosen[0] ?? order()[0]) ? 0 : -1; // one stop for Tab, arrows for the rest
  }
  const tell = (done, total) => ($("#status").textContent = `reading head ${done + 1} of ${total} …`);
  const kinds = record.not_attributed ? ["pattern"] : ["pattern", "attribution"];
  try {
    const found = [];
    for (const heads of wantedGroups) {
      const matrices = [];
      for (const kind of kinds) matrices.push(await matrixOf(kind, heads, wanted, tell));
      if (!wanted()) return;
      found.push(matrices);
    }
    while (panels.length < found.length) panels.push(newPanel());
    $("#panels").style.setProperty("--panels", found.length);
    panels.splice(found.length).forEach((panel) => panel.root.remove());
    found.forEach((matrices, place) => {
      matrices.forEach((matrix, column) => panels[place].columns[column].set(matrix));
      panels[place].name(wantedGroups[place]);
      panels[place].draw(state.colours);
    });
    paint();
    $("#status").textContent = told();
    document.documentElement.dataset.opened ??= performance.now().toFixed();
    document.documentElement.dataset.shown = wantedGroups.map((heads) => heads.map((head) => record.heads[head]).join("+")).join(" ");
  } catch (error) {
    $("#status").textContent = `The data could not be read: ${error.message}`;
  }
}

function told() {
  if (!state.chosen.length) return "choose heads in the list";
  if (state.mode === "beside" && state.chosen.length > MOST_BESIDE) return `the first ${MOST_BESIDE} of ${state.chosen.length} are shown`;
  return "";
}

function newPanel() {
  const panel = new Panel();
  $("#panels").append(panel.root);
  panel.columns.forEach((column) => column.map.addEventListener("pointermove", (event) => overMap(event, column)));
  return panel;
}

function choose(head) {
  const { chosen, mode } = state;
  if (mode === "one") state.chosen = [head];
  else state.chosen = chosen.includes(head) ? chosen.filter((other) => other !== head) : [...chosen, head];
  show();
}

const order = () => all(".head").map((button) => Number(button.dataset.head));

function listHeads() {
  const values = record.scores[state.sort];
  const heads = record.heads.map((_, head) => head);
  if (values) heads.sort((one, other) => (values[other] ?? -Infinity) - (values[one] ?? -Infinity) || one - other);
  const told = values ?? Object.values(record.scores)[0];
  $("#heads").append(...heads.map((head) => {
    const button = document.getElementById(`head-${head}`);
    button.lastChild.textContent = told ? (told[head] === null ? "not defined" : told[head].toFixed(3)) : "";
    return button;
  }));
  $("#heads").scrollTop = 0;
}

function moveHead(step) {
  const heads = order(), focused = document.activeElement.closest?.(".head");
  const from = heads.indexOf(state.mode === "one" ? state.chosen[0] : focused ? Number(focused.dataset.head) : state.chosen[0]);
  const next = heads[Math.max(0, Math.min(heads.length - 1, from + step))];
  const button = document.getElementById(`head-${next}`);
  if (state.mode === "one") choose(next);
  if (state.mode !== "one" || focused) button.focus();
  button.scrollIntoView({ block: "nearest" });
}

async function drawThumbnails() {
  const pixels = await inflate(bytesOf($("#thumbnails").textContent)), side = record.thumbnail;
  const draw = (canvas, head) => {
    const image = new ImageData(side, side), rgb = state.colours.red.split(",").map(Number);
    for (let i = 0; i < side * side; i++) image.data.set([...rgb, 255 * Math.sqrt(pixels[head * side * side + i] / 255)], 4 * i);
    canvas.getContext("2d").putImageData(image, 0, 0);
  };
  const watcher = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      watcher.unobserve(target);
      draw(target, Number(target.parentElement.dataset.head));
    }
  }, { root: $("#heads"), rootMargin: "100px" });
  all(".head canvas").forEach((canvas) => watcher.observe(canvas));
}

// ---- pointer and keys

const placeOf = (event) => {
  const span = event.target.closest?.(".text span");
  return span ? Number(span.dataset.place) : null;
};

const placeOnMap = (event, column) => {
  const box = column.canvas.getBoundingClientRect();
  const share = state.direction === "destination" ? (event.clientY - box.top) / box.height : (event.clientX - box.left) / box.width;
  return Math.max(0, Math.min(record.tokens.length - 1, Math.floor(share * record.tokens.length)));
};

function overMap(event, column) {
  if (!state.locked) select(placeOnMap(event, column));
}

function hover(event) {
  // text that scrolls under a resting pointer selects nothing
  const pointer = `${event.clientX} ${event.clientY}`, place = placeOf(event);
  if (pointer === lastPointer || place === null) return;
  lastPointer = pointer;
  if (state.locked) point(place);
  else select(place);
}

function leave(event) {
  if (event.target.closest(".text")?.contains(event.relatedTarget) || event.target.closest(".map")?.contains(event.relatedTarget)) return;
  if (!event.target.closest(".text, .map") || `${event.clientX} ${event.clientY}` === lastPointer) return;
  if (state.locked) point(null);
  else select(null);
}

function click(event) {
  if (event.target.closest("button, select, input, label, details, a, aside")) return;
  const entry = event.target.closest("[data-goto]");
  if (entry) return scrollTo(Number(entry.dataset.goto), "center");
  const column = panels.flatMap((panel) => panel.columns).find(({ map }) => map.contains(event.target));
  const place = column ? placeOnMap(event, column) : placeOf(event);
  if (place === null) state.locked && select(null, false);
  else if (state.locked && place === state.selected) select(place, false);
  else select(place, true);
}

function scrollTo(place, block) {
  panels.forEach((panel) => panel.columns[0].spans[place].scrollIntoView({ block }));
}

function moveToken(step) {
  const last = record.tokens.length - 1;
  const from = state.selected ?? (step > 0 ? -1 : last + 1);
  select(Math.max(0, Math.min(last, from + step)));
  scrollTo(state.selected, "nearest");
}

function turn(direction) {
  state.direction = direction;
  all("[data-direction]").forEach((button) => button.setAttribute("aria-pressed", button.dataset.direction === direction));
  paint();
}

const toggleLock = () => state.selected !== null && select(state.selected, !state.locked);
const KEYS = {
  ArrowLeft: () => moveToken(-1), ArrowRight: () => moveToken(1), Home: () => moveToken(-Infinity), End: () => moveToken(Infinity),
  ArrowUp: () => moveHead(-1), ArrowDown: () => moveHead(1), k: () => moveHead(-1), j: () => moveHead(1),
  Enter: toggleLock, " ": toggleLock, Escape: () => select(null, false),
  s: () => turn(state.direction === "source" ? "destination" : "source"),
};

function key(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || !Object.hasOwn(KEYS, event.key)) return;
  const busy = event.target.closest?.("select, input") || (event.target.closest?.("button, summary") && "Enter ".includes(event.key));
  if (busy && event.key !== "Escape") return;
  event.preventDefault();
  KEYS[event.key]();
}

function setMode(mode) {
  state.mode = mode;
  if (mode === "one") state.chosen = state.chosen.slice(-1).concat(order()).slice(0, 1);
  $(".several").hidden = mode === "one";
  $("#heads").setAttribute("aria-multiselectable", mode !== "one");
  all("[data-mode]").forEach((button) => button.setAttribute("aria-pressed", button.dataset.mode === mode));
  show();
}

function chooseMany(which) {
  state.chosen = { all: order(), top: order().slice(0, 5), none: [] }[which];
  show();
}

function start() {
  $("#sort").append(...[...Object.keys(record.scores), "name"].map((name) => make("option", { value: name, textContent: name })));
  $("#heads").append(...record.heads.map((name, head) => {
    const canvas = make("canvas", { width: record.thumbnail, height: record.thumbnail });
    const button = make("button", { id: `head-${head}`, className: "head", type: "button" }, canvas, make("b", { textContent: name }), make("span"));
    button.dataset.head = head;
    button.setAttribute("role", "option");
    return button;
  }));
  all(".attributed").forEach((label) => (label.hidden = Boolean(record.not_attributed)));
  listHeads();
  state.chosen = [order()[0]];
  $("#heads").addEventListener("click", (event) => event.target.closest(".head") && choose(Number(event.target.closest(".head").dataset.head)));
  all("[data-mode]").forEach((button) => button.addEventListener("click", () => setMode(button.dataset.mode)));
  all("[data-choose]").forEach((button) => button.addEventListener("click", () => chooseMany(button.dataset.choose)));
  all("[data-direction]").forEach((button) => button.addEventListener("click", () => turn(button.dataset.direction)));
  $("#sort").addEventListener("change", ({ target }) => ((state.sort = target.value), listHeads()));
  $("#scale").addEventListener("change", ({ target }) => ((state.scale = target.value), paint()));
  $("#lowered").addEventListener("change", ({ target }) => ((state.lowered = target.checked), paint()));
  $("#panels").addEventListener("pointerover", hover);
  $("#panels").addEventListener("pointerout", leave);
  $("main").addEventListener("click", click);
  document.addEventListener("keydown", key);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    state.colours = coloursNow();
    panels.forEach((panel) => panel.draw(state.colours));
    paint();
    drawThumbnails();
  });
  show();
  drawThumbnails().catch((error) => ($("#status").textContent = error.message));
}

start();
