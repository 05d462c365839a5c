// What the API answered about a call, in words: failures and what to do about them, what was charged, what is left.
"use strict";

window.Playground ??= {};

Playground.told = (() => {
  const language = document.documentElement.lang;

  /** h("p", { class: "x" }, "words", child): an element. */
  const h = (name, attributes = {}, ...children) => {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (value !== null && value !== undefined) element.setAttribute(key, value);
    }
    element.append(...children);
    return element;
  };

  const local = (moment) => new Intl.DateTimeFormat(language, { dateStyle: "long", timeStyle: "short" }).format(new Date(moment));
  const units = (number) => new Intl.NumberFormat(language, { maximumFractionDigits: 6 }).format(number);
  const charged = (number) => interpolate(ngettext("%(units)s unit charged", "%(units)s units charged", Number(number)), { units: units(number) }, true);

  const link = (href, words) => h("a", { href, class: "button small" }, words);

  const alert = (words) => h("p", { class: "problem", role: "alert" }, words);

  /** An expected failure, and what to do about it; `plans` is where the plans are. */
  const refusal = (problem, plans) => {
    const box = h("div", { class: "problem", role: "alert" }, h("p", {}, problem.message));
    if (problem.__typename === "QuotaExceeded") {
      box.append(h("p", {}, interpolate(gettext("It starts anew on %(when)s."), { when: local(problem.resetsAt) }, true)), link(plans, gettext("See the plans")));
    } else if (problem.__typename === "SubscriptionRequired") {
      box.append(link(plans, gettext("Choose a plan")));
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

  /** A line of what an invocation took, what it cost and what is left. */
  const facts = ({ latencyMs, units: cost, version, model: { viewerSubscription } }) => {
    const told = [
      interpolate(gettext("%(ms)s ms"), { ms: units(Math.round(latencyMs * 10) / 10) }, true),
      charged(cost),
      interpolate(gettext("version %(number)s"), { number: version.number }, true),
    ];
    if (viewerSubscription) {
      const { plan, quota } = viewerSubscription;
      if (!plan.overagePrice) told.push(interpolate(gettext("%(units)s units left"), { units: units(quota.remaining) }, true));
      showQuota(quota);
    }
    return h("p", { class: "facts-line" }, told.join(" · "));
  };

  return { alert, charged, facts, h, refusal };
})();
