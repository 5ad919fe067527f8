"use strict";
(() => {
  const { dates, charts } = JSON.parse(document.getElementById("charts").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const narrow = matchMedia("(max-width: 40rem)");
  const touch = matchMedia("(pointer: coarse)");

  async function unpack(element) {
    const bytes = Uint8Array.from(atob(element.textContent), (char) => char.charCodeAt(0));
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
  }

  // Colours are written as names of the style sheet, such as var(--ink), so that light and dark have one home.
  function themed(value, style) {
    if (typeof value === "string") {
      return value.startsWith("var(") ? style.getPropertyValue(value.slice(4, -1)).trim() : value;
    }
    if (Array.isArray(value)) return value.map((item) => themed(item, style));
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, themed(item, style)]));
    }
    return value;
  }

  // On a phone, the labels at the ends of the lines give way to a short legend below.
  function fitted({ data, layout }) {
    layout.dragmode = touch.matches ? false : "zoom";
    if (!narrow.matches || !layout.annotations?.some((label) => label.name === "end")) return { data, layout };
    layout.annotations = layout.annotations.filter((label) => label.name !== "end");
    layout.margin.r = 10;
    layout.showlegend = true;
    const shown = data.filter((trace) => trace.visible !== "legendonly");
    for (const trace of shown) trace.showlegend = true;
    return { data: shown, layout };
  }

  function draw(element) {
    const { data, layout } = fitted(themed(charts[element.dataset.chart], getComputedStyle(document.documentElement)));
    for (const trace of data) if (trace.x === "dates") trace.x = dates;
    layout.font.family = getComputedStyle(document.body).fontFamily;
    return Plotly.react(element, data, layout, { responsive: true, displayModeBar: false });
  }

  async function begin() {
    const script = document.createElement("script");
    script.textContent = await unpack(document.getElementById("plotly"));
    document.head.append(script);
    const elements = [...document.querySelectorAll(".chart")];
    for (const element of elements) {
      const figure = element.closest("figure");
      element.hidden = false;
      await draw(element);
      figure.classList.add("drawn");
      await new Promise((resolve) => setTimeout(resolve));
    }
    const again = () => elements.forEach(draw);
    dark.addEventListener("change", again);
    narrow.addEventListener("change", again);
    document.documentElement.dataset.charts = "drawn";
  }

  for (const link of document.querySelectorAll(".download")) {
    link.href = link.closest("figure").querySelector("img").src;
    link.hidden = false;
  }
  if (typeof DecompressionStream === "function") begin();
})();
