// One widget for each input of a model, chosen by what a person would send.
// A widget: { element, read() -> { shape, data } or throws Error with words for a person, sample() }.
"use strict";

window.Playground ??= {};

Playground.inputs = (() => {
  const { h } = Playground.told;

  /** A declared shape with its first free dimension set to `count` and further ones to 1. */
  const filled = (shape, count) => {
    let first = true;
    return shape.map((size) => {
      if (size !== -1) return size;
      const value = first ? count : 1;
      first = false;
      return value;
    });
  };

  const product = (shape) => shape.reduce((a, b) => a * b, 1);

  /** Flat, row-major elements as lists in lists. */
  const nested = (flat, shape) => {
    if (shape.length < 2) return flat;
    const stride = product(shape.slice(1));
    return Array.from({ length: shape[0] }, (_, i) => nested(flat.slice(i * stride, (i + 1) * stride), shape.slice(1)));
  };

  const isSheet = ({ datatype, shape, contentType }) =>
    (contentType ?? "").startsWith("image/") && datatype === "FP32" && shape.length === 4 &&
    Math.abs(shape[0]) === 1 && shape[1] === 1 && shape[2] === shape[3] && shape[2] > 0 && shape[2] <= 128;

  /** A sheet to draw on; a picture can be uploaded instead. */
  const sheet = (spec, id) => {
    const size = spec.shape[2];
    const canvas = h("canvas", { width: 280, height: 280, class: "sheet", role: "img", "aria-label": gettext("Sheet to draw on with a mouse, a pen or a finger") });
    const seen = h("canvas", { width: size, height: size, class: "seen", role: "img", "aria-label": gettext("What the model sees") });
    const context = canvas.getContext("2d", { willReadFrequently: true });
    let exact = null;
    const look = () => {
      const ink = exact ?? Playground.image.normalise(Playground.image.fromCanvas(canvas), size);
      Playground.image.toCanvas(seen, ink ?? { width: size, height: size, ink: new Float32Array(size * size) });
      return ink;
    };
    const clear = () => {
      exact = null;
      context.clearRect(0, 0, canvas.width, canvas.height);
      look();
    };

    let last = null;
    const place = (event) => {
      const box = canvas.getBoundingClientRect();
      return [((event.clientX - box.left) * canvas.width) / box.width, ((event.clientY - box.top) * canvas.height) / box.height];
    };
    const stroke = (to) => {
      context.lineCap = context.lineJoin = "round";
      // A soft brush: a wide faint line under a narrow dark one.
      for (const [width, opacity] of [[26, 0.25], [21, 0.55], [16, 1]]) {
        context.lineWidth = width;
        context.strokeStyle = `rgba(0, 0, 0, ${opacity})`;
        context.beginPath();
        context.moveTo(...last);
        context.lineTo(...to);
        context.stroke();
      }
      last = to;
    };
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button > 0) return;
      event.preventDefault();
      if (exact) clear();
      canvas.setPointerCapture(event.pointerId);
      last = place(event);
      stroke(last);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!last) return;
      const moves = event.getCoalescedEvents?.() ?? [];
      for (const move of moves.length ? moves : [event]) stroke(place(move));
    });
    for (const end of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(end, () => {
        if (last) look();
        last = null;
      });
    }

    const problem = h("p", { class: "problem", role: "alert", hidden: "" });
    const upload = h("input", { type: "file", accept: "image/*", id: `${id}-file`, class: "sr" });
    upload.addEventListener("change", async () => {
      const [file] = upload.files;
      problem.hidden = true;
      if (!file) return;
      try {
        const ink = await Playground.image.fromFile(file);
        exact = null;
        Playground.image.toCanvas(canvas, ink);
        look();
      } catch {
        problem.textContent = gettext("This file is not a picture that the browser can read.");
        problem.hidden = false;
      }
      upload.value = "";
    });
    const wipe = h("button", { type: "button", class: "button quiet small" }, gettext("Clear"));
    wipe.addEventListener("click", clear);
    const element = h("div", { class: "sheet-input" },
      h("div", {}, canvas),
      h("div", { class: "sheet-side" },
        h("p", { class: "muted" }, gettext("Draw here, or upload a picture.")),
        h("div", { class: "sheet-acts" }, wipe, upload, h("label", { for: upload.id, class: "button quiet small" }, gettext("Upload a picture"))),
        h("figure", {}, seen, h("figcaption", { class: "muted" }, gettext("What the model sees"))),
        problem));
    look();
    return {
      element,
      read: () => {
        const ink = look();
        if (!ink) throw new Error(gettext("The sheet is empty: draw something, upload a picture or use the sample."));
        return { shape: filled(spec.shape, 1), data: [...ink.ink].map((value) => Math.round(value * 1000) / 1000) };
      },
      sample: () => {
        exact = { width: size, height: size, ink: Float32Array.from(spec.example) };
        Playground.image.toCanvas(canvas, exact);
        look();
      },
    };
  };

  /** A picture as the file that it is: its bytes behind their length, as BYTES are sent. */
  const picture = (spec, id) => {
    const chooser = h("input", { id, type: "file", accept: "image/png, image/jpeg", required: "" });
    const seen = h("img", { class: "seen", alt: gettext("The picture that you chose"), hidden: "" });
    const element = h("div", { class: "field" }, h("label", { for: id }, spec.name), chooser, seen,
      h("p", { class: "help" }, gettext("A PNG or JPEG.")));
    let base64 = null;
    chooser.addEventListener("change", () => {
      const [file] = chooser.files;
      base64 = null;
      seen.hidden = true;
      if (!file) return;
      const length = new DataView(new ArrayBuffer(4));
      length.setUint32(0, file.size, true);
      const reader = new FileReader();
      reader.onload = () => { base64 = reader.result.slice(reader.result.indexOf(",") + 1); };
      reader.readAsDataURL(new Blob([length, file]));
      const shown = new FileReader();
      shown.onload = () => {
        seen.src = shown.result;
        seen.hidden = false;
      };
      shown.readAsDataURL(file);
    });
    return {
      element,
      read: () => {
        if (!base64) throw new Error(gettext("Choose a picture first."));
        return { shape: filled(spec.shape, 1), base64 };
      },
      sample: () => {},
    };
  };

  /** One text on each line; several lines are a batch. */
  const text = (spec, id) => {
    const batch = spec.shape.includes(-1);
    const area = h("textarea", { id, rows: batch ? 4 : 2, spellcheck: "false", maxlength: 100000 });
    const element = h("div", { class: "field" }, h("label", { for: id }, spec.name), area,
      h("p", { class: "help" }, batch ? gettext("One text on each line: several lines are answered at once.") : gettext("One text.")));
    return {
      element,
      read: () => {
        const lines = (batch ? area.value.split("\n") : [area.value]).map((line) => line.trim()).filter(Boolean);
        if (!lines.length) throw new Error(gettext("Type a text first, or use the sample."));
        return { shape: filled(spec.shape, lines.length), data: lines };
      },
      sample: () => { area.value = spec.example.join("\n"); },
    };
  };

  /** A number for each name of a table's row. */
  const features = (spec, id) => {
    const names = spec.labels;
    const boxes = names.map((name, i) => h("input", { id: `${id}-${i}`, type: "number", step: "any", inputmode: "decimal", required: "" }));
    const element = h("fieldset", {}, h("legend", {}, spec.name),
      h("div", { class: "features" }, ...names.map((name, i) =>
        h("div", { class: "feature" }, h("label", { for: boxes[i].id }, name), boxes[i]))));
    return {
      element,
      read: () => ({
        shape: filled(spec.shape, 1),
        data: boxes.map((box, i) => {
          if (!Number.isFinite(box.valueAsNumber)) {
            box.focus();
            throw new Error(interpolate(gettext("%(name)s needs a number."), { name: names[i] }, true));
          }
          return box.valueAsNumber;
        }),
      }),
      sample: () => boxes.forEach((box, i) => { box.value = spec.example[i]; }),
    };
  };

  /** The shape of lists in lists; a flat list takes the declared shape, its one free dimension reckoned from the count. */
  const shapeOf = (data, declared) => {
    const found = [];
    for (let level = data; Array.isArray(level); [level] = level) found.push(level.length);
    if (found.length !== 1 || declared.length === 1) return found;
    const known = product(declared.filter((size) => size !== -1));
    return filled(declared, Math.floor(found[0] / known));
  };

  /** Anything else, as JSON. */
  const json = (spec, id) => {
    const area = h("textarea", { id, rows: (spec.example?.length ?? 9) > 8 ? 4 : 1, spellcheck: "false", class: "mono" });
    const shape = spec.shape.map((size) => (size === -1 ? "n" : size)).join(" × ");
    const element = h("div", { class: "field" }, h("label", { for: id }, spec.name), area,
      h("p", { class: "help" }, `${spec.datatype} [${shape}], JSON`));
    return {
      element,
      read: () => {
        let data;
        try {
          data = JSON.parse(area.value);
        } catch {
          throw new Error(gettext("This is not JSON: write a list, as in [1, 2.5]."));
        }
        if (!Array.isArray(data)) data = [data];
        return { shape: shapeOf(data, spec.shape), data };
      },
      sample: () => { area.value = JSON.stringify(nested(spec.example, spec.exampleShape ?? [])); },
    };
  };

  const widget = (spec, id) => {
    if (isSheet(spec)) return sheet(spec, id);
    if (spec.contentType === "text/plain" && spec.datatype === "BYTES") return text(spec, id);
    if ((spec.contentType ?? "").startsWith("image/") && spec.datatype === "BYTES") return picture(spec, id);
    const wide = spec.shape.at(-1);
    if (spec.contentType === "application/x-feature-vector" && spec.labels?.length === wide) return features(spec, id);
    return json(spec, id);
  };

  return { widget };
})();
