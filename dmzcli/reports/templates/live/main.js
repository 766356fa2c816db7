// Where it all comes together: images, the address, files, and the buttons.
let pause = null;

// After every change: the board, the address, and, where the code is another, its pictures and readings.
function changedState(code = false) {
  showBoard();
  showEnds();
  write();
  if (!code) return;
  attempt(decode);
  clearTimeout(pause);
  pause = setTimeout(() => attempt(read), 60);
}

function write() {
  const fields = new URLSearchParams({c: toHex(state.code)});
  if (state.locked.includes("1")) fields.set("l", toHex(state.locked));
  if (state.row !== null) fields.set("i", state.row);
  for (const end of ["a", "b"]) if (state[end] !== null) fields.set(end, toHex(state[end]));
  for (const [key, id] of [["t", "steps"], ["s", "sampler"], ["n", "noise"]]) fields.set(key, at(id).value);
  history.replaceState(null, "", `#${fields}`);
}

function take(found, row, name) {
  state.encoded = found.bits;
  state.probs = found.probs ?? null;
  state.row = row;
  at("source-figure").hidden = !found.image;
  if (found.image) paint(at("source"), unpacked(found.image));
  at("source").setAttribute("aria-label", name);
  at("source-caption").textContent = name;
}

function show(found, row, name) {
  take(found, row, name);
  if (found.bits === state.code) changedState(true);
  else setCode(found.bits);
  say(name);
}

async function showRow(row) {
  const found = await ask("row", {row});
  if (at("row")) at("row").value = row;
  show(found, row, found.caption);
}

async function fromAddress() {
  const fields = new URLSearchParams(location.hash.slice(1));
  const code = fromHex(fields.get("c")), row = fields.get("i");
  for (const [key, id] of [["t", "steps"], ["n", "noise"], ["s", "sampler"]]) {
    const options = at(id).options;
    const fits = options ? [...options].some(option => option.value === fields.get(key)) : /^\d+$/.test(fields.get(key) ?? "");
    if (fits) at(id).value = fields.get(key);
  }
  state.locked = fromHex(fields.get("l")) ?? "0".repeat(D);
  for (const end of ["a", "b"]) state[end] = fromHex(fields.get(end));
  const named = row !== null && /^\d+$/.test(row) && Number(row) < facts.images;
  if (named || (code === null && facts.images)) {
    const found = await ask("row", {row: named ? Number(row) : 0});
    at("row").value = named ? row : 0;
    take(found, Number(at("row").value), found.caption);
    state.code = code ?? found.bits;
  } else if (code !== null) state.code = code;
  at("source-figure").hidden = state.row === null || !facts.pictures;
  changedState(true);
  const foreign = fields.has("c") && code === null;
  if (foreign || state.row === null) say(foreign ? "the address holds no code of this run" : "ready", foreign);
  else say(at("source-caption").textContent);
}

function save(name, blob) {
  const link = element("a", {href: URL.createObjectURL(blob), download: name});
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function savePng() {
  const columns = Math.ceil(Math.sqrt(D)), cell = 32;
  const canvas = element("canvas", {width: columns * cell, height: Math.ceil(D / columns) * cell});
  const pen = canvas.getContext("2d");
  pen.fillStyle = "#fff";
  pen.fillRect(0, 0, canvas.width, canvas.height);
  for (let i = 0; i < D; i++) {
    const left = i % columns * cell, top = Math.floor(i / columns) * cell;
    pen.fillStyle = state.code[i] === "1" ? "#0b5cad" : "#f3f5f7";
    pen.fillRect(left + 1, top + 1, cell - 2, cell - 2);
    const unsure = state.probs ? 1 - Math.abs(2 * state.probs[i] - 1) : 0;
    if (unsure > 0.1) {
      pen.fillStyle = "#b35900";
      pen.beginPath();
      pen.arc(left + cell / 2, top + cell / 2, cell * (0.1 + 0.175 * unsure), 0, 2 * Math.PI);
      pen.fill();
    }
  }
  canvas.toBlob(blob => save(`${facts.run}-board.png`, blob));
}

function on(id, work) {
  at(id)?.addEventListener("click", () => attempt(async () => work()));
}

on("show-row", () => showRow(Number(at("row").value)));
on("random-row", () => showRow(Math.floor(Math.random() * facts.images)));
at("row")?.addEventListener("change", () => attempt(() => showRow(Number(at("row").value))));
at("upload").addEventListener("change", event => attempt(async () => {
  const file = event.target.files[0];
  if (file) show(await ask("upload", file), null, file.name);
}));
on("undo", () => past.length ? setCode(past.pop(), false) : say("there is nothing to undo"));
on("reset", () => state.encoded === null ? say("no image was encoded yet") : setCode(state.encoded));
on("lock-all", () => { state.locked = "1".repeat(D); changedState(); });
on("unlock-all", () => { state.locked = "0".repeat(D); changedState(); });
on("copy-link", async () => { await navigator.clipboard.writeText(location.href); say("the link is copied"); });
on("save-png", savePng);
on("save-text", () => save(`${facts.run}-code.txt`, new Blob([`${state.code}\n`], {type: "text/plain"})));
on("next-noise", () => { at("noise").value = Number(at("noise").value) + NOISES; changedState(true); });
for (const id of ["steps", "sampler", "noise"]) at(id).addEventListener("change", () => changedState(true));
on("draw", async () => {
  const found = await ask("draw", {prior: at("prior").value, seed: Math.floor(Math.random() * 2 ** 32)});
  show(found, null, `a sample of ${at("prior").value}`);
});
on("complete", () => fill(false));
on("climb", () => fill(true));
on("neighbors", neighbors);
for (const end of ["a", "b"]) on(`set-${end}`, () => { state[end] = state.code; changedState(); say(`${end.toUpperCase()} is set`); });
on("walk", walk);
addEventListener("hashchange", () => attempt(fromAddress));
attempt(fromAddress);
