// The API as the page's visitor: in one answer, or in events as they come (graphql-sse, distinct connections mode).
// `form` has the address (data-endpoint) and the CSRF token. What is thrown has words for a person.
"use strict";

window.Playground ??= {};

Playground.api = (() => {
  const AWAY = () => new Error(gettext("The server cannot be reached. Try again in a moment."));

  const post = async (form, accept, body, signal) => {
    let response;
    try {
      response = await fetch(form.dataset.endpoint, {
        method: "POST",
        credentials: "same-origin",
        headers: { "Content-Type": "application/json", Accept: accept, "X-CSRFToken": form.elements.csrfmiddlewaretoken.value },
        body: JSON.stringify(body),
        signal,
      });
    } catch (problem) {
      throw problem.name === "AbortError" ? problem : AWAY();
    }
    if (response.status === 403) throw new Error(gettext("Your session has ended: reload the page and sign in."));
    return response;
  };

  const data = ({ data, errors }) => {
    if (errors?.[0].extensions?.code === "UNAUTHENTICATED") throw new Error(gettext("Your session has ended: reload the page and sign in."));
    if (errors?.length) throw new Error(errors[0].message);
    return data;
  };

  const ask = async (form, query, variables) => data(await (await post(form, "application/json", { query, variables })).json());

  /** The data of each event. Aborting `signal` ends it, and what it is the answer to. */
  async function* events(form, query, variables, signal) {
    const response = await post(form, "text/event-stream", { query, variables }, signal);
    if (!response.headers.get("Content-Type")?.startsWith("text/event-stream")) {
      data(await response.json());
      return;
    }
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      let part;
      try {
        part = await reader.read();
      } catch (problem) {
        throw problem.name === "AbortError" ? problem : AWAY();
      }
      // Without a `complete` the connection broke.
      if (part.done) throw AWAY();
      const blocks = (rest + part.value).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) {
        if (block.startsWith("event: complete")) return;
        if (block.startsWith("event: next")) yield data(JSON.parse(block.slice(block.indexOf("data: ") + 6)));
      }
    }
  }

  return { ask, events };
})();
