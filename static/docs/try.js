"use strict";

// Swagger UI over the document of this service. The secret of the form is read when a call is sent, and kept nowhere.

const place = document.getElementById("try");
const secret = document.getElementById("secret");
const state = document.getElementById("signing-state");

function takesSignature(operation) {
  return operation.security.some((way) => "signature" in way);
}

// Which paths, as patterns, take a signature with a POST.
function signedPaths(api) {
  return Object.entries(api.paths)
    .filter(([, calls]) => calls.post && takesSignature(calls.post))
    .map(([path]) => new RegExp(`^${path.replace(/\{[^}]+\}/g, "[^/]+")}$`));
}

// A signature is made by this page and not typed, so Authorize asks for the token alone.
function withTokenAlone(api) {
  for (const name of ["signature", "signatureTimestamp"]) delete api.components.securitySchemes[name];
  for (const calls of Object.values(api.paths)) {
    for (const call of Object.values(calls)) call.security = call.security.filter((way) => !("signature" in way));
  }
  return api;
}

// Swagger UI fills examples in. Of what may be left out that does harm: an Idempotency-Key makes two tries one call.
function withoutOptionalExamples(api) {
  const shared = Object.values(api.components.parameters);
  const own = Object.values(api.paths).flatMap((calls) => Object.values(calls)).flatMap((call) => call.parameters);
  for (const parameter of [...shared, ...own]) if (!parameter.required) delete parameter.example;
  return api;
}

function tellState() {
  if (!secret.value) state.textContent = "Calls are not signed.";
  else if (Signing.isPossible()) state.textContent = "Calls that take a signature are signed.";
  else state.textContent = "This browser signs on pages that came over HTTPS only.";
}

async function signed(request, paths) {
  const path = new URL(request.url, window.location.href).pathname;
  const isSigned = secret.value && request.method === "POST" && paths.some((one) => one.test(path));
  if (!isSigned || !Signing.isPossible()) return request;
  delete request.headers.Authorization;
  Object.assign(request.headers, await Signing.headers(secret.value, request.body || ""));
  return request;
}

async function start() {
  const api = await (await fetch(place.dataset.document)).json();
  const paths = signedPaths(api);
  window.SwaggerUIBundle({
    spec: withoutOptionalExamples(withTokenAlone(api)),
    domNode: place,
    deepLinking: true,
    defaultModelsExpandDepth: 0,
    docExpansion: "list",
    persistAuthorization: false,
    requestInterceptor: (request) => signed(request, paths),
    showMutatedRequest: true,
    syntaxHighlight: { theme: "obsidian" },
    tryItOutEnabled: true,
    validatorUrl: null,
  });
}

secret.addEventListener("input", tellState);
document.getElementById("signing").addEventListener("submit", (event) => event.preventDefault());
start();
