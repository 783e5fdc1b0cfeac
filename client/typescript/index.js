// The HMAC is WebCrypto's (`crypto.subtle`), not that of `node:crypto`: the same code runs in Node and edge runtimes,
// and `verify` compares in constant time. The price is that each function returns a promise.

/** @import { RequestObject } from "./api/types.gen.js" */

/**
 * The body of a callback. A test callback is about no request: some of its fields are null.
 *
 * @typedef {object} CallbackEvent
 * @property {string} callback_id The same in each attempt: ignore one that you have seen.
 * @property {string} event Such as `request.completed`. Ignore events that you do not know.
 * @property {string} chatbot
 * @property {string | null} request_id
 * @property {RequestObject["kind"] | null} kind
 * @property {string} reference
 * @property {RequestObject["status"] | null} status
 * @property {string | null} hold_reason
 * @property {RequestObject["result"]} result
 * @property {string | null} error_code
 * @property {string} occurred_at
 */

const encoder = new TextEncoder();

/**
 * Return `X-Mindsay-Signature`: the HMAC-SHA256 of the timestamp directly followed by the body, as lower-case hex.
 *
 * @param {string} secret The secret of a signing key.
 * @param {string | number} timestamp Now, in Unix seconds.
 * @param {string | Uint8Array} body As it is sent.
 * @returns {Promise<string>}
 */
export async function sign(secret, timestamp, body) {
  const key = await hmacKey(encoder.encode(secret), "sign");
  const signature = await crypto.subtle.sign("HMAC", key, joined(String(timestamp), body));
  return Array.from(new Uint8Array(signature), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * Return the two headers that authenticate a call with this body now. Sign each attempt again.
 *
 * @param {string} secret The secret of a signing key.
 * @param {string | Uint8Array} body As it is sent.
 */
export async function signedHeaders(secret, body) {
  const timestamp = String(Math.floor(Date.now() / 1000));
  return { "X-Mindsay-Timestamp": timestamp, "X-Mindsay-Signature": await sign(secret, timestamp, body) };
}

/**
 * Return the event of a callback that one of the secrets signed, by Standard Webhooks. Throws otherwise.
 *
 * @param {string | string[]} secrets As they were shown, `whsec_…`; several while one replaces another.
 * @param {Headers | Record<string, string | string[] | undefined>} headers Of `fetch` or of Node.
 * @param {string | Uint8Array} body As it came, before any parsing.
 * @param {{ tolerance?: number }} [options] `tolerance`: how many seconds a callback may be old or ahead.
 * @returns {Promise<CallbackEvent>}
 */
export async function verifyCallback(secrets, headers, body, { tolerance = 300 } = {}) {
  const names = ["webhook-id", "webhook-timestamp", "webhook-signature"];
  const [id, timestamp, signatures] = names.map((name) => header(headers, name));
  // Written so that what is no number is refused, too.
  if (!(Math.abs(Date.now() / 1000 - Number(timestamp)) <= tolerance)) {
    throw new Error("The callback is too old, or ahead of this clock.");
  }
  const signed = joined(`${id}.${timestamp}.`, body);
  for (const secret of [secrets].flat()) {
    const key = await hmacKey(fromBase64(secret.replace(/^whsec_/, "")), "verify");
    for (const signature of signatures.split(" ").filter((one) => one.startsWith("v1,"))) {
      if (await crypto.subtle.verify("HMAC", key, fromBase64(signature.slice(3)), signed)) {
        return JSON.parse(typeof body === "string" ? body : new TextDecoder().decode(body));
      }
    }
  }
  throw new Error("No signature of the callback fits.");
}

/**
 * @param {Headers | Record<string, string | string[] | undefined>} headers
 * @param {string} name
 */
function header(headers, name) {
  const entries = Symbol.iterator in headers ? [...headers] : Object.entries(headers);
  const value = entries.find(([given]) => given.toLowerCase() === name)?.[1];
  if (typeof value !== "string") throw new Error(`The callback has no header ${name}.`);
  return value;
}

/**
 * @param {Uint8Array<ArrayBuffer>} secret
 * @param {"sign" | "verify"} usage
 */
function hmacKey(secret, usage) {
  return crypto.subtle.importKey("raw", secret, { name: "HMAC", hash: "SHA-256" }, false, [usage]);
}

/**
 * @param {string} start
 * @param {string | Uint8Array} body
 */
function joined(start, body) {
  const [head, tail] = [encoder.encode(start), typeof body === "string" ? encoder.encode(body) : body];
  const both = new Uint8Array(head.length + tail.length);
  both.set(head);
  both.set(tail, head.length);
  return both;
}

/**
 * Return the bytes, none for what is no Base64: no key and no signature is empty.
 *
 * @param {string} text
 */
function fromBase64(text) {
  try {
    return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  } catch {
    return new Uint8Array();
  }
}
