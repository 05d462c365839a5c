// The playground of a model's page: widgets fitted to its signature, one call of the API, the answer drawn.
"use strict";

(() => {
  const { alert, facts, refusal } = Playground.told;
  const { widget } = Playground.inputs;
  const { model, versions } = JSON.parse(document.getElementById("playground-model").textContent);
  const [form, fields, result] = ["try-form", "try-inputs", "try-result"].map((id) => document.getElementById(id));
  const [run, sample, chooser] = ["try-run", "try-sample", "try-version"].map((id) => document.getElementById(id));
  const INVOKE = `mutation Try($input: InvokeModelInput!) {
    invokeModel(input: $input) {
      invocation {
        outputs { name datatype shape data } units latencyMs version { number }
        model { viewerSubscription { plan { overagePrice { amount } } quota { limit settled held remaining } } }
      }
      errors { __typename message path ... on QuotaExceeded { resetsAt } ... on RateLimited { retryAfterMs } }
    }
  }`;

  let version;
  let widgets = [];
  let running = false;

  const build = () => {
    version = versions.find(({ number }) => String(number) === chooser?.value) ?? versions.find(({ status }) => status === "LIVE") ?? versions[0];
    widgets = version.inputs.map((spec, i) => ({ spec, ...widget(spec, `try-input-${i}`) }));
    fields.replaceChildren(...widgets.map(({ element }) => element));
    result.replaceChildren();
    sample.hidden = !version.inputs.every(({ example }) => example);
    // A drawing starts on an empty sheet; everything else is easier to change than to invent.
    for (const { spec, sample: fill } of widgets) {
      if (spec.example && !(spec.contentType ?? "").startsWith("image/")) fill();
    }
  };

  const complain = (problem) => result.replaceChildren(alert(problem.message));

  const show = (invocation, given) => {
    const drawn = (invocation.outputs ?? []).map((tensor) => Playground.outputs.draw(version.outputs.find(({ name }) => name === tensor.name), tensor, given));
    result.replaceChildren(...drawn, facts(invocation));
  };

  const busy = (yes) => {
    running = yes;
    run.setAttribute("aria-disabled", String(yes));
    run.textContent = yes ? gettext("Running…") : gettext("Run");
    result.setAttribute("aria-busy", String(yes));
  };

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (running || !run) return;
    let inputs;
    try {
      inputs = widgets.map(({ spec, read }) => ({ name: spec.name, datatype: spec.datatype, ...read() }));
    } catch (problem) {
      complain(problem);
      return;
    }
    busy(true);
    try {
      const { invokeModel: { invocation, errors } } = await Playground.api.ask(form, INVOKE, { input: { model, version: version.number, inputs } });
      if (errors.length) result.replaceChildren(...errors.map((problem) => refusal(problem, form.dataset.plans)));
      else show(invocation, inputs.find(({ datatype }) => datatype === "BYTES")?.data ?? []);
    } catch (problem) {
      complain(problem);
    }
    busy(false);
  });
  sample.addEventListener("click", () => widgets.forEach(({ sample: fill }) => fill()));
  chooser?.addEventListener("change", build);
  // Enter in a text of several lines is a new line; with Ctrl or ⌘ it runs.
  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
  build();
  form.hidden = false;
})();
