// The form: what may be asked for comes from /v1/options, what it costs from /v1/quotes while one types.

import { ask, Problem } from "./client.js";
import { byId, element, modelName, plural, say } from "./dom.js";

const NUMBERS = ["images", "steps", "cfg", "width", "height"];
const CHOICES = ["sampler", "scheduler"];
const QUOTE_AFTER_MS = 250;
/** Kinds of parameters that only a workflow knows, and the field each is asked for with. */
const ASKED = {
  number: { type: "number", step: "0.05", inputmode: "decimal" },
  integer: { type: "number", inputmode: "numeric" },
  choice: {},
  image: { placeholder: "a picture's id" },
};

const form = byId("form");
let options;
let asking = 0; // which quote is the latest
let waiting;
let submitted; // the body of a try that got no answer, and its key: the same wish again is the same job

/** Build the form; `onJob` is called when a job was taken. */
export async function start(onJob) {
  options = await ask("GET", "v1/options");
  fill(byId("workflow"), options.workflows.map((one) => [one.id, one.title]));
  byId("workflow").value = options.default_workflow;
  byId("workflow").closest(".field").hidden = options.workflows.length < 2;
  fill(byId("size"), [...options.sizes.map((one) => [`${one.width}x${one.height}`, one.label]), ["", "Custom"]]);
  useWorkflow();
  byId("workflow").addEventListener("change", useWorkflow);
  byId("size").addEventListener("change", useSize);
  for (const name of ["width", "height"]) byId(name).addEventListener("input", matchSize);
  byId("add-lora").addEventListener("click", () => addLora());
  form.addEventListener("input", (event) => {
    clear(event.target.closest("[data-field]")?.dataset.field);
    quoteSoon();
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    submit(onJob);
  });
  byId("prompt").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
  byId("submit").disabled = false;
  quote();
}

/** Fill the form with what a job was asked for, seed included. */
export function repeat(job) {
  byId("prompt").value = job.prompt;
  byId("negative_prompt").value = job.negative_prompt;
  byId("workflow").value = job.workflow_id;
  useWorkflow();
  byId("model").value = job.model;
  byId("seed").value = job.seed;
  for (const input of extras()) if (input.name in job.parameters) input.value = job.parameters[input.name];
  for (const name of [...NUMBERS, ...CHOICES]) if (name in job.parameters) byId(name).value = job.parameters[name];
  byId("loras").replaceChildren();
  for (const lora of job.loras) addLora(lora);
  matchSize();
  clear();
  quote();
  byId("prompt").focus();
  form.scrollIntoView({ block: "start" });
}

/** Ask again what it costs: the balance has changed. */
export function quoteSoon() {
  clearTimeout(waiting);
  waiting = setTimeout(quote, QUOTE_AFTER_MS);
}

function fill(select, pairs) {
  select.replaceChildren(...pairs.map(([value, label]) => element("option", { value }, label)));
}

function useWorkflow() {
  const workflow = options.workflows.find((one) => one.id === byId("workflow").value);
  if (!workflow) return;
  const parameters = new Map(workflow.parameters.map((one) => [one.name, one]));
  for (const name of [...NUMBERS, ...CHOICES, "negative_prompt", "seed"]) {
    byId(name).closest(".field").hidden = !parameters.has(name);
    byId(name).disabled = !parameters.has(name);
  }
  for (const name of NUMBERS.filter((one) => parameters.has(one))) {
    const { minimum, maximum, multiple_of: multiple, default: usual } = parameters.get(name);
    Object.assign(byId(name), { min: minimum ?? "", max: maximum ?? "", value: usual ?? "" });
    if (multiple) byId(name).step = multiple;
    byId(name).title = `${minimum} to ${maximum}${multiple ? `, a multiple of ${multiple}` : ""}`;
  }
  for (const name of CHOICES.filter((one) => parameters.has(one))) {
    fill(byId(name), parameters.get(name).choices.map((choice) => [choice, choice]));
    byId(name).value = parameters.get(name).default;
  }
  const kept = byId("model").value;
  const models = options.models.filter((one) => one.folder === parameters.get("model").folder);
  fill(byId("model"), models.map((one) => [one.id, modelName(one.id)]));
  if (models.some((one) => one.id === kept)) byId("model").value = kept;
  byId("extras").replaceChildren(...workflow.parameters.filter((one) => !one.own_field && ASKED[one.type]).map(extra));
  byId("loras-field").hidden = !workflow.takes_loras || options.loras.length === 0;
  if (!workflow.takes_loras) byId("loras").replaceChildren();
  matchSize();
}

/** A field for a parameter that only this workflow has. */
function extra(parameter) {
  const { name, type, minimum, maximum, default: usual, choices, required } = parameter;
  const input = choices ? element("select", { name }) : element("input", { name, ...ASKED[type] });
  input.id = `extra-${name}`;
  if (choices) fill(input, choices.map((choice) => [choice, choice]));
  if (type === "number" || type === "integer") Object.assign(input, { min: minimum ?? "", max: maximum ?? "" });
  input.value = usual ?? "";
  input.dataset.type = type;
  const title = name[0].toUpperCase() + name.slice(1).replaceAll("_", " ");
  const label = element("label", { for: input.id }, title);
  if (!required && usual === null) label.append(element("span", { class: "optional" }, " optional"));
  return element("div", { class: "field", "data-field": `parameters.${name}` }, label, input);
}

function extras() {
  return [...byId("extras").querySelectorAll("input, select")];
}

