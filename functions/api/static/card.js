// One job's card: built once, then only told what changed.

import { picture } from "./client.js";
import { ago, clock, element, modelName, plural, say } from "./dom.js";

export const UNFINISHED = new Set(["submitted", "debited", "queued", "dispatching", "in_progress"]);

const STATES = {
  submitted: ["Submitted", "busy"],
  debited: ["Paid", "busy"],
  queued: ["Queued", "busy"],
  dispatching: ["Starting", "busy"],
  in_progress: ["Rendering", "busy"],
  awaiting_review: ["To review", "review"],
  completed: ["Completed", "good"],
  failed: ["Failed", "bad"],
  cancelled: ["Cancelled", ""],
};
const PHASES = { fetching: "Fetching", preparing: "Loading models", sampling: "Painting", saving: "Finishing" };
const DETAILS = {
  fetching: ({ node_title, step, steps }) => `${node_title}, ${step} of ${steps} MiB`,
  sampling: ({ step, steps }) => `step ${step} of ${steps}`,
};

/** `acts`: cancel, repeat, decide, view and story, each called with the job as it then stands. */
export class Card {
  constructor(job, acts) {
    this.acts = acts;
    this.job = job;
    this.shots = new Map();
    this.title = element("h3");
    this.meta = element("p", { class: "meta" });
    this.state = element("span", { class: "state" });
    this.phase = element("span");
    this.count = element("span");
    this.bar = element("progress", { max: "100", "aria-label": "Progress" });
    this.live = element("div", { class: "live" }, element("div", { class: "live-words" }, this.phase, this.count), this.bar);
    this.again = element("p", { class: "again" });
    this.trouble = element("div", { class: "trouble" });
    this.pictures = element("div", { class: "pictures" });
    this.collection = this.collectionRow();
    this.cancel = element("button", { type: "button", class: "plain", onclick: () => acts.cancel(this.job) }, "Cancel");
    this.story = element("details", { ontoggle: () => this.openStory() }, element("summary", {}, "Story"));
    const repeat = element("button", { type: "button", class: "plain", onclick: () => acts.repeat(this.job) }, "Use again");
    this.root = element(
      "article",
      { class: "job", "data-job": job.id },
      element("div", { class: "job-head" }, element("div", {}, this.title, this.meta), this.state),
      this.live,
      this.again,
      this.trouble,
      this.pictures,
      this.collection,
      element("div", { class: "job-foot" }, this.story, element("div", { class: "actions" }, repeat, this.cancel)),
    );
    this.update(job);
  }

  update(job) {
    const moved = job.changed_at !== this.job.changed_at;
    this.job = job;
    const [words, kind] = STATES[job.state];
    say(this.state, words);
    this.state.className = `state ${kind}`;
    this.root.dataset.state = job.state;
    say(this.title, job.prompt);
    this.title.title = job.prompt;
    say(this.meta, this.metaWords());
    this.meta.title = new Date(job.submitted_at).toLocaleString();
    this.showLive();
    this.showTrouble();
    this.showPictures();
    this.cancel.hidden = !UNFINISHED.has(job.state);
    if (moved && this.story.open) this.openStory();
  }

  metaWords() {
    const { width, height, steps } = this.job.parameters;
    return [
      modelName(this.job.model),
      width && `${width} × ${height}`,
      steps && plural(steps, "step"),
      plural(this.job.credits, "credit"),
      ago(this.job.submitted_at),
    ]
      .filter(Boolean)
      .map((part) => part.replaceAll(" ", "\u00a0"))
      .join("\u00a0· ");
  }

  showLive() {
    const { state, progress, ahead, attempt, cause } = this.job;
    this.live.hidden = !UNFINISHED.has(state);
    this.again.hidden = attempt === 1 || !UNFINISHED.has(state);
    say(this.again, `Try ${attempt}${cause ? `: the one before ended with ${cause.replaceAll("_", " ")}` : ""}`);
    if (this.live.hidden) return;
    if (progress) {
      const detail = progress.step && DETAILS[progress.phase]?.(progress);
      say(this.phase, [PHASES[progress.phase] ?? progress.phase, detail].filter(Boolean).join(", "));
      say(this.count, `${progress.percent} %`);
      if (progress.percent > 0) this.bar.value = progress.percent;
      else this.bar.removeAttribute("value");
      return;
    }
    this.bar.removeAttribute("value");
    say(this.count, "");
    say(this.phase, this.waitingWords(state, ahead));
  }

  waitingWords(state, ahead) {
    if (state === "queued") {
      if (ahead === null) return this.job.run_at ? `Tries again at ${clock(this.job.run_at)}` : "Waiting for a GPU";
      return ahead === 0 ? "Next in line" : `${plural(ahead, "job")} ahead in the queue`;
    }
    return { dispatching: "A GPU has taken it", in_progress: "Rendering" }[state] ?? "Paying";
  }

  showTrouble() {
    const { state, detail, cause, remedy } = this.job;
    this.trouble.hidden = state !== "failed";
    if (this.trouble.hidden || this.trouble.children.length) return;
    const short = (cause ?? "failed").replaceAll("_", " ");
    this.trouble.append(element("p", { class: "what" }, short[0].toUpperCase() + short.slice(1)), element("p", {}, remedy));
    if (detail) this.trouble.append(element("p", { class: "fine" }, detail));
  }

