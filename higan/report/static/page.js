"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("js");
  const one = (selector, within = document) => within.querySelector(selector);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];

  const save = (blob, name) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  };
  const jpegOf = (image) => {
    const text = atob(image.src.slice(image.src.indexOf(",") + 1));
    return new Blob([Uint8Array.from(text, (letter) => letter.charCodeAt(0))], { type: "image/jpeg" });
  };
  const press = (button, on) => button.setAttribute("aria-pressed", String(on));
  const pressed = (button) => button.getAttribute("aria-pressed") === "true";
  const digits = (number, length) => String(number).padStart(length, "0");

  one(".theme").addEventListener("click", () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });

  const sizes = (target, done = () => {}) =>
    all('input[name="size"]').forEach((input) =>
      input.addEventListener("change", () => { target.dataset.size = input.value; done(); }));

  const filter = (field, items, fits, tally, nothing, what) => {
    const apply = () => {
      const wanted = field.value.trim().toLowerCase();
      let shown = 0;
      items.forEach((item) => {
        item.hidden = !(item.dataset.name.toLowerCase().includes(wanted) && fits(item));
        shown += !item.hidden;
      });
      tally.textContent = shown === items.length ? `${shown} ${what}` : `${shown} of ${items.length} ${what}`;
      nothing.hidden = shown > 0;
    };
    field.addEventListener("input", apply);
    apply();
    return apply;
  };

  const table = one(".samples");
  if (table) samplesPage(table);
  const grid = one(".grid");
  if (grid) gridPage(grid);
  all(".pictures").forEach(enlarging);
  all("table[data-sortable]").forEach(sortable);

  function samplesPage(table) {
    const headings = all("thead .step", table).map((cell) => cell.dataset.label);
    const steps = headings.length;
    const origin = Number(table.dataset.origin);
    const clamp = (step) => Math.max(0, Math.min(steps - 1, step));
    let everywhere = false; // all cards show the origin

    // stars outlive the page; where a browser keeps nothing for files, they live as long as it is open
    const place = `higan stars ${location.pathname} ${table.dataset.stem}`;
    const stars = new Set();
    try { JSON.parse(localStorage.getItem(place) ?? "[]").forEach((number) => stars.add(String(number))); } catch { /* none */ }
    const keepStars = () => {
      try { localStorage.setItem(place, JSON.stringify([...stars])); } catch { /* none */ }
      const numbers = [...stars].map(Number).sort((a, b) => a - b);
      one("#numbers").textContent = numbers.length ? `--samples=${numbers.join(",")}` : "";
    };

    const drawStep = (sprite, step, canvas) => {
      const height = sprite.naturalHeight, width = sprite.naturalWidth / steps;
      const context = canvas.getContext("2d");
      context.imageSmoothingQuality = "high";
      context.drawImage(sprite, step * width, 0, width, height, 0, 0, canvas.width, canvas.height);
    };

    const cards = all("tbody tr", table).map((row) => {
      const strip = one(".strip", row);
      const sprite = one("img", strip);
      const name = row.dataset.name;
      const cell = strip.parentNode;
      const parts = one("#card").content.cloneNode(true);
      const stage = one(".stage", parts), canvas = one("canvas", parts), badge = one(".badge", parts);
      const slider = one(".slider", parts), hold = one(".hold", parts), star = one(".star", parts);
      let held = false, visible = false;

      slider.setAttribute("aria-label", `${name}: step`);
      slider.value = table.dataset.origin;
      one(".change", parts).textContent = `change ${Number(row.dataset.change).toFixed(1)}`;
      [[star, "star"], [hold, `hold for ${headings[origin]}`], [one(".save-picture", parts), "save this picture"], [one(".save-row", parts), "save the row"]]
        .forEach(([button, what]) => button.setAttribute("aria-label", `${name}: ${what}`));

      const draw = () => {
        const step = held || everywhere ? origin : Number(slider.value);
        badge.textContent = headings[step];
        badge.classList.toggle("origin", held || everywhere);
        canvas.setAttribute("aria-label", `${name} at ${headings[step]}`);
        canvas.dataset.step = step;
        if (visible && canvas.width && sprite.naturalWidth) drawStep(sprite, step, canvas);
      };
      const set = (step) => {
        slider.value = step;
        slider.setAttribute("aria-valuetext", headings[step]);
        row.style.setProperty("--step", step);
        draw();
      };
      const holdOrigin = (on) => { held = on; draw(); };

      slider.addEventListener("input", () => set(Number(slider.value)));
      hold.addEventListener("pointerdown", (event) => { hold.setPointerCapture(event.pointerId); holdOrigin(true); });
      ["pointerup", "pointercancel", "blur"].forEach((kind) => hold.addEventListener(kind, () => holdOrigin(false)));
      hold.addEventListener("keydown", (event) => { if (event.key === " " || event.key === "Enter") { event.preventDefault(); holdOrigin(true); } });
      hold.addEventListener("keyup", () => holdOrigin(false));
      hold.addEventListener("contextmenu", (event) => event.preventDefault());
      const mark = (on) => { press(star, on); one("span", star).textContent = on ? "★" : "☆"; row.dataset.starred = on ? "1" : ""; };
      mark(stars.has(row.dataset.number));
      star.addEventListener("click", () => {
        mark(!pressed(star));
        stars[pressed(star) ? "add" : "delete"](row.dataset.number);
        keepStars();
        refilter();
      });
      one(".save-row", parts).addEventListener("click", () =>
        save(jpegOf(sprite), `${table.dataset.stem}_${digits(row.dataset.number, 5)}.jpg`));
      one(".save-picture", parts).addEventListener("click", () => {
        const width = sprite.naturalWidth / steps, height = sprite.naturalHeight;
        const copy = document.createElement("canvas");
        copy.width = width;
        copy.height = height;
        copy.getContext("2d").drawImage(sprite, Number(slider.value) * width, 0, width, height, 0, 0, width, height);
        const file = `${table.dataset.stem}_${digits(row.dataset.number, 5)}_${digits(slider.value, 3)}.png`;
        copy.toBlob((blob) => save(blob, file), "image/png");
      });

      // the row of steps: press or drag to a step
      const toStrip = (event) => {
        const box = strip.getBoundingClientRect();
        set(clamp(Math.floor((event.clientX - box.left) / box.width * steps)));
      };
      strip.addEventListener("pointerdown", (event) => { if (event.button === 0) { event.preventDefault(); strip.setPointerCapture(event.pointerId); toStrip(event); } });
      strip.addEventListener("pointermove", (event) => { if (strip.hasPointerCapture(event.pointerId)) toStrip(event); });

      // the picture: drag sideways over the steps, hold still for the origin
      let grip = null;
      const release = () => { if (grip) { clearTimeout(grip.timer); grip = null; holdOrigin(false); } };
      stage.addEventListener("pointerdown", (event) => {
        if (event.button !== 0) return;
        stage.setPointerCapture(event.pointerId);
        grip = { x: event.clientX, step: Number(slider.value), moved: false, timer: setTimeout(() => holdOrigin(true), 220) };
      });
      stage.addEventListener("pointermove", (event) => {
        if (!grip) return;
        const by = event.clientX - grip.x;
        if (!grip.moved && Math.abs(by) < 6) return;
        grip.moved = true;
        clearTimeout(grip.timer);
        held = false;
        set(clamp(Math.round(grip.step + by / stage.clientWidth * steps)));
      });
      ["pointerup", "pointercancel"].forEach((kind) => stage.addEventListener(kind, release));

      row.cells[0].append(one(".mark", parts));
      cell.prepend(one(".stage", parts), one(".slide", parts));
      cell.append(one(".actions", parts));
      const card = { row, set, draw, stage, canvas, look: (on) => { visible = on; draw(); } };
      stage.card = card;
      sprite.addEventListener("load", draw);
      set(Number(slider.value));
      return card;
    });

    // pictures are drawn when they come near the window, at the pixels of the screen
    const near = new IntersectionObserver((entries) => entries.forEach((entry) => entry.target.card.look(entry.isIntersecting)), { rootMargin: "400px" });
    const fit = new ResizeObserver((entries) => entries.forEach(({ target }) => {
      const { canvas, draw } = target.card;
      const width = Math.round(target.clientWidth * devicePixelRatio), height = Math.round(target.clientHeight * devicePixelRatio);
      if (width && height && (canvas.width !== width || canvas.height !== height)) {
        canvas.width = width;
        canvas.height = height;
        draw();
      }
    }));
    cards.forEach(({ stage }) => { near.observe(stage); fit.observe(stage); });

    const slider = one("#all"), reading = one("#all-reading"), compare = one("#compare"), play = one("#play");
    const setAll = (step) => {
      slider.value = step;
      slider.setAttribute("aria-valuetext", headings[step]);
      reading.textContent = headings[step];
      cards.forEach((card) => card.set(step));
    };
    slider.addEventListener("input", () => setAll(Number(slider.value)));
    setAll(Number(slider.value));
    const showOrigin = (on) => { everywhere = on; press(compare, on); cards.forEach((card) => card.draw()); };
    compare.addEventListener("click", () => showOrigin(!everywhere));
    const isHotkey = (event) => event.key.toLowerCase() === "o" && !event.repeat && !event.ctrlKey && !event.metaKey && !event.altKey && !event.target.closest("input[type=search], select");
    addEventListener("keydown", (event) => { if (isHotkey(event)) showOrigin(true); });
    addEventListener("keyup", (event) => { if (isHotkey(event)) showOrigin(false); });

    let timer = 0, way = 1;
    play.addEventListener("click", () => {
      press(play, !pressed(play));
      clearInterval(timer);
      if (!pressed(play) || steps < 2) return;
      timer = setInterval(() => {
        if (Number(slider.value) + way !== clamp(Number(slider.value) + way)) way = -way;
        setAll(Number(slider.value) + way);
      }, Math.max(90, 1600 / steps));
    });

    // one sweep over all steps at the start, until something is touched
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches || steps < 3;
    const path = still ? [] : [...Array(steps).keys()].slice(origin + 1).concat([...Array(steps).keys()].reverse().slice(1), [...Array(origin + 1).keys()].slice(1));
    const sweep = setInterval(() => { if (path.length) setAll(path.shift()); else clearInterval(sweep); }, Math.max(60, 2400 / (2 * steps)));
    ["pointerdown", "keydown", "wheel", "touchstart"].forEach((kind) => addEventListener(kind, () => clearInterval(sweep), { once: true, passive: true, capture: true }));

    keepStars();
    const starred = one("#starred");
    const refilter = filter(one("#filter"), cards.map((card) => card.row), (row) => !pressed(starred) || row.dataset.starred, one("#tally"), one("#nothing"), "samples");
    starred.addEventListener("click", () => { press(starred, !pressed(starred)); refilter(); });
    one("#sort").addEventListener("change", (event) => {
      const down = event.target.value.startsWith("-"), key = event.target.value.replace("-", "");
      const value = (card) => Number(card.row.dataset[key]) * (down ? -1 : 1);
      one("tbody", table).append(...[...cards].sort((a, b) => value(a) - value(b)).map((card) => card.row));
    });
    sizes(table);
  }

  function gridPage(grid) {
    const items = all("li", grid), viewer = one(".viewer"), picture = one("img", viewer), label = one(".viewer-name", viewer);
    let at = 0;
    const show = (index) => {
      const visible = items.filter((item) => !item.hidden);
      at = (index + visible.length) % visible.length;
      picture.src = one("img", visible[at]).src;
      picture.alt = label.textContent = visible[at].dataset.name;
      viewer.dataset.index = items.indexOf(visible[at]);
    };
    items.forEach((item) => {
      const image = one("img", item);
      const open = () => { show(items.filter((other) => !other.hidden).indexOf(item)); viewer.showModal(); };
      image.tabIndex = 0;
      image.setAttribute("role", "button");
      image.setAttribute("aria-label", `Enlarge ${item.dataset.name}`);
      image.addEventListener("click", open);
      image.addEventListener("keydown", (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); open(); } });
    });
    all("[data-turn]", viewer).forEach((button) => button.addEventListener("click", () => show(at + Number(button.dataset.turn))));
    viewer.addEventListener("keydown", (event) => { if (event.key === "ArrowLeft") show(at - 1); if (event.key === "ArrowRight") show(at + 1); });
    viewer.addEventListener("click", (event) => { if (event.target === viewer) viewer.close(); });
    one("[data-close]", viewer).addEventListener("click", () => viewer.close());
    one("[data-save]", viewer).addEventListener("click", () => save(jpegOf(picture), `${grid.dataset.stem}_${digits(viewer.dataset.index, 6)}.jpg`));
    filter(one("#find"), items, () => true, one("#tally"), one("#nothing"), "pictures");
    sizes(grid);
  }

  // a picture of a strip beside the first, enlarged
  function enlarging(table) {
    const viewer = one(".viewer"), canvas = one("canvas", viewer), label = one(".viewer-name", viewer);
    const heads = all("thead th", table).slice(1).map((head) => head.textContent);
    const show = (image, step) => {
      const width = image.naturalWidth / heads.length, height = image.naturalHeight;
      const scale = Math.max(1, Math.round(400 / width));
      canvas.width = 2 * width * scale;
      canvas.height = height * scale;
      [0, step].forEach((from, to) => canvas.getContext("2d").drawImage(image, from * width, 0, width, height, to * width * scale, 0, width * scale, height * scale));
      label.textContent = `${image.dataset.name}: ${heads[0]} and ${heads[step]}`;
      if (!viewer.open) viewer.showModal();
    };
    all("img", table).forEach((image) => {
      let step = 1;
      image.tabIndex = 0;
      image.setAttribute("role", "button");
      image.addEventListener("click", (event) => {
        const box = image.getBoundingClientRect();
        step = Math.min(heads.length - 1, Math.max(1, Math.floor((event.clientX - box.left) / box.width * heads.length)));
        show(image, step);
      });
      image.addEventListener("keydown", (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); show(image, step); } });
    });
    viewer.addEventListener("click", (event) => { if (event.target === viewer) viewer.close(); });
    one("[data-close]", viewer).addEventListener("click", () => viewer.close());
  }

  function sortable(table) {
    const body = one("tbody", table);
    const first = [...body.rows];
    all("thead th[data-sort]", table).forEach((head) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "sorter";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const way = head.getAttribute("aria-sort") === "descending" ? "ascending" : "descending";
        all("thead th", table).forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", way);
        const column = head.cellIndex, numeric = head.dataset.sort === "number";
        const value = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
        const order = (a, b) => numeric ? Number(value(a)) - Number(value(b)) : value(b).localeCompare(value(a));
        body.append(...[...first].sort((a, b) => (way === "descending" ? -1 : 1) * order(a, b)));
      });
    });
  }
})();
