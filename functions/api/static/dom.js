// Elements, and words for what they show.

export const byId = (id) => document.getElementById(id);

/** An element with attributes, properties (a leading dot) and children; text is never read as markup. */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "class") made.className = value;
    else if (value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/** Set text only where it changed, so that nobody's selection or screen reader is disturbed. */
export function say(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

export function announce(text) {
  byId("announcer").textContent = text;
}

export function plural(number, one, many = `${one}s`) {
  return `${number} ${number === 1 ? one : many}`;
}

export function clock(moment) {
  return new Date(moment).toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
}

export function ago(moment) {
  const seconds = Math.max(0, (Date.now() - new Date(moment)) / 1000);
  if (seconds < 45) return "just now";
  if (seconds < 3600) return `${Math.max(1, Math.round(seconds / 60))} min ago`;
  if (seconds < 86400) return `${Math.round(seconds / 3600)} h ago`;
  return new Date(moment).toLocaleDateString();
}

/** A model file's name without folder and suffix. */
export function modelName(id) {
  return id.split("/").pop().replace(/\.(safetensors|ckpt|pt)$/, "");
}