  showPictures() {
    const { artifacts, state } = this.job;
    this.pictures.hidden = artifacts.length === 0;
    const open = artifacts.filter((one) => !one.decision).length;
    this.collection.hidden = state !== "awaiting_review" || open === 0;
    for (const both of this.collection.querySelectorAll("button")) both.hidden = open < 2;
    for (const artifact of artifacts) {
      if (!this.shots.has(artifact.id)) {
        this.shots.set(artifact.id, new Shot(this, artifact));
        this.pictures.append(this.shots.get(artifact.id).root);
      }
      this.shots.get(artifact.id).update(artifact);
    }
  }

  collectionRow() {
    const id = `collection-${this.job.id}`;
    this.collectionInput = element("input", { id, maxlength: "128", value: this.job.collection_id ?? this.acts.collection() });
    const all = (decision) => () => this.decide(this.job.artifacts.filter((one) => !one.decision), decision);
    return element(
      "div",
      { class: "collection" },
      element("label", { for: id }, "Collection"),
      this.collectionInput,
      element("button", { type: "button", class: "accept", onclick: all("accept") }, "Accept all"),
      element("button", { type: "button", class: "quiet", onclick: all("discard") }, "Discard all"),
    );
  }

  decide(artifacts, decision) {
    return this.acts.decide(this, artifacts, decision, this.collectionInput.value.trim());
  }

  /** Refusals stand at the pictures they are about. */
  refuse(results) {
    for (const one of results) this.shots.get(one.artifact_id)?.refuse(one.detail);
  }

  async openStory() {
    if (!this.story.open) return;
    const told = await this.acts.story(this.job);
    if (!told) return;
    const rows = told.history.map((move, number) => storyRow(move, told.history[number - 1]));
    this.story.replaceChildren(this.story.firstElementChild, element("ol", { class: "story" }, ...rows), facts(told));
  }
}

class Shot {
  constructor(card, artifact) {
    this.card = card;
    this.image = element("img", { alt: card.job.prompt.slice(0, 200), width: artifact.width_px, height: artifact.height_px });
    this.button = element("button", { type: "button", class: "shot", "aria-label": "View the picture", onclick: () => card.acts.view(card, this.artifact) }, this.image);
    this.after = element("div");
    this.root = element("figure", { "data-artifact": artifact.id }, this.button, this.after);
  }

  update(artifact) {
    const known = this.artifact?.decision === artifact.decision && this.artifact;
    this.artifact = artifact;
    if (known) return;
    this.root.classList.toggle("discarded", artifact.decision === "discard");
    this.button.disabled = artifact.decision === "discard";
    if (artifact.decision === "discard") this.button.replaceChildren("Discarded");
    else this.load();
    this.after.replaceChildren(...decideParts(this.card, artifact));
  }

  async load() {
    try {
      this.image.src = await picture(this.artifact.id, "thumbnail");
    } catch (error) {
      this.button.replaceChildren(error.message);
    }
  }

  refuse(detail) {
    this.after.replaceChildren(...decideParts(this.card, this.artifact), element("p", { class: "error", role: "alert" }, detail));
  }
}

/** Buttons for a picture that waits for a decision, or the decision. */
export function decideParts(card, artifact) {
  if (artifact.decision === "accept") return [element("p", { class: "decided" }, `✓ In ${artifact.collection_id}`)];
  if (artifact.decision) return [];
  const button = (kind, decision, words) =>
    element("button", { type: "button", class: kind, onclick: () => card.decide([artifact], decision) }, words);
  return [
    element("div", { class: "decide" }, button("accept", "accept", "Accept"), button("quiet", "discard", "Discard")),
  ];
}

function storyRow(move, before) {
  const took = before && (new Date(move.at) - new Date(before.at)) / 1000;
  const asides = [
    took !== undefined && `+${took < 10 ? took.toFixed(1) : Math.round(took)} s`,
    move.attempt > 1 && `try ${move.attempt}`,
    move.cause?.replaceAll("_", " "),
    move.worker && `on ${move.worker}`,
  ].filter(Boolean);
  return element(
    "li",
    {},
    element("time", { datetime: move.at }, clock(move.at)),
    ` ${STATES[move.to_state][0]} `,
    element("span", { class: "aside" }, asides.join(" · ")),
  );
}

function facts(job) {
  const money = job.transactions.map((one) => `${one.change > 0 ? "+" : "−"}${Math.abs(one.change)} ${one.reason}`).join(", ");
  const rows = {
    Job: job.id,
    Seed: job.seed,
    Settings: `${job.parameters.sampler ?? ""} ${job.parameters.scheduler ?? ""}, CFG ${job.parameters.cfg ?? "–"}`,
    Workflow: `${job.workflow_id} ${job.workflow_version}`,
    LoRAs: job.loras.map((one) => `${modelName(one.id)} (${one.strength})`).join(", "),
    Negative: job.negative_prompt,
    Credits: money,
  };
  const shown = Object.entries(rows).filter(([, value]) => value);
  return element("dl", { class: "facts" }, ...shown.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]));
}