function useSize() {
  if (!byId("size").value) return byId("width").focus();
  [byId("width").value, byId("height").value] = byId("size").value.split("x");
  clear("width");
  clear("height");
}

function matchSize() {
  const size = `${byId("width").value}x${byId("height").value}`;
  byId("size").value = options.sizes.some((one) => `${one.width}x${one.height}` === size) ? size : "";
}

function addLora(chosen = { id: options.loras[0].id, strength: 1 }) {
  const select = element("select", { "aria-label": "LoRA" });
  fill(select, options.loras.map((one) => [one.id, modelName(one.id)]));
  select.value = chosen.id;
  const strength = element("input", { type: "number", step: "0.05", min: "-2", max: "2", "aria-label": "Strength" });
  strength.value = chosen.strength;
  const row = element("div", { class: "lora" }, select, strength);
  const remove = () => {
    row.remove();
    afterLoras();
  };
  row.append(element("button", { type: "button", class: "plain", "aria-label": "Remove this LoRA", onclick: remove }, "✕"));
  byId("loras").append(row);
  afterLoras();
}

function afterLoras() {
  byId("add-lora").disabled = byId("loras").children.length >= options.max_loras;
  clear("loras");
  quoteSoon();
}

/** The request as the API takes it; what is empty is left to the workflow. */
function request() {
  const body = { prompt: byId("prompt").value, model: byId("model").value };
  body.workflow = { id: byId("workflow").value };
  if (!byId("negative_prompt").disabled) body.negative_prompt = byId("negative_prompt").value;
  for (const name of NUMBERS) if (usable(name)) body[name] = Number(byId(name).value);
  for (const name of CHOICES) if (usable(name)) body[name] = byId(name).value;
  const own = extras().filter((input) => input.value.trim() !== "");
  const value = ({ dataset, value: text }) => (dataset.type in { number: 1, integer: 1 } ? Number(text) : text.trim());
  if (own.length) body.parameters = Object.fromEntries(own.map((input) => [input.name, value(input)]));
  if (usable("seed")) body.seed = byId("seed").value.trim(); // text: a number would be rounded above 2^53
  body.loras = [...byId("loras").children].map((row) => ({
    id: row.querySelector("select").value,
    strength: Number(row.querySelector("input").value),
  }));
  return body;
}

function usable(name) {
  return !byId(name).disabled && byId(name).value.trim() !== "";
}

async function quote() {
  const mine = ++asking;
  const body = request();
  body.prompt ||= "-"; // the price does not hang on it
  try {
    const said = await ask("POST", "v1/quotes", { body });
    if (mine !== asking) return;
    say(byId("submit"), `Generate for ${plural(said.credits, "credit")}`);
    byId("quote").classList.toggle("short", !said.affordable);
    const left = said.balance - said.credits;
    say(byId("quote"), said.affordable ? `${plural(left, "credit")} left after this` : `${plural(-left, "credit")} short`);
  } catch (error) {
    if (mine !== asking) return;
    say(byId("submit"), "Generate");
    say(byId("quote"), "");
    if (error instanceof Problem) show(error, { quietly: true });
  }
}

async function submit(onJob) {
  clear();
  const body = request();
  const text = JSON.stringify(body);
  if (submitted?.text !== text) submitted = { text, key: crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}` };
  byId("submit").disabled = true;
  try {
    const job = await ask("POST", "v1/jobs", { body, headers: { "Idempotency-Key": submitted.key } });
    submitted = undefined;
    onJob(job);
  } catch (error) {
    if (error instanceof Problem && error.status < 500) submitted = undefined; // it was answered: a new try is a new wish
    show(error);
  } finally {
    byId("submit").disabled = false;
    quoteSoon();
  }
}

/** Errors at the fields they are about; what is about none stands above the button. */
function show(error, { quietly = false } = {}) {
  let first;
  const homeless = [];
  for (const { field, detail } of error.errors ?? []) {
    const place = [field, field.split(".")[0], `parameters.${field}`]
      .map((name) => form.querySelector(`[data-field="${CSS.escape(name)}"]`))
      .find(Boolean);
    if (!place || place.hidden) {
      homeless.push(`${field}: ${detail}`);
      continue;
    }
    mark(place, detail);
    first ??= place;
  }
  if (!error.errors?.length) homeless.push(error.message);
  if (quietly) return;
  byId("form-problem").hidden = homeless.length === 0;
  say(byId("form-problem"), homeless.join(" "));
  const more = first?.closest("details");
  if (more) more.open = true;
  first?.querySelector("input, select, textarea")?.focus({ preventScroll: true });
  first?.scrollIntoView({ block: "center" });
}

function mark(place, detail) {
  const input = place.querySelector("input, select, textarea");
  let words = place.querySelector(".error");
  if (!words) place.append((words = element("p", { class: "error", id: `${place.dataset.field}-error` })));
  say(words, sentence(detail, place.dataset.field));
  input?.setAttribute("aria-invalid", "true");
  input?.setAttribute("aria-describedby", words.id);
}

function clear(field) {
  const places = field ? form.querySelectorAll(`[data-field="${field}"]`) : form.querySelectorAll("[data-field]");
  for (const place of places) {
    place.querySelector(".error")?.remove();
    const input = place.querySelector("input, select, textarea");
    input?.removeAttribute("aria-invalid");
    input?.removeAttribute("aria-describedby");
  }
  byId("form-problem").hidden = true;
}

function sentence(detail, field) {
  const words = detail.startsWith(`${field} `) ? detail.slice(field.length + 1) : detail;
  return words[0].toUpperCase() + words.slice(1);
}
