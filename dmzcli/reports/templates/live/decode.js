// What the bits decode to, as it comes; the newest wish wins.
const NOISES = 4;
const views = Array.from({length: NOISES}, (_, i) => {
  const image = element("canvas", {role: "img", "aria-label": `decoded with noise ${i + 1}`});
  const change = element("canvas", {role: "img", className: "difference", "aria-label": `difference to before, noise ${i + 1}`});
  at("pictures").append(element("figure", {}, image, change, element("figcaption", {textContent: `noise ${i + 1}`})));
  return {image, change};
});
let before = null, shown = null, running = null;

// Lighter where it got lighter, darker where it got darker; all gray where nothing changed.
function difference(now, then) {
  const made = new Uint8Array(now.length);
  for (let i = 0; i < now.length; i++) made[i] = 128 + (now[i] - then[i]) / 2;
  return made;
}

const meanChange = (now, then) => now.reduce((sum, value, i) => sum + Math.abs(value - then[i]), 0) / now.length;

function showPictures(pixels) {
  views.forEach((view, i) => {
    const now = picture(pixels, i);
    paint(view.image, now);
    paint(view.change, difference(now, before ? picture(before, i) : now));
  });
}

async function* lines(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const {done, value} = await reader.read();
    if (done) return;
    const parts = (text + value).split("\n");
    text = parts.pop();
    for (const part of parts) yield JSON.parse(part);
  }
}

const recipe = () => ({steps: Number(at("steps").value), sampler: at("sampler").value});

async function decode() {
  running?.abort();
  const own = running = new AbortController();
  const from = Number(at("noise").value);
  const body = {page, codes: [state.code], noises: Array.from({length: NOISES}, (_, i) => from + i), ...recipe()};
  before = shown;
  const strip = [];
  let whole = false;
  const start = performance.now();
  for await (const line of lines(await patient("decode", body, own.signal))) {
    if (own !== running) return;
    if (line.error) throw new Error(`${line.error}; ${line.hint}`);
    if (line.void) return;
    const pixels = unpacked(line.images);
    showPictures(pixels);
    const elapsed = Math.round(performance.now() - start);
    if (line.done) {
      whole = true;
      shown = pixels;
      const change = before ? `, ${meanChange(pixels, before).toFixed(1)} gray levels from before` : "";
      at("progress").textContent = `${elapsed} ms${change}`;
      document.body.dataset.decoded = state.code;
    } else {
      at("progress").textContent = `step ${line.step} of ${line.steps}`;
      strip.push(drawing(picture(pixels, 0).slice(), `estimate at step ${line.step}`));
      at("steps-strip").replaceChildren(...strip.slice(-50));
    }
  }
  if (!whole) throw new Error("the pictures broke off; see what dmz explore says in its terminal");
}

// A full queue is waited for, while the wish is the newest.
async function patient(name, body, signal) {
  for (;;) {
    try {
      return await request(name, body, signal);
    } catch (error) {
      if (error.status !== 503) throw error;
      await new Promise(resolve => setTimeout(resolve, 200));
      if (signal.aborted) throw new DOMException("", "AbortError");
    }
  }
}
