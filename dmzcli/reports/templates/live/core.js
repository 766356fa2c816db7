// What all parts share: facts, the state, requests, and painting.
const facts = JSON.parse(document.getElementById("facts").textContent);
const [height, width, channels] = facts.shape;
const D = facts.dim;
const page = Array.from(crypto.getRandomValues(new Uint8Array(12)), b => b.toString(16).padStart(2, "0")).join("");
const at = id => document.getElementById(id);
const state = {code: "0".repeat(D), locked: "0".repeat(D), encoded: null, probs: null, row: null, a: null, b: null};
const past = [];

function say(text, bad = false) {
  at("status").textContent = text;
  at("status").classList.toggle("bad", bad);
}

async function failure(answer) {
  const told = await answer.json().catch(() => ({error: `the answer ${answer.status}`, hint: ""}));
  const error = new Error(told.hint ? `${told.error}; ${told.hint}` : told.error);
  error.status = answer.status;
  return error;
}

async function request(name, body, signal) {
  const raw = body instanceof Blob;
  const answer = await fetch(`/api/${name}`, {
    method: "POST",
    body: raw ? body : JSON.stringify(body),
    headers: {"Content-Type": raw ? "application/octet-stream" : "application/json"},
    signal,
  });
  if (!answer.ok) throw await failure(answer);
  return answer;
}

const ask = async (name, body, signal) => (await request(name, body, signal)).json();

// Runs what a person asked for; what goes wrong is said, and what a newer wish has ended is no mistake.
async function attempt(work) {
  try {
    await work();
  } catch (error) {
    if (error.name === "AbortError" || error.status === 409) return;
    say(error instanceof TypeError ? `dmz explore does not answer: ${error.message}` : error.message, true);
  }
}

const unpacked = text => Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
const size = height * width * channels;
const picture = (pixels, number) => pixels.subarray(number * size, (number + 1) * size);

function paint(canvas, pixels) {
  canvas.width = width;
  canvas.height = height;
  const data = new ImageData(width, height);
  for (let i = 0; i < height * width; i++) {
    for (let c = 0; c < 3; c++) data.data[4 * i + c] = pixels[channels * i + (channels === 3 ? c : 0)];
    data.data[4 * i + 3] = 255;
  }
  canvas.getContext("2d").putImageData(data, 0, 0);
}

function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key in made) made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

const drawing = (pixels, label) => {
  const canvas = element("canvas", {role: "img", "aria-label": label});
  paint(canvas, pixels);
  return canvas;
};

// A code in the address: four bits a digit.
const toHex = code => code.match(/.{1,4}/g).map(part => parseInt(part.padEnd(4, "0"), 2).toString(16)).join("");

function fromHex(text) {
  if (text === null || !/^[0-9a-f]+$/i.test(text) || text.length !== Math.ceil(D / 4)) return null;
  return [...text].map(digit => parseInt(digit, 16).toString(2).padStart(4, "0")).join("").slice(0, D);
}

const distance = (one, other) => [...one].filter((bit, i) => bit !== other[i]).length;
const flipped = (code, i) => code.slice(0, i) + (code[i] === "1" ? "0" : "1") + code.slice(i + 1);
const allLocked = () => !state.locked.includes("0");
