// The board: one switch a bit.
const board = at("board");
const bits = Array.from({length: D}, (_, i) => {
  const label = element("b", {textContent: D <= 512 ? String(i) : ""});
  return element("button", {className: "bit", type: "button", role: "switch", tabIndex: i ? -1 : 0}, label);
});
board.append(...bits);
let current = 0;

function showBoard() {
  bits.forEach((button, i) => {
    const on = state.code[i] === "1", locked = state.locked[i] === "1";
    const q = state.probs ? state.probs[i] : null;
    const changed = state.encoded !== null && state.encoded[i] !== state.code[i];
    button.setAttribute("aria-checked", String(on));
    button.classList.toggle("locked", locked);
    button.classList.toggle("changed", changed);
    const unsure = q === null ? 0 : 1 - Math.abs(2 * q - 1);
    let dot = button.querySelector("i");
    if (unsure > 0.1) {
      if (!dot) button.append(dot = element("i"));
      dot.style.setProperty("--dot", `${20 + 35 * unsure}%`);
    } else dot?.remove();
    const parts = [`bit ${i}`];
    if (q !== null) parts.push(`q ${q.toFixed(2)}`);
    if (changed) parts.push("not as encoded");
    if (locked) parts.push("locked");
    button.setAttribute("aria-label", parts.join(", "));
  });
}

function tell(i) {
  const parts = [bits[i].getAttribute("aria-label"), state.code[i] === "1" ? "on" : "off"];
  if (facts.bits[i]) parts.push(facts.bits[i]);
  at("about").textContent = parts.join("; ");
}

function focusBit(i) {
  bits[current].tabIndex = -1;
  current = i;
  bits[current].tabIndex = 0;
}

// Flips, unless the bit is locked; what a person does is kept for undoing.
function setBit(i, value, keep = true) {
  if (state.locked[i] === "1") return say(`bit ${i} is locked`);
  if (state.code[i] === value) return;
  setCode(flipped(state.code, i), keep);
  say(`bit ${i} is ${value === "1" ? "on" : "off"}`);
  tell(i);
}

function toggleLock(i) {
  state.locked = flipped(state.locked, i);
  changedState();
  tell(i);
}

function setCode(code, keep = true) {
  if (code === state.code) return;
  if (keep) past.push(state.code);
  if (past.length > 500) past.shift();
  state.code = code;
  changedState(true);
}

const bitUnder = event => bits.indexOf(document.elementFromPoint(event.clientX, event.clientY)?.closest?.(".bit"));

let painting = null, painted = false;
board.addEventListener("pointerdown", event => {
  const i = bitUnder(event);
  if (i < 0 || event.button || event.shiftKey) return;
  painting = {value: state.code[i] === "1" ? "0" : "1", start: i, last: i};
  painted = false;
  bits[i].releasePointerCapture?.(event.pointerId);
});
board.addEventListener("pointermove", event => {
  const i = bitUnder(event);
  if (!painting || i < 0 || i === painting.last) return;
  if (!painted) setBit(painting.start, painting.value);
  painted = true;
  painting.last = i;
  setBit(i, painting.value);
});
for (const end of ["pointerup", "pointercancel"]) addEventListener(end, () => { painting = null; });
board.addEventListener("click", event => {
  const i = bits.indexOf(event.target.closest(".bit"));
  if (i < 0) return;
  const drawn = painted && event.detail !== 0; // the click that ends a stroke; a key's click has detail 0
  painted = false;
  focusBit(i);
  if (event.shiftKey) toggleLock(i);
  else if (!drawn) setBit(i, state.code[i] === "1" ? "0" : "1");
});
board.addEventListener("pointerover", event => {
  const i = bits.indexOf(event.target.closest(".bit"));
  if (i >= 0) tell(i);
});
board.addEventListener("focusin", event => {
  const i = bits.indexOf(event.target);
  if (i >= 0) { focusBit(i); tell(i); }
});
board.addEventListener("keydown", event => {
  const columns = getComputedStyle(board).gridTemplateColumns.split(" ").length;
  const moves = {ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns, Home: -current, End: D - 1 - current};
  if (event.key in moves) {
    const next = current + moves[event.key];
    if (next >= 0 && next < D) { focusBit(next); bits[next].focus(); }
    event.preventDefault();
  } else if (event.key.toLowerCase() === "l" && !event.ctrlKey && !event.metaKey && !event.altKey) toggleLock(current);
});
