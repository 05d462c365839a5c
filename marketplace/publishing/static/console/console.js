// Much of what unfold opens by a click is no button: so that Tab comes to it, keys press it, and it has a name.
const NAMES = { dock_to_right: "Menu", close: "Close", more_horiz: "More" };

addEventListener("DOMContentLoaded", () => {
  document.getElementById("main")?.setAttribute("role", "main");
  for (const pressed of document.querySelectorAll("[x-on\\:click]:not(button, input, select, [href])")) {
    pressed.setAttribute("role", "button");
    pressed.tabIndex = 0;
    const name = NAMES[pressed.textContent.trim()];
    if (name) pressed.setAttribute("aria-label", name);
  }
  // The name of an icon is no word of what it stands beside.
  for (const icon of document.querySelectorAll(".material-symbols-outlined:not([role])")) {
    const beside = icon.parentElement;
    if (beside.title || beside.textContent.trim() !== icon.textContent.trim()) icon.setAttribute("aria-hidden", "true");
  }
});

addEventListener("keydown", (event) => {
  if (!["Enter", " "].includes(event.key) || !event.target.matches("[role=button][x-on\\:click]:not(button)")) return;
  event.preventDefault();
  event.target.click();
});
