"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("js");
  const one = (selector, within = document) => within.querySelector(selector);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const about = JSON.parse(one("#about").textContent);
  const say = one("#say"), picture = one("#picture");

  one(".theme").addEventListener("click", () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });

  // the state is this page's own: the server keeps nothing of a visitor
  let state = { seed: 0, number: 0, code: null, shifts: {}, active: "" };
  let before = false;
  const asked = () => (before ? { ...state, shifts: {}, active: "" } : state);
  const wrong = (error) => {
    say.textContent = error instanceof TypeError ? "The explorer has been closed; start it again." : error.message;
    say.dataset.wrong = "1";
  };
  const remark = (text) => { say.textContent = text; delete say.dataset.wrong; };
  const post = async (what, content) => {
    const response = await fetch(what, { method: "POST", body: content });
    if (!response.ok) throw new Error(await response.text());
    return response;
  };

  const signed = (value) => (value > -0.05 ? "+" : "−") + Math.abs(value).toFixed(1);

  // one request at a time; what was asked for meanwhile is only the newest
  let busy = false, again = false;
  const show = async () => {
    if (busy) { again = true; return; }
    busy = true;
    try {
      do {
        again = false;
        const text = JSON.stringify(asked());
        const answer = await (await post("show", text)).json();
        picture.src = answer.image;
        picture.dataset.state = text;
        one("#name").textContent = state.code ? "Your picture" : `Sample ${state.number}`;
        all(".score").forEach((row, index) => {
          const value = answer.scores[index];
          row.style.setProperty("--value", Math.max(-3, Math.min(3, value)) / 3);
          row.classList.toggle("low", value < 0);
          one("output", row).textContent = signed(value);
        });
        if (say.dataset.wrong) remark("");
        if (!again) one("#command").textContent = await (await post("command", JSON.stringify(state))).text();
      } while (again);
    } catch (error) {
      wrong(error);
    }
    busy = false;
    if (again) show();
  };

  const rows = all(".direction");
  const draw = () => rows.forEach((row) => {
    const shift = state.shifts[row.dataset.name];
    one(".slider", row).value = shift ? shift.distance : 0;
    one("output", row).textContent = shift ? signed(shift.distance) : "0";
    const layers = one(".layers", row);
    if (layers && shift) layers.value = shift.layers;
    row.classList.toggle("moved", Boolean(shift));
  });
  rows.forEach((row) => {
    const name = row.dataset.name, slider = one(".slider", row), layers = one(".layers", row);
    const change = () => {
      const distance = Number(slider.value);
      state.active = name;
      if (distance) state.shifts[name] = { distance, layers: layers ? layers.value.trim() : "" };
      else delete state.shifts[name];
      draw();
      show();
    };
    slider.addEventListener("input", change);
    slider.addEventListener("dblclick", () => { slider.value = 0; change(); });
    if (layers) layers.addEventListener("change", change);
  });

  const go = (changes) => { state = { ...state, active: "", ...changes }; draw(); show(); };
  let looking = false;
  const leave = (changes) => { if (!looking) remark(""); go(changes); };
  one("#next").addEventListener("click", () => leave({ number: state.code ? state.number : state.number + 1, code: null }));
  one("#reset").addEventListener("click", () => go({ shifts: {} }));
  const compare = one("#compare");
  const hold = (on) => { before = on; compare.setAttribute("aria-pressed", String(on)); show(); };
  compare.addEventListener("pointerdown", (event) => { compare.setPointerCapture(event.pointerId); hold(true); });
  ["pointerup", "pointercancel"].forEach((kind) => compare.addEventListener(kind, () => hold(false)));
  compare.addEventListener("keydown", (event) => { if ((event.key === " " || event.key === "Enter") && !event.repeat) { event.preventDefault(); hold(true); } });
  compare.addEventListener("keyup", () => hold(false));

  // kept for this tab: reloading loses nothing, and two people do not mix
  const place = `kept ${location.pathname}`;
  const kept = [];
  const keep = (entry) => {
    const item = document.createElement("li"), button = document.createElement("button"), image = new Image();
    image.src = entry.image;
    image.alt = `${entry.name}, as it was kept`;
    button.type = "button";
    button.append(image);
    button.addEventListener("click", () => leave(structuredClone(entry.state)));
    item.append(button);
    one("#kept").append(item);
    kept.push(entry);
  };
  try { JSON.parse(sessionStorage.getItem(place) ?? "[]").forEach(keep); } catch { /* none */ }
  one("#star").addEventListener("click", () => {
    keep({ state: structuredClone(state), name: one("#name").textContent, image: picture.src });
    try { sessionStorage.setItem(place, JSON.stringify(kept)); } catch { /* no room: kept until the page goes */ }
  });
  one("#copy").addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(one("#command").textContent);
      remark("Copied.");
    } catch { getSelection().selectAllChildren(one("#command")); }
  });
  one("#save").addEventListener("click", async () => {
    try {
      const link = document.createElement("a");
      link.href = URL.createObjectURL(await (await post("save", JSON.stringify(state))).blob());
      link.download = Object.keys(state.shifts).length ? "moved.npy" : "code.npy";
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 60000);
    } catch (error) { wrong(error); }
  });
  one("#upload").addEventListener("change", async (event) => {
    const file = event.target.files[0];
    event.target.value = "";
    if (!file) return;
    remark(`Looking for the code of ${file.name} …`);
    looking = true;
    try {
      const answer = await (await post("invert", file)).json();
      remark(`${file.name}: ${answer.remark}`);
      go({ code: answer.code, shifts: {} });
    } catch (error) { wrong(error); }
    looking = false;
  });
  show();
})();
