// The playground of a model that writes text: what it writes appears as it comes, until it is done or told to stop.
// Without this, the form is sent as any other and answered in one piece.
"use strict";

(() => {
  const { alert, charged, facts, h, refusal } = Playground.told;
  const { ask, events } = Playground.api;
  const form = document.getElementById("generate-form");
  const [run, stop, result, status] = ["run", "stop-now", "result", "status"].map((name) => document.getElementById(`generate-${name}`));
  if (!run) return;
  const GENERATE = `subscription Generate($input: InvokeModelInput!) {
    invokeModel(input: $input) {
      ... on InvocationChunk { invocationId outputs { name data } }
      ... on InvokeModelPayload {
        invocation {
          units latencyMs version { number }
          model { viewerSubscription { plan { overagePrice { amount } } quota { limit settled held remaining } } }
        }
        errors { __typename message path ... on QuotaExceeded { resetsAt } ... on RateLimited { retryAfterMs } }
      }
    }
  }`;
  const STOPPED = `query Stopped($id: ID!) {
    node(id: $id) {
      ... on Invocation {
        status units latencyMs version { number }
        model { viewerSubscription { plan { overagePrice { amount } } quota { limit settled held remaining } } }
      }
    }
  }`;
  const LOOKS = 20;
  const SETTLE_MS = 250;

  /** What is asked for; frontend/generation.py makes the same of the same form. */
  const read = () => {
    const { model, version, prompt, chat, stop: stopAt } = form.elements;
    const parameters = {};
    for (const name of ["max_tokens", "temperature", "top_p", "seed"]) {
      const number = form.elements[name].valueAsNumber;
      if (Number.isFinite(number)) parameters[name] = number;
    }
    if (stopAt.value) parameters.stop = JSON.stringify([stopAt.value]);
    if (chat.checked) parameters.apply_chat_template = true;
    const text = chat.checked ? JSON.stringify([{ role: "user", content: prompt.value }]) : prompt.value;
    return {
      model: model.value,
      version: version ? Number(version.value) : null,
      inputs: [{ name: "text_input", datatype: "BYTES", shape: [1], data: [text] }],
      parameters,
    };
  };

  let underWay = null;

  const busy = (yes) => {
    run.setAttribute("aria-disabled", String(yes));
    run.textContent = yes ? gettext("Writing…") : gettext("Write");
    stop.hidden = !yes;
    result.setAttribute("aria-busy", String(yes));
  };

  /** What a call that was stopped has cost: known as soon as it is settled. */
  const settled = async (id) => {
    for (let look = 0; look < LOOKS; look += 1) {
      const { node } = await ask(form, STOPPED, { id });
      if (node && node.status !== "RUNNING") return node;
      await new Promise((resolve) => { setTimeout(resolve, SETTLE_MS); });
    }
    return null;
  };

  const write = async () => {
    const text = h("p", { class: "generated", tabindex: "0" });
    result.replaceChildren(text);
    result.scrollIntoView({ block: "nearest" });
    let id = null;
    try {
      for await (const { invokeModel: event } of events(form, GENERATE, { input: read() }, underWay.signal)) {
        if (event.outputs) {
          id = event.invocationId;
          const follows = text.scrollTop + text.clientHeight >= text.scrollHeight - 8;
          text.append(event.outputs.find(({ name }) => name === "text_output")?.data?.[0] ?? "");
          if (follows) text.scrollTop = text.scrollHeight;
        } else {
          if (!text.hasChildNodes()) text.remove();
          if (event.errors.length) result.append(...event.errors.map((problem) => refusal(problem, form.dataset.plans)));
          else {
            result.append(facts(event.invocation));
            status.textContent = charged(event.invocation.units);
          }
        }
      }
    } catch (problem) {
      if (problem.name !== "AbortError") throw problem;
      const cost = id && await settled(id);
      const told = h("p", { class: "muted" }, gettext("Stopped."));
      result.append(told, ...(cost ? [facts(cost)] : []));
      status.textContent = `${told.textContent} ${cost ? charged(cost.units) : ""}`;
    }
  };

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (underWay) return;
    underWay = new AbortController();
    status.textContent = gettext("Writing…");
    busy(true);
    try {
      await write();
    } catch (problem) {
      result.append(alert(problem.message));
      status.textContent = "";
    }
    const hadFocus = document.activeElement === stop;
    underWay = null;
    busy(false);
    if (hadFocus) run.focus();
  });
  stop.addEventListener("click", () => underWay?.abort());
  // Enter in the prompt is a new line; with Ctrl or ⌘ it runs.
  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
})();
