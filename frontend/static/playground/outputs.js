// What a model answered, as a person would want to see it. Each drawing says the same in words.
"use strict";

window.Playground ??= {};

Playground.outputs = (() => {
  const { h } = Playground.told;
  const language = document.documentElement.lang;
  const percent = new Intl.NumberFormat(language, { style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 });
  const short = new Intl.NumberFormat(language, { maximumFractionDigits: 4 });
  const MOST_BARS = 10;

  const rowsOf = (data) => (Array.isArray(data[0]) ? data : [data]);
  const rowTitle = (words) => h("h4", { class: "row-title" }, words);

  /** Scores of one element: the best first, as bars. */
  const bars = (scores, labels) => {
    const ranked = scores.map((score, i) => [score, labels?.[i] ?? String(i)]).sort((a, b) => b[0] - a[0]);
    const list = h("ol", { class: "bars" });
    for (const [score, name] of ranked.slice(0, MOST_BARS)) {
      const fill = h("span", { class: "fill" });
      fill.style.width = `${100 * Math.min(1, Math.max(0, score))}%`;
      list.append(h("li", {}, h("span", { class: "name" }, name), h("span", { class: "bar", "aria-hidden": "true" }, fill), h("span", { class: "number" }, percent.format(score))));
    }
    const [score, name] = ranked[0];
    return [h("p", { class: "verdict" }, h("strong", {}, name), " ", h("span", { class: "muted" }, percent.format(score))), list];
  };

  const scores = (spec, tensor, given) => {
    const rows = rowsOf(tensor.data);
    return h("div", {}, ...rows.flatMap((row, i) => [
      ...(rows.length > 1 ? [rowTitle(given[i] ?? String(i + 1))] : []),
      ...bars(row, spec.labels),
    ]));
  };

  const dot = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0);
  const norm = (a) => Math.sqrt(dot(a, a));

  /** Vectors: how long, how they begin, and how near to each other. */
  const embedding = (spec, tensor, given) => {
    const rows = rowsOf(tensor.data);
    const element = h("div", {});
    rows.forEach((row, i) => {
      if (rows.length > 1) element.append(rowTitle(given[i] ?? String(i + 1)));
      element.append(
        h("p", {}, interpolate(gettext("%(dimensions)s dimensions, norm %(norm)s"), { dimensions: row.length, norm: short.format(norm(row)) }, true)),
        h("p", { class: "vector" }, h("code", {}, `[${row.slice(0, 6).map((value) => value.toFixed(4)).join(", ")}, …]`)));
    });
    if (rows.length > 1) {
      const table = h("table", { class: "similarity" }, h("caption", {}, gettext("Nearness (cosine): 1 means the same")));
      table.append(h("thead", {}, h("tr", {}, h("td"), ...rows.map((_, j) => h("th", { scope: "col" }, String(j + 1))))));
      table.append(h("tbody", {}, ...rows.map((a, i) =>
        h("tr", {}, h("th", { scope: "row", title: given[i] ?? null }, String(i + 1)), ...rows.map((b) => {
          const near = dot(a, b) / (norm(a) * norm(b) || 1);
          const cell = h("td", {}, near.toFixed(2).replace(/^-(0\.00)$/, "$1"));
          cell.style.setProperty("--near", Math.max(0, near).toFixed(2));
          return cell;
        })))));
      element.append(h("div", { class: "scroll", tabindex: "0" }, table));
    }
    return element;
  };

  const json = (spec, tensor) => h("pre", { class: "json", tabindex: "0" }, h("code", {}, JSON.stringify(tensor.data)));

  const KINDS = { "application/x-class-scores": scores, "application/x-embedding": embedding };

  /** One output. `given` are the lines that were sent, to head the rows with. */
  const draw = (spec, tensor, given) => {
    const kind = tensor.data?.length && tensor.shape.length <= 2 ? KINDS[spec?.contentType] : undefined;
    return h("section", { class: "output" },
      h("h3", {}, tensor.name, " ", h("code", { class: "muted" }, `${tensor.datatype} [${tensor.shape.join(" × ")}]`)),
      (kind ?? json)(spec, tensor, given));
  };

  return { draw };
})();
