"use strict";

// Signs a call as a client of the API does: HMAC-SHA256 of timestamp and body, under the secret of a signing key.

const Signing = {
  // Browsers offer their cryptography to pages that came over HTTPS, or from this very machine, only.
  isPossible: () => Boolean(window.crypto && window.crypto.subtle),

  async headers(secret, body) {
    const bytes = new TextEncoder();
    const timestamp = String(Math.floor(Date.now() / 1000));
    const algorithm = { name: "HMAC", hash: "SHA-256" };
    const key = await window.crypto.subtle.importKey("raw", bytes.encode(secret), algorithm, false, ["sign"]);
    const made = await window.crypto.subtle.sign("HMAC", key, bytes.encode(timestamp + body));
    const signature = Array.from(new Uint8Array(made), (byte) => byte.toString(16).padStart(2, "0")).join("");
    return { "X-Mindsay-Timestamp": timestamp, "X-Mindsay-Signature": signature };
  },
};
