/* GraphiQL over /graphql, as whoever is signed in with this browser, or with a key from its headers editor. */
const root = document.getElementById("graphiql");
const { url, csrf } = root.dataset;

const example = `# Models to try. The button above runs this; Ctrl-Space completes.
{
  models(search: "digits", first: 3) {
    edges {
      node {
        ref
        summary
        plans { name price { amount currency } includedUnits }
      }
    }
  }
}
`;

/* The answers of a subscription, by the graphql-sse protocol. GraphiQL's stop button ends the loop over them. */
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const blocks = (rest + value).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) {
        if (block.startsWith("event: next")) yield JSON.parse(block.slice(block.indexOf("data: ") + 6));
      }
    }
  } finally {
    await reader.cancel();
  }
}

async function fetcher(request, { headers = {} } = {}) {
  const response = await fetch(url, {
    method: "POST",
    credentials: "same-origin",
    headers: {
      Accept: "application/json, text/event-stream;q=0.9",
      "Content-Type": "application/json",
      "X-CSRFToken": csrf,
      ...headers,
    },
    body: JSON.stringify(request),
  });
  return response.headers.get("Content-Type").startsWith("text/event-stream") ? events(response.body) : response.json();
}

ReactDOM.createRoot(root).render(React.createElement(GraphiQL, { fetcher, defaultQuery: example }));
