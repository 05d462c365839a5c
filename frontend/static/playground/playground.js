// The playground of a model's page: widgets fitted to its signature, one call of the API, the answer drawn.
"use strict";

(() => {
  const { h, widget } = Playground.inputs;
  const root = document.querySelector("[data-playground]");
  if (!root) return;
  const { model, versions } = JSON.parse(document.getElementById("playground-model").textContent);
  const [form, fields, result] = ["try-form", "try-inputs", "try-result"].map((id) => document.getElementById(id));
  const [run, sample, chooser] = ["try-run", "try-sample", "try-version"].map((id) => document.getElementById(id));
  const language = document.documentElement.lang;
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

  const local = (moment) => new Intl.DateTimeFormat(language, { dateStyle: "long", timeStyle: "short" }).format(new Date(moment));
  const units = (number) => new Intl.NumberFormat(language, { maximumFractionDigits: 6 }).format(number);

  const link = (href, words) => h("a", { href, class: "button small" }, words);

  /** An expected failure, and what to do about it. */
  const refusal = (problem) => {
    const box = h("div", { class: "problem", role: "alert" }, h("p", {}, problem.message));
    if (problem.__typename === "QuotaExceeded") {
      box.append(h("p", {}, interpolate(gettext("It starts anew on %(when)s."), { when: local(problem.resetsAt) }, true)), link(root.dataset.plans, gettext("See the plans")));
    } else if (problem.__typename === "SubscriptionRequired") {
      box.append(link(root.dataset.plans, gettext("Choose a plan")));
    } else if (problem.__typename === "RateLimited") {
      box.append(h("p", {}, interpolate(gettext("Try again in %(seconds)s s."), { seconds: Math.ceil(problem.retryAfterMs / 1000) }, true)));
    }
    return box;
  };

  /** The page's own picture of the quota, brought up to date. */
  const showQuota = (quota) => {
    const place = document.querySelector("[data-quota]");
    if (!place) return;
    for (const amount of place.querySelectorAll("[data-amount]")) amount.textContent = units(quota[amount.dataset.amount]);
    const share = (amount) => (Number(quota.limit) ? (100 * amount) / quota.limit : 0);
    const [settled, held] = [place.querySelector("rect.settled"), place.querySelector("rect.held")];
    if (!settled) return;
    settled.setAttribute("width", share(quota.settled));
    held.setAttribute("x", share(quota.settled));
    held.setAttribute("width", share(quota.held));
  };

  const complain = (words) => result.replaceChildren(h("p", { class: "problem", role: "alert" }, words));

  const show = ({ outputs, units: charged, latencyMs, version: answered, model: { viewerSubscription } }, given) => {
    const facts = [
      interpolate(gettext("%(ms)s ms"), { ms: units(Math.round(latencyMs * 10) / 10) }, true),
      interpolate(ngettext("%(units)s unit charged", "%(units)s units charged", Number(charged)), { units: units(charged) }, true),
      interpolate(gettext("version %(number)s"), { number: answered.number }, true),
    ];
    if (viewerSubscription) {
      const { plan, quota } = viewerSubscription;
      if (!plan.overagePrice) facts.push(interpolate(gettext("%(units)s units left"), { units: units(quota.remaining) }, true));
      showQuota(quota);
    }
    result.replaceChildren(
      ...(outputs ?? []).map((tensor) => Playground.outputs.draw(version.outputs.find(({ name }) => name === tensor.name), tensor, given)),
      h("p", { class: "facts-line" }, facts.join(" · ")));
  };

  const call = async (input) => {
    const token = form.elements.csrfmiddlewaretoken.value;
    const response = await fetch(root.dataset.endpoint, {
      method: "POST",
      credentials: "same-origin",
      headers: { "Content-Type": "application/json", Accept: "application/json", "X-CSRFToken": token },
      body: JSON.stringify({ query: INVOKE, variables: { input } }),
    });
    const { data, errors } = await response.json();
    if (response.status === 403 || errors?.[0].extensions?.code === "UNAUTHENTICATED") {
      throw new Error(gettext("Your session has ended: reload the page and sign in."));
    }
    if (errors?.length) throw new Error(errors[0].message);
    return data.invokeModel;
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
      complain(problem.message);
      return;
    }
    busy(true);
    try {
      const { invocation, errors } = await call({ model, version: version.number, inputs });
      if (errors.length) result.replaceChildren(...errors.map(refusal));
      else show(invocation, inputs.find(({ datatype }) => datatype === "BYTES")?.data ?? []);
    } catch (problem) {
      complain(problem instanceof TypeError ? gettext("The server cannot be reached. Try again in a moment.") : problem.message);
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
