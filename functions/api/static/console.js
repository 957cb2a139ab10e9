// The console: the form, the list of one's own jobs, and a look at both every moment while something is under way.

import { Card, decideParts, UNFINISHED } from "./card.js";
import { ask, picture, Problem, signIn, Unreachable } from "./client.js";
import { announce, byId, say } from "./dom.js";
import * as form from "./form.js";

const BUSY_MS = 700;
const IDLE_MS = 5000;
const PAGE = 20;
const MOST = 100; // as many as one page of the API may hold
const COLLECTION = "generator-collection";

const cards = new Map();
let shown = PAGE;
let timer;
let looking = false;
let reveal; // the id of a job that is to be scrolled to once it is on the page

const acts = {
  collection: () => localStorage.getItem(COLLECTION) || "my-collection",
  repeat: form.repeat,
  cancel: (job) => guarded(async () => {
    if (job.state === "in_progress" && !confirm("It is being rendered: its credits are not returned. Cancel it?")) return;
    await ask("DELETE", `v1/jobs/${encodeURIComponent(job.id)}`);
  }),
  story: (job) => ask("GET", `v1/jobs/${encodeURIComponent(job.id)}`).catch(() => null),
  decide,
  view,
};

async function decide(card, artifacts, decision, collection) {
  const decisions = artifacts.map((one) => ({
    artifact_id: one.id,
    decision,
    ...(decision === "accept" && collection ? { collection_id: collection } : {}),
  }));
  if (decision === "accept" && collection) localStorage.setItem(COLLECTION, collection);
  await guarded(async () => {
    const { results } = await ask("POST", "v1/reviews", { body: { decisions } });
    await look();
    const refused = results.filter((one) => one.status === "refused");
    card.refuse(refused);
    announce(refused.length ? refused[0].detail : decision === "accept" ? "Accepted." : "Discarded.");
  });
  byId("viewer").close();
}

async function view(card, artifact) {
  const viewer = byId("viewer");
  byId("viewer-image").removeAttribute("src");
  byId("viewer-image").alt = card.job.prompt;
  byId("viewer-image").width = artifact.width_px;
  byId("viewer-image").height = artifact.height_px;
  say(byId("viewer-caption"), `${card.job.prompt}\nSeed ${card.job.seed} · ${artifact.width_px} × ${artifact.height_px}`);
  byId("viewer-decide").replaceChildren(...decideParts(card, artifact));
  byId("viewer-save").hidden = true;
  viewer.showModal();
  await guarded(async () => {
    const url = await picture(artifact.id, "content");
    byId("viewer-image").src = url;
    Object.assign(byId("viewer-save"), { href: url, download: `${artifact.id}.${artifact.content_type.split("/")[1]}`, hidden: false });
  });
}

/** Do something one has clicked; what goes wrong is said, then the page is brought up to date. */
async function guarded(act) {
  try {
    await act();
  } catch (error) {
    if (!(error instanceof Problem || error instanceof Unreachable)) throw error;
    say(byId("offline"), error.message);
    byId("offline").hidden = false;
    setTimeout(look, 4000);
    return;
  }
  await look();
}

/** Bring the list up to date, and come back sooner while something is under way. */
async function look() {
  clearTimeout(timer);
  if (looking) return again(BUSY_MS);
  looking = true;
  let pause = IDLE_MS;
  try {
    const { jobs, next_cursor: more } = await ask("GET", `v1/jobs?limit=${Math.min(shown, MOST)}`);
    if (show(jobs)) await balance();
    byId("older").hidden = !more || shown >= MOST;
    byId("offline").hidden = true;
    if (jobs.some((job) => UNFINISHED.has(job.state))) pause = BUSY_MS;
  } catch (error) {
    if (error.status === 401) return askForToken(error.message);
    if (!(error instanceof Problem || error instanceof Unreachable)) throw error;
    say(byId("offline"), `${error.message} Trying again…`);
    byId("offline").hidden = false;
    pause = 2500;
  } finally {
    looking = false;
  }
  again(pause);
}

function again(pause) {
  clearTimeout(timer);
  if (!document.hidden) timer = setTimeout(look, pause);
}

/** Put these jobs on the page, newest first; true when one of them moved. */
function show(jobs) {
  let moved = false;
  const list = byId("list");
  jobs.forEach((job, number) => {
    const card = cards.get(job.id);
    if (!card) {
      cards.set(job.id, new Card(job, acts));
      moved = true;
    } else {
      if (card.job.state !== job.state) {
        moved = true;
        if (job.state === "awaiting_review") announce("A picture is ready for review.");
        if (job.state === "failed") announce(`A job failed: ${job.detail ?? job.cause}`);
      }
      card.update(job);
    }
    const root = cards.get(job.id).root;
    if (list.children[number] !== root) list.insertBefore(root, list.children[number] ?? null);
  });
  if (cards.has(reveal)) {
    cards.get(reveal).root.scrollIntoView({ block: "nearest" });
    reveal = undefined;
  }
  byId("empty").hidden = jobs.length > 0;
  return moved;
}

async function balance() {
  const said = await ask("GET", "v1/credits");
  say(byId("who"), `${said.user_id} · ${said.role.toLowerCase()}`);
  if (byId("balance").textContent !== String(said.balance)) {
    say(byId("balance"), String(said.balance));
    if (started) form.quoteSoon();
  }
  byId("account").hidden = false;
}

function askForToken(reason) {
  say(byId("signin-problem"), reason);
  byId("signin-problem").hidden = !sessionStorage.length;
  if (!byId("signin").open) byId("signin").showModal();
}

/** A job was taken: show it, wherever one has scrolled to. */
function taken(job) {
  reveal = job.id;
  announce("Your job was taken.");
  return look();
}

let started = false;

async function start() {
  try {
    await balance();
    if (!started) await form.start(taken);
    started = true;
  } catch (error) {
    if (error.status === 401) return askForToken(error.message);
    if (!(error instanceof Problem || error instanceof Unreachable)) throw error;
    say(byId("offline"), `${error.message} Trying again…`);
    byId("offline").hidden = false;
    setTimeout(start, 2500);
    return;
  }
  await look();
}

byId("signin-form").addEventListener("submit", (event) => {
  event.preventDefault();
  signIn(byId("token").value.trim());
  byId("signin").close();
  start();
});
byId("signin").addEventListener("cancel", (event) => event.preventDefault());
byId("viewer-close").addEventListener("click", () => byId("viewer").close());
byId("viewer").addEventListener("click", (event) => {
  if (event.target === byId("viewer")) byId("viewer").close();
});
byId("older").addEventListener("click", () => {
  shown += PAGE;
  look();
});
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) look();
});
start();
