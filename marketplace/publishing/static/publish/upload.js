// A large file to the marketplace piece by piece (tus 1.0, https://tus.io/protocols/resumable-upload), then the form
// without it. What was begun goes on after a cut, and after a reload once the same file is chosen again. Without this
// script the form sends the file itself.
"use strict";

(() => {
  const PIECE = 8 * 1024 * 1024;
  // So often is one piece tried anew; what moves on is given as long as it takes.
  const ATTEMPTS = 8;
  const LONGEST_WAIT = 30_000;
  const CREATE = `mutation CreateUpload($input: CreateUploadInput!) {
    createUpload(input: $input) { upload { url receivedBytes } errors { message } }
  }`;

  const form = document.getElementById("upload");
  const { file: input, upload: id, csrfmiddlewaretoken: token } = form.elements;
  const words = document.getElementById("upload-words").dataset;
  const [error, progress, bar, name, told] = ["error", "progress", "bar", "name", "told"].map((part) =>
    document.getElementById(`upload-${part}`));
  const buttons = form.querySelectorAll("[type=submit]");
  const begun = `upload ${form.dataset.model}`;

  // With what cannot be mended by trying again.
  class Refused extends Error {}

  const said = (text, ...values) => values.reduce((so_far, value) => so_far.replace("%s", value), text);
  const size = (bytes) => `${(bytes / 1e6).toLocaleString(document.documentElement.lang, { maximumFractionDigits: 1 })} MB`;
  const after = (milliseconds) => new Promise((resolve) => { setTimeout(resolve, milliseconds); });

  function request(method, url, { headers = {}, body = null, sent = () => {} } = {}) {
    return new Promise((resolve, reject) => {
      const asked = new XMLHttpRequest();
      asked.open(method, url);
      asked.setRequestHeader("X-CSRFToken", token.value);
      for (const [header, value] of Object.entries(headers)) asked.setRequestHeader(header, value);
      asked.upload.onprogress = (event) => sent(event.loaded);
      asked.onload = () => resolve(asked);
      asked.onerror = asked.ontimeout = asked.onabort = () => reject(new Error("cut"));
      asked.send(body);
    });
  }

  const tus = (method, url, options = {}) =>
    request(method, url, { ...options, headers: { "Tus-Resumable": "1.0.0", ...options.headers } });

  // Which upload this model has under way in this browser, and of which file.
  const remembered = () => { try { return JSON.parse(localStorage.getItem(begun)); } catch { return null; } };
  const remember = (upload) => { try { localStorage.setItem(begun, JSON.stringify(upload)); } catch { /* then not */ } };
  const forget = () => { try { localStorage.removeItem(begun); } catch { /* nothing was kept */ } };
  const same = (upload, file) => upload && upload.name === file.name && upload.size === file.size && upload.changed === file.lastModified;

  async function create(file) {
    const answer = await request("POST", form.dataset.graphql, {
      headers: { "Content-Type": "application/json", Accept: "application/json" },
      body: JSON.stringify({ query: CREATE, variables: { input: { sizeBytes: file.size } } }),
    });
    let made;
    try { made = JSON.parse(answer.responseText); } catch { throw new Refused(said(words.odd, answer.status)); }
    const problem = made.errors?.[0] ?? made.data?.createUpload.errors[0];
    if (problem) throw new Refused(problem.message);
    // By the address that this page has: the marketplace may be known by others too.
    const { pathname } = new URL(made.data.createUpload.upload.url, location.href);
    return { path: pathname, name: file.name, size: file.size, changed: file.lastModified, received: 0 };
  }

  // How many bytes have arrived; null when the upload is gone.
  async function received(upload) {
    const answer = await tus("HEAD", upload.path);
    if ([403, 404, 410].includes(answer.status)) return null;
    if (answer.status !== 200) throw new Error("away");
    return Number(answer.getResponseHeader("Upload-Offset"));
  }

  function show(file, bytes) {
    bar.value = (100 * bytes) / file.size;
    told.textContent = bytes < file.size ? said(words.amount, size(bytes), size(file.size)) : words.joining;
  }

  async function piece(upload, file, offset) {
    const body = file.slice(offset, offset + PIECE);
    const answer = await tus("PATCH", upload.path, {
      headers: { "Upload-Offset": offset, "Content-Type": "application/offset+octet-stream" },
      body,
      sent: (bytes) => show(file, Math.min(offset + bytes, file.size)),
    });
    if (answer.status === 204) return Number(answer.getResponseHeader("Upload-Offset"));
    if (answer.status < 500 && ![409, 423, 429].includes(answer.status)) {
      let reason;
      try { reason = JSON.parse(answer.responseText).error; } catch { /* not from the marketplace */ }
      throw new Refused(reason || said(words.odd, answer.status));
    }
    await after(Math.min(1000 * (answer.getResponseHeader("Retry-After") || 0), LONGEST_WAIT));
    throw new Error("away");
  }

  async function send(file) {
    let upload = remembered();
    let offset = same(upload, file) ? await received(upload).catch(() => undefined) : null;
    if (offset === null) {
      upload = await create(file);
      remember(upload);
      offset = 0;
    }
    for (let failures = 0; offset !== file.size;) {
      try {
        offset ??= await received(upload);
        if (offset === null) { forget(); throw new Refused(said(words.odd, 404)); }
        if (offset === file.size) continue;
        show(file, offset);
        offset = await piece(upload, file, offset);
        remember({ ...upload, received: offset });
        failures = 0;
      } catch (failure) {
        if (failure instanceof Refused) throw failure;
        failures += 1;
        if (failures === ATTEMPTS) throw new Refused(words.lost);
        told.textContent = words.waiting;
        await after(Math.min(500 * 2 ** failures, LONGEST_WAIT));
        offset = undefined;
      }
    }
    forget();
    return upload.path.split("/").at(-1);
  }

  form.addEventListener("submit", async (event) => {
    const [file] = input.files;
    if (!file || file.size === 0) return;
    event.preventDefault();
    error.hidden = true;
    progress.hidden = false;
    name.textContent = said(words.sending, file.name);
    for (const button of buttons) button.disabled = true;
    try {
      id.value = await send(file);
      input.disabled = true;
      form.submit();
    } catch (failure) {
      error.textContent = failure instanceof Refused ? failure.message : words.lost;
      error.hidden = false;
      progress.hidden = true;
      for (const button of buttons) button.disabled = false;
      input.focus();
    }
  });

  // Unfold looks for a text field of its own beside every file that is chosen, and fails where there is none.
  addEventListener("change", (event) => {
    if (event.target === input) event.stopImmediatePropagation();
  }, true);

  // Back from the next page by the browser's button.
  addEventListener("pageshow", () => {
    input.disabled = false;
    for (const button of buttons) button.disabled = false;
  });

  const left = remembered();
  if (left) {
    error.textContent = said(words.left, left.name, size(left.received), size(left.size));
    error.hidden = false;
  }
})();
