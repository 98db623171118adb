"use strict";

// The page of a class: the roster is beside etcd, or the lessons are. A learner who is
// opened is a prefix of the keys that are shown.
(() => {
  const byId = (id) => document.getElementById(id);
  const prefix = byId("prefix");

  for (const button of document.querySelectorAll("[data-left]")) {
    button.addEventListener("click", () => {
      document.body.dataset.side = button.dataset.left;
      for (const other of document.querySelectorAll("[data-left]")) {
        other.setAttribute("aria-pressed", String(other === button));
      }
    });
  }

  const open = (name) => {
    prefix.value = name && `${name}:`;
    byId("keys").scrollTop = 0;
    prefix.dispatchEvent(new CustomEvent("input", { detail: "others" }));
  };

  // mark shows who is open, and what may be done to them.
  const mark = () => {
    let opened = null;
    for (const row of byId("roster").querySelectorAll("[data-learner]")) {
      const is = prefix.value === `${row.dataset.learner}:`;
      row.classList.toggle("opened", is);
      row.querySelector("button").setAttribute("aria-pressed", String(is));
      if (is) opened = row;
    }
    byId("opened").hidden = !opened;
    if (!opened) return;
    const name = opened.dataset.learner;
    byId("opened-name").textContent = name;
    for (const button of byId("opened").querySelectorAll("[data-action]")) {
      const { action, question } = button.dataset;
      button.hidden = !opened.dataset.may.split(" ").includes(action);
      button.dataset.post = `/class/${action}/${name}`;
      button.dataset.ask = question.replace("NAME", name);
      button.setAttribute("aria-label", `${action} ${name}`);
    }
  };

  byId("roster").addEventListener("click", (event) => {
    const row = event.target.closest("[data-learner]");
    if (row) open(row.classList.contains("opened") ? "" : row.dataset.learner);
  });
  byId("close").addEventListener("click", () => open(""));
  prefix.addEventListener("input", mark);
  document.addEventListener("board:changed", (event) => {
    if (event.detail.id === "roster") mark();
  });
})();
