// The REST API from a page's side: one function to ask, one to load a picture. Addresses are relative, so that the
// page works behind any path prefix.

const TOKEN = "generator-token";

// A link from the platform may carry the token behind the #, which no server ever sees.
const handed = new URLSearchParams(location.hash.slice(1)).get("token");
if (handed) {
  sessionStorage.setItem(TOKEN, handed);
  history.replaceState(null, "", location.pathname + location.search);
}

/** An answer that is no success: RFC 9457 problem details. */
export class Problem extends Error {
  constructor(status, said) {
    super(said.detail ?? `The generator answered ${status}.`);
    this.status = status;
    this.code = said.code ?? "unknown";
    this.errors = said.errors ?? (said.field ? [{ field: said.field, detail: said.detail }] : []);
  }
}

/** The generator did not answer at all. */
export class Unreachable extends Error {}

export function signIn(token) {
  sessionStorage.setItem(TOKEN, token);
}

/** What the API answers, parsed. Throws Problem or Unreachable. */
export async function ask(method, path, { body, headers = {} } = {}) {
  const answer = await send(path, {
    method,
    headers: body === undefined ? headers : { ...headers, "Content-Type": "application/json" },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  return answer.json();
}

const pictures = new Map();

/** A URL for a picture's bytes. They are fetched, because an <img> cannot send a token. */
export function picture(id, kind) {
  const path = `v1/artifacts/${encodeURIComponent(id)}/${kind}`;
  if (!pictures.has(path)) {
    const loading = send(path, {}).then(async (answer) => URL.createObjectURL(await answer.blob()));
    loading.catch(() => pictures.delete(path)); // the next look tries again
    pictures.set(path, loading);
  }
  return pictures.get(path);
}

async function send(path, options) {
  const token = sessionStorage.getItem(TOKEN);
  const headers = { ...options.headers, ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  let answer;
  try {
    answer = await fetch(path, { ...options, headers });
  } catch {
    throw new Unreachable("The generator cannot be reached.");
  }
  if (answer.ok) return answer;
  const said = await answer.json().catch(() => ({}));
  if (answer.status === 502 || answer.status === 504) throw new Unreachable("The generator cannot be reached.");
  throw new Problem(answer.status, said);
}
