// What makes the pages nicer where there is JavaScript; every one of them works without.
"use strict";

(() => {
  const language = document.documentElement.lang;

  /** Times come in UTC: write them as the reader's clock has them. */
  const localTimes = (root) => {
    const written = new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "short" });
    for (const time of root.querySelectorAll("time[datetime]")) {
      const moment = new Date(time.dateTime);
      if (Number.isNaN(moment.getTime())) continue;
      time.textContent = written.format(moment);
      time.title = time.dateTime;
    }
  };

  /** <button data-copy="#id" hidden> copies that element's text. */
  const copyButtons = (root) => {
    for (const button of root.querySelectorAll("[data-copy]")) {
      const words = button.textContent;
      button.hidden = false;
      button.addEventListener("click", async () => {
        const source = document.querySelector(button.dataset.copy);
        try {
          await navigator.clipboard.writeText(source.textContent);
          button.textContent = gettext("Copied");
        } catch {
          // Without permission (or over plain HTTP) the text is selected instead: one key press is left.
          getSelection().selectAllChildren(source);
          button.textContent = gettext("Selected");
        }
        setTimeout(() => { button.textContent = words; }, 2000);
      });
    }
  };

  /** [data-tabs]: its children, each with a heading, one at a time. WAI-ARIA's tabs pattern; they may be nested. */
  const tabs = (root) => {
    for (const group of root.querySelectorAll("[data-tabs]")) {
      const panels = [...group.children];
      const list = document.createElement("div");
      list.className = "tabs";
      list.setAttribute("role", "tablist");
      const buttons = panels.map((panel) => {
        const heading = panel.querySelector(":scope > :is(h3, h4)");
        const tab = document.createElement("button");
        tab.type = "button";
        tab.id = `${panel.id}-tab`;
        tab.textContent = heading.textContent;
        tab.setAttribute("role", "tab");
        tab.setAttribute("aria-controls", panel.id);
        panel.setAttribute("role", "tabpanel");
        panel.setAttribute("aria-labelledby", tab.id);
        heading.remove();
        list.append(tab);
        return tab;
      });
      const choose = (chosen, focus) => {
        panels.forEach((panel, index) => {
          panel.hidden = index !== chosen;
          buttons[index].setAttribute("aria-selected", String(index === chosen));
          buttons[index].tabIndex = index === chosen ? 0 : -1;
        });
        if (focus) buttons[chosen].focus();
      };
      list.addEventListener("click", (event) => {
        const index = buttons.indexOf(event.target);
        if (index >= 0) choose(index, true);
      });
      list.addEventListener("keydown", (event) => {
        const at = buttons.indexOf(document.activeElement);
        const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: buttons.length - 1 }[event.key];
        if (at < 0 || to === undefined) return;
        event.preventDefault();
        choose((to + buttons.length) % buttons.length, true);
      });
      group.prepend(list);
      choose(0, false);
    }
  };

  const sheets = "details.menu[open], details.confirm[open]";
  document.addEventListener("click", (event) => {
    for (const sheet of document.querySelectorAll(sheets)) {
      if (!sheet.contains(event.target)) sheet.open = false;
    }
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    for (const sheet of document.querySelectorAll(sheets)) {
      sheet.open = false;
      sheet.querySelector("summary").focus();
    }
  });

  const dress = (root) => { localTimes(root); copyButtons(root); tabs(root); };
  dress(document);
  document.addEventListener("htmx:load", (event) => { if (event.target !== document.body) dress(event.target); });
})();
