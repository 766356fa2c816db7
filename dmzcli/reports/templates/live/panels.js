// What is known of the code: priors, probes, neighbors; and the way from one code to another.
let reading = null;

async function read() {
  reading?.abort();
  reading = new AbortController();
  const found = await (await patient("read", {code: state.code}, reading.signal)).json();
  for (const prior of facts.priors) showMeter(prior, found.priors[prior.name]);
  for (const probe of facts.probes) showReadings(probe, found.probes[probe.target]);
  document.body.dataset.read = state.code;
}

const meters = Object.fromEntries(facts.priors.map(prior => {
  const parts = {text: element("p"), usual: element("div", {className: "usual"}), mark: element("div", {className: "mark"})};
  at("meters").append(element("div", {className: "meter"}, parts.text, element("div", {className: "scale", "aria-hidden": "true"}, parts.usual, parts.mark)));
  return [prior.name, parts];
}));

function showMeter(prior, value) {
  const parts = meters[prior.name];
  const usual = prior.low === undefined ? "" : `; images' codes ${prior.low.toFixed(1)} to ${prior.high.toFixed(1)}, half of them below ${prior.median.toFixed(1)}`;
  parts.text.textContent = value === null ? `${prior.name}: impossible${usual}` : `${prior.name}: ${value.toFixed(1)} bits${usual}`;
  const known = [value, prior.low, prior.high].filter(number => number !== null && number !== undefined);
  const low = Math.min(...known), high = Math.max(...known), margin = Math.max(1, 0.15 * (high - low));
  const place = number => `${100 * (number - low + margin) / (high - low + 2 * margin)}%`;
  parts.mark.hidden = value === null;
  if (value !== null) parts.mark.style.left = place(value);
  parts.usual.hidden = prior.low === undefined;
  if (prior.low !== undefined) {
    parts.usual.style.left = place(prior.low);
    parts.usual.style.width = `${100 * (prior.high - prior.low) / (high - low + 2 * margin)}%`;
  }
}

const tracks = Object.fromEntries(facts.probes.map(probe => [probe.target, probe.names.map((name, k) => {
  const fill = element("div", {className: "fill"}), value = element("output");
  const steer = more => element("button", {
    type: "button", textContent: more ? "+" : "−", "aria-label": `${more ? "more" : "less"} ${name}`,
    onclick: () => attempt(async () => {
      const found = await ask("steer", {code: state.code, locked: state.locked, target: probe.target, k, more});
      const flips = distance(found.bits, state.code);
      setCode(found.bits);
      say(flips ? `${flips} bit${flips > 1 ? "s" : ""} flipped for ${more ? "more" : "less"} ${name}` : "no free bit helps");
    }),
  });
  at("readings").append(element("div", {className: "reading"}, element("span", {textContent: name}), element("div", {className: "track"}, fill), value, steer(false), steer(true)));
  return {fill, value};
})]));

function showReadings(probe, values) {
  tracks[probe.target].forEach((track, k) => {
    track.fill.style.width = `${100 * values[k]}%`;
    track.value.textContent = `${Math.round(100 * values[k])}%`;
  });
}

async function fill(likeliest) {
  if (allLocked()) return say("every bit is locked: there is none to complete");
  const body = {page, prior: at("prior").value, code: state.code, locked: state.locked, seed: Math.floor(Math.random() * 2 ** 32), likeliest};
  const found = await ask("complete", body);
  const how = {exact: "an exact draw given the locked bits", Gibbs: "by Gibbs sampling given the locked bits", climbed: "no single flip is likelier"}[found.how];
  const flips = distance(found.bits, state.code);
  setCode(found.bits);
  say(`${flips} bit${flips === 1 ? "" : "s"} changed: ${how}`);
}

async function neighbors() {
  const {neighbors: found} = await ask("neighbors", {code: state.code, count: 12});
  at("near").replaceChildren(...found.map(near => {
    const label = `${near.caption}, ${near.distance} bits away`;
    const inside = near.image ? [drawing(unpacked(near.image), label)] : [];
    return element("button", {type: "button", onclick: () => attempt(() => showRow(near.row))}, ...inside, element("span", {textContent: label}));
  }));
}

async function walk() {
  const prior = facts.priors.length ? at("prior").value : null;
  const {codes} = await ask("path", {page, start: state.a, end: state.b, prior});
  const count = Math.min(8, codes.length);
  const places = Array.from({length: count}, (_, i) => count < 2 ? 0 : Math.round(i * (codes.length - 1) / (count - 1)));
  const chosen = places.map(place => codes[place]);
  const body = {page: `${page}-path`, codes: chosen, noises: [Number(at("noise").value)], ...recipe()};
  let images = null;
  for await (const line of lines(await patient("decode", body, new AbortController().signal))) {
    if (line.error) throw new Error(`${line.error}; ${line.hint}`);
    if (line.void) return;
    images = unpacked(line.images);
    at("path").replaceChildren(...chosen.map((code, i) => {
      const label = `${places[i]} of ${codes.length - 1} flips`;
      return element("button", {type: "button", onclick: () => setCode(code)}, drawing(picture(images, i), label), element("span", {textContent: label}));
    }));
  }
  say(`A and B differ in ${codes.length - 1} bits`);
}

function showEnds() {
  for (const end of ["a", "b"]) at(`set-${end}`).setAttribute("aria-pressed", String(state[end] !== null));
  at("walk").disabled = state.a === null || state.b === null;
}
