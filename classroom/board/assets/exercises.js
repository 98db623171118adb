// Checks run in terminals. The page is asked for again each second, while somebody
// looks at it, and shows what has become of them.
"use strict";

const every = 1000; // milliseconds

async function look() {
  if (!document.hidden) {
    const lost = document.getElementById("lost");
    try {
      const answer = await fetch(location.href);
      const text = await answer.text();
      if (!answer.ok) throw new Error(text);
      const fresh = new DOMParser().parseFromString(text, "text/html");
      const main = document.querySelector("main");
      if (fresh.querySelector("main").innerHTML !== main.innerHTML) {
        main.replaceChildren(...fresh.querySelector("main").childNodes);
        document.title = fresh.title;
      }
      lost.hidden = true;
    } catch {
      lost.hidden = false;
    }
  }
  setTimeout(look, every);
}

look();
