"use strict";
// Follows the fleet: when something changes, the parts of this page that show it are asked for again and put in place.
// Without this script a reload shows the same.
(() => {
  const LEAST = 700; // milliseconds between two readings of one part
  const PATIENCE = 5; // times as long as the last reading took
  const POLLED = 5000; // between readings where there is no stream
  const parts = [...document.querySelectorAll("[data-on], [data-late]")].filter((element) => element.id);
  const state = new Map(parts.map((part) => [part, { due: 0, last: 0, took: 0, busy: false, again: false }]));
  const live = document.getElementById("live");
  const reloads = document.querySelectorAll("meta[http-equiv=refresh]");
  reloads.forEach((meta) => meta.remove());

  function tell(kind, words) {
    live.className = `live ${kind}`;
    live.querySelector(".word").textContent = words;
  }

  // ---------------------------------------------------------------------- putting new HTML in place

  // What is alike stays the very same element, so that focus, scrolling, selections and open details survive.
  function settle(there, wanted) {
    const old = [...there.childNodes];
    const fresh = [...wanted.childNodes];
    fresh.forEach((node, at) => {
      const known = old[at];
      if (!known) there.append(node);
      else if (known.nodeType !== node.nodeType || known.nodeName !== node.nodeName) known.replaceWith(node);
      else if (node.nodeType === Node.TEXT_NODE) { if (known.data !== node.data) known.data = node.data; }
      else if (node.nodeType === Node.ELEMENT_NODE) { attributes(known, node); settle(known, node); }
    });
    old.slice(fresh.length).forEach((node) => node.remove());
  }

  function attributes(there, wanted) {
    for (const { name } of [...there.attributes]) {
      if (!wanted.hasAttribute(name) && !(name === "open" && there.nodeName === "DETAILS")) there.removeAttribute(name);
    }
    for (const { name, value } of [...wanted.attributes]) {
      if (there.getAttribute(name) !== value) there.setAttribute(name, value);
    }
  }

  async function read(part) {
    const mine = state.get(part);
    if (mine.busy) { mine.again = true; return; }
    mine.busy = true;
    const began = performance.now();
    try {
      const address = new URL(location.href);
      address.searchParams.set("part", part.id);
      address.hash = "";
      const answer = await fetch(address, { headers: { Accept: "text/html" }, cache: "no-store" });
      if (answer.status === 404 && location.pathname.startsWith("/testers/")) tell("late", "This tester is gone");
      if (answer.status === 401) tell("late", "Signed out: reload");
      if (!answer.ok || answer.redirected) return;
      const wanted = new DOMParser().parseFromString(await answer.text(), "text/html").body;
      const log = part.querySelector("pre.log");
      const atEnd = !log || log.scrollHeight - log.scrollTop - log.clientHeight < 24;
      settle(part, wanted);
      const now = part.querySelector("pre.log");
      if (now && atEnd) now.scrollTop = now.scrollHeight;
      age();
      if (part.dataset.follow && part.querySelector("[data-running]")) later(part, 1000 * Number(part.dataset.follow));
    } catch { /* the next change, or the next try, brings it */ } finally {
      mine.busy = false;
      mine.last = performance.now();
      mine.took = mine.last - began;
      if (mine.again) { mine.again = false; later(part); }
    }
  }

  function later(part, pause = 60) {
    const mine = state.get(part);
    const least = Math.max(LEAST, 1000 * Number(part.dataset.slow || 0), PATIENCE * mine.took); // a busy server is asked less
    const due = Math.max(performance.now() + pause, mine.last ? mine.last + least : 0);
    if (mine.timer && mine.due <= due) return;
    clearTimeout(mine.timer);
    mine.due = due;
    mine.timer = setTimeout(() => { mine.timer = 0; if (document.hidden) mine.again = true; else read(part); }, due - performance.now());
  }

  function all() { parts.forEach((part) => later(part)); }

  document.addEventListener("visibilitychange", () => {
    if (document.hidden) return;
    for (const [part, mine] of state) if (mine.again) { mine.again = false; later(part); }
  });

  // ---------------------------------------------------------------------- hearing of changes

  function heard({ kind, name }) {
    for (const part of parts) {
      const kinds = (part.dataset.on || "").split(" ");
      const mine = part.dataset.name;
      if (kinds.includes(kind) && (!mine || !name || kind === "revision" || mine === name)) later(part);
    }
  }

  let polling = 0;
  function poll() {
    if (polling) return;
    tell("late", `Read every ${POLLED / 1000} s`);
    polling = setInterval(() => { if (!document.hidden) all(); }, POLLED);
  }

  function listen() {
    if (!window.EventSource) { poll(); return; }
    const stream = new EventSource(`/api/v1/stream?after=${live.dataset.position}`); // what changed since the page was made
    let ever = false;
    stream.addEventListener("open", () => {
      clearInterval(polling);
      polling = 0;
      tell("on", "Live");
      if (ever) all(); // something may have been missed meanwhile
      ever = true;
    });
    stream.addEventListener("change", (event) => {
      try { heard(JSON.parse(event.data)); } catch { all(); }
    });
    stream.addEventListener("reset", all);
    stream.addEventListener("error", () => {
      if (stream.readyState === EventSource.CLOSED) { poll(); setTimeout(listen, 12 * POLLED); }
      else tell("late", "Reconnecting");
    });
  }

  // ---------------------------------------------------------------------- ages count on

  const UNITS = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  // The server's clock is the one that counts: what differs from ours is taken off.
  const stamp = live.querySelector(".word").textContent.match(/(\d+):(\d+):(\d+)/);
  let skew = 0;
  if (stamp) {
    const [, hours, minutes, seconds] = stamp.map(Number);
    const there = new Date();
    there.setUTCHours(hours, minutes, seconds, 0);
    skew = there - new Date();
    if (skew > 43200000) skew -= 86400000;
    if (skew < -43200000) skew += 86400000;
  }

  function age() {
    for (const time of document.querySelectorAll("main time[datetime]")) {
      let left = Math.floor((Date.now() + skew - Date.parse(time.dateTime)) / 1000);
      if (!(left >= 1)) continue;
      const at = UNITS.findIndex(([size]) => left >= size);
      const [size, unit] = UNITS[at];
      const count = Math.floor(left / size);
      left -= count * size;
      const [smaller, itsUnit] = UNITS[at + 1] || [Infinity, ""];
      const more = count < 3 ? Math.floor(left / smaller) : 0;
      const text = `${count} ${unit}${more ? ` ${more} ${itsUnit}` : ""} ago`;
      if (time.textContent !== text) time.textContent = text;
    }
  }

  setInterval(() => { if (!document.hidden) age(); }, 1000);
  parts.filter((part) => "late" in part.dataset).forEach((part) => read(part));
  for (const log of document.querySelectorAll("pre.log")) log.scrollTop = log.scrollHeight;
  for (const part of parts) if (part.dataset.follow && part.querySelector("[data-running]")) later(part, 1000 * Number(part.dataset.follow));
  for (const select of document.querySelectorAll(".filter select")) select.addEventListener("change", () => select.form.requestSubmit());
  listen();
})();
