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

async function fetcher(request, { headers = {} } = {}) {
  const response = await fetch(url, {
    method: "POST",
    credentials: "same-origin",
    headers: { Accept: "application/json", "Content-Type": "application/json", "X-CSRFToken": csrf, ...headers },
    body: JSON.stringify(request),
  });
  return response.json();
}

ReactDOM.createRoot(root).render(React.createElement(GraphiQL, { fetcher, defaultQuery: example }));
