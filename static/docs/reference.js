"use strict";

// The reference: Redoc over a part of the document of this service.
const place = document.getElementById("reference");
const text = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif';
const code = 'ui-monospace, SFMono-Regular, Menlo, Consolas, "Liberation Mono", monospace';

window.Redoc.init(
  place.dataset.document,
  {
    generatedPayloadSamplesMaxDepth: 4,
    hideDownloadButton: true,
    hideHostname: true,
    hideSchemaTitles: true,
    nativeScrollbars: true,
    pathInMiddlePanel: true,
    requiredPropsFirst: false,
    scrollYOffset: ".top",
    sortTagsAlphabetically: false,
    theme: {
      colors: { primary: { main: "#0b5c94" }, text: { primary: "#1b2733", secondary: "#4c5b69" } },
      rightPanel: { backgroundColor: "#16222d" },
      sidebar: { backgroundColor: "#f3f6f8" },
      typography: {
        fontFamily: text,
        fontSize: "16px",
        headings: { fontFamily: text, fontWeight: "600" },
        code: { fontFamily: code, color: "#8a2b0d" },
        links: { color: "#0b5c94" },
      },
    },
  },
  place,
);
