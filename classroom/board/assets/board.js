"use strict";

// The page is rendered by the server. This file puts in what the server sends,
// and goes back in time.
(() => {
  const byId = (id) => document.getElementById(id);
  const body = document.body;

  // parse makes elements of HTML that the server's templates have written.
  // Scripts in it would not run, and the page's policy forbids them.
  const parse = (html) => {
    const template = document.createElement("template");
    template.innerHTML = html;
    return template.content;
  };

  // --- Putting content in ---------------------------------------------------

  // morph makes an element's content that of another one, and keeps what is
  // equal: what is open stays open, what has the focus keeps it, bars move on
  // from where they are. Elements with a data-id are told apart by it.
  const morph = (to, from, fresh) => {
    const kept = new Map();
    for (const child of to.children) {
      if (child.dataset.id) kept.set(child.dataset.id, child);
    }
    let at = to.firstChild;
    for (const next of [...from.childNodes]) {
      const id = next.nodeType === 1 && next.dataset.id;
      let old = id ? kept.get(id) : at;
      if (!id && old && old.nodeType === 1 && old.dataset.id) old = null;
      if (!old || old.nodeName !== next.nodeName) {
        if (id && fresh) next.classList.add("changed");
        else if (fresh && next.nodeType === 1) {
          for (const inner of next.querySelectorAll("[data-id]")) inner.classList.add("changed");
        }
        to.insertBefore(next, at);
        continue;
      }
      if (old === at) at = at.nextSibling;
      else to.insertBefore(old, at);
      if (id) kept.delete(id);
      if (next.nodeType !== 1) {
        if (old.nodeValue !== next.nodeValue) old.nodeValue = next.nodeValue;
        continue;
      }
      if (id && next.dataset.rev !== old.dataset.rev) {
        if (fresh) next.classList.add("changed");
        old.replaceWith(next);
        continue;
      }
      for (const { name, value } of [...next.attributes]) {
        if (old.getAttribute(name) !== value && name !== "open") old.setAttribute(name, value);
      }
      for (const { name } of [...old.attributes]) {
        const mine = name === "style" || name === "open" || (name === "class" && old.classList.contains("changed"));
        if (!mine && !next.hasAttribute(name)) old.removeAttribute(name);
      }
      morph(old, next, fresh);
    }
    while (at) {
      const next = at.nextSibling;
      at.remove();
      at = next;
    }
  };

  // bars sets how full bars are, which the policy allows to scripts only.
  const bars = (element) => {
    for (const bar of element.querySelectorAll("[data-left]")) {
      const full = Math.min(1, Number(bar.dataset.left) / Math.max(1, Number(bar.dataset.granted)));
      const before = Number(bar.style.getPropertyValue("--left") || 0);
      bar.classList.toggle("jump", full > before);
      bar.style.setProperty("--left", full.toFixed(3));
    }
  };

  const told = (id) => document.dispatchEvent(new CustomEvent("board:changed", { detail: { id } }));

  let past = null; // What is shown, as part of a request; null for now.
  let shown = 0; // Its revision.
  const travels = ["keys", "timeline", "leases", "lock", "members", "class", "roster"];
  const waiting = {}; // What came for panels that show the past, or some keys alone.

  const replace = (id, html, fresh) => {
    if (past ? travels.includes(id) : prefix() && (id === "keys" || id === "timeline")) {
      waiting[id] = html;
      if (!past) ask();
      return;
    }
    put(id, html, fresh);
  };

  const put = (id, html, fresh) => {
    const element = byId(id);
    if (!element) return;
    if (id === "revision" && !(Number(html) >= present())) forget();
    morph(element, parse(html), fresh);
    bars(element);
    if (fresh && id === "keys") follow(element);
    if (id === "timeline") followMarks(element);
    if (id === "timeline" && !past) element.scrollLeft = element.scrollWidth; // To the live end, where it is narrow.
    told(id);
  };

  // follow scrolls the table to what has changed, unless somebody is at it.
  const follow = (table) => {
    const row = table.querySelector("tr.changed:not(.followed)");
    for (const other of table.querySelectorAll("tr.changed")) other.classList.add("followed");
    if (!row || table.matches(":hover, :focus-within")) return;
    const place = table.getBoundingClientRect();
    const at = row.getBoundingClientRect();
    const head = table.querySelector("thead").offsetHeight;
    if (at.top < place.top + head) table.scrollTop -= place.top + head - at.top;
    else if (at.bottom > place.bottom) table.scrollTop += at.bottom - place.bottom;
  };

  // followMarks scrolls the timeline to the last change, or to the one that is shown,
  // unless somebody is at it.
  const followMarks = (timeline) => {
    const revisions = timeline.querySelectorAll(".rev");
    const rev = past ? timeline.querySelector(`.rev[data-rev="${shown}"]`) : revisions[revisions.length - 1];
    const marks = rev ? rev.querySelectorAll("[data-kind]") : [];
    if (!marks.length || !past && timeline.matches(":hover, :focus-within")) return;
    const place = timeline.getBoundingClientRect();
    const head = timeline.querySelector(".head").getBoundingClientRect().height;
    const last = marks[marks.length - 1].getBoundingClientRect();
    const first = marks[0].getBoundingClientRect();
    if (last.bottom > place.bottom) timeline.scrollTop += last.bottom - place.bottom + 6;
    else if (first.top < place.top + head) timeline.scrollTop -= place.top + head - first.top + 6;
  };

  const append = (id, html) => {
    const element = byId(id);
    if (!element) return;
    const content = parse(html);
    for (const child of [...content.children]) {
      if (child.id && byId(child.id)) child.remove();
    }
    element.append(content);
    told(id);
  };

  // --- The stream -------------------------------------------------------------

  let source = null;
  let heard = 0; // When the stream was last heard of.
  let heardLessons = body.dataset.heard;

  const reachable = (yes) => {
    byId("lost").hidden = yes;
    body.classList.toggle("lost", !yes);
  };

  const connect = () => {
    if (source) source.close();
    heard = Date.now();
    source = new EventSource("/events?heard=" + encodeURIComponent(heardLessons));
    const on = (name, take) => source.addEventListener(name, (event) => {
      heard = Date.now();
      reachable(true);
      if (event.data) take(JSON.parse(event.data));
    });
    on("snapshot", (snapshot) => {
      if (snapshot.board !== body.dataset.board) {
        location.reload(); // Another run of the board: its page may be another.
        return;
      }
      for (const panel of snapshot.panels) replace(panel.id, panel.html, false);
      body.dataset.live = "true";
      heardLessons = ""; // From now on only a snapshot tells what was missed.
    });
    on("update", (changes) => {
      for (const { do: what, id, html } of changes) {
        if (what === "append") append(id, html);
        else replace(id, html, true);
      }
    });
    on("beat", () => {});
    source.onerror = () => {
      reachable(false);
      if (source.readyState === EventSource.CLOSED) setTimeout(connect, 1000);
    };
  };
  setInterval(() => {
    if (Date.now() - heard > 15000) {
      reachable(false);
      connect();
    }
  }, 2000);

  // --- Back in time -----------------------------------------------------------

  let latest = 0; // The number of the last request: older answers are dropped.
  const text = async (address) => {
    const answer = await fetch(address);
    const content = await answer.text();
    if (!answer.ok) throw new Error(content.trim());
    return content;
  };

  const drawing = () => byId("timeline").querySelector("svg[data-first]");
  const present = () => Number(byId("revision").textContent) || 0;
  const prefix = () => byId("prefix").value;

  const banner = (time) => {
    byId("past").hidden = !past;
    byId("past").textContent = past ? `The store, leases, locks and members as they were at ${time ? time + ", " : ""}revision ${shown}. Home returns to now.` : "";
    byId("when").textContent = past ? `as they were at revision ${shown}` : "now";
    body.classList.toggle("past", past !== null);
  };

  // content returns what an element holds, without what bars has set: the policy
  // allows no style in what is parsed.
  const content = (element) => {
    const copy = element.cloneNode(true);
    for (const styled of copy.querySelectorAll("[style]")) styled.removeAttribute("style");
    return copy.innerHTML;
  };

  // request brings a moment: one of the past, or the present of some keys.
  const request = async (query) => {
    const number = ++latest;
    const end = drawing() ? drawing().dataset.last : 0;
    try {
      const moment = JSON.parse(await text(`/moment?${query}&end=${end}&prefix=${encodeURIComponent(prefix())}`));
      return number === latest ? moment : null;
    } catch (error) {
      if (number === latest) notice(error.message);
      return null;
    }
  };

  const show = async (revision) => travel(`rev=${Math.max(1, revision)}`, Math.max(1, revision));

  const travel = async (query, revision) => {
    past = query;
    if (revision) shown = revision;
    banner();
    const moment = await request(query);
    if (!moment || past !== query) return;
    shown = moment.revision || shown;
    banner(moment.time);
    for (const { id, html } of moment.panels) {
      if (travels.includes(id) && !(id in waiting)) waiting[id] = content(byId(id));
      put(id, html, false);
    }
    pointed = shown;
    refocus();
    byId("keys").dataset.revision = shown;
    for (const row of byId("keys").querySelectorAll("tr[data-rev]")) {
      row.classList.remove("changed");
      row.classList.toggle("here", Number(row.dataset.rev) === shown);
    }
    const here = byId("keys").querySelector("tr.here");
    if (here) {
      here.classList.add("changed");
      follow(byId("keys"));
      here.classList.remove("changed", "followed");
    }
    if (document.activeElement !== byId("slider")) setSlider();
  };

  const now = () => {
    latest++;
    if (!past) return;
    past = null;
    banner();
    delete byId("keys").dataset.revision;
    for (const id of travels) {
      const html = waiting[id];
      delete waiting[id];
      if (html !== undefined) replace(id, html, false);
    }
    refocus();
    setSlider();
  };

  // ask brings the present of the keys that begin with the prefix: one answer at a
  // time, and then the next one if anything came meanwhile.
  let asking = false;
  let again = false;
  let others = false; // What comes next are other keys, so none of them is marked as new.
  const ask = async () => {
    again = asking;
    if (asking) return;
    asking = true;
    const fresh = !others;
    others = false;
    const moment = await request("");
    asking = false;
    if (moment && !past) {
      for (const { id, html } of moment.panels) {
        if (!(id in waiting)) waiting[id] = content(byId(id)); // For when all are shown again.
        put(id, html, fresh);
      }
    }
    if (again && !past && prefix()) ask();
  };
  byId("prefix").addEventListener("input", (event) => {
    others = Boolean(event.detail);
    if (past) travel(past);
    else if (prefix()) ask();
    else {
      latest++;
      for (const id of ["keys", "timeline"]) {
        if (id in waiting) put(id, waiting[id], false);
        delete waiting[id];
      }
    }
  });

  // The slider goes by revision or by time.
  const slider = byId("slider");
  let span = null; // What it reaches.
  const byTime = () => byId("by").getAttribute("aria-pressed") === "true";
  const setSlider = async () => {
    span = JSON.parse(await text("/span"));
    slider.min = byTime() ? span.began : span.first;
    slider.max = byTime() ? span.heard : span.last;
    slider.step = byTime() ? 100 : 1;
    if (!past) slider.value = slider.max;
    else if (!byTime()) slider.value = shown;
    else if (past.startsWith("time=")) slider.value = past.slice(5);
  };
  byId("by").addEventListener("click", () => {
    byId("by").setAttribute("aria-pressed", String(!byTime()));
    byId("by").textContent = byTime() ? "by time" : "by revision";
    setSlider();
  });
  for (const event of ["pointerdown", "focus"]) slider.addEventListener(event, () => { if (!past) setSlider(); });
  slider.addEventListener("input", () => {
    if (Number(slider.value) >= Number(slider.max)) now();
    else if (byTime()) travel(`time=${slider.value}`);
    else show(Number(slider.value));
  });

  // forget leaves the past when the revision has fallen, or is not known any more:
  // what is shown, and the change that is told, may be those of another store.
  const untold = byId("change").innerHTML;
  const forget = () => {
    now();
    pointed = 0;
    morph(byId("change"), parse(untold), false);
  };

  // refocus moves the focus along when it is on a revision.
  const refocus = () => {
    if (!byId("timeline").contains(document.activeElement)) return;
    byId("timeline").querySelector('.rev[tabindex="0"]')?.focus({ preventScroll: true });
  };

  // packed returns the revisions of a drawing that leaves out others.
  const packed = (drawn) => [...drawn.querySelectorAll(".rev")].map((rev) => Number(rev.dataset.rev));

  const step = (by, from) => {
    let to = (past ? shown : from || present()) + by;
    const revisions = drawing()?.dataset.packed ? packed(drawing()) : [];
    if (revisions.length) {
      const at = past ? shown : from || revisions[revisions.length - 1];
      to = by < 0 ? revisions.findLast((revision) => revision < at) ?? at - 1 : revisions.find((revision) => revision > at) ?? present();
    }
    if (by > 0 && (!past || to >= present())) now();
    else if (to >= 1) show(to);
  };

  byId("back").addEventListener("click", () => step(-1));
  byId("forward").addEventListener("click", () => step(1));
  byId("now").addEventListener("click", now);

  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.altKey || event.metaKey) return;
    const target = event.target instanceof Element ? event.target : body;
    // Where somebody reads or types, the keys are for that.
    if (target.closest("#lessons [tabindex], dialog, input, textarea, select, [contenteditable]")) return;
    // A panel that is wider than its place scrolls by the arrow keys.
    const scrolls = target.closest(".scroll");
    const focused = Number(target.closest(".rev")?.dataset.rev);
    const arrows = focused || !scrolls || scrolls.scrollWidth <= scrolls.clientWidth;
    if (event.key === "ArrowLeft" && arrows) step(-1, focused);
    else if (event.key === "ArrowRight" && arrows) step(1, focused);
    else if (focused && (event.key === "Enter" || event.key === " ")) go(focused);
    else if (event.key === "Home" || event.key === "Escape" || event.key === "n") {
      if (!past) return;
      now();
    } else return;
    event.preventDefault();
  });

  // A revision is told when it is pointed at or has the focus, and shown when it
  // is pressed or dragged over.
  const timeline = byId("timeline");
  const revisionAt = (event) => {
    const drawn = drawing();
    if (!drawn) return 0;
    const box = drawn.getBoundingClientRect();
    const view = drawn.viewBox.baseVal;
    const x = (event.clientX - box.left) / box.width * view.width - Number(drawn.dataset.start);
    const column = Math.floor(x / Number(drawn.dataset.column));
    if (drawn.dataset.packed) return packed(drawn)[column] ?? 0;
    const revision = Number(drawn.dataset.first) + column;
    return x < 0 || revision > Number(drawn.dataset.last) ? 0 : revision;
  };
  let pointed = 0;
  let dragging = false;
  const tell = async (revision) => {
    if (!revision || revision === pointed) return;
    pointed = revision;
    try {
      const change = await text(`/change?rev=${revision}`);
      if (pointed === revision) morph(byId("change"), parse(change), false);
    } catch (error) {
      notice(error.message);
    }
  };
  const go = (revision) => {
    if (!revision || past && revision === shown) return;
    if (revision >= present()) now();
    else show(revision);
  };
  timeline.addEventListener("pointermove", (event) => {
    const revision = revisionAt(event);
    if (dragging) go(revision);
    else tell(revision);
  });
  timeline.addEventListener("pointerleave", () => { pointed = 0; });
  timeline.addEventListener("focusin", (event) => tell(Number(event.target.closest(".rev")?.dataset.rev)));
  timeline.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    dragging = true;
    go(revisionAt(event));
  });
  addEventListener("pointerup", () => { dragging = false; });
  addEventListener("pointercancel", () => { dragging = false; });

  // --- Handles ----------------------------------------------------------------

  let quiet = 0;
  const notice = (message) => {
    byId("notice").textContent = message;
    clearTimeout(quiet);
    quiet = setTimeout(() => { byId("notice").textContent = ""; }, 8000);
  };

  // sure asks once, before something that others feel.
  const sure = (question, yes) => new Promise((resolve) => {
    const dialog = byId("ask");
    byId("question").textContent = question;
    byId("yes").textContent = yes;
    dialog.returnValue = "no";
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
    dialog.showModal();
  });
  byId("ask")?.addEventListener("click", (event) => {
    const answer = event.target.closest("button");
    if (answer) byId("ask").close(answer.value);
  });

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button[data-post]");
    if (!button || button.disabled) return;
    // While somebody thinks, it may become another's.
    const { post, ask } = button.dataset;
    const label = button.getAttribute("aria-label");
    if (ask && !await sure(ask, button.textContent)) return;
    notice(label + " …");
    try {
      const answer = await fetch(post, { method: "POST" });
      notice(answer.ok ? label + ": done" : (await answer.text()).trim());
    } catch {
      notice("The board is not reachable.");
    }
  });

  bars(document);
  connect();
})();
