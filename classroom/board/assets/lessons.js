"use strict";

// The left side of the page: which lesson is shown, and the buttons of the two
// terminals. What the terminals print comes with the page's stream.
(() => {
  const pane = document.getElementById("lessons");
  const picks = () => [...pane.querySelectorAll("button[data-lesson]")];
  const names = picks().map((button) => button.dataset.lesson);
  const mayChange = !("look" in document.getElementById("lesson").dataset);

  let current = names[0];
  let view = "text";

  function say(text) {
    document.getElementById("lessons-message").textContent = text;
  }

  // Only the newest of several answers is shown.
  let asked = 0;

  // pick shows another lesson. What is done next is done with that one.
  let picking = Promise.resolve();

  function pick(name) {
    current = name;
    for (const button of picks()) {
      if (button.dataset.lesson === name) {
        button.setAttribute("aria-current", "true");
      } else {
        button.removeAttribute("aria-current");
      }
    }
    history.replaceState(null, "", `#${name}`);
    picking = load(name, ++asked);
  }

  async function load(name, turn) {
    try {
      const answer = await fetch(`/lesson/${name}${mayChange ? "" : "?look"}`);
      const text = await answer.text();
      if (turn !== asked) {
        return;
      }
      if (answer.ok) {
        document.getElementById("lesson").innerHTML = text;
      }
      say(answer.ok ? "" : text);
    } catch {
      say("The board does not answer.");
    }
  }

  function show(what) {
    view = what;
    document.getElementById("lesson").dataset.show = what;
    for (const button of pane.querySelectorAll("button[data-show]")) {
      button.setAttribute("aria-pressed", String(button.dataset.show === what));
    }
  }

  // flags returns what is set in the form of the lesson. A box that is not
  // checked is sent as well, because its default may be true.
  function flags() {
    const form = pane.querySelector(".lesson-flags");
    const values = new URLSearchParams(form ? new FormData(form) : undefined);
    for (const box of form ? form.querySelectorAll("input[type=checkbox]") : []) {
      values.set(box.name, String(box.checked));
    }
    return values;
  }

  async function act(what, slot) {
    if (!mayChange) {
      return;
    }
    await picking;
    const path = what === "run" ? `${current}/run` : what;
    try {
      const answer = await fetch(`/lesson/${path}?slot=${slot}`, {
        method: "POST",
        body: what === "run" ? flags() : null,
      });
      say(answer.ok ? "" : await answer.text());
    } catch {
      say("The board does not answer.");
    }
  }

  function step(by) {
    const name = names[names.indexOf(current) + by];
    if (name) {
      pick(name);
    }
  }

  // A link inside the lesson leads to its code or to one of its headings.
  function go(event, link) {
    const target = link.getAttribute("href");
    if (!target.startsWith("#")) {
      return;
    }
    event.preventDefault();
    show(target.startsWith("#code-") ? "code" : "text");
    document.getElementById(target.slice(1))?.scrollIntoView();
  }

  pane.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    const link = event.target.closest(".lesson-text a");
    if (link) {
      go(event, link);
    } else if (button?.dataset.lesson) {
      pick(button.dataset.lesson);
    } else if (button?.dataset.show) {
      show(button.dataset.show);
    } else if (button?.dataset.do) {
      act(button.dataset.do, button.dataset.slot);
    }
  });

  // Enter in a flag runs the lesson, as in a terminal.
  pane.addEventListener("submit", (event) => {
    event.preventDefault();
    act("run", 1);
  });

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.repeat || !pane.checkVisibility() ||
        event.target.closest("input:not([type=checkbox]), textarea, select, [contenteditable], dialog")) {
      return;
    }
    const slot = event.shiftKey ? 2 : 1;
    const paused = pane.querySelector(`#terminal-${slot} .paused`);
    switch (event.key.toLowerCase()) {
      case "]": step(1); break;
      case "[": step(-1); break;
      case "v": show(view === "text" ? "code" : "text"); break;
      case "r": act("run", slot); break;
      case "s": act("stop", slot); break;
      case "p": act(paused ? "resume" : "pause", slot); break;
      default: return;
    }
    event.preventDefault();
  });

  // The newest line stays in view, unless somebody has scrolled back.
  function follow(screen) {
    let atEnd = true;
    screen.addEventListener("scroll", () => {
      atEnd = screen.scrollTop + screen.clientHeight >= screen.scrollHeight - 4;
    });
    const toEnd = () => {
      if (atEnd) {
        screen.scrollTop = screen.scrollHeight;
      }
    };
    new MutationObserver(toEnd).observe(screen, { childList: true, subtree: true });
    new ResizeObserver(toEnd).observe(screen);
  }

  // The board gives the pane a new content when this page has missed something.
  // Then it begins with the first lesson again, and we go back to ours.
  function restore() {
    pane.querySelectorAll(".terminal-screen").forEach(follow);
    show(view);
    if (pane.querySelector(".lesson")?.dataset.lesson !== current) {
      pick(current);
    }
  }

  const wanted = location.hash.slice(1);
  if (names.includes(wanted)) {
    current = wanted;
  }
  new MutationObserver(restore).observe(pane, { childList: true });
  restore();
})();
