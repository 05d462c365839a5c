// What is wrong with the page, in words; each rule is one that axe-core has too.
() => {
  const flaws = [];
  const shown = (e) => e.checkVisibility({ visibilityProperty: true, contentVisibilityAuto: true });
  const of = (selector) => [...document.querySelectorAll(selector)].filter(shown);
  const name = (e) => (e.getAttribute("aria-label") || document.getElementById(e.getAttribute("aria-labelledby"))?.textContent
    || [...(e.labels ?? [])].map((l) => l.textContent).join(" ") || e.textContent || e.getAttribute("alt") || e.title || "").trim();
  const told = (e) => e.outerHTML.slice(0, 90);

  if (!document.documentElement.lang) flaws.push("no language");
  if (document.documentElement.scrollWidth > innerWidth) flaws.push("scrolls sideways");
  if (of("h1").length !== 1) flaws.push(`${of("h1").length} first headings`);
  let level = 0;
  for (const heading of of("h1, h2, h3, h4, h5, h6")) {
    const now = Number(heading.tagName[1]);
    if (now > level + 1) flaws.push(`heading skips a level: ${told(heading)}`);
    level = now;
  }
  for (const e of of("input:not([type=hidden]), select, textarea, button, a[href], summary")) if (!name(e)) flaws.push(`no name: ${told(e)}`);
  for (const e of of("img:not([alt]), canvas:not([aria-label]), [role=img]:not([aria-label])")) flaws.push(`no text for ${told(e)}`);
  const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
  for (const id of new Set(ids.filter((id, i) => ids.indexOf(id) !== i))) flaws.push(`id twice: ${id}`);
  for (const e of document.querySelectorAll("[aria-describedby], [aria-labelledby], [aria-controls], label[for]")) {
    for (const attribute of ["aria-describedby", "aria-labelledby", "aria-controls", "for"]) {
      for (const id of (e.getAttribute(attribute) ?? "").split(/\s+/).filter(Boolean)) {
        if (!document.getElementById(id)) flaws.push(`${attribute} leads nowhere: ${told(e)}`);
      }
    }
  }

  const rgba = (text) => (text.match(/[\d.]+/g) ?? []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (e) => {
    for (let at = e; at; at = at.parentElement) {
      const colour = rgba(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const e = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || !shown(e) || e.closest("script, option, .skip")) continue;
    const style = getComputedStyle(e);
    const [a, b] = [light(rgba(style.color)), light(ground(e))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && Number(style.fontWeight) >= 700);
    if (ratio < (large ? 3 : 4.5)) flaws.push(`contrast ${ratio.toFixed(2)}: ${told(e)}`);
  }
  for (const e of of("button, select, input:not([type=hidden], .sr), summary, .button, nav a")) {
    const box = e.getBoundingClientRect();
    const target = e.labels?.[0]?.getBoundingClientRect() ?? box;
    if (Math.max(box.height, target.height) < 24 && !e.closest("p, li, td")) flaws.push(`target of ${box.height} px: ${told(e)}`);
  }
  return flaws;
}
